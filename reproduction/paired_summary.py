"""From the counts of `reproduction.paired` to tables with bootstrap intervals over images

python -m reproduction.paired_summary COUNTS/100 100 results/paired
"""

import argparse
import json
from pathlib import Path
import numpy as np
import pandas as pd
from reproduction.paired import BINS, CELLS, JUDGED, MARKS

SIZES = {"small": (0, 0.05), "medium": (0.05, 0.20), "large": (0.20, 1.01)}  # of an object: its share of the view
# of a shape
AREAS = {"all": (0, 1.01), "below 5 %": (0, 0.05), "5 to 20 %": (0.05, 0.20)}
AREAS |= {"20 to 50 %": (0.20, 0.50), "above 50 %": (0.50, 1.01)}
FLOORS = (0.0, 0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9)
RATIOS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)


# statistics


def bootstrap_weights(
    images: int,
    draws: int = 1000,
    seed: int = 0,
) -> np.ndarray:  # (draws + 1, images): how often each image occurs; the first row is the sample itself
    "Images drawn with replacement."
    generator = np.random.default_rng(seed)
    drawn = [np.bincount(generator.integers(images, size=images), minlength=images) for _ in range(draws)]
    return np.stack([np.ones(images), *drawn]).astype(np.float64)


def interval(
    values: np.ndarray,  # (draws + 1,), the first one of the sample itself
    level: float = 0.95,
) -> tuple[float, float, float]:  # value, lower, upper
    "The value of the sample and the percentile interval of its bootstrap."
    if np.isnan(values[1:]).all():
        return float(values[0]), float("nan"), float("nan")
    low, high = np.nanquantile(values[1:], [(1 - level) / 2, (1 + level) / 2])
    return float(values[0]), float(low), float(high)


def at_ratio(
    counts: np.ndarray,  # (...,2,BINS) pixels and right pixels by confidence
    pixels: np.ndarray,  # (...) confident pixels wanted
) -> tuple[np.ndarray, np.ndarray]:  # (...) right ones among them; (...) the bin of the threshold
    "The right pixels among the most confident ones; inside a bin all are alike."
    above = counts[..., ::-1].cumsum(-1)  # most confident first
    total, right = above[..., 0, :], above[..., 1, :]
    bins = total.shape[-1]
    place = np.minimum((total < pixels[..., None]).sum(-1), bins - 1)

    def at(a, i):
        return np.where(i >= 0, np.take_along_axis(a, np.maximum(i, 0)[..., None], -1)[..., 0], 0)

    inside = at(total, place) - at(total, place - 1)
    share = np.where(inside > 0, (pixels - at(total, place - 1)) / np.maximum(inside, 1), 0)
    return at(right, place - 1) + share * (at(right, place) - at(right, place - 1)), bins - 1 - place


def divide(top, bottom) -> np.ndarray:
    "A quotient, nan where nothing is counted."
    top, bottom = np.broadcast_arrays(np.asarray(top, float), np.asarray(bottom, float))
    return np.divide(top, bottom, out=np.full(bottom.shape, np.nan), where=bottom > 0)


def percent(
    **values: np.ndarray,  # name -> (draws + 1,)
) -> dict[str, float]:
    "Values with the ends of their intervals, in per cent."
    row = {}
    for name, v in values.items():
        row |= {name + end: round(100 * x, 3) for end, x in zip(("", "_low", "_high"), interval(v))}
    return row


# from tables of one image to counts


def region_counts(
    table: np.ndarray,  # (images, true, own, confident, new) of `joint_counts`
) -> dict[str, np.ndarray]:  # each (images, K), by true class
    "What regions did: pixels, right ones, added and changed ones."
    k = table.shape[1]
    own, new = np.eye(k)[:, :, None, None], np.eye(k, k + 1)[:, None, None, :]  # the label is right
    confident, there = np.array([0, 1])[:, None], np.arange(k + 1) < k
    added, changed = there * (1 - confident), confident * there * (1 - np.eye(k, k + 1)[:, None, :])
    weights = {"known": 1, "own_right": own, "mask": confident, "mask_right": confident * own}
    weights |= {"region": there, "region_right": new}
    weights |= {"added": added, "added_right": added * new, "added_own_right": added * own}
    weights |= {"changed": changed, "changed_right": changed * new, "changed_own_right": changed * own}
    return {name: (table * weight).sum((2, 3, 4)) for name, weight in weights.items()}


