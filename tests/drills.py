"What the drills share: a run of seconds, a process that can be killed, and a table of what was done and what was lost."

import csv
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from corrmatch.engine.config import Config, DataConfig, OptimConfig, SystemConfig
from corrmatch.methods.corrmatch.method import CorrMatchConfig
from corrmatch.models.build import ModelConfig
from corrmatch.engine.runs import load_checkpoint, read_log
from corrmatch.data.toy import make_toy
from corrmatch.testing import same

TINY = ModelConfig("resnet18", width=4, rates=(1, 2, 3), channels=8, low_channels=4, weights=None)
COLUMNS = ("drill", "what was done", "how often", "what was seen", "lost")


def dataset(folder: Path) -> Path:
    return make_toy(folder / "toy", labelled=8, unlabelled=16, val=3, size=48)


def config(folder: Path, name: str, **changes) -> Config:
    "Eight steps on the dataset of the folder; an epoch has four."
    system = SystemConfig("cpu", skip_bad_steps=changes.pop("skip", 0), accumulate=changes.pop("accumulate", 1))
    c = Config(
        name,
        DataConfig(str(folder / "toy"), "labelled", val="val", crop=32, check=False, workers=changes.pop("workers", 0)),
        TINY,
        CorrMatchConfig(projection=8, num_shapes=8, threshold_init=0.3),
        OptimConfig(changes.pop("lr", 0.01)),
        system,
        batch=4,
        steps=8,
        log_every=3,
        save_every=2,
        out=str(folder / "runs"),
    )
    return replace(c, **changes)


def child(call) -> int:
    "Run `call` in a process of its own; its number."
    if pid := os.fork():
        return pid
    try:
        call()
        os._exit(0)
    except BaseException:
        os._exit(1)


def ended(pid: int, limit: float = 60) -> int:
    "Wait for a child, at most `limit` seconds: its exit code, or minus the signal that ended it."
    end = time.time() + limit
    while time.time() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise AssertionError(f"process {pid} did not end within {limit} s")


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def same_runs(a: Path, b: Path):
    "Two runs have the same weights, threshold, log and scores, to the last bit."
    one, two = (load_checkpoint(run / "last.pt") for run in (a, b))
    assert one["step"] == two["step"] and one["best"] == two["best"] and same(one["method"], two["method"])
    for name in ("log.csv", "scores.csv"):
        x, y = (read_log(run, name).drop(columns="seconds", errors="ignore") for run in (a, b))
        assert x.equals(y), f"{name} differs"


def told(*row):
    "Add a row to the table of drills, if one is asked for (`make drill`)."
    if not (path := os.environ.get("CORRMATCH_DRILLS")):
        return
    new = not Path(path).exists()
    with open(path, "a", newline="", encoding="utf-8") as f:
        writer = csv.writer(f, lineterminator="\n")
        if new:
            writer.writerow(COLUMNS)
        writer.writerow(row)
