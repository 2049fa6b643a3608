"""Each recipe runs: on the ids, the layout and the image sizes it was written for.

Two tests for each recipe. The first shrinks nothing: settings, lists and run length are those of the recipe, up to the first step.
The second trains three steps and evaluates. What is shrunk there, so that a CPU core can do it in seconds: the network (ResNet-18 with
4 channels instead of ResNet-101 with 64, random weights), the batch (2 + 2), the crop (unless said otherwise), the shapes drawn per
step (16), the validation list (one image), and the reading of all files before the run (--data.no-check; 12,031 files take
half a minute). Everything else is the recipe's: labelled and unlabelled list, range of the resize, CutMix partner, threshold, losses,
OHEM, optimiser, the way to evaluate.
The pictures are drawings with thousands of names (see miniature.py), so the scores mean nothing.
"""

import json
import math
import pytest
import torch
import miniature
from corrmatch.testing import command_line
from corrmatch.engine.config import to_dict
from corrmatch.recipes.published import RECIPES
from corrmatch.engine.runs import load_checkpoint, read_log
from corrmatch.data.splits import TRAINING, packaged, protocol, write_ids

ANIMALS_VAL = packaged("voc_animals", "val")[0]
# a dry run tries one step: with a small network and crop, and the lists and the batch of the recipe
LIGHT = (
    "--data.workers 0 --data.crop 33 --data.partner batch --model.encoder resnet18 --model.width 4 --model.channels 8 "
    "--model.low-channels 4 --model.weights None --method.projection 8 --method.num-shapes 4"
)
SMALL = (
    "--data.no-check --data.workers 0 --model.encoder resnet18 --model.width 4 --model.channels 8 "
    "--model.low-channels 4 --model.weights None "
    "--batch 2 --method.projection 8 --method.num-shapes 16 --log-every 1"
)
VAL = {
    "voc": "2007_000033",
    "voc_animals": ANIMALS_VAL,
    "cityscapes": "val/frankfurt/frankfurt_000001_062250",
    "camvid": "val_0000",
}
CROP = {"voc": 65, "voc_animals": 65, "cityscapes": 257, "camvid": 65}
SHRUNK = {
    "data.root",
    "data.check",
    "data.workers",
    "data.val",
    "data.crop",
    "model.encoder",
    "model.width",
    "model.channels",
    "model.low_channels",
    "model.weights",
    "batch",
    "steps",
    "method.projection",
    "method.num_shapes",
    "log_every",
    "out",
    "name",
}
FULL = [("voc_classic_92", 321), ("voc_u2pl_662", 513), ("cityscapes_186", 801)]
kind = lambda name: next(k for k in ("voc_animals", "voc", "cityscapes", "camvid", "toy") if name.startswith(k))
# they differ in the labelled list alone
FIRST = {"cityscapes": "cityscapes_186", "voc_animals": ""}  # camvid_lite has the settings of voc_animals
slow_after_first = lambda name: [pytest.mark.slow] if FIRST.get(kind(name), name) != name else []


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    "The dataset of a recipe, made when it is first asked for."
    made = {}

    def make(name):
        if (k := kind(name)) not in made and k == "voc_animals":
            made[k] = tmp_path_factory.mktemp(k) / "animals"
            succeeds(f"data prepare voc_animals {make('voc')} {made[k]}")
        elif k not in made:
            made[k] = getattr(miniature, k)(tmp_path_factory.mktemp(k))
        return made[k]

    return make


def succeeds(line):
    "Run a command line that has to succeed; what it printed."
    status, out, err = command_line(line)
    assert not status, err
    return out


def leaves(values, prefix=""):
    for key, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", list(value) if isinstance(value, tuple) else value


def train(name, root, tmp_path, crop, steps=3, more=""):
    "Train and evaluate, shrunk; the run folder."
    write_ids(tmp_path / "some.txt", [VAL[kind(name)]])
    succeeds(
        f"train {name} --data.root {root(name)} --data.val {tmp_path / 'some.txt'} --data.crop {crop} --steps "
        f"{steps} --out {tmp_path} --name run {SMALL} {more}"
    )
    return tmp_path / "run"


