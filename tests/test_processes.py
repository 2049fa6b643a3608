"""One, two and four processes (gloo, CPU) train the same global batch: the same losses, the same threshold, the same score.

Channel dropout draws a stream of its own in each process, so it is switched off here. The runs are in double precision: in single precision
the losses agree to 1e-8 until rounding moves the first pixel across the threshold (seen at step 4), which is a difference of rounding, not of processes.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
import pandas as pd
import psutil
import pytest
from corrmatch.engine.runs import load_checkpoint
from corrmatch.data.toy import make_toy
from drills import told

STEPS = 10
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
PROGRAM = (
    """
import sys, torch
from corrmatch.engine import trainer
from corrmatch.engine.config import *
from corrmatch.engine.trainer import train
torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)
single = trainer.to_device
trainer.to_device = lambda x, *args: single(x.double() if x.is_floating_point() else x, *args)
evaluate = trainer.evaluate
trainer.evaluate = lambda net, views, *args, **kw: evaluate(net, [item | {"image": item["image"].double()} for item in (views[i] for i in range(len(views)))], *args, **kw)
root, out, name, resume, save_every, ohem = sys.argv[1:7]
tiny = ModelConfig("resnet18", width=8, rates=(1, 2, 3), channels=16, low_channels=8, projection=16, dropout=0., weights=None)
config = Config(name, DataConfig(root, "labelled", val="val", crop=48, partner="crop", scale=(0.5, 1.5)), tiny, CorrMatchConfig(num_shapes=16, threshold_init=0.25, threshold_momentum=0.9, perturbation=0., ohem=ohem == "ohem", ohem_min_kept=10**9),
                OptimConfig(0.01), SystemConfig("cpu"), batch=8, steps=%d, log_every=1, evaluate_every=1, save_every=int(save_every) or None, out=out)
result = train(config, resume == "resume", progress=False)
"""
    % STEPS
)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    "24 unlabelled images; 7 to validate, which no number of processes here divides."
    folder = tmp_path_factory.mktemp("processes")
    (folder / "program.py").write_text(PROGRAM)
    return folder, make_toy(folder / "toy", labelled=8, unlabelled=24, val=7, size=64)


def command(folder, world, name, resume="new", save_every=0, ohem="plain"):
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world)] if world > 1 else []
    return [
        sys.executable,
        *launch,
        str(folder / "program.py"),
        str(folder / "toy"),
        str(folder / "runs"),
        name,
        resume,
        str(save_every),
        ohem,
    ]


def run(folder, world, name, **options):
    done = subprocess.run(
        command(folder, world, name, **options), capture_output=True, text=True, env=ENVIRONMENT, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    run = folder / "runs" / name
    return pd.read_csv(run / "log.csv", index_col="step"), pd.read_csv(run / "scores.csv", index_col="step")


@pytest.fixture(scope="module")
def one(toy):
    return run(toy[0], 1, "one")


@pytest.mark.parametrize("world", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_the_number_of_processes_changes_no_loss(toy, one, world):
    log, scores = run(toy[0], world, f"{world} processes")
    assert len(log) == len(one[0]) == STEPS and (one[0]["confident"] > 0).any(), (
        "something must be trusted, or nothing is tested"
    )
    terms = [c for c in log if c not in ("seconds", "epoch", "lr")]
    assert {"sup_hard", "sup_corr", "unsup_hard", "unsup_soft", "unsup_corr", "total", "tau"} <= set(terms)
    # these two are means over processes of shares, not shares of all pixels
    for term in set(terms) - {"confident", "spread"}:
        assert (log[term] - one[0][term]).abs().max() < 1e-6, (term, (log[term] - one[0][term]).abs().max())
    assert (scores - one[1]).abs().max().max() < 1e-9, "each of the 7 images counts once"


def test_two_processes_stopped_by_a_signal_go_on_to_the_same_weights(toy):
    folder, weights = toy[0], lambda name: load_checkpoint(toy[0] / "runs" / name / "last.pt")
    run(folder, 2, "whole")
    stopped = subprocess.Popen(
        command(folder, 2, "stopped"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT
    )
    log = folder / "runs" / "stopped" / "log.csv"
    deadline = time.time() + 120
    while (
        not (log.exists() and len(log.read_text().splitlines()) > 3)
        and time.time() < deadline
        and stopped.poll() is None
    ):
        time.sleep(0.02)
    for child in psutil.Process(stopped.pid).children():
        child.send_signal(signal.SIGTERM)
    output, _ = stopped.communicate(timeout=120)
    step = weights("stopped")["step"]
    assert 0 < step < STEPS, f"it was to stop on the way, and stands at step {step}: {output[-2000:]}"
    run(folder, 2, "stopped", resume="resume")
    assert all((a == b).all() for a, b in zip(weights("whole")["net"].values(), weights("stopped")["net"].values()))
    told(
        "two processes are asked to stop",
        "SIGTERM to both, as a cluster sends it; resumed",
        1,
        f"they save at the same step ({step}) and end; the same weights at the end",
        "nothing",
    )
