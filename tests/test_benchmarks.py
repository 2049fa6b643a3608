"benchmarks/steps.py: what is counted is right, and every method is in the file as soon as it is measured."

import argparse
import json
import sys
import pandas as pd
import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from frame import ROOT

sys.path.insert(0, str(ROOT))
from corrmatch.data.toy import make_toy
from corrmatch.engine.processes import processes
from corrmatch.engine.state import TrainState, training_step
from corrmatch.engine.trainer import to_device
from benchmarks import counts, gpu, loading, pack, steps


def test_operations_and_waits_are_counted_by_hand():
    x = torch.arange(6.0)
    with steps.Launches() as seen:
        y = (x + 1).view(2, 3).t()  # one operation, two views
        y.sum().item()  # one more, and a value for the host
    assert (seen.operations, seen.waits) == (3, 1)
    with steps.Launches() as seen:
        x[x > 2]  # the size of the answer depends on the values
    assert seen.waits == 1


def test_saved_bytes_are_counted_once_and_without_parameters():
    layer, x = nn.Linear(4, 4, bias=False), torch.ones(8, 4, requires_grad=True)
    saved = steps.SavedBytes(layer)
    with torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda tensor: tensor):
        y = layer(x).exp()  # keeps x, and the result of exp
        y * y  # keeps that result again
    assert saved.total == 2 * 8 * 4 * 4


def test_a_tiny_measurement(tmp_path, capsys):
    out, words = tmp_path / "a.json", "--crop 33 --batch 2 --device cpu --seconds 0.01"
    table = steps.main([*words.split(), "--out", str(out), "--methods", "supervised", "fixmatch"])
    rows = json.loads(out.read_text())["steps"]
    assert (
        [r["method"] for r in rows] == ["supervised", "fixmatch"] == list(pd.read_csv(out.with_suffix(".csv")).method)
    )
    assert all(r["seconds"] > 0 and r["cpu_seconds"] > 0 and r["waits"] >= 0 for r in rows)
    one, two = rows  # the weak and the strong view come to the labelled images
    assert 2 < two["flops"] / one["flops"] <= 3 and two["memory"] > 1.5 * one["memory"]
    assert two["parameters"] == one["parameters"] and table.loc["supervised", "flops / supervised"] == 1
    assert "written" in capsys.readouterr().out


class Crossings(TorchFunctionMode):
    "Counts calls that hand values of a tensor to the host."

    NAMES = ("item", "tolist", "cpu", "numpy", "__bool__", "__int__", "__float__", "__index__", "nonzero")
    count = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.count += getattr(function, "__name__", "") in self.NAMES
        return function(*args, **kwargs or {})


def test_a_whole_step_of_corrmatch_waits_twice_at_most(tmp_path):
    c = steps.settings("toy", "corrmatch", 33, 2)
    batch = {
        k: to_device(v, torch.device("cpu"), False)
        for k, v in steps.first_batch(c, tmp_path / "a").items()
        if torch.is_tensor(v)
    }
    with processes("cpu") as dist:
        state = TrainState(c, 6, dist, load=False)
        with Crossings() as python, steps.Launches() as launched:
            training_step(state, batch, c, total=10, dist=dist)
    assert 0 < python.count <= 2 and launched.waits <= 2


def test_a_mistyped_method_is_refused(capsys):
    with pytest.raises(SystemExit):
        steps.main(["--methods", "fixmach"])
    assert "fixmach" in capsys.readouterr().err


def test_loading_is_recorded_with_and_without_the_fast_resize(tmp_path, capsys):
    out = tmp_path / "loading.csv"
    loading.main(["--items", "2", "--sizes", "80x60.jpg:33", "64x48.png:33", "--out", str(out)])
    rows = pd.read_csv(out)
    assert list(rows.format) == ["jpg", "jpg", "png", "png"] and list(rows.fast_resize) == [False, True] * 2
    assert (rows.cpu_seconds > 0).all() and ((rows.images_per_second * rows.cpu_seconds - 2).abs() < 0.01).all()
    assert "written" in capsys.readouterr().out


