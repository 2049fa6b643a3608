"""What only a GPU would tell: tensors of two devices in one operation, and lines at which the host waits for the device.

A GPU that is none (`pretend.py`) runs every method through rehearsal, two steps, a log row across a checkpoint, a
validation and a picture. It is a backend of the whole process, so all of it runs in a process of its own.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
import pytest
import torch
from torch.utils import backend_registration
from corrmatch.data.views import batches
from corrmatch.engine import processes, runs
from corrmatch.engine.config import SystemConfig
from corrmatch.engine.evaluation import evaluating
from corrmatch.engine.state import backend_flags
from corrmatch.methods import methods

HERE = Path(__file__).parent
NAMES = sorted(methods())
# operations whose result a step needs on the host: a threshold, a choice of pixels, a number of parts
WAITS = {"ael", "cac", "cct", "corrmatch", "eln", "fst", "u2pl"}


can_pretend = pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this PyTorch cannot be taught a device in Python",
)


def python(*words) -> str:
    "What a process of Python prints, with the tests on its path."
    path = os.pathsep.join([str(HERE.parent), str(HERE)])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True)
    assert not done.returncode, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def found() -> dict:
    "Method -> what going through it has shown."
    lines = python(HERE / "on_gpu.py", *NAMES, "corrmatch+switches").splitlines()
    return {row["method"]: row for row in map(json.loads, lines)}


@can_pretend
@pytest.mark.parametrize("name", [*NAMES, "corrmatch+switches"])
def test_no_operation_has_tensors_of_two_devices(name, found):
    assert "error" not in found[name], found[name]["error"]


@can_pretend
@pytest.mark.parametrize("name", [n for n in NAMES if n not in WAITS])
def test_the_host_never_waits_for_the_device(name, found):
    assert not found[name]["waits"]


@can_pretend
def test_corrmatch_waits_once_for_its_threshold(found):
    assert sum(found["corrmatch"]["waits"].values()) == 1 and "threshold.py" in next(iter(found["corrmatch"]["waits"]))


REFUSED = """
import torch
from pretend import GPU, PretendedGPU

def refused(act):
    try:
        act()
    except RuntimeError as error:
        return "device" in str(error) or "generator" in str(error)

with PretendedGPU() as gpu:
    here, there = torch.arange(6.0).to(GPU), torch.arange(6.0)
    two = torch.arange(2)
    print([
        refused(lambda: here + there),
        refused(lambda: torch.stack([here, there])),
        refused(lambda: here.index_select(0, two)),
        refused(lambda: torch.rand(2, device=GPU, generator=torch.Generator())),
    ])
    assert not gpu.waits
    allowed = here + torch.tensor(1.0), here[two], here.masked_fill(here > 2, 0)
    assert not gpu.waits and all(x.device == GPU for x in allowed)
    here[here > 2], here.sum().item(), here.cpu(), here.tolist()
    print(sum(gpu.waits.values()))
"""


@can_pretend
def test_the_pretended_gpu_refuses_what_a_real_one_refuses():
    assert python("-c", REFUSED).splitlines() == ["[True, True, True, True]", "4"]


@pytest.fixture
def two_gpus(monkeypatch):
    "PyTorch as it would answer where there are two; the devices that were made the current one."
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(
        torch.cuda, "get_device_name", lambda device=None: f"card {torch.device(device or 'cuda:0').index}"
    )
    return chosen


def test_a_gpu_that_is_named_is_the_current_one(two_gpus):
    "Else pinned memory, and whatever asks for no device, makes a context on the first GPU, which may be somebody's."
    with processes.processes("cuda:1") as dist:
        assert dist.device == torch.device("cuda:1") and two_gpus == ["cuda:1"]
    with processes.processes("cpu"), processes.processes("cuda"):
        assert two_gpus == ["cuda:1"]


def test_a_record_names_the_device_that_computed(two_gpus):
    assert runs.environment(torch.device("cpu"))["device"] == "cpu"
    assert runs.environment(torch.device("cuda:1"))["device"] == "card 1"


def test_a_training_on_a_cpu_pins_no_memory(two_gpus):
    assert not batches(range(4), 2).pin_memory and batches(range(4), 2, pin=True).pin_memory


def test_what_is_asked_of_cudnn_holds_while_a_network_is_evaluated():
    flags = torch.backends.cudnn
    with backend_flags(SystemConfig(deterministic=True)), evaluating(torch.nn.Identity()):
        assert flags.deterministic and not flags.benchmark
    with backend_flags(SystemConfig()), evaluating(torch.nn.Identity()):
        assert not flags.deterministic and not flags.benchmark
