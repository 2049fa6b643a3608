"""The paired measurement: counts by hand, equal mask ratio by hand, a tiny run from training to tables.

The run is the toy's recipe in miniature: a network of a few channels, a few images, four steps.
"""

import sys
from dataclasses import replace
import numpy as np
import pandas as pd
import pytest
import torch
from frame import ROOT

sys.path.insert(0, str(ROOT))
from corrmatch.data.toy import make_toy
from corrmatch.engine.results import load_method
from corrmatch.engine.runs import read_log
from corrmatch.methods.corrmatch.propagation import propagate_regions
from corrmatch.recipes.published import toy
from reproduction import moments, paired
from reproduction.paired import BINS, accepted_shapes, histogram, inside_counts, joint_counts, judge_shapes
from reproduction.paired_summary import at_ratio, bootstrap_weights, interval, region_counts, write_tables
from reproduction.runs import change
from test_reproduction import SMALL


pytestmark = pytest.mark.filterwarnings("ignore:.*both unlabelled and validation")


def table(values):
    return torch.tensor(values)


def test_joint_counts_by_hand():
    "Five pixels, two classes: an added right one, an added wrong one, one left out, a confident one, a changed one."
    true, own, sure, new = (
        table([0, 1, 1, 0, 1]),
        table([0, 0, 1, 0, 1]),
        table([0, 0, 0, 1, 1]).bool(),
        table([0, 0, 2, 0, 0]),
    )
    joint = joint_counts(true, own, sure, new, 2)
    assert joint.shape == (2, 2, 2, 3) and joint.sum() == 5
    for t, o, s, n in zip(true, own, sure.long(), new):
        assert joint[t, o, s, n] == 1
    n = {name: v[0].tolist() for name, v in region_counts(joint[None].numpy()).items()}
    assert n["known"] == [2, 3] and n["own_right"] == [2, 2]
    assert n["mask"] == [1, 1] and n["mask_right"] == [1, 1]
    assert n["region"] == [2, 2] and n["region_right"] == [2, 0]
    assert n["added"] == [1, 1] and n["added_right"] == [1, 0] and n["added_own_right"] == [1, 0]
    assert n["changed"] == [0, 1] and n["changed_right"] == [0, 0] and n["changed_own_right"] == [0, 1]


def test_equal_mask_ratio_by_hand():
    "Ten pixels in four bins of confidence; the most confident first, and half of a bin where the number falls into it."
    pixels, right = [4, 3, 2, 1], [1, 2, 1, 1]  # from the least confident to the most confident bin
    h = np.array([pixels, right])
    for wanted, hits, place in ((1, 1, 3), (3, 2, 2), (4.5, 3, 1), (6, 4, 1), (8, 4.5, 0), (10, 5, 0)):
        got, at = at_ratio(h, np.array(wanted))
        assert (float(got), int(at)) == (hits, place), wanted
    got, at = at_ratio(np.stack([h, 2 * h]), np.array([3, 12]))  # with axes in front
    assert got.tolist() == [2, 8] and at.tolist() == [2, 1]


def test_a_histogram_counts_pixels_and_right_ones():
    bins, right = table([0, 3, 3, BINS - 1]), table([1, 1, 0, 0]).bool()
    h = histogram(bins, right)
    assert h.sum(1).tolist() == [4, 2] and h[:, 3].tolist() == [2, 1] and h[:, -1].tolist() == [1, 0]


def test_the_interval_of_a_constant_is_a_point_and_that_of_images_is_not():
    assert interval(np.full(101, 0.25)) == (0.25, 0.25, 0.25)
    W = bootstrap_weights(50, draws=200)
    assert W.shape == (201, 50) and (W.sum(1) == 50).all() and (W[0] == 1).all()
    right = np.arange(50) % 2
    value, low, high = interval((W @ right) / W.sum(1))
    assert value == 0.5 and 0.3 < low < 0.45 < 0.55 < high < 0.7
    # paired: a difference that is the same in each image has no interval, whatever the images are
    _, low, high = interval((W @ (right + 1) - W @ right) / W.sum(1))
    assert (low, high) == (1, 1)


