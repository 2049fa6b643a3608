"""Figures 3, 4, 6 and 9 of the paper, drawn from a run: what a shape does, and what pseudo labels look like"""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from corrmatch.engine.config import Config
from corrmatch.methods.corrmatch.correlation import draw_positions
from corrmatch.methods.corrmatch.method import CorrMatch, correlation_row, explain
from corrmatch.data.check import Classes
from corrmatch.data.splits import write_ids
from corrmatch.engine.evaluation import middle
from corrmatch.viz.palette import class_legend, colour, show_images
from corrmatch.viz.inspect import largest_object
from corrmatch.methods.corrmatch.propagation import propagate_regions
from corrmatch.engine.results import load_method, need_classes, validation_views
from corrmatch.viz.inspect import heat
from corrmatch.engine.runs import read_log
from corrmatch.data.views import EvaluationViews, denormalise


class Opened(NamedTuple):
    "A run that is ready to be looked into."

    method: CorrMatch
    classes: Classes
    config: Config
    tau: float  # its threshold at the checkpoint
    views: EvaluationViews  # its validation images

    def pair(self, i: int) -> tuple[Tensor, Tensor]:  # (3,H,W) normalised; (H,W)
        "A validation image and its mask; the middle of it, where images are too large for one pass."
        item, size = self.views[i], self.config.data.crop
        return tuple(
            middle(item[k], size) if self.config.mode == "sliding_window" else item[k] for k in ("image", "labels")
        )


def opened(
    run,  # run folder; or an opened one, which is returned
    root=None,  # another place of its dataset
    which="last",  # last or best checkpoint
) -> Opened:
    "Open a run of CorrMatch; one without threshold or map is an error."
    if isinstance(run, Opened):
        return run
    method, classes, config = load_method(run, which)
    if not isinstance(method, CorrMatch):
        raise ValueError(
            f"{run}: not a run of CorrMatch, so it has no threshold and no map to draw; give a run of CorrMatch"
        )
    log = read_log(run)
    best = which == "best" and (Path(run) / "scores.csv").exists()
    step = read_log(run, "scores.csv")["miou"].idxmax() if best else log.index[-1]
    return Opened(
        method,
        classes,
        config,
        log["tau"][log.index <= step].iloc[-1] if (log.index <= step).any() else config.method.threshold_init,
        validation_views(config, root),
    )


def with_map(
    run,
    root=None,
    which="last",
) -> Opened:
    "Open a run whose correlation map has been trained."
    o = opened(run, root, which)
    if not o.config.method.pixel:
        raise ValueError(
            f"{run}: trained without pixel propagation, so its correlation map has learnt nothing; "
            "give a run of CorrMatch first"
        )
    return o


FIXTURES = Path(__file__).parents[1] / "nbs" / "fixtures"


def photographs(
    out,  # folder to write
    name="voc_animals",  # a network that comes with the package: its classes
) -> Path:  # the same
    "The photographs that ship with the project, and two of them side by side, as a dataset with masks drawn by hand."
    out, (_, classes, _) = Path(out), load_method(name)
    both = lambda file: [Image.open(FIXTURES / f"{file}.jpg").convert("RGB"), Image.open(FIXTURES / f"{file}_mask.png")]
    pairs = {"corgi": both("dog1"), "shepherd": both("dog2"), "cat": [i.crop((0, 0, 300, 300)) for i in both("photo")]}
    halves = [
        [np.asarray(i.resize((200, 200), 0 if k else 3)) for k, i in enumerate(pairs[n])] for n in ("cat", "shepherd")
    ]
    pairs["cat_and_shepherd"] = [Image.fromarray(np.hstack(sides)) for sides in zip(*halves)]
    for kind, images in zip(("JPEGImages", "SegmentationClass"), zip(*pairs.values())):
        (out / kind).mkdir(parents=True)
        for id, image in zip(pairs, images):
            image.save(out / kind / f"{id}.png")
    colours = (" ".join(map(str, (n, *rgb))) for n, rgb in zip(classes.names, classes.palette))
    (out / "classes.txt").write_text("\n".join(colours) + "\n", encoding="utf-8")
    write_ids(out / "labelled.txt", ["cat", "corgi"])
    write_ids(out / "unlabelled.txt", ["cat_and_shepherd", "shepherd"])
    write_ids(out / "val.txt", ["corgi", "shepherd", "cat_and_shepherd"])
    return out


def packaged(
    root,  # a dataset as `photographs` writes it: labelled.txt, unlabelled.txt, val.txt, and classes.txt of the network
    name="voc_animals",  # a network that comes with the package
) -> Opened:
    "A network that comes with the package, ready to look at images that it was not trained on."
    method, classes, config = load_method(name)
    lists = {kind: str(Path(root) / f"{kind}.txt") for kind in ("labelled", "unlabelled", "val")}
    config = replace(config, batch=2, data=replace(config.data, root=str(root), **lists))
    views = validation_views(config)
    need_classes(classes, views.folder)
    return Opened(method, classes, config, method.confident_at, views)


