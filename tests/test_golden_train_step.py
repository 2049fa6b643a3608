"Whole training iterations against the authors' implementation."

import pytest
from safetensors.torch import load_file
from replay import FIXTURES, GOLDEN, check


def test_one_iteration_of_the_fixture():
    assert check(load_file(FIXTURES / "train_step.safetensors")) < 1e-6


@pytest.mark.skipif(
    not (GOLDEN / "train_step.safetensors").exists(),
    reason="the full reference tensors are not here (set CORRMATCH_GOLDEN to their folder)",
)
def test_every_iteration_of_the_full_recording():
    assert check(load_file(GOLDEN / "train_step.safetensors")) < 1e-6
