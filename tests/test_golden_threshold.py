"The dynamic threshold against the authors' implementation: every recorded chain of updates, in both precisions."

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from corrmatch.methods.corrmatch.threshold import DynamicThreshold, class_maxima

FIXTURE = Path(__file__).parents[1] / "nbs" / "fixtures" / "threshold.safetensors"
FULL = (
    Path(os.environ.get("CORRMATCH_GOLDEN", Path(__file__).parents[2] / "shared" / "golden")) / "threshold.safetensors"
)
FILES = [
    pytest.param(FIXTURE, id="fixture"),
    pytest.param(
        FULL,
        id="full",
        marks=pytest.mark.skipif(
            not FULL.exists(), reason="the full reference tensors are not here (set CORRMATCH_GOLDEN to their folder)"
        ),
    ),
]
PRECISIONS = {"f32": (torch.float32, 1e-6), "f64": (torch.float64, 1e-14)}


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_chains(file, precision):
    d, (dtype, tol) = load_file(file), PRECISIONS[precision]
    cases = sorted(k.split(".")[0] for k in d if k.endswith(".init"))
    assert cases
    for case in cases:
        for chain in ("threshold", "threshold_unmasked"):
            tau = DynamicThreshold(d[f"{case}.init"].item(), d[f"{case}.momentum"].item())
            for step, (logits, ignore) in enumerate(zip(d["logits"], d["ignore"])):
                got = tau.update(logits.to(dtype), None if chain.endswith("unmasked") else ignore != 255)
                assert abs(got - d[f"{case}.{chain}_{precision}"][step].item()) <= tol, (case, chain, step)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_batch_values(file, precision):
    d, (dtype, tol) = load_file(file), PRECISIONS[precision]
    for logits, ignore, want in zip(d["logits"], d["ignore"], d[f"batch_value_{precision}"].tolist()):
        maxima = class_maxima(logits.to(dtype), ignore != 255).double()
        got = maxima[maxima > -torch.inf].mean().item()
        assert got != got if want != want else abs(got - want) <= tol, (got, want)
