"""Pseudo-labels with and without propagation, on the same images, against masks that the training never read

    python -m reproduction.paired RUN COUNTS --root VOC_ANIMALS --moments 005 010 025 050 100 --images 1000

Three rules are compared image by image: the confident pixels of the network, the same after region propagation
(Algorithm 1), and the confident pixels of the propagated logits z (Eq. 5). The deciding comparison is at equal mask
ratio: regions against a threshold that is lowered until it keeps as many pixels. This file counts,
`reproduction.paired_summary` makes tables of the counts.
"""

import argparse
import time
from pathlib import Path
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from corrmatch.data.check import Folder, resolve_split
from corrmatch.data.views import EvaluationViews
from corrmatch.engine.evaluation import middle
from corrmatch.engine.results import load_method
from corrmatch.engine.runs import load_checkpoint, save_json
from corrmatch.methods.corrmatch.correlation import draw_positions
from corrmatch.methods.corrmatch.propagation import propagate_regions
from corrmatch.methods.corrmatch.threshold import confidences

IGNORE = 255
TAUS = (0.80, 0.84, 0.90, 0.95, 0.98)  # beside the value that the run had reached
STRICTER = (0.95, 0.98)  # for the regions alone
JUDGED = (0, 1 + TAUS.index(0.95))  # pairs of thresholds whose accepted shapes are looked at one by one
BINS = 4096  # of confidences
CELLS = 64  # of confidences, coarse
EVERY = 4  # shapes are judged one by one in each fourth image
PART = 25  # images in a file
# of an accepted shape: pair of thresholds, its class, its share of the image, and pixels: known, right, added, added
# and right, added and right by the network's own label, right before and lost, right after and won
MARKS = ("pair", "class", "area", "known", "right", "added", "added_right", "added_own_right", "lost", "won")


def pairs_of(
    tau: float,  # that the run had reached
) -> list[tuple[float, float]]:
    "Thresholds of pixels and of regions: equal ones, then stricter ones for the regions alone."
    return [(t, t) for t in (tau, *TAUS)] + [(tau, r) for r in STRICTER]


# counting: pure functions on tensors


def accepted_shapes(
    shapes: Tensor,  # (S,H,W) bool
    labels: Tensor,  # (H,W) int64
    confident: Tensor,  # (H,W) bool
    tau: float,  # least confident share; the share of the top class must be above it
) -> tuple[list[tuple[int, int]], Tensor, Tensor]:  # (shape, class) of each accepted one, in order; labels; mask
    "Algorithm 1 in its plainest form; unlike `propagate_regions` it tells which shapes were accepted."
    shapes, labels, counted = shapes.flatten(1), labels.flatten().clone(), confident.flatten()
    mask, found, tau = counted.clone(), [], torch.tensor(tau)
    area, inside = shapes.sum(1), (shapes & counted).sum(1)
    for s in ((inside > 0) & (inside.float() / area.float() >= tau)).nonzero()[:, 0].tolist():
        votes = labels[shapes[s] & counted].bincount()
        k = int(votes.argmax())
        if votes[k].float() / inside[s].float() > tau:
            labels[shapes[s]] = k
            mask |= shapes[s]
            found.append((s, k))
    return found, labels.view(confident.shape), mask.view(confident.shape)


def joint_counts(
    true: Tensor,  # (N,) class ids, known pixels only
    own: Tensor,  # (N,) the network's labels
    confident: Tensor,  # (N,) bool: confident
    new: Tensor,  # (N,) labels after propagation, `classes` where the pixel has no pseudo-label
    classes: int,  # K
) -> Tensor:  # (K,K,2,K+1) pixels by true class, own label, confident or not, new label
    "Everything that propagation did to one image, as one table."
    code = ((true * classes + own) * 2 + confident) * (classes + 1) + new
    return torch.bincount(code, minlength=2 * classes**2 * (classes + 1)).view(classes, classes, 2, classes + 1)


