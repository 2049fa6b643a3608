"All loss terms and their gradients against the authors' implementation, from raw predictions to the total."

import pytest
import torch
from safetensors.torch import load_file

from corrmatch.nn.losses import OHEM
from corrmatch.methods.corrmatch.method import Predictions, Pseudo, corrmatch_loss
from corrmatch.methods.corrmatch.propagation import propagate_regions
from corrmatch.methods.corrmatch.threshold import DynamicThreshold
from replay import GOLDEN, NAMES

FULL = GOLDEN / "losses.safetensors"
pytestmark = pytest.mark.skipif(
    not FULL.exists(), reason="the full reference tensors are not here (set CORRMATCH_GOLDEN to their folder)"
)
PRECISIONS = {"f32": (torch.float32, 1e-6), "f64": (torch.float64, 1e-12)}
RECORDED = load_file(FULL) if FULL.exists() else {}
CASES = sorted({k.split(".")[0] for k in RECORDED if ".loss_" in k}) or ["none"]
WITH_GRADIENTS = sorted({k.split(".")[0] for k in RECORDED if ".grad." in k}) or ["none"]


def replay(d, case, dtype):
    "CutMix, threshold, regions and losses of one case."
    of = lambda name: d.get(f"{case}.{name}", d.get(name))
    pred = {k: v.detach().to(dtype, copy=True).requires_grad_() for k, v in d.items() if k.startswith("pred_")}
    box, valid_w = d["box"] == 1, of("ignore") != 255
    mix = lambda own, partner: torch.where(box, partner, own)
    valid = mix(valid_w, of("ignore_mix") != 255)
    tau = DynamicThreshold(d["threshold_init"].item(), d["threshold_momentum"].item())
    tau.update(pred["pred_u_w"], valid)
    confidence_w, labels_w = pred["pred_u_w"].detach().softmax(1).max(1)
    confidence_m, labels_m = pred["pred_u_w_mix"].detach().softmax(1).max(1)
    confident = (mix(confidence_w, confidence_m) >= tau.value) & valid
    shapes = (d["shapes"] == 1) & (valid & ~box)[:, None]
    labels, mask = propagate_regions(shapes, mix(labels_w, labels_m), confident, tau.value)
    pseudo = Pseudo(labels_w, (confidence_w >= tau.value) & valid_w, valid_w, labels, mask, confident, valid)
    ohem = OHEM(min_kept=d["ohem_min_kept"].item()) if case == "ohem" else None
    losses = corrmatch_loss(
        Predictions(pred["pred_x"], pred["pred_x_corr"]),
        d["mask_x"].long(),
        Predictions(pred["pred_u_w"], pred["pred_u_w_corr"], pred["pred_u_w_fp"]),
        Predictions(pred["pred_u_s1"], pred["pred_u_s1_corr"]),
        pseudo,
        ohem=ohem,
    )
    return tau.value, pseudo, losses, pred, of


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_terms_threshold_and_masks(case, precision):
    dtype, tol = PRECISIONS[precision]
    tau, pseudo, losses, _, of = replay(RECORDED, case, dtype)
    assert abs(tau - of(f"threshold_{precision}").item()) <= tol
    for recorded, name in NAMES.items():
        assert abs(losses.terms[name].item() - of(f"{recorded}_{precision}").item()) <= tol, name
    for recorded, ours in (
        ("labels_out", pseudo.labels),
        ("mask_out", pseudo.mask),
        ("mask_confident", pseudo.confident),
    ):
        if of(recorded) is not None:
            assert torch.equal(of(recorded).long(), ours.long()), recorded


@pytest.mark.parametrize("case", WITH_GRADIENTS)
def test_gradients(case):
    _, _, losses, pred, _ = replay(RECORDED, case, torch.float64)
    losses.total.backward()
    for key in (k for k in RECORDED if k.startswith(f"{case}.grad.")):
        assert (pred[key.split(".grad.")[1]].grad - RECORDED[key]).abs().max() < 1e-9, key
    assert pred["pred_u_w"].grad is None and pred["pred_u_w_mix"].grad is None
