"Replay the recorded training iterations of the authors' implementation with this package (float64, stored draws)."

import os
from contextlib import contextmanager
from pathlib import Path
import torch
import torch.nn.functional as F
from torchvision.models.resnet import Bottleneck
from corrmatch.models.deeplab import ResNet
from corrmatch.methods.corrmatch.threshold import DynamicThreshold
from corrmatch.methods.corrmatch.method import CorrMatchConfig
from corrmatch.engine.config import OptimConfig
from corrmatch.methods.corrmatch.method import CorrMatch, train_step
from corrmatch.engine.state import make_optimizers, poly_lr

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


def golden_net(d, dtype=torch.float64):
    "The narrow network of the recording with its starting weights."
    cfg = {k.split(".", 1)[1]: v for k, v in d.items() if k.startswith("cfg.")}
    div = int(cfg["width_div"])
    backbone = ResNet((Bottleneck, tuple(cfg["layers"].tolist())), "deep", 64 // div, int(cfg["output_stride"]))
    state = {k.split(".", 1)[1]: v for k, v in d.items() if k.startswith("state0.")}
    net = CorrMatch(
        backbone,
        state["classifier.weight"].shape[0],
        256 // div,
        channels=256 // div,
        low_channels=48 // div,
        rates=tuple(cfg["rates"].tolist()),
    )
    net.load_state_dict(state)
    return net.to(dtype).train(), cfg


def replay(d):
    "Yield (name of the iteration, losses, pseudo labels, threshold, net, optimizer) after each recorded iteration."
    net, cfg = golden_net(d)
    optim = OptimConfig(float(cfg["lr"]), float(cfg["head_multiplier"]))
    optimizer, threshold, total = (
        make_optimizer(net, optim),
        DynamicThreshold(float(cfg["threshold_init"]), 0.999),
        int(cfg["total_iters"]),
    )
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
        with stored_dropout([t("keep_c1"), t("keep_c4"), t("keep_proj_weak"), t("keep_proj_strong")]):
            losses, pseudo = train_step(net, batch, threshold, CorrMatchConfig(), index=t("index_weak"))
        optimizer.zero_grad()
        losses["total"].backward()
        optimizer.step()
        yield it, losses, pseudo, threshold.value, net, optimizer


def check(d, tol=1e-6):
    "Assert that every recorded number is reproduced; returns the largest deviation of any loss."
    worst = 0.0
    for step, (it, losses, pseudo, tau, net, optimizer) in enumerate(replay(d)):
        t = lambda name: d[f"{it}.{name}"]
        for recorded, name in NAMES.items():
            gap = abs(losses[name].item() - t(recorded).item())
            assert gap < tol, f"{it} {name}: {losses[name].item()} here, {t(recorded).item()} recorded"
            worst = max(worst, gap)
        assert abs(tau - t("threshold").item()) < 1e-9
        for name, ours in (
            ("labels_out", pseudo.labels),
            ("mask_out", pseudo.mask),
            ("mask_confident", pseudo.confident),
        ):
            assert torch.equal(ours.long(), t(name).long()), (
                f"{it} {name}: {(ours.long() != t(name).long()).sum()} pixels differ"
            )
        rates = [
            poly_lr(float(d["cfg.lr"]) * g["factor"], step + 1, int(d["cfg.total_iters"]))
            for g in optimizer.param_groups
        ]
        assert torch.allclose(torch.tensor(rates, dtype=torch.float64), t("lr_after"), rtol=1e-12)
        grads = torch.stack([p.grad.norm() for _, p in sorted(net.named_parameters())])
        assert (grads - t("grad_norms")).abs().max() < 1e-6, (grads - t("grad_norms")).abs().max()
        norms = torch.stack([v.double().norm() for _, v in sorted(net.state_dict().items())])
        assert (norms - t("state_norms")).abs().max() < 1e-6, (norms - t("state_norms")).abs().max()
        for key in (k for k in d if k.startswith(f"{it}.grad.")):
            ours = dict(net.named_parameters())[key.split(".grad.")[1]].grad
            assert (ours - d[key]).abs().max() < 1e-6, key
    for key in (k for k in d if k.startswith("state2.")):
        assert (net.state_dict()[key[7:]].double() - d[key].double()).abs().max() < 1e-6, key
    return worst