def inside_counts(
    bins: Tensor,  # (N,) confidence, 0 to BINS - 1
    true: Tensor,  # (N,) class ids, known pixels only
    own: Tensor,  # (N,) the network's labels
    confident: Tensor,  # (N,) bool: confident
    new: Tensor,  # (N,) labels after region propagation
    mask: Tensor,  # (N,) bool, after region propagation
) -> Tensor:  # (5,CELLS): added; right by their new label, by their own; left out; right by their own
    "Pixels below the threshold by confidence: does being inside an accepted shape say more than the confidence does?"
    added, left, cell = mask & ~confident, ~mask & ~confident, bins * CELLS // BINS
    kinds = (added, added & (new == true), added & (own == true), left, left & (own == true))
    return torch.stack([torch.bincount(cell[kind], minlength=CELLS) for kind in kinds])


def histogram(
    bins: Tensor,  # (N,) confidence, 0 to BINS - 1
    right: Tensor,  # (N,) bool
) -> Tensor:  # (2,BINS) pixels, right pixels
    "How many pixels, and how many right ones, have each confidence."
    return torch.stack([torch.bincount(b, minlength=BINS) for b in (bins, bins[right])])


def judge_shapes(
    shapes: Tensor,  # (A,H,W) bool, accepted shapes
    given: Tensor,  # (A,) the class each was given
    own: Tensor,  # (H,W) the network's labels
    confident: Tensor,  # (H,W) bool: confident
    true: Tensor,  # (H,W) class ids or 255
    classes: int,  # K
) -> Tensor:  # (A,9): the columns of MARKS from `class` on
    "One row for each accepted shape, each judged as if it were the only one."
    known, flat = (true != IGNORE).flatten(), shapes.flatten(1).float()
    of_class = F.one_hot(true.flatten().masked_fill(~known, 0), classes).float() * known[:, None]
    own_right = (own.flatten() == true.flatten()) & known
    new = ~confident.flatten() & known
    inside, added, added_own, was_right = (flat @ torch.stack([known, new, new & own_right, own_right], 1).float()).T
    right, added_right, both = (
        (flat @ (of_class * part[:, None])).gather(1, given[:, None])[:, 0] for part in (known, new, own_right)
    )
    area = flat.mean(1)
    columns = (given.float(), area, inside, right, added, added_right, added_own, was_right - both, right - both)
    return torch.stack(columns, 1)


def count_image(
    method,  # CorrMatch in evaluation mode
    image: Tensor,  # (3,H,W) normalised
    true: Tensor,  # (H,W) class ids or 255
    tau: float,  # that the run had reached
    index: Tensor,  # (S,) rows of C that become shapes
    judge: bool = False,  # look at each accepted shape
) -> dict[str, np.ndarray]:
    """All counts of one image: for each pair of thresholds `joint`, the table of `joint_counts`; for each threshold
    `joint_z`, pixels by true class, label and confidence of z; `inside` for JUDGED; histograms of confidence `hist`,
    `hist_z`; `pixels`, true class, label and confidence of each known pixel; `marks`, accepted shapes."""
    with torch.inference_mode():
        out, shapes = method.view(image[None], len(index), index=index)
    classes, known = out.logits.shape[1], true != IGNORE
    (p, own), (p_z, own_z) = ((x[0] for x in confidences(logits)) for logits in (out.logits, out.corr))
    bins, bins_z = ((q[known] * BINS).long().clamp(max=BINS - 1) for q in (p, p_z))
    t, mine, of_z = true[known], own[known], own_z[known]
    tables, inside, marks = [], [], [np.zeros((0, len(MARKS)))]
    for pair, (pixels, regions) in enumerate(pairs_of(tau)):
        confident = p >= pixels
        new, mask = (x[0] for x in propagate_regions(shapes, own[None], confident[None], regions))
        tables.append(joint_counts(t, mine, confident[known], new.masked_fill(~mask, classes)[known], classes))
        if pair not in JUDGED:
            continue
        inside.append(inside_counts(bins, t, mine, confident[known], new[known], mask[known]))
        accepted = accepted_shapes(shapes[0], own, confident, regions)[0] if judge else []
        if accepted:
            which, given = torch.tensor(accepted).T
            rows = judge_shapes(shapes[0][which], given, own, confident, true, classes).numpy()
            marks.append(np.concatenate([np.full((len(rows), 1), pair), rows], 1))
    joint_z = [
        torch.bincount((t * classes + of_z) * 2 + (p_z[known] >= q), minlength=2 * classes**2) for q in (tau, *TAUS)
    ]
    counts = {
        "joint": torch.stack(tables),
        "joint_z": torch.stack(joint_z).view(-1, classes, classes, 2),
        "inside": torch.stack(inside),
        "hist": histogram(bins, mine == t),
        "hist_z": histogram(bins_z, of_z == t),
        "pixels": torch.stack([t, mine, bins]),
    }
    return {name: x.numpy().astype(np.uint16) for name, x in counts.items()} | {"marks": np.concatenate(marks)}


