"""Figure 2 of the paper, drawn from one real training step: every tensor as a picture, every loss at its arrow"""

import copy
from dataclasses import replace
import numpy as np
import torch
from matplotlib import pyplot as plt
from torch import Tensor
from corrmatch.methods.corrmatch.correlation import correlation_map
from corrmatch.viz.palette import class_legend, colour
from reproduction.pictures import Opened, with_map
from corrmatch.viz.inspect import heat
from corrmatch.methods.base import Clock, with_source
from corrmatch.methods.corrmatch.method import halves, make_threshold, pseudo_labels
from corrmatch.nn.cutmix import mix
from corrmatch.engine.trainer import open_data
from corrmatch.data.views import TrainingViews, batches, denormalise


def recorded_step(
    o: Opened,
    root=None,  # another place of the dataset
    images: int = 4,  # of each kind
):
    "A training step of a run with its tensors: batch, CutMix source, predictions, shapes, features, losses, pseudo-labels."
    c, method, seen, features = o.config, o.method, [], []
    folder, split = open_data(replace(c, data=replace(c.data, check=False, root=str(root or c.data.root))))
    views = TrainingViews(folder, split, c.data.crop, c.seed, partner=c.data.partner, scale=c.data.scale)
    batch = next(iter(batches(views, min(images, c.batch))))
    method.threshold = make_threshold(replace(c.method, threshold_init=o.tau))
    threshold, view = copy.deepcopy(method.threshold), method.view

    def recorded(images, *args, **options):
        seen.append((images, view(images, *args, **options)))
        return seen[-1][1]

    torch.manual_seed(c.seed)
    hook = method.proj.register_forward_hook(lambda module, args, out: features.append(out))
    method.view = recorded
    method.train()
    try:
        with torch.no_grad():
            with_partner, logits_m = with_source(method.net, batch)
            losses = method("main", batch, Clock(seed=c.seed)).terms
            (_, (both, shapes)), (mixed, (strong, _)) = seen
            weak = halves(both)[1].logits
            pseudo = pseudo_labels(weak, logits_m, shapes, with_partner, threshold, c.method.region_threshold)
    finally:
        method.eval()
        hook.remove()
        del method.view
    partner = pseudo.labels_w.roll(1, 0) if logits_m is None else logits_m.argmax(1)
    return batch, partner, (both, shapes), mixed, strong, features[0], losses, pseudo


def mosaic(shapes: Tensor) -> np.ndarray:  # (S,H,W) bool -> picture of four of them
    "Four shapes in one picture, from the largest to the smallest."
    sizes = shapes.sum((1, 2)).sort(descending=True)
    last = max((sizes.values > 0).sum().item() - 1, 0)  # the smallest that is not empty
    four = torch.where(shapes[sizes.indices[torch.linspace(0, last, 4).round().long()]], 30, 225).byte()
    four[:, [0, -1]] = four[:, :, [0, -1]] = 128  # frames
    a, b, c, d = four
    return np.repeat(torch.cat([torch.cat([a, b], 1), torch.cat([c, d], 1)]).numpy()[..., None], 3, 2)


def most_classes(
    box: Tensor,  # (B,H,W) bool
    labels: Tensor,  # (B,H,W)
    mask: Tensor,  # (B,H,W) bool: confident, or taken in by a region
) -> int:
    "The image to draw: has a box, shows many classes, comes first."
    return max(range(len(box)), key=lambda i: (box[i].any().item(), len(labels[i][mask[i]].unique()), -i))