class Panel(NamedTuple):
    "A picture in a row."

    picture: np.ndarray  # (H,W,3)
    caption: str = ""
    dots: tuple = ()  # (y, x, colour) each


def tally(
    labels,
    mask,
    truth,  # (H,W) class ids; bool; class ids, 255 = ignored
) -> str:
    "How much is selected, and how much of it is right."
    known = truth != 255
    selected = mask & known
    return (
        f"{(selected.sum() / known.sum().clamp(min=1)).item():.0%} selected, "
        f"{((labels == truth) & selected).sum() / selected.sum().clamp(min=1):.0%} of it right"
    )


def panel_rows(
    rows: list[list[Panel]],
    heads: list[str],  # one a column
    classes: Classes,  # for the legend
    width: float = 9.0,  # inches
):
    "Draw rows of panels under their heads, with the colours of the classes below."
    titles = [
        "\n".join(filter(None, (head if not i else "", p.caption)))
        for i, row in enumerate(rows)
        for head, p in zip(heads, row)
    ]
    fig = show_images([p.picture for row in rows for p in row], titles, len(heads), width)
    for ax, p in zip(fig.axes, (p for row in rows for p in row)):
        # a frame: white has an edge
        ax.axis("on")
        ax.set(xticks=[], yticks=[])
        ax.title.set_fontsize(7)
        ax.spines[:].set(color="0.7", lw=0.6)
        for y, x, c in p.dots:
            ax.plot(x, y, "o", mec="white", mfc=c, ms=5)
    class_legend(fig, classes)
    return fig


class Vote(NamedTuple):
    "What one shape saw and did."

    shape: Tensor  # (H,W) bool
    r1: float  # confident share of the shape
    r2: float  # share of the salient class among its confident pixels
    top: int  # the salient class k*
    before: tuple  # labels and mask (H,W) when its turn came
    after: tuple  # labels and mask afterwards
    added: int  # pixels that it selected; -1: refused


def votes(
    shapes: Tensor,  # (S,H,W) bool
    labels: Tensor,  # (H,W)
    confident: Tensor,  # (H,W) bool
    tau: float,
) -> list[Vote]:
    "Algorithm 1, shape by shape."
    seen, state = [], (labels, confident)
    for shape in shapes:
        now, mask = state
        classes, counts = now[shape & confident].unique(return_counts=True)
        if not len(classes):
            continue
        spread, part = (t[0] for t in propagate_regions(shape[None, None], now[None], confident[None], tau))
        r1, r2 = counts.sum() / shape.sum(), counts.max() / counts.sum()
        accepted, state = bool(r1 >= tau and r2 > tau), (spread, mask | part)
        seen.append(
            Vote(
                shape,
                r1.item(),
                r2.item(),
                classes[counts.argmax()].item(),
                (now, mask),
                state,
                (state[1].sum() - mask.sum()).item() if accepted else -1,
            )
        )
    return seen


@torch.inference_mode()
def sampled(
    o: Opened,
    image: Tensor,  # (3,H,W) normalised
    seed=0,  # of the draw
) -> tuple[
    Tensor, list[tuple[int, int]], Tensor, Tensor
]:  # (S,H,W) bool; S pixels (y,x); labels (H,W); confident (H,W)
    "The shapes of an image with the positions they belong to, and its own labels."
    h, w = o.method.net.encode(image[None])["high"].shape[-2:]
    index = draw_positions(h * w, o.config.method.num_shapes, torch.Generator().manual_seed(seed))
    out, shapes = o.method.view(image[None], len(index), index=index)
    confidence, labels = out.logits[0].softmax(0).max(0)
    cells = [divmod(i, w) for i in index.tolist()]
    H, W = image.shape[1:]
    return shapes[0], [(int((y + 0.5) * H / h), int((x + 0.5) * W / w)) for y, x in cells], labels, confidence >= o.tau


def most_telling(
    seen: list[tuple[Vote, tuple]],  # with the position of each
    count: int = 3,
) -> list[tuple[Vote, tuple]]:  # in the order of their votes
    "The shapes that add most: the best of each salient class, then the next best."
    best = sorted(range(len(seen)), key=lambda i: (-seen[i][0].added, -seen[i][0].r1))
    first = {seen[i][0].top: i for i in reversed(best)}.values()  # the best of each class
    chosen = sorted(best, key=lambda i: (i not in first, best.index(i)))[:count]
    return [seen[i] for i in sorted(chosen)]


