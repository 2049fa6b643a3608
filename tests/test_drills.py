"What can happen to a run, done on purpose: nothing that was saved is lost, and one line says what happened."

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path
import psutil
import pytest
import torch
from corrmatch.engine import runs
from corrmatch.engine import trainer
from corrmatch.data import views
from corrmatch.engine.runs import load_checkpoint, read_log, save_checkpoint
from corrmatch.engine.trainer import train
from corrmatch.methods.base import Losses
from corrmatch.methods.corrmatch.method import CorrMatch
from drills import child, config, dataset, die, ended, same_runs, told

ENVIRONMENT = os.environ | {
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": f"{Path(__file__).parents[1]}{os.pathsep}{Path(__file__).parent}",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    "A folder with the dataset, and the run that nobody disturbed."
    folder = tmp_path_factory.mktemp("drills")
    dataset(folder)
    train(config(folder, "whole"), progress=False)
    return folder


def go_on(place, name, **changes):
    "Continue a run to its end; it is the run that nobody disturbed."
    assert train(config(place, name, **changes), resume=True, progress=False).finished
    same_runs(place / "runs" / "whole", place / "runs" / name)


# Killed


def killed_at(moment: int):
    "Kill this process at the n-th step on the disk: before a link, a sync, a rename, and in the middle of writing."
    count = [0]

    def before(real):
        def step(*args, **options):
            count[0] += 1
            if count[0] == moment:
                die()
            return real(*args, **options)

        return step

    def half(state, path):
        real_save(state, path)
        count[0] += 1
        if count[0] == moment:
            os.truncate(path, os.path.getsize(path) // 2)
            die()

    real_save, torch.save = torch.save, half
    os.link, os.fsync, os.replace = before(os.link), before(os.fsync), before(os.replace)


def test_killed_at_every_step_of_writing_a_checkpoint(tmp_path):
    state = lambda step: {"step": step, "net": {"w": torch.full((500,), float(step))}}
    seen = []
    for moment in range(1, 20):
        path = tmp_path / str(moment) / "last.pt"
        for step in (10, 20):
            save_checkpoint(state(step), path)
        code = ended(child(lambda: (killed_at(moment), save_checkpoint(state(30), path))))
        if code == 0:
            break
        assert code == -signal.SIGKILL
        seen.append(load_checkpoint(path)["step"])
        save_checkpoint(state(40), path)  # and the next one goes well
        with runs.locked(path.parent):  # a start sweeps away what the killed one left
            pass
        assert load_checkpoint(path)["step"] == 40 and sorted(p.name for p in path.parent.iterdir()) == [
            "last.pt",
            "last.pt.previous",
        ]
    assert seen == sorted(seen) and set(seen) == {20, 30} and len(seen) == 6, seen
    told(
        "killed while a checkpoint is written",
        "SIGKILL before each link, sync and rename, and in the middle of the file",
        len(seen),
        f"the checkpoint before ({seen.count(20)} times) or the new one ({seen.count(30)})",
        "nothing",
    )


@pytest.mark.slow
def test_killed_again_and_again_while_a_run_writes(place):
    "At each fifth step on the disk; a checkpoint has six, so every kind has its turn."
    moment, kills = 1, 0
    while True:
        name = f"moment {moment}"
        code = ended(child(lambda: (killed_at(moment), train(config(place, name), progress=False))))
        if code == 0:
            break
        assert code == -signal.SIGKILL
        if (place / "runs" / name / "config.json").exists():
            go_on(place, name)
        else:
            train(config(place, name), progress=False)
            same_runs(place / "runs" / "whole", place / "runs" / name)
        moment, kills = moment + 5, kills + 1
    assert kills > 8
    told(
        "killed while a run writes",
        "SIGKILL at each fifth step on the disk of a whole run, then resumed",
        kills,
        "weights, log and scores of the run that nobody disturbed",
        "nothing",
    )


def slow_decoding(place, name):
    "Train with two processes that load; the sixth image takes its time."
    real = views.read_listed

    def read(folder, id):
        image = real(folder, id)
        with open(place / f"{name}.decoded", "a") as f:
            f.write(f"{os.getpid()}\n")
        if len((place / f"{name}.decoded").read_text().split()) > 20:
            time.sleep(1)
        return image

    views.read_listed = read
    train(config(place, name, workers=2), progress=False)


@pytest.mark.slow
def test_killed_while_a_worker_decodes(place):
    name, often = "decoding", 3
    for i in range(often):
        log = place / f"{name} {i}.decoded"
        pid = child(lambda: slow_decoding(place, f"{name} {i}"))
        end = time.time() + 60
        while time.time() < end and not (log.exists() and len(log.read_text().split()) > 20 + i):
            time.sleep(0.01)
        workers = [p for p in psutil.Process(pid).children(recursive=True)]
        assert len(workers) == 2
        os.kill(pid, signal.SIGKILL)
        assert ended(pid) == -signal.SIGKILL
        gone, alive = psutil.wait_procs(workers, timeout=30)
        assert not alive, "processes that load outlive the run"
        go_on(place, f"{name} {i}", workers=2)
    told(
        "killed while an image is decoded",
        "SIGKILL of the run while its two loading processes decode, then resumed",
        often,
        "the loading processes end by themselves; the same weights at the end",
        "nothing",
    )


# Processes that load


def test_a_worker_that_dies_is_said_and_the_run_goes_on(place, monkeypatch):
    real = views.read_listed

    def read(folder, id):
        if torch.utils.data.get_worker_info() is not None and (place / "runs" / "worker" / "log.csv").exists():
            os._exit(9)
        return real(folder, id)

    with monkeypatch.context() as m:
        m.setattr(views, "read_listed", read)
        with pytest.raises(ChildProcessError) as said:
            train(config(place, "worker", workers=1), progress=False)
    assert "--data.workers" in str(said.value) and "--resume" in str(said.value) and "\n" not in str(said.value)
    assert load_checkpoint(place / "runs" / "worker" / "last.pt")["step"] >= 2
    go_on(place, "worker", workers=1)
    told(
        "a loading process dies",
        "it exits on its own in the middle of a run",
        1,
        "one line that names --data.workers and --resume; the same weights at the end",
        "steps since the last checkpoint, made again",
    )


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_breaks_meanwhile_is_one_line_with_or_without_workers(place, monkeypatch, workers):
    name, real = f"broken {workers}", views.read_listed

    def read(folder, id):
        if (place / "runs" / name / "log.csv").exists():
            raise ValueError(f"{folder.image_path(id)}: cannot be decoded (image file is truncated); replace the file")
        return real(folder, id)

    with monkeypatch.context() as m:
        m.setattr(views, "read_listed", read)
        with pytest.raises(ValueError) as said:
            train(config(place, name, workers=workers), progress=False)
    assert (
        str(said.value).startswith(str(place))
        and str(said.value).endswith("replace the file")
        and "\n" not in str(said.value)
    )
    go_on(place, name, workers=workers)


# The disk


@pytest.fixture
def small_disk():
    "A limit on the size of files, as a quota sets it; lifted at the end."
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, old)


@pytest.mark.parametrize("what", ["checkpoint", "log"])
def test_a_disk_that_is_full_is_said_and_the_run_goes_on(place, monkeypatch, small_disk, what):
    name, real = f"full {what}", getattr(trainer, "save" if what == "checkpoint" else "write")

    def full(first, *args):
        run = place / "runs" / name
        if what == "checkpoint" and first.step == 6:
            small_disk(10_000)
        if what == "log" and (run / "log.csv").exists() and args[1] == "log.csv":
            small_disk((run / "log.csv").stat().st_size + 20)
        return real(first, *args)

    monkeypatch.setattr(trainer, "tensorboard_writer", lambda *_: None)
    with monkeypatch.context() as m:
        m.setattr(trainer, "save" if what == "checkpoint" else "write", full)
        with pytest.raises(OSError) as said:
            train(config(place, name), progress=False)
    small_disk(resource.getrlimit(resource.RLIMIT_FSIZE)[1])
    for word in (
        "last.pt" if what == "checkpoint" else "log.csv",
        "cannot be written",
        "MB are free there" if what == "checkpoint" else os.strerror(errno.EFBIG),
        "--resume",
    ):
        assert word in str(said.value), said.value
    assert "\n" not in str(said.value) and load_checkpoint(place / "runs" / name / "last.pt")["step"] == 4
    assert not list((place / "runs" / name).glob("*.part"))
    go_on(place, name)
    told(
        f"the disk is full: {what}",
        "a limit on the size of files is reached in the middle of writing",
        1,
        "one line: file, reason, what to do; the same weights at the end",
        "steps since the last checkpoint, made again",
    )


@pytest.mark.slow
def test_a_file_system_that_is_full(place):
    disk = place / "runs" / "disk"
    disk.mkdir(parents=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        c = lambda name: replace(config(place, name), out=str(disk))
        with pytest.raises(OSError) as said:
            train(c("run"), progress=False)
        assert (
            os.strerror(errno.ENOSPC) in str(said.value) or "0 MB are free" in str(said.value)
        ) and "--resume" in str(said.value), said.value
        load_checkpoint(disk / "run" / "last.pt")
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        assert train(c("run"), resume=True, progress=False).finished
        same_runs(place / "runs" / "whole", disk / "run")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
    told(
        "the file system is full",
        "a run in a file system of 600 kB, which is then made larger",
        1,
        "one line: file, reason, what to do; the same weights at the end",
        "steps since the last checkpoint, made again",
    )


# Numbers


def all_finite(state) -> bool:
    "Of the tensors of a method."
    return all(v.isfinite().all() for v in state.values() if torch.is_tensor(v))


def test_a_run_that_diverges_stops_and_keeps_the_last_sound_checkpoint(place):
    c = config(place, "diverged", lr=1e12)
    with pytest.raises(FloatingPointError) as said:
        train(c, progress=False)
    text, run = str(said.value), place / "runs" / "diverged"
    # which tensor or loss breaks first is a matter of the kernels
    assert "step " in text and "diverged" in text and "smaller optim.lr" in text and "\n" not in text, text
    for path in run.glob("*.pt*"):
        assert all_finite(load_checkpoint(path)["method"]), path
    assert (
        not (run / "log.csv").exists()
        or read_log(run).drop(columns="seconds").map(lambda v: abs(v) < float("inf")).all().all()
    )
    told(
        "the training diverges", "a rate of 1e12", 1, "one line: the step, and what to change", "nothing that was sound"
    )


def bad_at(*steps):
    "Losses of CorrMatch that are NaN at some calls."
    real, calls = CorrMatch.forward, [-1]  # the first call is the rehearsal

    def forward(*args, **options):
        total, terms, logs = real(*args, **options)
        calls[0] += 1
        if calls[0] in steps:
            total, terms = total * float("nan"), terms | {k: terms[k] * float("nan") for k in ("unsup_fp", "total")}
        return Losses(total, terms, logs)

    return forward


def test_a_loss_that_is_nan_stops_with_step_term_and_images(place, monkeypatch):
    with monkeypatch.context() as m:
        m.setattr(CorrMatch, "forward", bad_at(5))
        with pytest.raises(FloatingPointError) as said:
            train(config(place, "nan"), progress=False)
    text = str(said.value)
    assert (
        text.startswith("step 5: the loss unsup_fp is nan; images of the batch: ")
        and text.count("unlabelled_") == 4
        and text.count(" labelled_") == 4
    )
    assert load_checkpoint(place / "runs" / "nan" / "last.pt")["step"] == 4
    go_on(place, "nan")
    told(
        "a loss is NaN",
        "one term at step 5, once",
        1,
        "step, term and images; the last checkpoint is from step 4; resumed, the same weights",
        "step 5, made again",
    )


def test_bad_steps_are_left_out_and_counted_if_asked(place, monkeypatch):
    run = place / "runs" / "skipped"
    with monkeypatch.context() as m, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        m.setattr(CorrMatch, "forward", bad_at(5, 7))
        assert train(config(place, "skipped", skip=2, log_every=1), progress=False).finished
    words = [str(w.message) for w in said if "left out" in str(w.message)]
    assert (
        len(words) == 2 and words[0].startswith("step 5: the loss unsup_fp is nan") and "(2 of at most 2)" in words[1]
    )
    last = load_checkpoint(run / "last.pt")
    assert last["skipped"] == 2 and last["step"] == 8 and all_finite(last["method"])
    assert read_log(run).index.tolist() == [s for s in range(1, 9) if s not in (5, 7)]
    with monkeypatch.context() as m, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        m.setattr(CorrMatch, "forward", bad_at(5, 6, 7))
        with pytest.raises(FloatingPointError, match="system.skip_bad_steps allows no more"):
            train(config(place, "too many", skip=2), progress=False)
    told(
        "a loss is NaN, and may be left out",
        "two steps with system.skip_bad_steps 2; a third",
        2,
        "two steps left out and counted; the third stops the run",
        "the steps that were left out",
    )


def test_looking_for_bad_steps_changes_no_number(place):
    train(config(place, "watchful", skip=3), progress=False)
    same_runs(place / "runs" / "whole", place / "runs" / "watchful")


# Continued in another world


def test_a_run_is_not_continued_with_other_images_or_classes(tmp_path):
    dataset(tmp_path)
    train(config(tmp_path, "run"), progress=False)
    before = {p.name: p.read_bytes() for p in (tmp_path / "runs" / "run").iterdir() if p.is_file()}
    lists, classes = tmp_path / "toy" / "ImageSets" / "Segmentation", tmp_path / "toy" / "classes.txt"
    changed = {
        lists / "labelled.txt": (
            lambda t: t.replace("labelled_0003\n", ""),
            "labelled list: 1 gone (e.g. labelled_0003)",
        ),
        lists / "val.txt": (lambda t: "\n".join(reversed(t.split())), "val list: another order"),
        classes: (lambda t: t + "moon 1 2 3\n", "classes: 6 then, 7 now"),
    }
    for path, (change, words) in changed.items():
        text = path.read_text()
        path.write_text(change(text))
        with pytest.raises(ValueError) as said:
            train(config(tmp_path, "run"), resume=True, progress=False)
        assert words in str(said.value) and "--name" in str(said.value) and "\n" not in str(said.value), said.value
        path.write_text(text)
    with pytest.raises(ValueError, match="optim.lr: 0.01 then, 0.02 now"):
        train(config(tmp_path, "run", lr=0.02), resume=True, progress=False)
    assert {p.name: p.read_bytes() for p in (tmp_path / "runs" / "run").iterdir() if p.is_file()} == before
    assert train(config(tmp_path, "run"), resume=True, progress=False).finished
    told(
        "continued with other data or settings",
        "a labelled image removed, a list in another order, a class added, another rate",
        4,
        "refused; what differs is named; the run is untouched",
        "nothing",
    )


def test_another_version_is_said_and_an_older_run_is_continued(place, monkeypatch):
    class Stop(trainer.Interrupt):
        def __enter__(self):
            self.asked = True
            return self

        def __exit__(self, *_):
            pass

    with monkeypatch.context() as m:
        m.setattr(trainer, "Interrupt", Stop)
        m.setattr(trainer, "environment", lambda *a: runs.environment() | {"corrmatch": "0.0.1"})
        assert not train(config(place, "older"), progress=False).finished
    settings = place / "runs" / "older" / "config.json"
    values = json.loads(settings.read_text())
    del values["system"]["skip_bad_steps"]
    settings.write_text(json.dumps(values))
    with pytest.warns(UserWarning, match=r"corrmatch: 0\.0\.1 then, .* now.*last digits"):
        go_on(place, "older")
    told(
        "continued with another version",
        "a checkpoint of version 0.0.1 without a setting of today",
        1,
        "a warning names both versions; the setting gets its default; the same weights at the end",
        "nothing",
    )


# Many processes

PROGRAM = """
import os, sys, time, torch
from pathlib import Path
from dataclasses import replace
from corrmatch.engine import trainer
from drills import config, die

torch.set_num_threads(1)
place, name, victim = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
real = trainer.training_step
def step(state, *args):
    if state.step == 5 and int(os.environ.get("RANK", 0)) == victim:
        (place / f"{name}.died").write_text(str(time.time()))
        die()
    return real(state, *args)
trainer.training_step = step
trainer.train(config(place, name), resume=(place / "runs" / name / "config.json").exists(), progress=False)
"""


def torchrun(place, name, victim=-1):
    (place / "program.py").write_text(PROGRAM)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(place / "program.py"),
        str(place),
        name,
        str(victim),
    ]
    done, died = (
        subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=300),
        place / f"{name}.died",
    )
    return done.returncode, done.stdout + done.stderr, time.time() - float(died.read_text()) if died.exists() else 0.0


@pytest.mark.slow
def test_one_process_of_two_is_killed(place):
    assert torchrun(place, "pair")[0] == 0
    longest = 0.0
    for victim in (0, 1):
        name = f"victim {victim}"
        code, text, seconds = torchrun(place, name, victim)
        assert code and seconds < 60, f"the others are to end soon, and took {seconds:.0f} s"
        assert f"process {1 - victim} of 2: another process is gone" in text, text[-3000:]
        longest = max(longest, seconds)
        assert f"rank      : {victim}" in text and "Signal 9 (SIGKILL)" in text, text[-3000:]
        assert load_checkpoint(place / "runs" / name / "last.pt")["step"] == 4
        assert torchrun(place, name)[0] == 0
        same_runs(place / "runs" / "pair", place / "runs" / name)
    told(
        "one process of two is killed",
        "SIGKILL of process 0, then of process 1, under torchrun; resumed",
        2,
        f"the others end within {longest:.0f} s, the report names the process; the same weights at the end",
        "steps since the last checkpoint, made again",
    )
