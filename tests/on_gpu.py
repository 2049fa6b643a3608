"""Training steps of the methods that are named, on a GPU that is none: a line of JSON for each.

python tests/on_gpu.py corrmatch unimatch unimatch+switches
"""

import json
import sys
import traceback
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
import torch

torch.inference_mode = torch.no_grad  # which a wrapped tensor does not survive
from torch.utils._pytree import tree_map
from corrmatch.data.toy import make_toy
from corrmatch.engine.config import Config, DataConfig, OptimConfig, SystemConfig, method_config
from corrmatch.engine.processes import Processes
from corrmatch.engine.stages import mean_probabilities
from corrmatch.engine.state import TrainState, training_step
from corrmatch.engine.trainer import log_row, make_context, rehearse, score
from corrmatch.models.base import Segmenter
from pretend import GPU, PretendedGPU
from test_methods import SETTINGS
from twenty_steps import TINY

SWITCHES = {"accumulate": 2, "channels_last": True, "recompute": True, "precision": "float16", "skip_bad_steps": 1}


def settings(name: str, root: Path, out: Path, **system) -> Config:
    "A small run; the device is given where the state is made."
    method = method_config(name, **SETTINGS.get(name, {}))
    data = DataConfig(str(root), "labelled", val="val", crop=48, partner="crop", check=False)
    system = SystemConfig("cpu", **system)
    return Config(name, data, TINY, method, OptimConfig(0.01), system, batch=4, steps=4, out=str(out))


def started(config: Config, dist: Processes) -> TrainState:
    "A state whose precision is that of the weights: there is no autocast for a device that PyTorch does not know."
    state = TrainState(config, 6, dist)
    for net in (m for m in state.method.modules() if isinstance(m, Segmenter)):
        net.autocast = None
    return state


def go_through(config: Config, gpu: PretendedGPU) -> dict:
    "Rehearsal, steps, a log row across a checkpoint, score, picture; the lines at which the second step waits."
    dist = Processes(device=GPU)
    context = make_context(config, dist)
    if config.method.stages:  # what the stages before have labelled
        masks = [context.folder.mask_path(id) for id in context.split.labelled]
        context.views.labels = dict(zip(context.split.unlabelled, masks * 2))
    state, batches = started(config, dist), context.batches(0)
    rehearse(state, context)

    def step():
        losses = training_step(state, next(batches), config, context.total, context.per_epoch, dist)
        state.record.add(state.step, losses.terms, [])
        return losses

    step()
    saved = tree_map(lambda x: x.cpu() if torch.is_tensor(x) else x, state.state_dict())
    state = started(config, dist)
    state.load_state_dict(saved)
    gpu.waits.clear()
    losses, waits = step(), dict(gpu.waits)
    log_row(state, 0, losses.logs)
    score(state, context)
    image = context.on_device(next(context.batches(0))["image_x"])[0]
    with torch.no_grad():
        state.method.eval().inspect(image, [(5, 5)])
        mean_probabilities(state.net, image, (0.5, 1.0), True)
    return waits


def report(config: Config) -> dict:
    "What `go_through` found, or where it ended."
    try:
        with torch.autograd.set_multithreading_enabled(False), PretendedGPU() as gpu:
            return {"waits": go_through(config, gpu)}
    except Exception as error:
        return {"error": f"{error}\n{''.join(traceback.format_tb(error.__traceback__)[-6:])}"}


def main(names: list[str]):
    "Methods by name; +switches turns on what the settings of the machine have."
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        root = make_toy(Path(folder) / "toy", labelled=8, unlabelled=16, val=2, size=64)
        for word in names:
            name, plus, _ = word.partition("+")
            config = settings(name, root, Path(folder) / word, **(SWITCHES if plus else {}))
            print(json.dumps({"method": word} | report(config)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
