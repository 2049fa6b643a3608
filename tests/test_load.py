"A long run takes no more memory at its end than at its beginning: 2,000 steps of the toy, also with loading processes and with two processes."

import os
import subprocess
import sys
from pathlib import Path
import pandas as pd
import pytest
from corrmatch.data.toy import make_toy
from drills import told

STEPS = int(os.environ.get("CORRMATCH_LOAD_STEPS", 2000))
PROGRAM = """
import os, sys, psutil, torch
from dataclasses import replace
from pathlib import Path
from drills import config
from corrmatch.engine import trainer
torch.set_num_threads(1)
place, name, workers, steps = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
def own_memory(pid):
    "Bytes that are no file; what a process shares with its parent is shared out, so the sum counts each page once."
    try: return next(1024 * int(line.split()[1]) for line in open(f"/proc/{pid}/smaps_rollup") if line.startswith("Pss_Anon"))
    except OSError: return 0  # it has just ended
rank, process, real = os.environ.get("RANK", "0"), psutil.Process(), trainer.training_step
out = open(place / f"{name}.{rank}.csv", "w")
print("step,used", file=out)
def counted(state, *args):
    result = real(state, *args)
    if state.step % 10 == 0:
        used = sum(own_memory(p.pid) for p in (process, *process.children(recursive=True)))
        print(state.step, used, sep=",", file=out, flush=True)
    return result
trainer.training_step = counted
c = config(place, name, workers=workers)
trainer.train(replace(c, data=replace(c.data, crop=16), steps=steps, evaluate_every=4, save_every=None, log_every=10), progress=False)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("load")
    (folder / "program.py").write_text(PROGRAM)
    make_toy(folder / "toy", labelled=8, unlabelled=200, val=3, size=32)  # an epoch has 50 steps
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "workers, world", [(0, 1), (2, 1), (0, 2)], ids=["alone", "two loading processes", "two processes"]
)
def test_memory_is_flat(place, workers, world):
    name = f"{workers} workers {world} processes"
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world)] if world > 1 else []
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": f"{Path(__file__).parents[1]}{os.pathsep}{Path(__file__).parent}",
    }
    done = subprocess.run(
        [sys.executable, *launch, str(place / "program.py"), str(place), name, str(workers), str(STEPS)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=3600,
    )
    assert not done.returncode, done.stderr[-3000:]
    grown = []
    for rank in range(world):
        used = pd.read_csv(place / f"{name}.{rank}.csv", index_col="step")
        used = used[used.index > STEPS // 20]["used"]  # after the first steps have filled what is allocated once
        first, last = used[used.index <= STEPS // 2].mean(), used[used.index > STEPS // 2].mean()
        grown.append(100 * (last / first - 1))
    kept = f"{max(grown):+.2f} %, {last / 2**20:.0f} MB"
    told(
        f"{STEPS} steps: {['alone', 'two loading processes', 'two processes'][(workers > 0) + 2 * (world > 1)]}",
        "memory of each training process with those that load for it, "
        "mean of the second half against that of the first",
        world,
        kept,
        "nothing",
    )
    assert max(grown) < 2, kept
