"""One, two and four processes (gloo, CPU) train the same global batch: the same losses, the same threshold, the same score.

Channel dropout draws a stream of its own in each process, so it is switched off here. Batch norm is joined by `sync_norm`,
as torch does it on GPUs. The runs are in double precision: in single precision the losses agree to 1e-8 until rounding
moves the first pixel across the threshold (seen at step 4), which is a difference of rounding, not of processes.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
import pandas as pd
import psutil
import pytest
import torch
import torch.distributed as dist
from torch import nn
from corrmatch.data.toy import make_toy
from corrmatch.engine.runs import load_checkpoint
from corrmatch.methods import methods
from corrmatch.testing import same
from drills import told
from sync_norm import SyncBatchNorm, synchronised

STEPS = 10
HERE = Path(__file__).parent
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE}"}
# sync: batch norm over all processes; spare: a module of the method that no loss reaches
PROGRAM = """
import json, sys, torch
from corrmatch.engine import state, trainer
from corrmatch.engine.config import *
from corrmatch.models.build import ModelConfig
from corrmatch.methods.corrmatch.method import CorrMatch, CorrMatchConfig, Weights
from sync_norm import synchronised
torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)
folder, name, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
complete, evaluate, wrap, init = trainer.complete, trainer.evaluate_views, state.wrap_ddp, CorrMatch.__init__
as_double = lambda x: x.double() if x.is_floating_point() else x
trainer.complete = lambda x: as_double(complete(x))
double = lambda views: [item | {"image": item["image"].double()} for item in (views[i] for i in range(len(views)))]
trainer.evaluate_views = lambda net, views, *args, **kw: evaluate(net, double(views), *args, **kw)
if options.get("sync"):
    state.wrap_ddp = lambda method, dist: wrap(synchronised(method) if dist.world > 1 else method, dist)
def with_spare(self, *args):
    init(self, *args)
    self.spare = torch.nn.Linear(3, 3)
if options.get("spare"):
    CorrMatch.__init__ = with_spare
tiny = ModelConfig("resnet18", width=8, rates=(1, 2, 3), channels=16, low_channels=8, weights=None)
weights = Weights(**options.get("weights", {}))
ohem = options.get("ohem", False)
method = CorrMatchConfig(projection=16, dropout=0., num_shapes=16, threshold_init=0.25, threshold_momentum=0.9, perturbation=0.,
                         ohem=ohem, ohem_threshold=0.01, ohem_min_kept=500, ohem_per_image=options.get("per_image", False), weights=weights)
if options.get("method"):
    quiet = {"unimatch": {"perturbation": 0.}}  # channel dropout draws a stream of its own in each process
    quiet |= {"fst": {"cutmix": 0.}, "ps_mt": {"warmup": 0, "threshold": 0.17, "cutmix": False, "eps": 0.}}  # so do these
    quiet |= {"cct": {"perturbations": ("context", "objects")}}  # what the others erase is drawn in each process
    quiet |= {name: {"threshold": 0.17} for name in ("cutmix_seg", "augseg")}  # confidences that are reached
    quiet |= {"ael": {"threshold": 0.17, "adaptive": False, "sampling": False, "paste": 0.}}  # and these
    quiet |= {"ccvc": {"dropout": 0., "threshold": 0.2}, "gta": {"warmup": 0.34, "mixed": 1.}}  # one step of three
    quiet |= {"cac": {"warmup": 0, "threshold": 0.17}, "u2pl": {"warmup": 0.34, "cutmix": 0., "contrast": 0.}}
    quiet |= {"gct": {"width": 4, "floor": 0., "flawed": 0.3}}
    quiet |= {"eln": {"width": 4, "pretrain": 0., "localise": 0.3, "gates": (0., 0.), "contrast": 0.}}  # crops of a process
    quiet |= {"pcr": {"warmup": 0.34, "mixed": 1., "threshold": 0.17}}
    method = method_config(options["method"], **quiet.get(options["method"], {}))
data = DataConfig(f"{folder}/toy", "labelled", val="val", crop=48, partner="crop", scale=(0.5, 1.5))
config = Config(name, data, tiny, method, OptimConfig(0.01), SystemConfig("cpu", accumulate=options.get("accumulate", 1)),
                batch=8, steps=options["steps"], log_every=1, evaluate_every=1, out=f"{folder}/runs")
