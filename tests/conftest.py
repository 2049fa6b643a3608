"Every file of tests runs on one thread of PyTorch, whatever OMP_NUM_THREADS says."

import pytest
import torch


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