def z_counts(
    table: np.ndarray,  # (images, true, label, confident)
) -> dict[str, np.ndarray]:  # each (images, K), by true class
    "The same of the propagated logits."
    mask, mask_right = table[..., 1].sum(2), np.einsum("nii->ni", table[..., 1])
    return {"z_right_all": np.einsum("niic->ni", table), "z_mask": mask, "z_mask_right": mask_right}


def label_counts(
    table: np.ndarray,  # (images, true, label)
) -> tuple[np.ndarray, np.ndarray]:  # each (images, K), by pseudo-label: all, right
    "Pixels by their pseudo-label."
    k = table.shape[1]
    return table[..., :k].sum(1), np.einsum("nii->ni", table[..., :k])


def groups(
    known: np.ndarray,  # (images, K) pixels by true class
    names,  # of the classes, background first
) -> dict[str, np.ndarray]:  # (images, K) bool: which cells belong to it
    "All pixels, background and objects, each class, and objects by their share of the view."
    k, share = known.shape[1], known / np.maximum(known.sum(1, keepdims=True), 1)
    everywhere, objects = np.ones(known.shape, bool), np.tile(np.arange(k) > 0, (len(known), 1))
    found = {"all": everywhere, "background": ~objects, "objects": objects}
    found |= {name: everywhere & (np.arange(k) == i) for i, name in enumerate(names) if i}
    return found | {f"{size} objects": objects & (share > a) & (share <= b) for size, (a, b) in SIZES.items()}


# tables


class Counts:
    "All counts of a moment, with bootstrap weights."

    def __init__(
        self,
        folder: Path,  # of `count_moment`
        moment: str,  # its name in the tables
        draws: int = 1000,
    ):
        self.about = json.loads((folder / "about.json").read_text())
        parts = [dict(np.load(file)) for file in sorted(folder.glob("[0-9]*.npz"))]
        join = lambda name, axis=0: np.concatenate([part[name] for part in parts], axis)
        self.ids, self.sizes = join("ids"), join("sizes")
        self.joint, self.joint_z, self.inside, self.hist, self.hist_z = (
            join(name).astype(np.int64) for name in ("joint", "joint_z", "inside", "hist", "hist_z")
        )
        self.true, self.own, self.bins = join("pixels", 1).astype(np.int64)
        self.marks = pd.DataFrame(join("marks"), columns=["image", *MARKS])
        self.cpu = float(sum(part["cpu"] for part in parts))
        self.names, self.pairs, self.images = self.about["classes"], self.about["pairs"], len(self.sizes)
        self.weights = bootstrap_weights(self.images, draws)
        self.plain = (self.weights @ self.hist.reshape(self.images, -1)).reshape(-1, 2, BINS)
        self.image = np.repeat(np.arange(self.images), self.sizes)
        self.head = {"moment": moment, "step": self.about["step"], "images": self.images}

    def ratio(
        self,
        top: np.ndarray,
        bottom: np.ndarray,  # each (images,)
    ) -> np.ndarray:  # (draws + 1,)
        "A ratio of sums over images, for the sample and each bootstrap draw."
        return divide(self.weights @ top, self.weights @ bottom)

    def kept_by(
        self,
        threshold: int,  # as a bin
    ) -> np.ndarray:  # (images, true, label)
        "The pixels that a plain threshold keeps."
        k, on = len(self.names), self.bins >= threshold
        code = ((self.image * k + self.true) * k + self.own)[on]
        return np.bincount(code, minlength=self.images * k * k).reshape(-1, k, k)

    def tag(
        self,
        pair: int,  # of thresholds
    ) -> dict:
        "The first columns of a row."
        pixels, regions = self.pairs[pair]
        kind = "dynamic" if pixels == self.about["tau"] else "fixed"
        return self.head | {"tau": round(pixels, 4), "tau_regions": round(regions, 4), "kind": kind}