trainer.train(config, options.get("resume", False), progress=False)
"""


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    "24 unlabelled images; 7 to validate, which no number of processes here divides."
    folder = tmp_path_factory.mktemp("processes")
    (folder / "program.py").write_text(PROGRAM)
    make_toy(folder / "toy", labelled=8, unlabelled=24, val=7, size=64)
    return folder


def command(folder, world, name, **options):
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world)] if world > 1 else []
    options = {"sync": True, "steps": STEPS} | options
    return [sys.executable, *launch, str(folder / "program.py"), str(folder), name, json.dumps(options)]


def run(folder, world, name, **options):
    "Log, scores, and what went to standard error."
    done = subprocess.run(
        command(folder, world, name, **options), capture_output=True, text=True, env=ENVIRONMENT, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    log, scores = (pd.read_csv(folder / "runs" / name / f"{n}.csv", index_col="step") for n in ("log", "scores"))
    return log, scores, done.stderr


def agree(one, two):
    "Two runs have the same losses, threshold and scores."
    terms = set(one[0]) - {"seconds", "epoch", "lr"}
    assert (
        {"sup_hard", "sup_corr", "unsup_hard", "unsup_soft", "unsup_corr", "total", "tau"}
        <= terms
        == (set(two[0]) - {"seconds", "epoch", "lr"})
    )
    # these two are means over processes of shares, not shares of all pixels
    for term in terms - {"confident_ratio", "mask_ratio"}:
        gap = (one[0][term] - two[0][term]).abs().max()
        assert gap < 1e-6, (term, gap)
    assert (one[1] - two[1]).abs().max().max() < 1e-9, "each of the 7 images counts once"


@pytest.fixture(scope="module")
def one(toy):
    return run(toy, 1, "one")


@pytest.mark.parametrize("world", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_the_number_of_processes_changes_no_loss(toy, one, world):
    more = run(toy, world, f"{world} processes")
    assert len(more[0]) == len(one[0]) == STEPS
    assert (one[0]["confident_ratio"] > 0).any(), "something must be confident, or nothing is tested"
    agree(one, more)


def test_neither_do_two_micro_batches(toy):
    agree(run(toy, 1, "one, in two", steps=4, accumulate=2), run(toy, 2, "two, in two", steps=4, accumulate=2))


@pytest.mark.parametrize("per_image", [False, True])
def test_mining_that_binds_counts_in_a_process_or_in_an_image(toy, per_image):
    "With a threshold of 0.01 no pixel is hard, and min_kept decides: 500 of 8 images, 2 x 500 in two processes, or 500 of each."
    options = {"ohem": True, "per_image": per_image, "steps": 1}
    one, two = (run(toy, world, f"mined {per_image} {world}", **options)[0] for world in (1, 2))
    gap = abs(one["sup_hard"].iloc[0] - two["sup_hard"].iloc[0])
    assert gap < 1e-9 if per_image else gap > 1e-3, gap


OTHERS = sorted(set(methods()) - {"corrmatch"})


# two networks are the hardest case; the others are run by `make drill`
@pytest.mark.parametrize("method", [m if m == "cps" else pytest.param(m, marks=pytest.mark.slow) for m in OTHERS])
def test_nor_do_two_processes_with_another_method(toy, method):
    one, two = (run(toy, world, f"{method} {world}", steps=3, method=method) for world in (1, 2))
    terms = {name for name in one[0] if name not in ("seconds", "epoch", "lr") and not name.endswith("_ratio")}
    assert "total" in terms and set(two[0]) == set(one[0]) and len(two[0]) == 3
    for term in terms:
        gap = (one[0][term] - two[0][term]).abs().max()
        assert gap < 1e-6, (term, gap)
    assert (one[1] - two[1]).abs().max().max() < 1e-9


@pytest.mark.parametrize(
    "options",
    [{"weights": {"sup_corr": 0, "unsup_corr": 0}}, {"spare": True}],
    ids=["weight of 0", "no loss reaches it"],
)
def test_parameters_without_gradient_stop_no_process(toy, options):
    "And batch norm of one process alone, as it is on CPUs, is a warning."
    log, _, words = run(toy, 2, f"unused {'spare' in options}", sync=False, steps=3, **options)
    assert len(log) == 3 and log["total"].abs().max() < float("inf")
    assert words.count("UserWarning: batch norm is per process on CPUs") == 1, words[-2000:]
    assert words.count("parameters get no gradient and stay as they are, the first is spare") == len(
        {"spare"} & {*options}
    )
    assert "FutureWarning" not in words, words[-2000:]


def test_two_processes_stopped_by_a_signal_go_on_to_the_same_weights(toy):
    weights = lambda name: load_checkpoint(toy / "runs" / name / "last.pt")
    run(toy, 2, "whole")
    stopped = subprocess.Popen(
        command(toy, 2, "stopped"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT
    )
    log, deadline = toy / "runs" / "stopped" / "log.csv", time.time() + 300
    while (
        not (log.exists() and len(log.read_text().splitlines()) > 3)
        and time.time() < deadline
        and stopped.poll() is None
    ):
        time.sleep(0.02)
    for child in psutil.Process(stopped.pid).children():
        child.send_signal(signal.SIGTERM)
    output, _ = stopped.communicate(timeout=300)
    step = weights("stopped")["step"]
    assert 0 < step < STEPS, f"it was to stop on the way, and stands at step {step}: {output[-2000:]}"
    run(toy, 2, "stopped", resume=True)
    assert same(weights("whole")["method"], weights("stopped")["method"])
    told(
        "two processes are asked to stop",
        "SIGTERM to both, as a cluster sends it; resumed",
        1,
        f"they save at the same step ({step}) and end; the same weights at the end",
        "nothing",
    )


def test_the_joined_batch_norm_of_one_process_is_the_plain_one():
    dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())
    try:
        x = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
        plain, joined = nn.BatchNorm2d(3), synchronised(nn.BatchNorm2d(3))
        assert type(joined) is SyncBatchNorm and torch.allclose(plain(x), joined(x), atol=1e-6)
        assert torch.allclose(plain.running_var, joined.running_var)
        assert torch.allclose(plain.running_mean, joined.running_mean)
    finally:
        dist.destroy_process_group()