# storing the counts of a moment of a run


def sample_of(
    config,  # of the run
    root,  # folder of the dataset
    images: int,  # at most
    seed: int = 0,  # the same for each moment: the same images serve all
) -> EvaluationViews:
    "A random sample of the unlabelled images, with their masks."
    folder, d = Folder(root), config.data
    ids = resolve_split(folder, d.labelled, d.unlabelled, d.val, config.seed).unlabelled
    order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(seed))[:images]
    return EvaluationViews(folder, [ids[i] for i in order])


def count_moment(
    path: Path,  # checkpoint of a moment
    out: Path,  # folder for the counts; files that are there are kept
    root,  # folder of the dataset
    images: int = 1000,
    shapes: int = 128,  # rows of C for each image
    seed: int = 0,  # of images and rows
    tau: float | None = None,  # in place of the threshold that the run had reached
) -> Path:  # the same folder
    "Count all images of a sample, in files of PART images, each with ids and CPU seconds."
    method, classes, config = load_method(path)
    tau = method.confident_at if tau is None else tau
    stride, step = method.net.backbone.output_stride, load_checkpoint(path)["step"]
    views = sample_of(config, root, images, seed)
    out.mkdir(parents=True, exist_ok=True)
    about = {"run": config.name, "step": step, "tau": tau, "pairs": pairs_of(tau), "shapes": shapes, "seed": seed}
    save_json(out / "about.json", about | {"stride": stride, "every": EVERY, "classes": list(classes.names)})
    for start in range(0, len(views), PART):
        file, rows, marks, cpu = out / f"{start:05d}.npz", [], [], time.process_time()
        if file.exists():
            continue
        for i in range(start, min(start + PART, len(views))):
            image, true = (middle(views[i][key], config.data.crop) for key in ("image", "labels"))
            h, w = (-(-side // stride) for side in image.shape[-2:])
            index = draw_positions(h * w, shapes, torch.Generator().manual_seed(seed * 10**6 + i))
            row = count_image(method, image, true, tau, index, i % EVERY == 0)
            marks.append(np.pad(row.pop("marks"), ((0, 0), (1, 0)), constant_values=i))
            rows.append(row)
        pixels = [row.pop("pixels") for row in rows]
        np.savez(
            out / "new.npz",
            ids=np.array(views.ids[start : start + len(rows)]),
            sizes=np.array([x.shape[1] for x in pixels]),
            pixels=np.concatenate(pixels, 1),
            marks=np.concatenate(marks),
            cpu=time.process_time() - cpu,
            **{name: np.stack([row[name] for row in rows]) for name in rows[0]},
        )
        (out / "new.npz").rename(file)
    return out


def main(argv=None):
    "The command line."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder of reproduction.moments")
    parser.add_argument("out", type=Path, help="folder for the counts, one folder a moment")
    parser.add_argument("--root", required=True, help="folder of the dataset, with masks of the unlabelled images")
    parser.add_argument("--moments", nargs="+", default=["005", "010", "025", "050", "100"])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--shapes", type=int, default=128, help="rows of C for each image")
    parser.add_argument("--name", default="", help="added to the names of the folders")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    for moment in args.moments:
        path = args.run / f"moment_{moment}.pt"
        print(count_moment(path, args.out / f"{moment}{args.name}", args.root, args.images, args.shapes), flush=True)


if __name__ == "__main__":
    main()
