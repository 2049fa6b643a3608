"Pixel and region propagation against the authors' implementation: every recorded case, labels and masks equal."

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from corrmatch.methods.corrmatch.propagation import propagate_pixels, propagate_regions

FIXTURES = Path(__file__).parents[1] / "nbs" / "fixtures"
FULL = Path(os.environ.get("CORRMATCH_GOLDEN", Path(__file__).parents[2] / "shared" / "golden"))
needs_full = pytest.mark.skipif(
    not FULL.exists(), reason="the full reference tensors are not here (set CORRMATCH_GOLDEN to their folder)"
)
REGIONS = [
    pytest.param(FIXTURES / "region_edge.safetensors", 14, id="edge"),
    pytest.param(FIXTURES / "region_random.safetensors", 1, id="random"),
    pytest.param(FULL / "region_edge.safetensors", 14, id="full edge", marks=needs_full),
    pytest.param(FULL / "region_random.safetensors", 6, id="full random", marks=needs_full),
]
PIXELS = [
    pytest.param(FIXTURES / "correlation.safetensors", {"square", "constant"}, id="fixture"),
    pytest.param(FULL / "correlation.safetensors", {"full", "rect", "square", "constant"}, id="full", marks=needs_full),
]


@pytest.mark.parametrize("file, count", REGIONS)
def test_regions(file, count):
    d = load_file(file)
    cases = sorted(k.split(".")[0] for k in d if k.endswith(".threshold"))
    assert len(cases) == count
    for case in cases:
        of = lambda name: d.get(f"{case}.{name}", d.get(f"{case.split('_t')[0]}.{name}"))  # x_t1 reuses the inputs of x
        valid, box = of("ignore_mixed") != 255, of("box") == 1
        shapes = (of("shapes") == 1) & (valid & ~box)[:, None]
        labels, mask = propagate_regions(
            shapes, of("labels_mixed").long(), of("mask_confident") == 1, of("threshold").item()
        )
        assert torch.equal(labels, of("labels_out").long()), case
        assert torch.equal(mask, of("mask_out") == 1), case


@pytest.mark.parametrize("file, expected", PIXELS)
def test_pixels(file, expected):
    d = load_file(file)
    cases = {k.split(".")[0] for k in d if ".corr_f" in k}
    assert cases == expected
    for case in cases:
        for precision, tol in (("f32", 1e-5), ("f64", 1e-12)):
            # the constant case has no small logits and no double run
            if f"{case}.logits_small_{precision}" not in d:
                continue
            got = propagate_pixels(d[f"{case}.logits_small_{precision}"].flatten(2), d[f"{case}.corr_{precision}"])
            assert (got - d[f"{case}.corr_logits_{precision}"].flatten(2)).abs().max() <= tol, (case, precision)