def summary_table(c: Counts) -> list[dict]:
    "Mask ratio and accuracy of each rule at the same threshold, for each group of pixels."
    rows = []
    for i, (pixels, regions) in enumerate(c.pairs):
        n = region_counts(c.joint[:, i])
        if pixels == regions:
            n |= z_counts(c.joint_z[:, i])
        for group, cells in groups(n["known"], c.names).items():
            s = {name: (v * cells).sum(1).astype(float) for name, v in n.items()}
            of = lambda top, bottom="known": c.ratio(s[top], s[bottom])
            row = c.tag(i) | {"group": group, "pixels": int(s["known"].sum())}
            row |= percent(own_accuracy=of("own_right"))
            for rule, mask in (("plain", "mask"), ("regions", "region"), ("z", "z_mask")):
                if mask in s:
                    right = f"{mask}_right"
                    values = {"ratio": of(mask), "accuracy": of(right, mask), "right_of_all": of(right)}
                    row |= percent(**{f"{rule}_{name}": v for name, v in values.items()})
            row |= percent(accuracy_change=of("region_right", "region") - of("mask_right", "mask"))
            if "z_mask" in s:
                row |= percent(z_argmax_accuracy=of("z_right_all"))
                row |= percent(z_argmax_minus_own=of("z_right_all") - of("own_right"))
            row |= percent(
                added_ratio=of("added"),
                added_accuracy=of("added_right", "added"),
                added_own_accuracy=of("added_own_right", "added"),
                added_minus_own=of("added_right", "added") - of("added_own_right", "added"),
                changed_ratio=of("changed"),
                changed_accuracy=of("changed_right", "changed"),
                changed_own_accuracy=of("changed_own_right", "changed"),
            )
            rows.append(row)
    return rows


def equal_ratio_tables(c: Counts) -> tuple[list[dict], list[dict]]:
    "Each rule beside a threshold that is lowered (or raised) until it keeps as many pixels; then class by class."
    rows, per_class, K = [], [], len(c.names)
    for i, (pixels, regions) in enumerate(c.pairs):
        n = region_counts(c.joint[:, i]) | z_counts(c.joint_z[:, min(i, c.joint_z.shape[1] - 1)])
        rules = {"regions": ("region", c.joint[:, i].sum((2, 3)))}
        if pixels == regions:
            rules["z"] = "z_mask", c.joint_z[:, i, ..., 1]
        for rule, (mask, table) in rules.items():
            (label, label_right), known, right = label_counts(table), n["known"], n[f"{mask}_right"]
            size, hit = c.weights @ n[mask].sum(1), c.weights @ right.sum(1)
            other, place = at_ratio(c.plain, size)
            row = c.tag(i) | {"rule": rule} | percent(ratio=size / (c.weights @ known.sum(1)))
            row["lowered_to"] = round(int(place[0]) / BINS, 4)
            row |= percent(accuracy=divide(hit, size), lowered_accuracy=divide(other, size))
            row |= percent(difference=divide(hit - other, size))
            if rule == "regions":
                base, kept = c.weights @ n["mask"].sum(1), c.weights @ n["mask_right"].sum(1)
                added = c.ratio(n["added_right"].sum(1), n["added"].sum(1))
                lowered = divide(other - kept, size - base)
                row |= percent(added_accuracy=added, lowered_added_accuracy=lowered, added_difference=added - lowered)
            low_label, low_right = label_counts(c.kept_by(int(place[0])))
            pairs = {
                "precision": ((label_right, label), (low_right, low_label)),
                "recall": ((right, known), (low_right, known)),
            }

            def compared(classes):
                "Precision and recall of some classes under both rules, and their difference."
                found = {}
                for name, sides in pairs.items():
                    a, b = (c.ratio(*(x[:, classes].sum(1) for x in side)) for side in sides)
                    found |= {name: a, f"{name}_lowered": b, f"{name}_difference": a - b}
                return found

            for group, classes in (("background", [0]), ("objects", range(1, K))):
                row |= percent(**{f"{group}_{name}": v for name, v in compared(list(classes)).items()})
            of_class = {name: compared([k]) for k, name in enumerate(c.names)}
            for part in ("recall", "recall_lowered", "recall_difference"):
                row |= percent(**{f"mean_class_{part}": np.nanmean([v[part] for v in of_class.values()], 0)})
            rows.append(row)
            per_class += [c.tag(i) | {"rule": rule, "class": k} | percent(**v) for k, v in of_class.items()]
    return rows, per_class


