"""A run folder belongs to one process; what can be known is known before the folder is taken; whatever ends a run is said in one line."""

import errno
import io
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
import pytest
import torch
from corrmatch import cli
from corrmatch.data import check
from corrmatch.data.folder import Folder
from corrmatch.data.toy import make_toy
from corrmatch.engine import processes, runs, trainer
from corrmatch.engine.config import Config, DataConfig, method_config
from corrmatch.engine.processes import Processes
from corrmatch.engine.runs import load_checkpoint, locked
from corrmatch.engine.state import TrainState
from corrmatch.engine.trainer import make_context, rehearse, train
from corrmatch.methods import methods
from corrmatch.methods.corrmatch.method import CorrMatch
from corrmatch.models.weights import read_file
from corrmatch.testing import same
from drills import child, config, dataset, ended, same_runs


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    "A folder with the dataset, and the run that nobody disturbed."
    folder = tmp_path_factory.mktemp("runs")
    dataset(folder)
    train(config(folder, "whole"), progress=False)
    return folder


def until(true, limit: float = 120):
    "Wait for something that another process does."
    end = time.time() + limit
    while not true():
        assert time.time() < end, "nothing happened"
        time.sleep(0.01)


# One process for each run


def start_beside(place: Path, c, me: str, other: str, delay: float, resume: bool):
    "Train; the first step waits until the other process trains too, or has ended."
    real, told = trainer.training_step, lambda who, what: place / f"{c.name}.{who}.{what}"

    def step(*args, **options):
        told(me, "trains").touch()
        until(lambda: told(other, "trains").exists() or told(other, "ended").exists())
        return real(*args, **options)

    trainer.training_step = step
    time.sleep(delay)
    try:
        assert train(c, resume=resume, progress=False).finished
        said = "finished"
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
    part = told(me, "part")
    part.write_text(said)
    part.rename(told(me, "ended"))


def two(place: Path, c, delay: float, resume: bool = False) -> list[str]:
    "What two starts together say."
    pair = [("one", "two", 0.0), ("two", "one", delay)]
    started = [child(lambda p=p: start_beside(place, c, *p, resume)) for p in pair]
    assert [ended(pid, 240) for pid in started] == [0, 0]
    return sorted((place / f"{c.name}.{who}.ended").read_text() for who in ("one", "two"))


DELAYS = [round(2 * i / 19, 3) for i in range(20)]  # seconds between two starts


@pytest.mark.parametrize("delay", [d if d in DELAYS[:8:3] else pytest.param(d, marks=pytest.mark.slow) for d in DELAYS])
def test_of_two_starts_one_trains(place, delay):
    c = config(place, f"together {delay}")
    refused, finished = two(place, c, delay)
    assert finished == "finished" and "\n" not in refused and "--name" in refused, refused
    assert refused.startswith(("BlockingIOError", "FileExistsError")), refused
    same_runs(place / "runs" / "whole", place / "runs" / c.name)
    assert not [p.name for p in (place / "runs" / c.name).iterdir() if p.suffix == ".part" or ".lock" in p.name]


@pytest.mark.parametrize("delay", [0, 0.3])
def test_of_two_that_continue_one_trains(place, delay, monkeypatch):
    c, real = config(place, f"continued {delay}"), trainer.training_step

    def step(state, *args):
        if state.step == 5:
            raise OSError("the disk is gone")
        return real(state, *args)

    with monkeypatch.context() as m:
        m.setattr(trainer, "training_step", step)
        with pytest.raises(OSError, match="the disk is gone"):
            train(c, progress=False)
    refused, finished = two(place, c, delay, resume=True)
    assert finished == "finished" and refused.startswith("BlockingIOError") and "is at work" in refused, refused
    same_runs(place / "runs" / "whole", place / "runs" / c.name)


