"""What one whole training step of each method costs, on a recipe's network and crop: time, operations, memory.

    python benchmarks/steps.py                                                    # the toy, minutes on a CPU core
    python benchmarks/steps.py --recipe voc_classic_92 --crop 161 --batch 4
    python benchmarks/steps.py --recipe voc_classic_92 --device cuda --methods supervised corrmatch

The images are drawn scenes, cut by the views that the method asks for; weights are random. Each method is written to the JSON and the CSV file
as soon as it is measured. The columns are explained in benchmarks/README.md.
"""

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
import pandas as pd
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from corrmatch.data.toy import make_toy
from corrmatch.data.views import PseudoLabelledViews, TrainingViews, batches
from corrmatch.engine.processes import processes
from corrmatch.engine.runs import environment, save_json
from corrmatch.engine.state import TrainState, backend_flags, training_step
from corrmatch.engine.trainer import open_data, to_device
from corrmatch.methods import methods
from corrmatch.recipes.published import RECIPES

CLASSES = {"toy": 6, "camvid": 11, "cityscapes": 19}  # by the first word of a recipe; all others are VOC
RATIOS = ("seconds", "cpu_seconds", "flops", "operations", "memory")  # also given relative to the supervised step
# what the host cannot go on without: values of the device, or a size that depends on them
WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "unique_dim", "_unique2", "bincount"}


class Launches(TorchDispatchMode):
    "Counts the operations that a step launches, and those for whose result the host waits; views launch nothing."

    def __init__(self):
        super().__init__()
        self.operations = self.waits = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out, schema = function(*args, **kwargs or {}), function._schema
        name = schema.name.rpartition("::")[2]
        view = any(r.alias_info is not None and not r.alias_info.is_write for r in schema.returns)
        self.operations += not view and not name.startswith("empty")
        devices = {x.device.type for x in (*args, out) if torch.is_tensor(x)}
        masked = name in ("index", "index_put_", "_index_put_impl_") and any(
            torch.is_tensor(x) and x.dtype == torch.bool for x in args[1]
        )
        self.waits += name in WAITING or masked or (name in ("_to_copy", "copy_") and len(devices) > 1)
        return out


class SavedBytes:
    "Bytes that autograd keeps for the backward pass; a storage that is kept twice counts once, parameters do not."

    def __init__(self, module):
        self.parameters = {p.untyped_storage().data_ptr() for p in module.parameters()}
        self.seen = {}

    def pack(self, tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.parameters:
            self.seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    @property
    def total(self) -> int:
        return sum(self.seen.values())


def peak_memory(step, method, device) -> int:
    "Bytes: the peak of the allocator on a GPU; on a CPU what autograd keeps."
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated()
    saved = SavedBytes(method)
    with torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda tensor: tensor):
        step()
    return saved.total


def settings(recipe: str, method: str, crop=None, batch=None, device="cpu", precision="tf32", fast=False):
    "The settings of a recipe with a method, at another crop and batch if asked."
    c = RECIPES[recipe].make(method)
    system = replace(c.system, device=device, precision=precision, channels_last=fast, compile=fast, fused=fast)
    return replace(c, data=replace(c.data, crop=crop or c.data.crop), batch=batch or c.batch, system=system)


def first_batch(config, root: Path) -> dict:
    "A batch of drawn scenes, with the views of the method; the drawings are as large as the crop."
    if not root.exists():
        make_toy(root, labelled=config.batch, unlabelled=config.batch, val=1, size=max(config.data.crop, 48))
    d = replace(config.data, root=str(root), labelled="labelled", unlabelled=None, val="val", check=False)
    folder, split = open_data(replace(config, data=d))
    kind = PseudoLabelledViews if config.method.views.pseudo else TrainingViews
    views = kind(folder, split, d.crop, config.seed, partner=d.partner, scale=d.scale, views=config.method.views)
    # what pseudo-labels say costs nothing
    views.labels = dict(zip(split.unlabelled, map(folder.mask_path, split.labelled)))
    return next(iter(batches(views, config.batch)))