def step_tensors(
    o: Opened,
    root=None,
) -> tuple[dict, dict]:  # name -> picture; losses
    "The tensors of a step as pictures, for one image of the batch."
    batch, partner, (both, shapes), mixed, strong, features, losses, pseudo = recorded_step(o, root)
    n, box, i = len(batch["image_x"]), batch["box"], most_classes(batch["box"], pseudo.labels, pseudo.mask)
    paint = lambda labels, mask=None: colour(labels, o.classes, mask)
    says = lambda logits: paint(logits.argmax(0))
    f = features[n + i][None]
    C = correlation_map(o.method.corr.conv1(f).flatten(2), o.method.corr.conv2(f).flatten(2))[0].detach()
    cut = mix(pseudo.labels_w, partner, box)[i]
    maps = (
        {"C": heat(C**0.5, C.shape), "shapes": mosaic(shapes[i])}
        if shapes is not None and shapes.shape[1]
        else {"C": heat(C**0.5, C.shape)}
    )
    return maps | {
        "x_l": denormalise(batch["image_x"][i]),
        "p_l": says(both.logits[i]),
        "z_l": says(both.corr[i]),
        "y_l": paint(batch["labels_x"][i]),
        "x_w": denormalise(batch["image_w"][i]),
        "p_w": says(both.logits[n + i]),
        "z_w": says(both.corr[n + i]),
        "t_w": paint(pseudo.labels_w[i], pseudo.confident_w[i]),
        "x_s": denormalise(mixed[i]),
        "p_s": says(strong.logits[i]),
        "z_s": says(strong.corr[i]),
        "t_s": paint(pseudo.labels[i], pseudo.mask[i]),
        "cut": paint(cut, pseudo.confident[i]),
    } | ({} if both.perturbed is None else {"f_w": says(both.perturbed[i])}), losses


PLACES = {  # tensor -> (column, row, what stands under it)
    "x_l": (0, 0, "labelled image $x^l$"),
    "p_l": (1, 0, r"$\mathcal{F}(x^l)$"),
    "z_l": (2, 0, "propagated $z^l$"),
    "y_l": (5, 0, "its mask $y^l$"),
    "x_w": (0, 1, "weak view $x^w$"),
    "p_w": (1, 1, r"$\mathcal{F}(x^w)$"),
    "z_w": (2, 1, "propagated $z^w$"),
    "f_w": (3, 1, "from perturbed features"),
    "t_w": (5, 1, "confident at τ=TAU"),
    "x_s": (0, 2, "strong view $x^s$, CutMixed"),
    "p_s": (1, 2, r"$\mathcal{F}(x^s)$"),
    "z_s": (2, 2, "propagated $z^s$"),
    "t_s": (5, 2, "pseudo-labels"),
    "C": (1, 3, "map $C$ of $x^w$ (Eq. 4), its root"),
    "shapes": (2, 3, "shapes, four of COUNT (Eq. 7)"),
    "cut": (5, 3, "confident, CutMixed"),
}
LOSSES = {  # loss term -> (row, 1: above the row, 0: on its line), where it comes from
    "sup_hard": (0, 1, "p_l"),
    "sup_corr": (0, 0, "z_l"),
    "unsup_corr_w": (1, 1, "z_w"),
    "unsup_fp": (1, 0, "f_w"),
    "unsup_hard": (2, 1, "p_s"),
    "unsup_corr_s": (2, 0, "z_s"),
}
PITCH, HALF = (1.3, 1.62), 0.46  # between middles of panels; half a panel


def spot(name: str, dx=0.0, dy=0.0) -> tuple[float, float]:
    "A point of a panel: its middle, moved by halves of its side."
    column, row, _ = PLACES[name]
    return column * PITCH[0] + dx * HALF, -row * PITCH[1] + dy * HALF


def route(ax, *points, color="0.4", style="-|>"):
    "An arrow along points."
    xs, ys = zip(*points[:-1])
    ax.plot(xs, ys, color=color, lw=1.1, solid_capstyle="butt", zorder=1)
    ax.annotate(
        "",
        points[-1],
        points[-2],
        arrowprops=dict(arrowstyle=style, color=color, lw=1.1, shrinkA=0, shrinkB=0),
        zorder=1,
    )


