"""What is translated by torch.compile, how often, and that a run never falls back to untranslated code on its own"""

import pytest
import torch
import torch._dynamo
from torch._dynamo.utils import counters

from corrmatch.engine.config import Config, SystemConfig, method_config
from corrmatch.engine.evaluation import evaluating, scores
from corrmatch.engine.state import TrainState, training_step
from corrmatch.models.build import ModelConfig
from corrmatch.testing import random_batch

TINY = ModelConfig("resnet18", width=4, rates=(1, 2, 3), channels=16, low_channels=8, weights=None)
LIMITED = "recompile limit"


class Counting:
    "A backend that runs what it is given, and counts."

    def __init__(self):
        self.graphs = 0

    def __call__(self, module, examples):
        self.graphs += 1
        return module.forward


@pytest.fixture
def backend():
    torch._dynamo.reset()
    counters.clear()
    counting = Counting()
    with torch.compiler.set_stance(force_backend=counting):
        yield counting
    torch._dynamo.reset()


def three_steps(method, **system) -> TrainState:
    config = Config(model=TINY, method=method_config(method), system=SystemConfig("cpu", **system), batch=2)
    torch.manual_seed(0)
    state = TrainState(config, 5)
    for step in range(3):
        training_step(state, random_batch(2, size=33, seed=step), config, total=10)
    return state


@pytest.mark.parametrize("method, recompute", [("fixmatch", False), ("corrmatch", True)])
def test_every_graph_is_made_in_the_first_steps_and_scores_make_none(method, recompute, backend):
    state = three_steps(method, compile=True, recompute=recompute)
    after_three = backend.graphs
    batch = random_batch(2, size=33, seed=9)
    config = Config(model=TINY, method=method_config(method), system=SystemConfig("cpu"), batch=2)
    training_step(state, batch, config, total=10)
    assert backend.graphs == after_three > 0, "a later step translates nothing anew"
    with evaluating(state.net):
        for side in (33, 40, 47, 61, 70, 85, 93, 101, 110):
            scores(state.net, torch.randn(1, 3, side, side + 2), "sliding_window", 33)
    assert backend.graphs == after_three, "validation runs as it is written"
    training_step(state, batch, config, total=10)
    assert backend.graphs == after_three
    assert not [reason for reason in counters["unimplemented"] if LIMITED in reason.lower()]


def test_translated_parts_compute_the_same(backend):
    plain = three_steps("fixmatch").method.state_dict()
    translated = three_steps("fixmatch", compile=True, recompute=True).method.state_dict()
    assert backend.graphs and plain.keys() == translated.keys()
    for name, value in plain.items():
        torch.testing.assert_close(translated[name], value, rtol=1e-3, atol=1e-4, msg=name)