def measure(config, classes: int, batch: dict, dist, seconds: float) -> dict:
    "Everything about one step, optimiser included."
    state, calls = TrainState(config, classes, dist, load=False), 0
    state.step = 900_000  # of a million: behind every warm-up
    place = lambda x: to_device(x, dist.device, config.system.channels_last) if torch.is_tensor(x) else x
    batch = {name: place(x) for name, x in batch.items()}

    def step():
        nonlocal calls
        calls += 1
        training_step(state, batch, config, total=1_000_000, dist=dist)

    step(), step()  # buffers of the optimiser, choices of kernels, compilation
    memory = peak_memory(step, state.method, dist.device)
    with torch.compiler.set_stance("force_eager"):  # what is counted is the step as it is written
        with FlopCounterMode(display=False) as flops:
            step()
        with Launches() as launches:
            step()
    timer = Timer("step()", globals={"step": step}, num_threads=torch.get_num_threads())
    calls, cpu = 0, time.process_time()
    timed = timer.blocked_autorange(min_run_time=seconds)
    cpu = (time.process_time() - cpu) / calls
    return {
        "seconds": timed.median,
        "cpu_seconds": cpu,
        "runs": calls,
        "flops": flops.get_total_flops(),
        "operations": launches.operations,
        "waits": launches.waits,
        "memory": memory,
        "parameters": sum(p.numel() for p in state.method.parameters()),
    }


def relative(rows: list[dict]) -> pd.DataFrame:
    "The rows with what each costs relative to the supervised step, if that was measured."
    table = pd.DataFrame(rows).set_index("method")
    for name in RATIOS if "supervised" in table.index else ():
        table[f"{name} / supervised"] = table[name] / table.loc["supervised", name]
    return table


def main(words=None) -> pd.DataFrame:
    "Measure, print and save."
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--recipe", default="toy", choices=sorted(RECIPES))
    p.add_argument("--methods", nargs="*", choices=sorted(methods()), help="default: all, supervised first")
    p.add_argument("--crop", type=int, help="side, pixels; default: the recipe's")
    p.add_argument("--batch", type=int, help="labelled images, and as many unlabelled ones; default: the recipe's")
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--precision", default="tf32", choices=("float32", "tf32", "bfloat16", "float16"))
    p.add_argument("--fast", action="store_true", help="channels innermost, compiled, one kernel for the optimiser")
    p.add_argument("--seconds", type=float, default=5.0, help="time each method at least so long")
    p.add_argument("--out", type=Path, help="JSON file; the CSV file stands beside it")
    a = p.parse_args(words)
    names = a.methods or sorted(methods(), key=lambda name: (name != "supervised", name))
    out = a.out or ROOT / "results" / "benchmarks" / f"{a.recipe}_{a.device.partition(':')[0]}.json"
    classes, rows = CLASSES.get(a.recipe.split("_")[0], 21), []
    with TemporaryDirectory() as folder, processes(a.device) as dist:
        for name in names:
            c = settings(a.recipe, name, a.crop, a.batch, a.device, a.precision, a.fast)
            batch = first_batch(c, Path(folder) / "scenes")
            with backend_flags(c.system):
                rows.append({"method": name} | measure(c, classes, batch, dist, a.seconds))
            print(json.dumps(rows[-1]), flush=True)
            shape = {"recipe": a.recipe, "encoder": c.model.encoder, "classes": classes, "batch": c.batch}
            shape |= {"crop": c.data.crop, "precision": a.precision, "fast": a.fast, "threads": torch.get_num_threads()}
            save_json(out, {"settings": shape, "environment": environment(dist.device), "steps": rows})
            relative(rows).to_csv(out.with_suffix(".csv"), float_format="%.4g")
    print(f"\n{relative(rows).to_string(float_format='%.4g')}\n\nwritten: {out}")
    return relative(rows)


if __name__ == "__main__":
    main()
