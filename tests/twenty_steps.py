"""Twenty steps of a small run in double precision, each loss of each step: a change of the numbers is seen, and a deliberate one is declared.

python tests/twenty_steps.py                 print the largest difference from the committed list
python tests/twenty_steps.py "what changed"  write the list anew; say the same in CHANGELOG.md, with the numbers that it prints
"""

import sys
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
import pandas as pd
import torch
from torch.nn import functional as F
from corrmatch.engine.config import Config, DataConfig, OptimConfig, SystemConfig
from corrmatch.methods.corrmatch.method import CorrMatchConfig
from corrmatch.models.build import ModelConfig
from corrmatch.engine.processes import Processes
from corrmatch.engine.state import TrainState, training_step
from corrmatch.data.toy import make_toy
from corrmatch.engine.trainer import make_context

LIST = Path(__file__).with_name("twenty_steps.csv")
TOLERANCE = 1e-6  # absolute and relative
TINY = ModelConfig("resnet18", width=8, rates=(1, 2, 3), channels=16, low_channels=8, weights=None)


def dropout2d(x, p=0.5, training=True, inplace=False):
    "Channel dropout whose draws do not depend on the version of PyTorch."
    return x * (torch.rand(x.shape[:2]) >= p)[:, :, None, None] / (1 - p) if training and p else x


@contextmanager
def everywhere():
    "Double precision, so that the rounding of another processor moves no pixel across the threshold; the same draws in every version."
    before = torch.get_default_dtype(), F.dropout2d
    torch.set_default_dtype(torch.float64)
    F.dropout2d = dropout2d
    try:
        yield
    finally:
        torch.set_default_dtype(before[0])
        F.dropout2d = before[1]


def steps(n: int = 20) -> pd.DataFrame:
    "All losses, the threshold, the ratio of confident pixels and the mask ratio of the first steps."
    rows = []
    with TemporaryDirectory() as folder, everywhere():
        make_toy(f"{folder}/toy", labelled=8, unlabelled=16, val=2, size=64)
        config = Config(
            "twenty",
            DataConfig(f"{folder}/toy", "labelled", val="val", crop=48, partner="crop"),
            TINY,
            CorrMatchConfig(projection=16, num_shapes=16, threshold_init=0.25, threshold_momentum=0.9),
            OptimConfig(0.01),
            SystemConfig("cpu"),
            batch=4,
            steps=n,
            out=folder,
        )
        context, state = make_context(config, Processes()), TrainState(config, 6)
        while state.step < n:
            for batch in context.batches(state.step):
                batch = {k: v.double() if torch.is_tensor(v) and v.is_floating_point() else v for k, v in batch.items()}
                losses = training_step(state, batch, config, n)
                rows.append({"step": state.step} | {k: float(v) for k, v in (losses.terms | losses.logs).items()})
    return pd.DataFrame(rows).set_index("step")


def committed() -> pd.DataFrame:
    return pd.read_csv(LIST, index_col="step", comment="#")


def differences(old: pd.DataFrame, new: pd.DataFrame) -> str:
    "The first step and term that differ by more than the tolerance, or nothing."
    if list(old) != list(new) or len(old) != len(new):
        return f"columns {list(new)} and {len(new)} steps, in the list {list(old)} and {len(old)}"
    far = (new - old).abs() > TOLERANCE * old.abs().clip(lower=1)
    if not far.any().any():
        return ""
    step, term = next((s, t) for s in far.index for t in far if far.loc[s, t])
    return (
        f"{int(far.sum().sum())} of {far.size} numbers, first {term} of step {step}: {new.loc[step, term]:.9f}, in "
        f"the list {old.loc[step, term]:.9f}"
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    new = steps()
    if LIST.exists():
        print(
            f"largest difference from {LIST.name}: {(new - committed()).abs().max().max():.1e}; "
            f"{differences(committed(), new) or 'nothing outside the tolerance'}"
        )
    if why := " ".join(sys.argv[1:]):
        LIST.write_text(f"# {why}\n" + new.to_csv(float_format="%.12g"))
        print(f"{LIST.name} is written anew: {why}")
