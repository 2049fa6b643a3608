"The network against the authors' implementation: full-width models filled by rule, and the narrow one with stored weights."

import os
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
FILES = [
    pytest.param(FIXTURES / FULL.name, id="fixture"),
    pytest.param(FULL, id="full", marks=pytest.mark.skipif(not FULL.exists(), reason=NOT_HERE)),
]
CASES = {
    "mini_os8": ((Bottleneck, (1, 1, 1, 1)), 5, 8, (6, 12, 18), False),
    "mini_os16": ((Bottleneck, (1, 1, 1, 1)), 5, 16, (12, 24, 36), False),
    "resnet50_os16_multigrid": ("resnet50", 21, 16, (6, 12, 18), True),
    "resnet101_os8": ("resnet101", 21, 8, (6, 12, 18), False),
}
TOL = 1e-4  # float32 here, float64 there


class Net(DeepLabV3Plus):
    "The segmenter with the two parts of the correlation branch, under the recorded names."

    def __init__(self, backbone, num_classes, projection=256, **kw):
        super().__init__(backbone, num_classes, **kw)
        self.proj, self.corr = Projection(backbone.channels[-1], projection), Correlation(projection, num_classes)

    def everything(self, images, index):
        stages = self.backbone(images)
        logits = self.decode(stages[0], stages[3], images.shape[-2:])
        proj = self.proj(stages[3])
        return *stages, proj, logits, *self.corr(proj, logits, len(index), index)


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
        state = Net(ResNet(), 21).state_dict()
    for name, numbers in want.items():
        assert (value(name, state[name]).flatten()[:4] - torch.tensor(numbers)).abs().max() < 1e-8, name


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("case", CASES)
@torch.inference_mode()
def test_full_width(file, case):
    d = load_file(file)
    d = {k.removeprefix(f"{case}."): v for k, v in d.items() if k.startswith(f"{case}.")}
    if not d:
        pytest.skip(f"the committed fixture leaves out {case}")
    depth, classes, stride, rates, grid = CASES[case]
    with torch.device("meta"):
        net = Net(ResNet(depth, "deep", 64, stride, grid), classes, rates=rates)
    net = net.to_empty(device="cpu").eval()
    net.load_state_dict({k: value(k, v) for k, v in net.state_dict().items()})
    *stages, _, logits, corr, shapes = net.everything(d["image"], d.get("index", torch.arange(2)))
    for i, c in enumerate(stages, 1):
        if f"c{i}_sub" in d:
            close(c[:, :: 4 if case == "mini_os8" else 8], d[f"c{i}_sub"], f"c{i}")
    if "out" in d:
        close(logits, d["out"], "out")
    if "corr_out" in d:
        close(corr, d["corr_out"], "corr_out")
    if "shapes" in d:
        nearly_equal(shapes, d["shapes"], "shapes")


@pytest.mark.skipif(not NARROW.exists(), reason=NOT_HERE)
@pytest.mark.parametrize("rates", [(6, 12, 18), (12, 24, 36)])
@pytest.mark.parametrize("stride", [8, 16])
@pytest.mark.parametrize("dtype, tol", [(torch.float32, TOL), (torch.float64, 1e-6)])
@torch.inference_mode()
def test_narrow(stride, rates, dtype, tol):
    d = load_file(NARROW)
    state = {k.removeprefix("state."): v for k, v in d.items() if k.startswith("state.")}
    div = int(d["width_div"])
    blocks = tuple(
        1 + max(int(k.split(".")[2]) for k in state if k.startswith(f"backbone.layer{s}.")) for s in range(1, 5)
    )
    net = Net(
        ResNet((Bottleneck, blocks), "deep", 64 // div, stride),
        len(state["classifier.bias"]),
        256 // div,
        channels=256 // div,
        low_channels=48 // div,
        rates=rates,
    )
    net = load_weights(net, state).to(dtype).eval()
    *stages, proj, logits, corr, shapes = net.everything(d[f"os{stride}.image"].to(dtype), d[f"os{stride}.index"])
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
        net = Net(ResNet(), 21)
    assert len(net.state_dict()) == 703 and sum(p.numel() for p in net.parameters()) == 64_198_239
    readme = GOLDEN / "README.md"
    if not readme.exists():
        return
    lines = readme.read_text().split("State dict of the ResNet-101 build")[1].split("```")[1].strip().splitlines()
    shape = lambda v: "(" + ", ".join(map(str, v.shape)) + ")" if v.dim() else "scalar"
    assert sorted(lines) == sorted(f"{k} {shape(v)}" for k, v in net.state_dict().items())