def test_pixels_inside_shapes_are_counted_by_confidence():
    "Of one confidence: two added (one right by the new label, one by the own), one left out that is right."
    bins = torch.full((4,), 1000)
    true, own, new = table([0, 1, 1, 0]), table([1, 1, 1, 0]), table([0, 0, 1, 0])
    sure, mask = table([0, 0, 0, 1]).bool(), table([1, 1, 0, 1]).bool()
    counts = inside_counts(bins, true, own, sure, new, mask)
    assert counts[:, 1000 * paired.CELLS // BINS].tolist() == [2, 1, 1, 1, 1] and counts.sum() == 6


@pytest.mark.parametrize("tau", (0.5, 0.7, 0.9))
def test_accepted_shapes_do_what_propagate_regions_does(tau):
    g = torch.Generator().manual_seed(0)
    for _ in range(10):
        centre = torch.randint(0, 12, (20, 2), generator=g)
        y, x = torch.arange(12)[:, None], torch.arange(12)
        near = lambda c: (y - c[0]).abs().maximum((x - c[1]).abs()) < 4
        shapes = torch.stack([near(c) for c in centre])
        labels = (x > 5).long().expand(12, 12) * torch.randint(1, 3, (12, 12), generator=g)
        confident = torch.rand(12, 12, generator=g) < 0.9
        found, new, mask = accepted_shapes(shapes, labels, confident, tau)
        other, other_mask = (t[0] for t in propagate_regions(shapes[None], labels[None], confident[None], tau))
        assert torch.equal(mask, other_mask) and torch.equal(new[mask], other[mask])
        assert len(found) == len({s for s, _ in found})


def test_a_shape_is_judged_by_hand():
    "2 x 3 pixels, class 1 given to the first two columns: one border pixel, one added right, one added wrong, one lost."
    true, own = table([[1, 1, 0], [0, 255, 0]]), table([[1, 0, 0], [0, 0, 0]])
    sure = table([[1, 0, 0], [0, 0, 1]]).bool()
    shape = table([[1, 1, 0], [1, 1, 0]]).bool()[None]
    row = judge_shapes(shape, table([1]), own, sure, true, 2)[0]
    got = dict(zip(paired.MARKS[1:], row.tolist()))
    assert got.pop("area") == pytest.approx(4 / 6)
    assert got == dict(
        zip(got, (1, 3, 2, 2, 1, 1, 1, 1))  # class; known, right, added, added right, added right before; lost, won
    )


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    "Four labelled images; the other ones have masks too, that the training does not read."
    folder = tmp_path_factory.mktemp("paired")
    root = make_toy(folder / "toy", labelled=4, unlabelled=0, val=6, size=48)
    settings = SMALL | {
        "name": "tiny",
        "data.root": str(root),
        "data.unlabelled": "val",
        "data.val": None,
        "model.frozen": 2,
    }
    return change(toy(), settings | {"out": str(folder)})


@pytest.fixture(scope="module")
def run(config):
    return moments.train_with_moments(config, fractions=(0.5, 1.0), progress=False)


def test_the_method_is_kept_at_each_moment(run, config):
    assert sorted(f.name for f in run.glob("moment_*.pt")) == ["moment_050.pt", "moment_100.pt"]
    half, end = (load_method(run / f"moment_{m}.pt")[0].state_dict() for m in ("050", "100"))
    moved = {n for n, v in end.items() if torch.is_tensor(v) and v.is_floating_point() and not torch.equal(v, half[n])}
    weights = {n for n in moved if "running" not in n}
    assert any("classifier" in n for n in weights) and any("layer3" in n for n in weights)
    assert not any(part in n for n in weights for part in ("backbone.conv1", "backbone.bn1", "layer1", "layer2"))
    log = read_log(run)
    assert log.index.tolist() == [1, 2, 3, 4] and log["cpu_seconds"].is_monotonic_increasing


def test_a_run_goes_on_where_it_was_ended(run, config):
    "Ended after three of four steps and continued: the same parameters; with other options it is an error."
    again, made = replace(config, name="again"), moments.training_step

    def ended(state, *args):
        if state.step == 3:
            raise KeyboardInterrupt
        return made(state, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moments, "training_step", ended)
        with pytest.raises(KeyboardInterrupt):
            moments.train_with_moments(again, fractions=(0.5, 1.0), progress=False)
    with pytest.raises(ValueError, match="frozen"):
        moments.train_with_moments(change(again, {"model.frozen": 1}), progress=False)
    other = moments.train_with_moments(again, fractions=(0.5, 1.0), progress=False)
    a, b = (load_method(r / "moment_100.pt")[0].state_dict() for r in (run, other))
    assert all(torch.equal(v, b[n]) for n, v in a.items() if torch.is_tensor(v))
    assert read_log(other).index.tolist() == [1, 2, 3, 4]


def test_from_a_run_to_tables(run, config, tmp_path):
    "Two images, at their median confidence: all tables are written; their numbers are those of masks and predictions."
    method, classes, _ = load_method(run / "moment_100.pt")
    views, root = paired.sample_of(config, config.data.root, 2), config.data.root
    with torch.inference_mode():
        seen = [method.net(view["image"][None]).softmax(1).max(1) for view in views]
    p, own, true = (torch.cat([x.flatten() for x in xs]) for xs in (*zip(*seen), [view["labels"] for view in views]))
    tau, there = p.median().item(), true != 255
    counts = paired.count_moment(run / "moment_100.pt", tmp_path / "counts", root, images=2, shapes=16, tau=tau)
    before = {f: f.stat().st_mtime_ns for f in counts.glob("*.npz")}
    paired.count_moment(run / "moment_100.pt", counts, root, images=2, shapes=16, tau=tau)
    assert before == {f: f.stat().st_mtime_ns for f in counts.glob("*.npz")}  # what is there is kept
    c = write_tables(counts, "100", tmp_path / "tables", draws=20, images=True)
    names = "summary equal_ratio equal_ratio_classes equal_ratio_labels given_confidence floors shapes curve"
    tables = {name: pd.read_csv(tmp_path / "tables" / f"{name}_100.csv") for name in names.split()}
    share = lambda part, whole: pytest.approx(100 * part.sum().item() / whole.sum().item(), abs=1e-3)
    row = tables["summary"].query("group == 'all' and kind == 'dynamic' and tau == tau_regions").iloc[0]
    assert 0 < row["plain_ratio"] < row["regions_ratio"]
    sure, right = there & (p >= tau), there & (own == true)
    assert row["pixels"] == there.sum() and row["own_accuracy"] == share(right, there)
    assert row["plain_ratio"] == share(sure, there) and row["plain_accuracy"] == share(sure & right, sure)
    assert row["regions_ratio"] == pytest.approx(row["plain_ratio"] + row["added_ratio"], abs=2e-3)
    by_class = tables["summary"].query("group in @classes.names and tau == @row.tau and tau_regions == @row.tau")
    assert by_class["pixels"].sum() == there.sum()
    equal = tables["equal_ratio"].query("rule == 'regions'")
    assert np.allclose(equal["difference"], equal["accuracy"] - equal["lowered_accuracy"], atol=2e-3, equal_nan=True)
    assert len(pd.read_csv(tmp_path / "tables" / "images_100.csv.gz")["id"].unique()) == 2 == c.images
