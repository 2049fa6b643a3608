"""What a step of CorrMatch on each published recipe needs, counted without computing it: operations, and bytes kept for the backward pass.

    python benchmarks/counts.py                     # results/benchmarks/counts.csv, a minute on a CPU core

Everything runs on torch's meta device: shapes without values, so that the paper's crops need no memory. The threshold is fixed there,
as nothing has a value that it could follow.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
import pandas as pd
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from corrmatch.data.splits import protocol
from corrmatch.methods import methods
from corrmatch.methods.base import Clock
from corrmatch.models.build import build_segmenter
from corrmatch.recipes.published import RECIPES
from corrmatch.testing import random_batch

CLASSES = {"voc": 21, "cityscapes": 19}  # by the first word of a recipe
PUBLISHED = [name for name, recipe in RECIPES.items() if recipe.paper is not None]


class Kept:
    "Inside a `with`, the bytes that autograd keeps; a storage that is kept twice counts once, parameters do not."

    def __init__(self, module):
        self.own, self.seen = {p.untyped_storage()._cdata for p in module.parameters()}, {}
        self.hooks = saved_tensors_hooks(self.note, lambda tensor: tensor)

    def note(self, tensor):
        if tensor.untyped_storage()._cdata not in self.own:
            self.seen[tensor.untyped_storage()._cdata] = tensor
        return tensor

    def __enter__(self):
        self.hooks.__enter__()
        return self

    def __exit__(self, *error):
        self.hooks.__exit__(*error)
        self.bytes = sum(t.untyped_storage().nbytes() for t in self.seen.values())


def method_of(config, classes: int):
    "The method on the meta device; the encoder is that of the settings, without weights."
    settings = replace(config.method, threshold="fixed")
    model = replace(config.model, weights=None)
    with torch.device("meta"):
        return methods()[settings.name](settings, lambda: build_segmenter(model, classes)).train()


def step(method, crop: int, classes: int, pairs: int = 2) -> dict:
    "Operations and kept bytes of one step, for each pair of a labelled and an unlabelled image."
    batch = {k: v.to("meta") for k, v in random_batch(pairs, crop, second=True, classes=classes).items()}
    with FlopCounterMode(display=False) as counter:
        with Kept(method) as kept:
            losses = method("main", batch, Clock(1, 2))
        losses.total.backward()
    return {"flops": counter.get_total_flops() // pairs, "kept": kept.bytes // pairs}


def group_kept(net, crop: int, pairs: int = 2) -> int:
    "The most bytes that a group of blocks keeps while its checkpoint is computed again: labelled and weak images together."
    shapes, found = {}, []
    note = lambda group, inputs: shapes.update({group: inputs[0].shape})
    groups = sum(net.backbone.groups.values(), [])
    hooks = [group.register_forward_pre_hook(note) for group in groups]
    net.set_recompute(True)
    net.encode(torch.empty(2 * pairs, 3, crop, crop, device="meta"))
    for hook in hooks:
        hook.remove()
    for group, shape in shapes.items():
        with Kept(group) as kept:
            group(torch.empty(shape, device="meta", requires_grad=True))
        found.append(kept.bytes // pairs)
    return max(found)


def count(recipe: str, crop: int | None = None) -> dict:
    "The row of a recipe."
    c, classes = RECIPES[recipe].make(), CLASSES[recipe.split("_")[0]]
    crop = crop or c.data.crop
    method = method_of(c, classes)
    row = {"crop": crop, "batch": c.batch, "precision": c.system.precision} | step(method, crop, classes)
    row["parameters"] = sum(p.numel() for p in method.parameters())
    method.net.set_recompute(True)
    again = step(method, crop, classes)
    return row | {
        "flops_recomputed": again["flops"],
        "kept_recomputed": again["kept"] + group_kept(method.net, crop),
    }


def steps_of(recipe: str) -> int:
    "Training steps of a run."
    c = RECIPES[recipe].make()
    split = protocol(c.data.labelled)
    return c.steps or len(split.unlabelled or split.labelled) // c.batch * c.epochs


def main(words=None) -> pd.DataFrame:
    "Count, print and save; recipes with the same crop and classes share their counts."
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--recipes", nargs="+", default=PUBLISHED, choices=PUBLISHED)
    p.add_argument("--crop", type=int, help="another one than the recipe's")
    p.add_argument("--out", type=Path, default=ROOT / "results" / "benchmarks" / "counts.csv")
    a = p.parse_args(words)
    rows, known = [], {}
    for name in a.recipes:
        c = RECIPES[name].make()
        key = name.split("_")[0], c.data.crop
        known[key] = known.get(key) or count(name, a.crop)
        rows.append({"recipe": name, "steps": steps_of(name)} | known[key])
    table = pd.DataFrame(rows)
    a.out.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(a.out, index=False)
    print(f"{table.to_string()}\n\nwritten: {a.out}")
    return table


if __name__ == "__main__":
    main()