def label_table(c: Counts) -> list[dict]:
    "Regions beside a threshold that keeps as many pixels *of the same pseudo-label*: background, objects, each class."
    rows, K = [], len(c.names)
    of = {"background": [0], "objects": list(range(1, K))} | {n: [k] for k, n in enumerate(c.names) if k}
    for group, classes in of.items():
        on = np.isin(c.own, classes)
        code = c.image * BINS + c.bins
        h = [
            np.bincount(code[m], minlength=c.images * BINS).reshape(c.images, BINS)
            for m in (on, on & (c.own == c.true))
        ]
        plain = (c.weights @ np.stack(h, 1).reshape(c.images, -1)).reshape(-1, 2, BINS)
        for i, (pixels, regions) in enumerate(c.pairs):
            if pixels != regions:
                continue
            table, w = c.joint[:, i], c.weights  # (images, true, own, confident, new)
            new, right = table[..., classes], sum(table[:, k, :, :, k] for k in classes)
            size, hit = w @ new.sum((1, 2, 3, 4)), w @ right.sum((1, 2))
            added, added_right = w @ new[:, :, :, 0].sum((1, 2, 3)), w @ right[:, :, 0].sum(1)
            base, kept = w @ table[:, :, classes, 1].sum((1, 2, 3)), w @ sum(table[:, k, k, 1].sum(1) for k in classes)
            other, place = at_ratio(plain, np.minimum(size, plain[:, 0].sum(1)))
            row = c.head | {"tau": round(pixels, 4), "pseudo_label": group, "pixels": int(size[0])}
            row |= {"added": int(added[0]), "lowered_to": round(int(place[0]) / BINS, 4)}
            rows.append(
                row
                | percent(
                    plain_precision=divide(kept, base),
                    precision=divide(hit, size),
                    lowered_precision=divide(other, size),
                    difference=divide(hit - other, size),
                    added_accuracy=divide(added_right, added),
                    lowered_added_accuracy=divide(other - kept, size - base),
                )
            )
    return rows


def inside_table(c: Counts) -> list[dict]:
    "Accuracy of the pixels that regions add, beside that of pixels left out, which have the same confidences."
    rows = []
    for i, pair in enumerate(JUDGED):
        n = (c.weights @ c.inside[:, i].reshape(c.images, -1)).reshape(-1, 5, CELLS)
        added, new, own, left, right = n.transpose(1, 0, 2)
        usual = divide(right, left)
        there = np.isfinite(usual)
        weight = np.where(there, added, 0)
        expected = divide((weight * np.nan_to_num(usual)).sum(1), weight.sum(1))
        head = c.head | {"tau": round(c.pairs[pair][0], 4)}
        rows.append(
            head
            | {"confidence": "all"}
            | percent(
                added_new=divide(new.sum(1), added.sum(1)),
                added_own=divide(own.sum(1), added.sum(1)),
                left_out_same_confidence=expected,
                new_minus_left_out=divide(np.where(there, new, 0).sum(1), weight.sum(1)) - expected,
            )
        )
        for tenth in range(3, 10):
            cells = slice(round(tenth * CELLS / 10), round((tenth + 1) * CELLS / 10))
            some = [x[:, cells].sum(1) for x in (added, new, own, left, right)]
            if some[0][0] < 1000 or some[3][0] < 1000:
                continue
            both = divide(some[1], some[0]), divide(some[4], some[3])
            row = head | {"confidence": f"{tenth / 10} to {(tenth + 1) / 10}"}
            row |= percent(added_new=both[0], added_own=divide(some[2], some[0]), left_out_same_confidence=both[1])
            row |= percent(new_minus_left_out=both[0] - both[1])
            rows.append(row | {"added_pixels": int(some[0][0]), "left_out_pixels": int(some[3][0])})
    return rows


def floor_table(c: Counts) -> list[dict]:
    "Regions that may only add pixels above a floor of confidence, beside a lowered threshold that keeps as many."
    rows = []
    for i, pair in enumerate(JUDGED):
        tau = c.pairs[pair][0]
        n = (c.weights @ c.inside[:, i].reshape(c.images, -1)).reshape(-1, 5, CELLS)
        s = region_counts(c.joint[:, pair])
        base, kept, known = (c.weights @ s[name].sum(1) for name in ("mask", "mask_right", "known"))
        for floor in (f for f in FLOORS if f < tau):
            above = slice(round(floor * CELLS), None)
            for label, part in (("new", 1), ("own", 2)):
                size, hit = base + n[:, 0, above].sum(1), kept + n[:, part, above].sum(1)
                other, _ = at_ratio(c.plain, size)
                row = c.head | {"tau": round(tau, 4), "floor": floor, "label": label}
                row |= percent(ratio=size / known, accuracy=divide(hit, size), lowered_accuracy=divide(other, size))
                row |= percent(difference=divide(hit - other, size), added_accuracy=divide(hit - kept, size - base))
                row |= percent(lowered_added_accuracy=divide(other - kept, size - base))
                rows.append(row | percent(added_difference=divide(hit - other, size - base)))
    return rows


