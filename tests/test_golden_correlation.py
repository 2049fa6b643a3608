"Map, propagated logits, shapes and gradients against the authors' implementation: the complete file of reference tensors."

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from corrmatch.methods.corrmatch.correlation import (
    Correlation,
    correlation_map,
    correlation_rows,
    shapes_from_rows,
)
from corrmatch.methods.corrmatch.propagation import propagate_pixels
from corrmatch.models.deeplab import resize

FULL = (
    Path(os.environ.get("CORRMATCH_GOLDEN", Path(__file__).parents[2] / "shared" / "golden"))
    / "correlation.safetensors"
)
pytestmark = pytest.mark.skipif(
    not FULL.exists(), reason="the full reference tensors are not here (set CORRMATCH_GOLDEN to their folder)"
)
# the recorded root of K is single precision in both
PRECISIONS = {"f32": (torch.float32, 1e-5), "f64": (torch.float64, 1e-6)}
CASES = ("square", "rect", "full", "constant")


def build(case, dtype):
    "The recorded tensors of a case, and the module with the recorded weights."
    of = {k.split(".")[1]: v for k, v in load_file(FULL).items() if k.startswith(case + ".")}
    net = Correlation(of["feature"].shape[1], len(of["b1"])).to(dtype)
    for conv, n in ((net.conv1, "1"), (net.conv2, "2")):
        conv.weight.data, conv.bias.data = of["w" + n].to(dtype)[:, :, None, None], of["b" + n].to(dtype)
    return of, net, of["feature"].to(dtype).requires_grad_(), of["logits"].to(dtype)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("case", CASES)
def test_values_and_shapes(case, precision):
    dtype, tol = PRECISIONS[precision]
    of, net, feature, logits = build(case, dtype)
    w1, w2 = net.conv1(feature).flatten(2), net.conv2(feature).flatten(2)
    small = resize(logits, feature.shape[-2:])
    up, shapes = net(feature, logits, index=of["index"])
    got = {
        "corr": correlation_map(w1, w2),
        "logits_small": small,
        "corr_logits": propagate_pixels(small.flatten(2), correlation_map(w1, w2)).view_as(small),
        "corr_logits_up": up,
    }
    compared = 0
    for name, value in got.items():
        want = of.get(f"{name}_{precision}")
        if want is None:
            continue
        assert (value - want).abs().max() <= tol, name
        compared += 1
    assert compared >= (3 if case != "constant" else 2 if precision == "f32" else 0)
    sure = torch.ones_like(shapes)
    if "shapes_ambiguous_at" in of:
        sure[tuple(of["shapes_ambiguous_at"].long().T)] = False
    assert shapes.dtype == torch.bool and torch.equal(shapes[sure], of["shapes"].bool()[sure])
    assert case != "constant" or not shapes.any()


@pytest.mark.parametrize("case", ("square", "rect", "full"))
def test_gradients(case):
    of, net, feature, logits = build(case, torch.float64)
    small = resize(logits, feature.shape[-2:]).flatten(2)
    out = propagate_pixels(small, correlation_map(net.conv1(feature).flatten(2), net.conv2(feature).flatten(2)))
    (out * of["G"].double().flatten(2)).sum().backward()
    got = {
        "feature": feature,
        "w1": net.conv1.weight,
        "b1": net.conv1.bias,
        "w2": net.conv2.weight,
        "b2": net.conv2.bias,
    }
    for name, t in got.items():
        assert (t.grad - of[f"grad_{name}_f64"].view_as(t)).abs().max() < 1e-6, name


def test_the_normalised_rows():
    "The rows between resize and cut: an entry is in the shape exactly where the recorded value is above one half."
    of, net, feature, _ = build("square", torch.float64)
    rows = (
        correlation_rows(net.conv1(feature).flatten(2), net.conv2(feature).flatten(2), of["index"])
        .detach()
        .unflatten(2, (5, 5))
    )
    up = resize(rows, (33, 33))
    low, high = up.amin((2, 3), keepdim=True), up.amax((2, 3), keepdim=True)
    assert ((up - low) / (high - low) - of["rows_norm_f64"]).abs().max() < 1e-6
    sure = (of["rows_norm_f64"] - 0.5).abs() > 1e-6
    assert torch.equal(shapes_from_rows(rows, (33, 33))[sure], (of["rows_norm_f64"] > 0.5)[sure])
