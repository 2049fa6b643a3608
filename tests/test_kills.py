"""A run is killed at random moments, again and again, and continued each time: it ends with the weights, the log and the scores of a run that nobody disturbed."""

import json
import os
import subprocess
import sys
from pathlib import Path
import pytest
from corrmatch.methods import methods
from corrmatch.testing import same
from drills import told as record
from test_methods import SETTINGS

PROGRAM = """
import json, os, random, signal, sys, threading, time
import torch
torch.set_num_threads(1)
from corrmatch.engine.config import *
from corrmatch.models.build import ModelConfig
from corrmatch.engine import trainer
from corrmatch.engine.results import finish
from corrmatch.engine.runs import load_checkpoint
from corrmatch.data.toy import make_toy

folder, kills, method = sys.argv[1], int(sys.argv[2]), sys.argv[3]
make_toy(f"{folder}/toy", labelled=8, unlabelled=16, val=3, size=48)
tiny = ModelConfig("resnet18", width=4, rates=(1, 2, 3), channels=8, low_channels=4, weights=None)
settings = method_config(method, **json.loads(sys.argv[4]))
def config(name): return Config(name, DataConfig(f"{folder}/toy", "labelled", val="val", crop=32, check=False), tiny, settings, OptimConfig(0.01),
                                SystemConfig("cpu"), batch=4, steps=4 * max(kills, 10), log_every=3, save_every=2, out=folder)

def die_at(steps, share):
    "Kill this process somewhere between the beginning of a step and that of the one after next, as fast as they go."
    real, times = trainer.training_step, [time.time()]
    kill = lambda after: threading.Timer(after, os.kill, (os.getpid(), signal.SIGKILL)).start()
    def step(*args, **options):
        if len(times) - 1 == steps: kill(share * 2 * (times[-1] - times[-2] if steps else 0.05))
        times.append(time.time())
        return real(*args, **options)
    trainer.training_step = step
    if steps < 0: kill(share)                            # before the first one

def start(name, *when):
    "Train in a process of its own."
    if (pid := os.fork()) == 0:
        if when: die_at(*when)
        finish(config(name), progress=False)
        os._exit(0)
    return pid

os.waitpid(start("whole"), 0)
random.seed(0)
moments, done = [], 0
while done < kills:
    pid = start("killed", random.randrange(-1, 4), random.random())
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != -signal.SIGKILL: break            # it has come to its end
    done += 1
    try: moments.append(load_checkpoint(f"{folder}/killed/last.pt")["step"])
    except FileNotFoundError: moments.append(None)
os.waitpid(start("killed"), 0)
print(json.dumps({"kills": done, "moments": moments}))
"""


CASES = [  # CorrMatch; a teacher that follows its student; two networks
    ("corrmatch", 5),
    ("mean_teacher", 2),
    *(pytest.param(method, 20, marks=pytest.mark.slow) for method in ("corrmatch", "mean_teacher", "cps")),
    *(
        pytest.param(method, 2, marks=pytest.mark.slow)
        for method in sorted({*methods()} - {"corrmatch", "mean_teacher"})
    ),
]


@pytest.mark.parametrize("method, kills", CASES)
def test_killed_at_random_and_nothing_is_lost(tmp_path, method, kills):
    (tmp_path / "program.py").write_text(PROGRAM)
    small = {"projection": 8, "num_shapes": 8, "threshold_init": 0.3}
    settings = json.dumps(small if method == "corrmatch" else SETTINGS.get(method, {}))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "program.py", str(tmp_path), str(kills), method, settings],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=environment,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    from corrmatch.engine.runs import load_checkpoint, read_log

    whole, killed = (load_checkpoint(tmp_path / name / "last.pt") for name in ("whole", "killed"))
    assert told["kills"] >= (kills if kills == 20 else kills // 2), (
        f"the run ended after {told['kills']} kills, at steps {told['moments']}"
    )
    assert len(set(told["moments"])) > min(3, kills // 3), told["moments"]
    assert told["moments"] == sorted(told["moments"], key=lambda step: step or 0), "a checkpoint that was there is lost"
    assert whole["step"] == killed["step"] == 4 * max(kills, 10)
    assert same(whole["method"], killed["method"]) and whole["best"] == killed["best"], told
    for name in ("log.csv", "scores.csv"):
        a, b = (read_log(tmp_path / run, name).drop(columns="seconds", errors="ignore") for run in ("whole", "killed"))
        assert a.equals(b), f"{name} differs: {told}"
    if kills == 20:
        record(
            "killed at random" if method == "corrmatch" else f"killed at random: {method}",
            f"SIGKILL at a random moment of {whole['step']} steps, resumed each time; {len(set(told['moments']))} different steps",
            told["kills"],
            "weights, log and scores of the run that nobody disturbed",
            "nothing",
        )
