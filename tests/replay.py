"Replay the recorded training iterations of the authors' implementation with this package (float64, stored draws)."

import os
from contextlib import contextmanager
from pathlib import Path
from unittest import mock
import torch
import torch.nn.functional as F
from torchvision.models.resnet import Bottleneck
from corrmatch.engine.config import OptimConfig
from corrmatch.engine.state import make_optimizers, poly_lr
from corrmatch.methods.base import Clock
from corrmatch.methods.corrmatch.method import CorrMatch, CorrMatchConfig
from corrmatch.models.deeplab import DeepLabV3Plus, ResNet

FIXTURES = Path(__file__).parents[1] / "nbs" / "fixtures"
GOLDEN = Path(os.environ.get("CORRMATCH_GOLDEN", Path(__file__).parents[2] / "shared" / "golden"))
NAMES = {
    "loss_x": "sup_hard",
    "loss_x_corr": "sup_corr",
    "loss_u_s1": "unsup_hard",
    "loss_u_corr_s1": "unsup_corr_s",
    "loss_u_corr_w": "unsup_corr_w",
    # recorded name -> ours
    "loss_u_corr": "unsup_corr",
    "loss_u_kl": "unsup_soft",
    "loss_u_w_fp": "unsup_fp",
    "loss": "total",
}


@contextmanager
def stored_dropout(keeps):
    "Replace every channel dropout by the next stored mask; all of them must be used."
    keeps, real = list(keeps), F.dropout2d

    def dropout2d(x, p=0.5, training=True, inplace=False):
        if not training or p == 0:
            return real(x, p, training, inplace)
        keep = keeps.pop(0)
        assert keep.shape == x.shape[:2], (keep.shape, x.shape)
        return x * keep.to(x)[:, :, None, None] / (1 - p)

    F.dropout2d = dropout2d
    try:
        yield
    finally:
        F.dropout2d = real
    assert not keeps, f"{len(keeps)} stored draws were not used"


def recorded_name(name: str) -> str:
    "The name that a parameter of the method has in the recording, where segmenter and correlation are one network."
    return name.removeprefix("net.")


def golden_method(d, dtype=torch.float64):
    "The narrow network of the recording as a method, with its starting weights; and the settings of the recording."
    cfg = {k.split(".", 1)[1]: v for k, v in d.items() if k.startswith("cfg.")}
    state = {k.split(".", 1)[1]: v for k, v in d.items() if k.startswith("state0.")}
    stem, rates = state["backbone.conv1.0.weight"].shape[0], tuple(cfg["rates"].tolist())

    def build():
        backbone = ResNet((Bottleneck, tuple(cfg["layers"].tolist())), "deep", stem, int(cfg["output_stride"]))
        channels, low = state["classifier.weight"].shape[1], state["reduce.0.weight"].shape[0]
        return DeepLabV3Plus(backbone, state["classifier.weight"].shape[0], channels, low, rates)

    settings = CorrMatchConfig(
        projection=state["proj.0.weight"].shape[0],
        num_shapes=len(d["it0.index_weak"]),
        threshold_init=float(cfg["threshold_init"]),
    )
    method = CorrMatch(settings, build)
    ours = {name: recorded_name(name) for name in method.state_dict() if name != "_extra_state"}
    assert sorted(ours.values()) == sorted(state), "the recording has the same names"
    method.load_state_dict(method.state_dict() | {name: state[there] for name, there in ours.items()})
    return method.to(dtype).train(), cfg


@contextmanager
def kept_pseudo_labels(method):
    "A list that gets the pseudo-labels of every step of a method."
    scope, seen = type(method).forward.__globals__, []
    real = scope["pseudo_labels"]

    def keep(*args, **options):
        seen.append(real(*args, **options))
        return seen[-1]

    with mock.patch.dict(scope, pseudo_labels=keep):
        yield seen


def replay(d):
    "Yield (name of the iteration, losses, pseudo-labels, method, optimiser) after each recorded iteration."
    method, cfg = golden_method(d)
    optim, total = OptimConfig(float(cfg["lr"]), float(cfg["head_multiplier"])), int(cfg["total_iters"])
    optimizer = make_optimizers(method, optim)["main"]
    for step, it in enumerate(sorted({k.split(".")[0] for k in d if k.startswith("it")})):
        t = lambda name: d[f"{it}.{name}"]
        f = lambda name: t(name).double()
        batch = {
            "image_x": f("img_x"),
            "labels_x": t("mask_x").long(),
            "image_w": f("img_u_w"),
            "image_s": f("img_u_s1"),
            "image_w_mix": f("img_u_w_mix"),
            "image_s_mix": f("img_u_s1_mix"),
            "valid_u": t("ignore_mask") != 255,
            "valid_mix": t("ignore_mask_mix") != 255,
            "box": t("cutmix_box1") == 1,
        }
        for group in optimizer.param_groups:
            group["lr"] = poly_lr(optim.lr * group["factor"], step, total)
        keeps = [t("keep_c1"), t("keep_c4"), t("keep_proj_weak"), t("keep_proj_strong")]
        with stored_dropout(keeps), kept_pseudo_labels(method) as pseudo:
            losses = method("main", batch, Clock(step, total), index=t("index_weak"))
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        yield it, losses, pseudo[0], method, optimizer


def check(d, tol=1e-6):
    "Assert that every recorded number is reproduced; returns the largest deviation of any loss."
    worst = 0.0
    for step, (it, losses, pseudo, method, optimizer) in enumerate(replay(d), 1):
        t = lambda name: d[f"{it}.{name}"]
        for recorded, name in NAMES.items():
            gap = abs(losses.terms[name].item() - t(recorded).item())
            assert gap < tol, f"{it} {name}: {losses.terms[name].item()} here, {t(recorded).item()} recorded"
            worst = max(worst, gap)
        assert abs(method.threshold.value - t("threshold").item()) < 1e-9
        for name, ours in (
            ("labels_out", pseudo.labels),
            ("mask_out", pseudo.mask),
            ("mask_confident", pseudo.confident),
        ):
            different = (ours.long() != t(name).long()).sum()
            assert not different, f"{it} {name}: {different} pixels differ"
        factors = sorted({group["factor"] for group in optimizer.param_groups})  # encoder, head
        rates = [poly_lr(float(d["cfg.lr"]) * factor, step, int(d["cfg.total_iters"])) for factor in factors]
        assert torch.allclose(torch.tensor(rates, dtype=torch.float64), t("lr_after"), rtol=1e-12)
        grads = {recorded_name(n): p.grad for n, p in method.named_parameters()}
        state = {recorded_name(n): v.double() for n, v in method.state_dict().items() if n != "_extra_state"}
        for what, ours in (("grad_norms", grads), ("state_norms", state)):
            if f"{it}.{what}" in d:
                norms = torch.stack([v.norm() for _, v in sorted(ours.items())])
                assert (norms - t(what)).abs().max() < 1e-6, (what, (norms - t(what)).abs().max())
        for prefix, ours in ((f"{it}.grad.", grads), (f"state{step}.", state)):
            for key in (k for k in d if k.startswith(prefix)):
                assert (ours[key.removeprefix(prefix)] - d[key].double()).abs().max() < 1e-6, key
    return worst
