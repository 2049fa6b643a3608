"The network against the authors' implementation: full-width models filled by rule, and the narrow one with stored weights."

import os
import re
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torchvision.models.resnet import Bottleneck

from corrmatch.methods.corrmatch.correlation import Correlation, Projection
from corrmatch.models.deeplab import DeepLabV3Plus, ResNet
from corrmatch.models.weights import load_weights

FIXTURES = Path(__file__).parents[1] / "nbs" / "fixtures"
GOLDEN = Path(os.environ.get("CORRMATCH_GOLDEN", Path(__file__).parents[2] / "shared" / "golden"))
FULL, NARROW = GOLDEN / "model_full.safetensors", GOLDEN / "model_narrow.safetensors"
NOT_HERE = "the full reference tensors are not here (set CORRMATCH_GOLDEN to their folder)"
# What the file does not hold: the blocks of each stage and the rates of the ASPP. Classes, stride, multi grid and
# the stored channels follow from names and shapes.
BLOCKS = {"mini": (Bottleneck, (1, 1, 1, 1)), "resnet50": "resnet50", "resnet101": "resnet101"}
RATES = {"mini_os16": (12, 24, 36)}  # the others: 6, 12, 18
TOL = 1e-4  # float32 here, float64 there


def build(blocks, num_classes, stride, rates, stem=64, multi_grid=False, channels=256, low=48, projection=256):
    "The segmenter with the two parts of the correlation branch, under the recorded names."
    net = DeepLabV3Plus(ResNet(blocks, "deep", stem, stride, multi_grid), num_classes, channels, low, rates)
    net.proj = Projection(net.backbone.channels[-1], projection)
    net.corr = Correlation(projection, num_classes)
    return net


def everything(net, images, index):
    "Four stages, projected features, logits, propagated logits and shapes."
    c1, c2, c3, c4 = net.backbone(images)
    logits, proj = net.decode({"low": c1, "high": c4}, images.shape[-2:]), net.proj(c4)
    return c1, c2, c3, c4, proj, logits, *net.corr(proj, logits, len(index), index)


def cases(file: Path) -> list[str]:
    return sorted({k.split(".")[0] for k in load_file(file)}) if file.exists() else []


def value(name: str, like: torch.Tensor) -> torch.Tensor:
    "The entry of a state dict that the fill rule gives to a name and a shape."
    if name.endswith("num_batches_tracked"):
        return torch.zeros_like(like)
    # wraps at 2^32, as do the products
    x = np.arange(like.numel(), dtype=np.uint32) + np.uint32(zlib.crc32(name.encode()))
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x7FEB352D)
    x ^= x >> np.uint32(15)
    x *= np.uint32(0x846CA68B)
    x ^= x >> np.uint32(16)
    u = (x + 0.5) / 2.0**32
    if name.endswith("running_var") or name.endswith("weight") and like.dim() == 1:
        u = 0.75 + 0.5 * u
    elif name.endswith(("running_mean", "bias")):
        u = 0.2 * (2 * u - 1)
    else:
        u = (2 * u - 1) * (3 / like[0].numel()) ** 0.5
    return torch.from_numpy(u.astype(np.float32)).view(like.shape)


def close(got, want, what):
    assert got.shape == want.shape and got.dtype == want.dtype, what
    assert (got - want).abs().max() < TOL, (what, (got - want).abs().max().item())
    return what


def nearly_equal(shapes, want, what):
    "Binary shapes: a row's entries near the cut may flip in float32."
    assert shapes.dtype == torch.bool and (shapes != want.bool()).float().mean() < 1e-3, (
        what,
        (shapes != want.bool()).sum(),
    )


def test_fill_rule_check_values():
    want = {
        "classifier.bias": [0.05139641, 0.10667613, 0.10215036, -0.06509310],
        "backbone.conv1.0.weight": [0.13970983, 0.13316043, 0.03319694, -0.16034764],
        "head.b1.1.running_var": [1.12271070, 1.07916105, 1.09746456, 1.16358423],
        "backbone.bn1.weight": [0.90310723, 1.15955186, 0.85848099, 1.15404630],
    }
    with torch.device("meta"):
        state = build("resnet101", 21, 8, (12, 24, 36)).state_dict()
    for name, numbers in want.items():
        assert (value(name, state[name]).flatten()[:4] - torch.tensor(numbers)).abs().max() < 1e-8, name


