"A GPU that is none: tensors that say they are on a GPU, are computed on the CPU, and refuse what a real one refuses."

import traceback
from collections import Counter
from pathlib import Path
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

aten = torch.ops.aten
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
# where a GPU takes a tensor of the CPU: a copy, an index
FOREIGN = INDEXING | {aten.copy_.default, aten._to_copy.default}
# whose result, or the size of it, the host has to wait for
WAITS = {aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default, aten.equal.default}
WAITS |= {aten.is_nonzero.default, aten._unique2.default, aten.unique_dim.default, aten.bincount.default}
WAITS |= {aten.repeat_interleave.Tensor}


class Backend:
    "What PyTorch asks of the module of a device."

    is_initialized = is_available = staticmethod(lambda: True)
    _is_in_bad_fork = staticmethod(lambda: False)
    current_device, device_count = staticmethod(lambda: 0), staticmethod(lambda: 1)
    manual_seed_all = staticmethod(lambda seed: None)
    get_amp_supported_dtype = staticmethod(lambda: [torch.bfloat16, torch.float16])


_setup_privateuseone_for_python_backend("pretended", Backend)
GPU = torch.device("pretended", 0)


class OnGPU(torch.Tensor):
    "A tensor of the CPU that says it is on the GPU."

    @staticmethod
    def __new__(cls, held: torch.Tensor):
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset()}
        self = torch.Tensor._make_wrapper_subclass(cls, held.shape, **layout, dtype=held.dtype, device=GPU)
        self.held = held
        return self

    def __repr__(self):
        return f"OnGPU({self.held!r})"

    def tolist(self):
        return self.cpu().tolist()

    def __tensor_flatten__(self):
        return ["held"], None

    @staticmethod
    def __tensor_unflatten__(inner, meta, size, stride):
        return OnGPU(inner["held"])

    @classmethod
    def __torch_dispatch__(cls, op, types, args=(), kwargs=None):
        raise AssertionError("a tensor of the pretended GPU is used outside of it")


class PretendedGPU(TorchDispatchMode):
    "Inside, GPU is a device. An operation with tensors of two devices is an error; `waits` counts the host's by line."

    def __init__(self):
        super().__init__()
        self.waits = Counter()

    def __enter__(self):
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=...) is made on the CPU, then moved
        return super().__enter__()

    def __exit__(self, *error):
        torch._C._set_only_lift_cpu_tensors(False)
        return super().__exit__(*error)

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        leaves = tree_leaves((args, kwargs))
        own = {id(x.held): x for x in leaves if isinstance(x, OnGPU)}
        to = torch.device(kwargs["device"]) if kwargs.get("device") is not None else None
        if own:
            refuse_foreign(op, leaves)
            if waits(op, args, to):
                self.waits[line()] += 1
        stays = to == GPU if to else isinstance(args[0], OnGPU) if op is aten.copy_.default else bool(own)
        if stays and any(isinstance(x, torch.Generator) for x in leaves):
            raise RuntimeError(f"{op}: a generator of the CPU cannot draw on a GPU")
        if to == GPU:
            kwargs["device"] = torch.device("cpu")
        held = lambda x: x.held if isinstance(x, OnGPU) else x
        out = op(*tree_map(held, args), **tree_map(held, kwargs))
        wrap = lambda x: (own.get(id(x)) if id(x) in own else OnGPU(x)) if torch.is_tensor(x) else x
        return tree_map(wrap, out) if stays else out


def refuse_foreign(op, leaves):
    "A number of the CPU may stand beside tensors of the GPU, pixel by pixel; anything else of the CPU may not."
    number = lambda x: torch.Tag.pointwise in op.tags and x.dim() == 0
    foreign = [x for x in leaves if torch.is_tensor(x) and not isinstance(x, OnGPU) and not number(x)]
    if foreign and op not in FOREIGN:
        shapes = ", ".join(str(tuple(x.shape)) for x in foreign)
        raise RuntimeError(f"{op}: tensors of two devices; of shape {shapes} on the CPU")


def waits(op, args, to) -> bool:
    "Whether the host waits: for a value, for a number of elements, for a copy."
    masked = op in INDEXING and any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])
    leaves = op is aten._to_copy.default and to is not None and to != GPU
    return op in WAITS or masked or leaves or op is aten.copy_.default and not isinstance(args[0], OnGPU)


def line() -> str:
    "The line of the package that called."
    package = f"{Path(__file__).parents[1]}/corrmatch/"
    frames = [f for f in traceback.extract_stack() if f.filename.startswith(package)]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno} {frames[-1].line}" if frames else "elsewhere"