def sign(ax, x, y, text, fc, ec):
    "A word in a box."
    ax.text(
        x,
        y,
        text,
        ha="center",
        va="center",
        fontsize=7,
        color="black",
        zorder=3,
        bbox=dict(boxstyle="round,pad=.3", fc=fc, ec=ec, lw=0.9),
    )


RED = "#b5232f"  # losses


def draw_losses(
    ax,
    losses: dict,  # term -> number
):
    "The losses between predictions and targets, with the numbers of the step."
    for term, (row, above, source) in LOSSES.items():
        if term not in losses:
            continue
        x, y, target = 4 * PITCH[0], -row * PITCH[1] + 0.62 * above, ("y_l", "t_w", "t_s")[row]
        if above:
            route(ax, spot(source, 0.3, 1), (spot(source, 0.3)[0], y), (x - 0.27, y), color=RED)
        else:
            route(ax, spot(source, 1), (x - 0.27, y), color=RED)
        route(ax, spot(target, -1, 0.7 if above else 0), (x + 0.27, y), color=RED)
        sign(ax, x, y, f"{term}\n{losses[term]:.3f}", "#fde8e8", RED)
    if "unsup_soft" in losses:
        route(ax, spot("p_w", -0.35, -1), spot("p_s", -0.35, 1), color=RED, style="<|-|>")
        sign(
            ax, spot("p_w")[0] - 0.16, -1.52 * PITCH[1] + 0.02, f"unsup_soft {losses['unsup_soft']:.3f}", "#fde8e8", RED
        )


def fig2(
    runs,
    root=None,
    which="last",
):
    "Figure 2: the tensors of one real training step, with its losses."
    o = with_map(runs[0], root, which)
    pictures, losses = step_tensors(o, root)
    fig, ax = plt.subplots(figsize=(9, 7.4))
    for name, picture in pictures.items():
        (x, y), under = spot(name), PLACES[name][2]
        under = under.replace("TAU", f"{o.tau:.2f}").replace("COUNT", str(o.config.method.num_shapes))
        ax.imshow(picture, extent=(x - HALF, x + HALF, y - HALF, y + HALF), interpolation="nearest", zorder=2)
        ax.add_patch(plt.Rectangle((x - HALF, y - HALF), 2 * HALF, 2 * HALF, fc="none", ec="0.7", lw=0.6, zorder=3))
        ax.text(
            x,
            y - HALF - 0.04,
            under,
            ha="center",
            va="top",
            fontsize=7,
            zorder=3,
            bbox=dict(fc="white", ec="none", pad=0.6, alpha=0.8),
        )
    for a, b in (
        ("x_l", "p_l"),
        ("p_l", "z_l"),
        ("x_w", "p_w"),
        ("p_w", "z_w"),
        ("x_s", "p_s"),
        ("p_s", "z_s"),
        ("C", "shapes"),
    ):
        if b in pictures:
            route(ax, spot(a, 1), spot(b, -1))
    draw_losses(ax, {k: v.item() for k, v in losses.items()})
    left, right, low = spot("x_w", -1.3)[0], spot("t_w", 1.25)[0], spot("t_s", 0, -1.75)[1]
    route(ax, spot("x_w", -1), (left, spot("x_w")[1]), (left, spot("C")[1]), spot("C", -1))
    route(ax, spot("t_w", 1), (right, spot("t_w")[1]), (right, spot("cut")[1]), spot("cut", 1))
    route(ax, spot("cut", 0, 1), spot("t_s", 0, -1.35))
    if "shapes" in pictures:
        route(
            ax, spot("shapes", 1), (3 * PITCH[0], spot("shapes")[1]), (3 * PITCH[0], low), (spot("t_s")[0] - 0.5, low)
        )
        sign(ax, spot("t_s")[0], low, "Algorithm 1", "#ffd166", "#b26a00")
    ax.set(xlim=(left - 0.1, right + 0.1), ylim=(spot("C", 0, -1.5)[1], 0.62 + 0.3))
    ax.axis("off")
    fig.tight_layout(pad=0.3)
    class_legend(fig, o.classes)
    return fig