def fig3(
    runs,  # run folders, or what `packaged` returns; the first is drawn
    root=None,
    which="last",
    among: int = 8,  # validation images to choose from
):
    "Figure 3: shape, salient class, labels before and after, for the three shapes that tell most."
    o = with_map(runs[0], root, which)

    def gain(i):
        shapes, _, labels, confident = sampled(o, o.pair(i)[0])
        return (
            propagate_regions(shapes[None], labels[None], confident[None], o.tau)[1][0].sum() - confident.sum()
        ).item() / confident.numel()

    image, truth = o.pair(max(range(min(among, len(o.views))), key=gain))
    shapes, points, labels, confident = sampled(o, image)
    points = [p for s, p in zip(shapes, points) if (s & confident).any()]  # those that vote
    seen = most_telling(list(zip(votes(shapes, labels, confident, o.tau), points)))
    if not seen:
        raise ValueError(
            f"{runs[0]}: no pixel of the first {among} validation images reaches the threshold of "
            f"{o.tau:.2f}, so no shape votes; train longer"
        )
    paint, rows = lambda labels, mask: colour(labels, o.classes, mask), []
    for v, (y, x) in seen:
        dot, word = ((y, x, "red"),), "accepted" if v.added >= 0 else "refused"
        rows.append(
            [
                Panel(denormalise(image), "", dot),
                Panel(heat(correlation_row(o.method, image, y, x), image.shape[1:]), "", dot),
                Panel(np.repeat(np.where(v.shape, 30, 225).astype(np.uint8)[..., None], 3, 2)),
                Panel(paint(*v.before), tally(*v.before, truth)),
                Panel(paint(v.before[0], v.shape & confident), f"$r_1$={v.r1:.2f}, $r_2$={v.r2:.2f}, {word}"),
                Panel(paint(*v.after), tally(*v.after, truth)),
            ]
        )
    heads = [
        "sampled position",
        "its row of $C$",
        r"shape $\hat{c}$",
        "labels before",
        "confident part of the shape",
        "labels after",
    ]
    return panel_rows(rows, heads, o.classes, 11)


HEADS = [
    "image",
    "row of $C$: object",
    "row of $C$: background",
    "without matching",
    "with matching",
    "prediction",
    "ground truth",
]


def label_row(
    o: Opened,  # with matching
    without: Opened | None,  # a network without; None: the same one, before region propagation
    i: int,  # validation image
) -> dict[str, Panel]:  # head -> panel
    "All panels of Figures 4 and 9 for one image."
    (image, truth), paint = o.pair(i), lambda labels, mask=None: colour(labels, o.classes, mask)
    e, other = explain(o.method, image, o.tau, o.config.method.num_shapes), without or o
    alone = e if without is None else explain(other.method, image, other.tau, 1)
    points = [(*largest_object(truth), "red"), (*largest_object(truth, ignore=range(1, 256)), "orange")]
    maps = [
        Panel(heat(correlation_row(o.method, image, y, x), image.shape[1:]), "", ((y, x, c),)) for y, x, c in points
    ]
    return dict(
        zip(
            HEADS,
            (
                Panel(denormalise(image), "", tuple(points)),
                *maps,
                Panel(paint(alone["labels"], alone["confident"]), tally(alone["labels"], alone["confident"], truth)),
                Panel(paint(e["spread"], e["mask"]), tally(e["spread"], e["mask"], truth)),
                Panel(paint(e["labels"])),
                Panel(paint(truth)),
            ),
        )
    )


def label_rows(
    runs,  # the first: CorrMatch; the second, if there is one: a run without matching
    root,
    which,
    heads: list[str],  # columns
    rows,  # validation images
    width: float,
):
    "Rows of Figures 4 and 9."
    o, without = with_map(runs[0], root, which), opened(runs[1], root, which) if len(runs) > 1 else None
    panels = [label_row(o, without, i) for i in rows if i < len(o.views)]
    # dots belong to the maps
    if HEADS[1] not in heads:
        panels = [p | {"image": p["image"]._replace(dots=())} for p in panels]
    return panel_rows([[p[h] for h in heads] for p in panels], heads, o.classes, width)


def fig4(
    runs,
    root=None,
    which="last",
    rows=(0, 1, 2),
):
    "Figure 4: pseudo labels without and with matching, and the ground truth."
    return label_rows(runs, root, which, ["image", "without matching", "with matching", "ground truth"], rows, 7.5)


def fig9(
    runs,
    root=None,
    which="last",
    rows=(0, 1, 2),
    heads=HEADS,
):
    "Figure 9: the columns of Figure 4, with rows of the map and the prediction."
    return label_rows(runs, root, which, list(heads), rows, 12 * len(heads) / len(HEADS))


def fig6(
    runs,
    root=None,
    which="last",
    rows=(0, 1, 2),
    strict: float = 0.99,
    loose: float = 0.5,  # fixed thresholds
):
    "Figure 6: pseudo labels with a threshold that is too strict, one that is too loose, and ours."
    o, table = with_map(runs[0], root, which), []
    for image, truth in (o.pair(i) for i in rows if i < len(o.views)):
        panels = []
        for tau in (strict, loose, o.tau):
            e = explain(o.method, image, tau, o.config.method.num_shapes)
            labels, mask = (e["spread"], e["mask"]) if tau == o.tau else (e["labels"], e["confident"])
            panels.append(Panel(colour(labels, o.classes, mask), tally(labels, mask, truth)))
        table.append([Panel(denormalise(image)), *panels, Panel(colour(truth, o.classes))])
    return panel_rows(
        table,
        [
            "image",
            f"too strict: τ={strict:g}",
            f"too loose: τ={loose:g}",
            f"ours: τ={o.tau:.2f}, with matching",
            "ground truth",
        ],
        o.classes,
        9.5,
    )