def test_a_dead_lock_is_taken_by_one_of_many(tmp_path):
    "Ten processes find the lock of a dead one; whoever has the folder is alone in it, and in the end all had it."

    def work():
        done = False
        while not done:
            try:
                with locked(tmp_path / "run"):
                    os.close(os.open(tmp_path / "inside", os.O_CREAT | os.O_EXCL))  # fails if another one is inside
                    time.sleep(0.001)
                    os.unlink(tmp_path / "inside")
                    done = True
                    if not (tmp_path / "let go").exists():
                        (tmp_path / "let go").touch()
                        os.kill(os.getpid(), 9)
            except BlockingIOError:
                time.sleep(0.001)

    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "data").touch()
    for _ in range(5):
        (tmp_path / "let go").unlink(missing_ok=True)
        codes = [ended(pid, 240) for pid in [child(work) for _ in range(10)]]
        assert sorted(codes) == [-9] + 9 * [0], codes
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["data"]


def test_two_first_runs_on_the_embedded_dataset(place, monkeypatch):
    "Both make it; one of the two gets the name, the other one uses it."
    out, real = place / "first", runs.os.replace
    c = lambda name: replace(config(place, name, out=str(out)), data=replace(config(place, name).data, root="toy"))
    small = lambda root: make(root, labelled=8, unlabelled=16, val=3, size=48)
    make = trainer.make_toy

    def race(name, other):
        def replaced(a, b):
            if str(b).endswith("toy"):
                (place / f"{name} made it").touch()
                until((place / f"{other} made it").exists)
            return real(a, b)

        trainer.make_toy, os.replace = small, replaced
        train(c(name), progress=False)

    pids = [child(lambda p=p: race(*p)) for p in (("a", "b"), ("b", "a"))]
    assert [ended(pid, 240) for pid in pids] == [0, 0]
    same_runs(out / "a", out / "b")
    assert [p.name for p in (out / "data").iterdir()] == ["toy"] and len(Folder(out / "data" / "toy").paths) == 27


def test_a_killed_start_leaves_nothing_that_hinders(place, monkeypatch):
    c = config(place, "killed early")

    def start_run(*_):
        (place / "runs" / c.name / "last.pt.7-a0.part").touch()
        os.kill(os.getpid(), 9)

    with monkeypatch.context() as m:
        m.setattr(trainer, "start_run", start_run)
        assert ended(child(lambda: train(c, progress=False))) == -9
    assert (place / "runs" / c.name / ".lock").exists()
    train(c, progress=False)
    same_runs(place / "runs" / "whole", place / "runs" / c.name)
    assert load_checkpoint(place / "runs" / c.name / "last.pt")["step"] == 8
    assert not list((place / "runs" / c.name).glob("*.part")) and not (place / "runs" / c.name / ".lock").exists()


# What can be known is known before the folder is taken


def refused(c, error=ValueError) -> str:
    "One line; and nothing of the run is left."
    with pytest.raises(error) as said:
        train(c, progress=False)
    assert "\n" not in str(said.value) and not (Path(c.out) / c.name).exists(), said.value
    return str(said.value)


def test_without_an_unlabelled_image_is_one_line_and_nothing_is_left(place):
    c = config(place, "all labelled")
    make_toy(place / "labelled only", labelled=8, unlabelled=0, val=3, size=48)
    said = refused(replace(c, data=replace(c.data, root=str(place / "labelled only"))))
    assert "no unlabelled image" in said and "--data.labelled" in said and "--method supervised" in said, said


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried"),
        MemoryError(),
    ],
)
def test_memory_that_runs_out_is_one_line_and_nothing_is_left(place, monkeypatch, error):
    def forward(*_, **__):
        raise error

    monkeypatch.setattr(CorrMatch, "forward", forward)
    said = refused(config(place, "too large"), MemoryError)
    for word in ("--data.crop", "--batch", "--system.accumulate", "--system.recompute"):
        assert word in said, said


def test_another_error_stays_what_it_is(place, monkeypatch):
    def forward(*_, **__):
        raise RuntimeError("sizes differ")

    monkeypatch.setattr(CorrMatch, "forward", forward)
    assert refused(config(place, "sizes"), RuntimeError) == "sizes differ"


def test_a_first_step_that_fails_leaves_nothing(place, monkeypatch):
    def step(*_):
        assert (place / "runs" / "no step" / "config.json").exists()
        raise OSError("an image is gone")

    monkeypatch.setattr(trainer, "training_step", step)
    assert refused(config(place, "no step"), OSError) == "an image is gone"


