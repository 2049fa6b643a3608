"Trainings in a row: each is an ordinary run, its labels are those that are learnt from, and whatever dies is continued by the same command."

import csv
import signal
from dataclasses import replace
import numpy as np
import pytest
import torch
from corrmatch.cli import main
from corrmatch.data.folder import Folder, read_mask
from corrmatch.engine import stages, trainer
from corrmatch.engine.config import method_config, to_dict
from corrmatch.engine.results import collect, finish, load_method, load_run
from corrmatch.engine.runs import load_checkpoint, read_json, read_log, save_json
from corrmatch.engine.trainer import DataError, train
from corrmatch.testing import refuses
from drills import child, config, dataset, die, ended, same_runs

QUICK = {"scales": (1.0, 0.5), "flip": True}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    home = tmp_path_factory.mktemp("stages")
    dataset(home)
    return home


def settings(folder, name, **method):
    return config(folder, name, steps=6, method=method_config("st_plus_plus", **QUICK | method))


@pytest.fixture(scope="module")
def whole(folder):
    return train(settings(folder, "whole"), progress=False)


def table(run):
    with (run / "labels.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_one_command_makes_three_ordinary_runs(folder, whole):
    run = whole.folder
    assert whole.finished and whole.steps == 6 and whole.last == whole.last
    names = {"config.json", "environment.json", "log.csv", "scores.csv", "last.pt", "best.pt"}
    for part in (run, run / "stage1", run / "stage2"):
        assert names <= {p.name for p in part.iterdir()}
        assert load_checkpoint(part / "last.pt")["step"] == 6 and read_log(part).index[-1] == 6
        net, classes, c = load_run(part, "last")
        assert c.method.name == "st_plus_plus" and net(torch.zeros(1, 3, 20, 31)).shape == (1, len(classes), 20, 31)
    assert sorted(p.name for p in (run / "stage1").glob("step*.pt")) == ["step2.pt", "step4.pt"]
    assert not list((run / "stage2").glob("step*.pt")) and not list(run.glob("step*.pt"))
    assert read_json(run / "config.json")["method"]["stage"] == 0
    lists = [load_checkpoint(p / "last.pt")["lists"]["unlabelled"] for p in (run, run / "stage1", run / "stage2")]
    half = [row["id"] for row in table(run / "stage1") if row["handed_on"] == "1"]
    assert len(lists[0]) == len(lists[1]) == 16 and sorted(lists[2]) == sorted(half) and len(half) == 8
    assert sorted(half + [row["id"] for row in table(run / "stage2")]) == sorted(lists[0])
    assert collect([run])["steps"].tolist() == [6]


def test_the_first_stage_is_the_supervised_run(folder, whole):
    alone = train(replace(settings(folder, "alone"), method=method_config("supervised")), progress=False).folder
    same_runs(alone, whole.folder / "stage1")


def test_the_labels_are_those_of_the_stage_before(folder, whole):
    "Recomputed from the checkpoints, image by image."
    run, data = whole.folder, Folder(folder / "toy")
    for part, rule in ((run / "stage1", True), (run / "stage2", False)):
        last = load_run(part, "last")[0]
        early = [load_run(part / f"step{step}.pt")[0] for step in (2, 4)] if rule else []
        for row in table(part)[::3]:
            image = stages.normalise(stages.read_image(data.image_path(row["id"])))
            with torch.no_grad():
                see = lambda net, *how: stages.mean_probabilities(net, image, *how).argmax(0)
                labels, now = see(last, *QUICK.values()), see(last)
                found = [stages.agreement(see(net), now, len(data.classes)) for net in early]
            written = np.array(read_mask(stages.file_of(row["id"], part), data.classes))
            assert (written == labels.numpy()).mean() > 0.999  # the last digit may decide a pixel
            if rule:
                assert abs(float(row["stability"]) - sum(found) / 2) < 1e-5
            else:
                assert row["stability"] == "nan"
    stable = [float(row["stability"]) for row in table(run / "stage1")]
    assert stable == sorted(stable, reverse=True) and stable[0] > stable[-1]


def test_the_last_stage_sees_every_image_with_its_best_label(folder, whole, monkeypatch):
    seen, real = {}, stages.handed_on
    monkeypatch.setattr(trainer, "handed_on", lambda run: seen.setdefault(run.name, real(run)))
    again = train(settings(folder, "whole"), resume=True, progress=False)
    assert again.finished and [len(found) for found in seen.values()] == [8, 8]
    assert all(path.parts[-3] == name for name, found in seen.items() for path in found.values())
    assert not set(seen["stage1"]) & set(seen["stage2"])


DEATHS = [
    ("training_step", 3),  # in stage 1
    ("write_labels", 5),  # while it labels
    ("write_table", 1),  # all is labelled, no table
    ("training_step", 4),  # in stage 2
    ("write_labels", 2),  # while it labels the rest
    ("training_step", 4),  # in the last stage
    ("save_checkpoint", 2),
]


def patched(monkeypatch, name, n, act):
    "Do something in the n-th call from now of a function of trainer or stages."
    module, calls = stages if name.startswith("write_") else trainer, []
    real = getattr(module, name)

    def counted(*args, **options):
        calls.append(1)
        if len(calls) == n:
            act()
        return real(*args, **options)

    monkeypatch.setattr(module, name, counted)


def continued(folder, resume):
    "The command line of the same run."
    path = folder / "killed.json"
    save_json(path, to_dict(settings(folder, "killed")))
    main(["train", "--config", str(path), *(["--resume"] if resume else [])])


def test_killed_in_every_stage_and_between_and_nothing_is_lost(folder, whole, monkeypatch):
    run, stood, kept = folder / "runs" / "killed", [], {}
    for i, (name, n) in enumerate(DEATHS):
        with monkeypatch.context() as patch:
            patched(patch, name, n, die)
            status = ended(child(lambda: continued(folder, resume=i > 0)), 120)
        assert status == -signal.SIGKILL, (name, n, status)
        made = {p.parent.name: load_checkpoint(p)["step"] for p in run.rglob("last.pt")}
        there = {p: p.stat().st_mtime_ns for p in run.rglob("labels/*.png")}
        assert there.items() >= kept.items(), "what was labelled is not labelled again"
        stood.append((made, len(there)))
        kept = there
        assert (run / "config.json").exists()
    assert any(0 < m.get("stage2", 0) < 6 for m, _ in stood), f"one has to be killed in the middle of stage 2: {stood}"
    assert any("stage2" not in m and 0 < n < 16 for m, n in stood), f"and one while stage 1 labels: {stood}"
    assert any(0 < m["killed"] < 6 for m, _ in stood), f"and one in the last stage: {stood}"
    assert ended(child(lambda: continued(folder, resume=True)), 120) == 0
    for part in ("", "stage1", "stage2"):
        same_runs(whole.folder / part, run / part)
        if part:
            assert table(whole.folder / part) == table(run / part)
    for path in whole.folder.rglob("labels/*.png"):
        assert path.read_bytes() == (run / path.relative_to(whole.folder)).read_bytes()


@pytest.mark.parametrize("where, n", [("training_step", 8), ("write_labels", 18)], ids=["stage 2", "labels of stage 2"])
def test_asked_to_stop_it_stops_and_goes_on(folder, whole, monkeypatch, where, n):
    c = settings(folder, f"asked in {where}")
    with monkeypatch.context() as patch:
        patched(patch, where, n, lambda: signal.raise_signal(signal.SIGTERM))
        stopped = train(c, progress=False)
    assert not stopped.finished and stopped.folder.name == "stage2"
    steps = load_checkpoint(stopped.folder / "last.pt")["step"]
    assert steps == (2 if where == "training_step" else 6)
    assert "already holds a run" in refuses(lambda: train(c, progress=False))
    other = replace(c, method=replace(c.method, share=0.75))
    refuses(lambda: train(other, resume=True, progress=False), "method.share: 0.5 then, 0.75 now")
    assert finish(c, progress=False).finished
    same_runs(whole.folder, folder / "runs" / c.name)


def test_a_start_that_makes_no_step_leaves_no_name_taken(folder, monkeypatch):
    c = settings(folder, "nothing")
    with monkeypatch.context() as patch:
        patched(patch, "training_step", 1, lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(c, progress=False)
    assert not (folder / "runs" / "nothing").exists()
    with monkeypatch.context() as patch:
        patched(patch, "training_step", 7, lambda: 1 / 0)  # the first step of stage 2: stage 1 is worth keeping
        with pytest.raises(ZeroDivisionError):
            train(c, progress=False)
    assert load_checkpoint(folder / "runs" / "nothing" / "stage1" / "last.pt")["step"] == 6
    assert (folder / "runs" / "nothing" / "config.json").exists(), "it can be continued"
    assert not (folder / "runs" / "nothing" / "stage2" / "config.json").exists()


def test_self_training_without_selection_has_two_stages(folder):
    run = train(settings(folder, "plain", select=False, scales=(1.0,), flip=False), progress=False).folder
    assert not (run / "stage2").exists() and not list(run.rglob("step*.pt"))
    assert [row["handed_on"] for row in table(run / "stage1")] == ["1"] * 16


def test_the_best_checkpoint_labels_if_asked(folder, monkeypatch):
    opened, real = [], stages.load_checkpoint
    monkeypatch.setattr(stages, "load_checkpoint", lambda path, *a: opened.append(path.name) or real(path, *a))
    c = settings(folder, "best", select=False, labeller="best", scales=(1.0,), flip=False)
    train(replace(c, steps=1), progress=False)
    assert "best.pt" in opened


def test_what_cannot_work_is_said_before_the_first_step(folder, whole):
    c = settings(folder, "large")
    assert "hands on only 0.5 of 16 images" in refuses(
        lambda: train(replace(c, batch=10), progress=False), error=DataError
    )
    assert not (folder / "runs" / "large").exists()
    two = load_method(whole.folder / "stage2", "last")[2]
    refuses(lambda: train(replace(two, name="two"), progress=False), "is one stage of a run")
    for wrong in ({"share": 0.0}, {"checkpoints": (1.0,)}, {"checkpoints": ()}, {"scales": ()}, {"stage": 3}):
        refuses(lambda: method_config("st_plus_plus", **wrong), "method.")


def test_a_lost_label_is_an_error_and_not_an_ignored_image(folder, whole):
    plan = trainer.make_context(settings(folder, "whole"), trainer.Processes(), resume=True)
    plan.views.labels = {id: folder / "gone" / f"{id}.png" for id in plan.split.unlabelled}
    refuses(lambda: plan.views[0], "there is no such file")