@pytest.mark.parametrize("file, case", [(f, c) for f in (FIXTURES / FULL.name, FULL) for c in cases(f)])
@torch.inference_mode()
def test_full_width(file, case):
    d = {k.removeprefix(f"{case}."): v for k, v in load_file(file).items() if k.startswith(f"{case}.")}
    name, stride = re.match(r"(\w+?)_os(\d+)", case).groups()
    classes = next((d[k].shape[1] for k in ("out", "corr_out") if k in d), 21)
    with torch.device("meta"):
        rates = RATES.get(case, (6, 12, 18))
        net = build(BLOCKS[name], classes, int(stride), rates, multi_grid="multigrid" in case)
    net = net.to_empty(device="cpu").eval()
    net.load_state_dict({k: value(k, v) for k, v in net.state_dict().items()})
    *stages, _, logits, corr, shapes = everything(net, d["image"], d.get("index", torch.arange(2)))
    got = {"out": logits, "corr_out": corr}
    for i, stage in enumerate(stages, 1):
        if f"c{i}_sub" in d:
            got[f"c{i}_sub"] = stage[:, :: stage.shape[1] // d[f"c{i}_sub"].shape[1]]
    compared = [close(tensor, d[what], what) for what, tensor in got.items() if what in d]
    assert compared
    if "shapes" in d:
        nearly_equal(shapes, d["shapes"], "shapes")


def narrow_settings() -> list:
    "(output stride, rates) of every prediction in the narrow file."
    names = load_file(NARROW) if NARROW.exists() else {}
    found = [re.fullmatch(r"os(\d+)\.rates([\d_]+)\.out", k) for k in names]
    return sorted((int(m[1]), tuple(map(int, m[2].split("_")))) for m in found if m)


@pytest.mark.skipif(not NARROW.exists(), reason=NOT_HERE)
@pytest.mark.parametrize("stride, rates", narrow_settings())
@pytest.mark.parametrize("dtype, tol", [(torch.float32, TOL), (torch.float64, 1e-6)])
@torch.inference_mode()
def test_narrow(stride, rates, dtype, tol):
    d = load_file(NARROW)
    state = {k.removeprefix("state."): v for k, v in d.items() if k.startswith("state.")}
    blocks = tuple(
        1 + max(int(k.split(".")[2]) for k in state if k.startswith(f"backbone.layer{s}.")) for s in range(1, 5)
    )
    widths = {"stem": "backbone.conv1.0", "channels": "fuse.0", "low": "reduce.0", "projection": "proj.0"}
    widths = {part: len(state[f"{name}.weight"]) for part, name in widths.items()}
    net = build((Bottleneck, blocks), len(state["classifier.bias"]), stride, rates, **widths)
    net = load_weights(net, state).to(dtype).eval()
    *stages, proj, logits, corr, shapes = everything(net, d[f"os{stride}.image"].to(dtype), d[f"os{stride}.index"])
    setting = f"os{stride}.rates{'_'.join(map(str, rates))}"
    want = {f"os{stride}.c{i}": c for i, c in enumerate(stages, 1)} | {
        f"os{stride}.proj": proj,
        f"{setting}.out": logits,
        f"{setting}.corr_out": corr,
    }
    for name, got in want.items():
        assert got.shape == d[name].shape and (got - d[name]).abs().max() < tol, (
            name,
            (got - d[name]).abs().max().item(),
        )
    nearly_equal(shapes, d[f"{setting}.shapes"], "shapes")


def test_state_dict_of_the_resnet101_build():
    with torch.device("meta"):
        net = build("resnet101", 21, 8, (12, 24, 36))
    assert len(net.state_dict()) == 703 and sum(p.numel() for p in net.parameters()) == 64_198_239
    readme = GOLDEN / "README.md"
    if not readme.exists():
        return
    lines = readme.read_text().split("State dict of the ResNet-101 build")[1].split("```")[1].strip().splitlines()
    shape = lambda v: "(" + ", ".join(map(str, v.shape)) + ")" if v.dim() else "scalar"
    assert sorted(lines) == sorted(f"{k} {shape(v)}" for k, v in net.state_dict().items())