def check_run(run, name, crop, steps=3):
    "It has made its steps, scored, and changed no setting but those that are named above."
    log, scores = read_log(run), read_log(run, "scores.csv")
    assert log.index.tolist() == list(range(1, steps + 1)) and log["total"].map(math.isfinite).all()
    assert scores.index[-1] == steps and 0 <= scores["miou"].iloc[-1] <= 1
    now, recipe = (
        dict(leaves(json.loads((run / "config.json").read_text()))),
        dict(leaves(to_dict(RECIPES[name].make()))),
    )
    assert {k for k in now if now[k] != recipe[k]} <= SHRUNK and now["data.crop"] == crop
    assert all(t.isfinite().all() for t in load_checkpoint(run / "last.pt")["method"].values() if torch.is_tensor(t))


# The lists and the length as they are, up to the first step


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=slow_after_first(n)) for n in RECIPES if kind(n) in ("voc", "cityscapes")]
)
def test_the_lists_and_the_length_of_a_published_recipe(name, root, tmp_path):
    said = succeeds(f"train {name} --data.root {root(name)} --data.no-check --out {tmp_path} {LIGHT} --dry-run")
    c, (_, total, val) = RECIPES[name].make(), TRAINING[kind(name)]
    n = len(protocol(c.data.labelled).labelled)
    steps = c.epochs * ((total - n) // c.batch)
    assert (
        f"{n} labelled, {total - n} unlabelled, {val} validation images, no errors; "
        f"{steps} steps into {tmp_path}" in said
    )
    assert list(tmp_path.iterdir()) == []  # nothing is written


@pytest.mark.parametrize("name", ["camvid_cpu", "camvid"])
def test_the_lists_and_the_length_of_a_camvid_recipe(name, root, tmp_path):
    # 468 files: they are all read
    said = succeeds(f"train {name} --data.root {root(name)} --out {tmp_path} {LIGHT} --dry-run")
    c = RECIPES[name].make()
    assert (
        "46 labelled, 321 unlabelled, 101 validation images, no errors; "
        f"{c.steps or c.epochs * (321 // c.batch)} steps" in said
    )


@pytest.mark.parametrize("labelled", [31, 65, 104, 222, 437])
def test_the_lists_of_voc_animals_are_of_the_training_list(labelled):
    name = RECIPES[f"voc_animals_{labelled}"].make().data.labelled
    ids, train = packaged("voc_animals", name), packaged("voc_animals", "train")
    assert len(ids) == labelled and set(ids) <= set(train) and len(train) == 3131
    assert not set(train) & set(packaged("voc_animals", "val"))


# Three steps and an evaluation


@pytest.mark.parametrize("name", [pytest.param(n, marks=slow_after_first(n)) for n in RECIPES if n != "toy"])
def test_a_recipe_trains_and_evaluates(name, root, tmp_path):
    check_run(train(name, root, tmp_path, CROP[kind(name)]), name, CROP[kind(name)])


def test_the_toy_recipe_trains_as_it_is(tmp_path):
    succeeds(f"train toy --steps 3 --log-every 1 --out {tmp_path} --name run")
    check_run(tmp_path / "run", "toy", 96)


@pytest.mark.slow
@pytest.mark.parametrize("name, crop", FULL)
def test_the_crop_of_the_paper(name, crop, root, tmp_path):
    assert RECIPES[name].make().data.crop == crop
    check_run(train(name, root, tmp_path, crop, steps=2), name, crop, 2)


# The check of all files


@pytest.mark.slow
@pytest.mark.parametrize("name", ["voc_aug_662_321", "cityscapes_100"])
def test_every_file_of_a_published_recipe_is_read_and_sound(name, root, tmp_path):
    assert "no errors" in succeeds(f"train {name} --data.root {root(name)} --out {tmp_path} {LIGHT} --dry-run")