@pytest.mark.parametrize("name", sorted(methods()))
def test_a_rehearsal_changes_nothing(place, name):
    c = replace(config(place, f"rehearsed {name}"), method=method_config(name))
    context = make_context(c, Processes())
    state = TrainState(c, len(context.folder.classes))
    before = {k: v.clone() if torch.is_tensor(v) else v for k, v in state.method.state_dict().items()}
    rehearse(state, context)
    assert same(before, state.method.state_dict()) and not any(o.state for o in state.optimizers.values())
    assert all(p.grad is None for p in state.method.parameters()) and state.step == 0


UNGUARDED = """
import multiprocessing, sys
from pathlib import Path
from drills import config
from corrmatch.engine.trainer import train
multiprocessing.set_start_method(sys.argv[2], force=True)
train(config(Path(sys.argv[1]), "unguarded", workers=1), progress=False)
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_script_without_its_guard(place, method):
    script = place / "unguarded.py"
    script.write_text(UNGUARDED)
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, str(script), str(place), method],
        capture_output=True,
        text=True,
        timeout=240,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{here.parent}{os.pathsep}{here}"},
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("corrmatch: error:")]
    assert done.returncode and len(lines) == 1 and 'if __name__ == "__main__":' in lines[0], done.stderr
    assert 'if __name__ == "__main__":' in done.stderr.splitlines()[-1], done.stderr
    assert not (place / "runs" / "unguarded").exists()


# Interrupted


@pytest.mark.parametrize("presses", [1, 2])
@pytest.mark.parametrize("at", [4, 8])
def test_ctrl_c_during_validation_ends_it_and_the_run_goes_on(place, monkeypatch, presses, at):
    name, real, seen = f"validation {presses} {at}", trainer.pseudo_label_counts, []

    def count(*args):
        seen.append(1)
        if len(seen) == (2 if at == 4 else 5):  # the second of three images
            for _ in range(presses):
                signal.raise_signal(signal.SIGINT)
        return real(*args)

    with monkeypatch.context() as m:
        m.setattr(trainer, "pseudo_label_counts", count)
        if presses == 1:
            result = train(config(place, name), progress=False)
            assert not result.finished and result.steps == at
        else:
            with pytest.raises(KeyboardInterrupt):
                train(config(place, name), progress=False)
    assert len(seen) == (2 if at == 4 else 5), "the third image is not looked at"
    last = load_checkpoint(place / "runs" / name / "last.pt")
    assert last["step"] == at and last["scored"] == at - 4
    assert train(config(place, name), resume=True, progress=False).finished
    same_runs(place / "runs" / "whole", place / "runs" / name)


def test_ctrl_c_while_files_are_checked_ends_at_once_and_leaves_nothing(place, monkeypatch):
    c, real, seen = config(place, "checked"), check.check_image, []
    c = replace(c, data=replace(c.data, check=True))

    def look(*args):
        seen.append(1)
        if len(seen) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)
        return real(*args)

    monkeypatch.setattr(check, "check_image", look)
    monkeypatch.setattr(check.os, "cpu_count", lambda: 1)
    with pytest.raises(KeyboardInterrupt):
        train(c, progress=False)
    assert 3 <= len(seen) < 27, "the rest is not read"
    assert not (place / "runs" / "checked").exists()


class Both:
    "Two processes, of which the other one was asked to end."

    world, asked, steps = 2, 0.0, 0

    def reduce(self, x, op):
        Both.steps += 1
        return torch.stack([x, torch.tensor([self.asked, 0.2])]).amax(0)


def test_several_processes_ask_each_other_about_once_a_second():
    interrupt, other, met = trainer.Interrupt(), Both(), []
    for step in range(1, 21):
        before = other.steps
        assert not interrupt.together(other, step)
        met += [step] * (other.steps > before)
    assert met == [1, 2, 7, 12, 17], "a step of the other takes 0.2 s"
    other.asked = 1.0
    assert [interrupt.together(other, step) for step in (20, 21, 22)] == [False, False, True]


def test_an_interrupted_command_says_one_line(monkeypatch, capsys):
    def parse(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "parse", parse)
    with pytest.raises(SystemExit) as end:
        cli.main([])
    assert end.value.code == 130 and capsys.readouterr().err == "corrmatch: interrupted\n"


# Many processes


def test_one_device_for_many_processes_is_refused(monkeypatch):
    monkeypatch.setattr(processes, "find_device", torch.device)
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="--system.device cuda:1 names one device.*give --system.device cuda,"):
        processes.processes("cuda:1").__enter__()


def test_the_others_wait_as_long_as_the_settings_say(place, monkeypatch):
    class Asked(Exception):
        pass

    def group(kind, timeout):
        raise Asked(f"{kind} {timeout.total_seconds():.0f}")

    monkeypatch.setattr(processes.distributed, "init_process_group", group)
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    c = config(place, "waits")
    for seconds, system in ((1800, c.system), (7200, replace(c.system, timeout=7200))):
        with pytest.raises(Asked, match=f"gloo {seconds}"):
            train(replace(c, system=system), progress=False)


PAIR = """
import sys
from dataclasses import replace
from pathlib import Path
import torch
from drills import config
from corrmatch.engine.trainer import train
torch.set_num_threads(1)
c = config(Path(sys.argv[1]), "half precision")
train(replace(c, steps=2, system=replace(c.system, precision="bfloat16")), progress=False)
"""


def test_two_cpu_processes_in_half_precision(place):
    (place / "pair.py").write_text(PAIR)
    here = Path(__file__).parent
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *launch, str(place / "pair.py"), str(place)],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{here.parent}{os.pathsep}{here}"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert load_checkpoint(place / "runs" / "half precision" / "last.pt")["step"] == 2


# Words that fit


@pytest.mark.parametrize(
    "number, todo",
    [(errno.ENOSPC, "make room"), (errno.EACCES, "see that you may write"), (errno.ENOENT, "bring the folder back")],
)
def test_the_advice_fits_the_reason(tmp_path, number, todo):
    def write(part):
        raise OSError(number, os.strerror(number))

    with pytest.raises(OSError) as said:
        runs.write_atomic(tmp_path / "x.json", write)
    assert todo in str(said.value) and os.strerror(number) in str(said.value)
    assert (todo == "make room") == ("make room" in str(said.value))


def test_a_lost_folder_is_said(tmp_path):
    def write(part):
        torch.save({"step": 1}, tmp_path / "gone" / "last.pt")

    (tmp_path / "run").mkdir()
    with pytest.raises(OSError) as said, runs.writing(tmp_path / "gone" / "last.pt"):
        write(None)
    assert "bring the folder back" in str(said.value) and "make room" not in str(said.value)


def test_settings_that_are_half_a_file_are_named(place):
    c = config(place, "half")
    (place / "runs" / "half").mkdir(parents=True)
    (place / "runs" / "half" / "config.json").write_text('{"name":')
    with pytest.raises(ValueError, match="half/config.json: not JSON"):
        train(c, resume=True, progress=False)


def test_the_home_folder_is_written_out(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    c = Config(data=DataConfig("~/voc", "~/a.txt", "~/b.txt", "~/val.txt"), out="~/runs")
    d = c.data
    with pytest.raises(FileNotFoundError, match=str(tmp_path / "net.pt")):
        read_file("~/net.pt")
    assert [c.out, d.root, d.labelled, d.unlabelled, d.val] == [
        str(tmp_path / name) for name in ("runs", "voc", "a.txt", "b.txt", "val.txt")
    ]


@pytest.mark.parametrize("word", ["~/x", "--out=~/x"])
def test_a_quoted_tilde_is_written_out(monkeypatch, word):
    monkeypatch.setenv("HOME", "/home/me")
    assert cli._at_home(word) == word.replace("~", "/home/me") and cli._at_home("--x=a~b") == "--x=a~b"


def test_a_console_without_a_letter_loses_no_table(monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(cli, "parse", lambda args: lambda: print("\u732b 50.0"))
    cli.main([])
    out.flush()
    assert out.buffer.getvalue() == b"? 50.0\n"