def shape_table(c: Counts) -> list[dict]:
    "Accepted shapes by the class they were given and by their area."
    rows, judged = [], len(range(0, c.images, c.about["every"]))
    for pair in JUDGED:
        marks = c.marks[c.marks["pair"] == pair]
        kinds = {"background": marks["class"] == 0, "objects": marks["class"] > 0}
        kinds |= {name: marks["class"] == k for k, name in enumerate(c.names) if k}
        for (kind, chosen), (area, (a, b)) in ((x, y) for x in kinds.items() for y in AREAS.items()):
            s = marks[chosen & (marks["area"] > a) & (marks["area"] <= b)]
            total, mean = s.sum(), lambda values, digits: round(float(values.mean()), digits) if len(s) else None
            share = lambda top, bottom: round(100 * total[top] / total[bottom], 2) if total[bottom] else None
            row = {"moment": c.head["moment"], "tau": round(c.pairs[pair][0], 4), "given": kind, "area": area}
            row |= {"accepted_per_image": round(len(s) / judged, 3), "images_with_one": int(s["image"].nunique())}
            row |= {"mean_area": mean(100 * s["area"], 2), "right": share("right", "known")}
            row |= {"added_per_shape": mean(s["added"], 1), "added_right": share("added_right", "added")}
            row |= {"added_own_right": share("added_own_right", "added")}
            row |= {"harmful": mean(100 * (s["lost"] > s["won"]), 2)}
            rows.append(row | {"lost_per_shape": mean(s["lost"], 1), "won_per_shape": mean(s["won"], 1)})
    return rows


def curve_table(c: Counts) -> list[dict]:
    "Accuracy of the most confident pixels, by how many are kept: the network's own, and those of z."
    right = lambda h, r: round(100 * float(at_ratio(h, np.array(r * h[0].sum()))[0] / (r * h[0].sum())), 3)
    plain, z = c.hist.sum(0), c.hist_z.sum(0)
    return [c.head | {"ratio": r, "plain": right(plain, r), "z": right(z, r)} for r in RATIOS]


def image_table(c: Counts) -> pd.DataFrame:
    "The counts of each image by threshold and true class: what all other tables are sums of."
    parts = []
    for i, (pixels, regions) in enumerate(c.pairs):
        n = region_counts(c.joint[:, i])
        n |= z_counts(c.joint_z[:, i]) if pixels == regions else {}
        image, k = n["known"].nonzero()
        columns = {"moment": c.head["moment"], "id": c.ids[image], "tau": round(pixels, 4)}
        columns |= {"tau_regions": round(regions, 4), "class": np.array(c.names)[k]}
        parts.append(pd.DataFrame(columns | {name: v[image, k].astype(int) for name, v in n.items()}))
    return pd.concat(parts)


def write_tables(
    folder: Path,  # of `count_moment`
    moment: str,  # its name in the tables
    out: Path,  # folder for the tables, NAME_MOMENT.csv
    draws: int = 1000,
    images: bool = False,  # also the counts of each image, NAME_MOMENT.csv.gz
) -> Counts:
    "Every table of one moment of a run."
    out.mkdir(parents=True, exist_ok=True)
    c = Counts(folder, moment, draws)
    equal, per_class = equal_ratio_tables(c)
    tables = {"summary": summary_table(c), "equal_ratio": equal, "equal_ratio_classes": per_class}
    tables |= {"equal_ratio_labels": label_table(c), "given_confidence": inside_table(c), "floors": floor_table(c)}
    for name, rows in (tables | {"shapes": shape_table(c), "curve": curve_table(c)}).items():
        pd.DataFrame(rows).to_csv(out / f"{name}_{moment}.csv", index=False)
    if images:
        image_table(c).to_csv(out / f"images_{moment}.csv.gz", index=False)
    return c


def main(argv=None):
    "The command line."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="counts of a moment")
    parser.add_argument("moment", help="its name in the tables, e.g. 100")
    parser.add_argument("out", type=Path)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--images", action="store_true", help="also the counts of each image")
    args = parser.parse_args(argv)
    c = write_tables(args.folder, args.moment, args.out, args.draws, args.images)
    print(f"{args.moment}: {c.images} images, {c.cpu:.0f} CPU seconds of counting")


if __name__ == "__main__":
    main()