def test_counts_of_a_recipe_on_the_meta_device(tmp_path):
    out = tmp_path / "counts.csv"
    counts.main(["--recipes", "voc_classic_92", "voc_classic_183", "--crop", "33", "--out", str(out)])
    one, other = pd.read_csv(out).to_dict("records")
    assert (one["steps"], one["precision"], one["batch"]) == (52_400, "tf32", 16) and other["flops"] == one["flops"]
    assert one["flops"] < one["flops_recomputed"] < 4 / 3 * one["flops"]  # one forward pass of the encoder more
    assert one["kept_recomputed"] < one["kept"]


def test_kept_bytes_of_a_meta_network_are_those_of_a_real_one():
    kept = {}
    for device in ("cpu", "meta"):
        layer = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Sigmoid()).to(device)
        with counts.Kept(layer) as found:
            layer(torch.ones(8, 4, device=device)).square()  # keeps the input, and the result of the sigmoid
        kept[device] = found.bytes
    assert kept == {"cpu": 256, "meta": 256}


# What is owed from a GPU, rehearsed


def rehearse(out, *parts, minutes=60):
    status = gpu.main(["--device", "cpu", "--tiny", "--minutes", str(minutes), "--out", str(out), "--parts", *parts])
    return status, {f.stem: json.loads(f.read_text()) for f in out.glob("*.json")}


def test_the_regions_part_times_two_versions_that_agree(tmp_path):
    status, records = rehearse(tmp_path, "regions")
    assert status == 0 and [row["images"] for row in records["regions"]["rows"]] == [1, 2]
    assert all(row["equal"] and row["loop_ms"] > 0 and row["ours_ms"] > 0 for row in records["regions"]["rows"])
    assert "torch" in records["machine"]


def test_a_part_that_breaks_is_recorded_and_the_next_one_starts(tmp_path, monkeypatch):
    def broken(a, limit, out):
        raise RuntimeError("the card has fallen off the bus")

    monkeypatch.setitem(gpu.PARTS, "steps", broken)
    monkeypatch.setitem(gpu.PARTS, "two", lambda a, limit, out: {"status": 0})
    status, records = rehearse(tmp_path, "steps", "two")
    assert status == 1 and "fallen off" in records["steps"]["error"] and records["two"]["status"] == 0


def test_a_part_that_hangs_is_ended(tmp_path):
    status, _ = gpu.run([sys.executable, "-c", "import time; print('here', flush=True); time.sleep(600)"], 3)
    assert status == 124


def test_without_time_a_part_is_left_out(tmp_path):
    status, records = rehearse(tmp_path, "two", minutes=0.01)
    assert "no time" in records["two"]["skipped"]


def test_one_card_is_not_shared_by_two_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert "one" in gpu.two(argparse.Namespace(device="cuda"), 60, tmp_path)["skipped"]


@pytest.mark.slow
def test_the_whole_rehearsal(tmp_path):
    status, records = rehearse(tmp_path, *gpu.PARTS)
    assert status == 0, records
    assert records["resume"]["largest"] == 0 and records["resume"]["status"][1] == -9  # it was killed indeed
    assert records["two"]["same_steps"] and records["two"]["largest"] < 1  # batch norm is per process on CPUs
    assert {m["status"] for m in records["animals"]["methods"].values()} == {0}
    assert len(list(tmp_path.glob("animals_*_log.csv"))) == 3


def test_what_is_carried_is_a_data_set_below_its_limit(tmp_path, monkeypatch):
    root = make_toy(tmp_path / "animals", labelled=3, unlabelled=5, val=2, size=48)
    lists = root / "ImageSets" / "Segmentation"
    ids = {f.stem: f.read_text().split() for f in lists.glob("*.txt")}
    (lists / "train.txt").write_text("\n".join(ids["labelled"] + ids["unlabelled"]) + "\n")
    monkeypatch.setattr(pack, "encoder_in_half", lambda path: path.write_bytes(b"0" * 1000))
    assert pack.pack(root, tmp_path / "carry", "labelled") == 5
    folder = tmp_path / "carry" / "animals"
    there = {f.stem for f in (folder / "JPEGImages").iterdir()}
    masks = {f.stem for f in (folder / "SegmentationClass").iterdir()}
    assert there == {i for v in ids.values() for i in v} and masks == set(ids["labelled"] + ids["val"])
    assert pack.pack(root, tmp_path / "small", "labelled", limit=0.0) == 0
    with pytest.raises(FileExistsError, match="remove it"):
        pack.pack(root, tmp_path / "carry", "labelled")
