"Run a page as nbdev_test does, in a process of its own that need not import the libraries anew."

import multiprocessing
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# importing the libraries takes longer than most pages: a server does it once, and its children run one page each
CONTEXT = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
LIBRARIES = ["IPython", "matplotlib.pyplot", "nbdev.test", "pandas", "torch", "torchvision.transforms.v2"]


def run_notebook(path: str, flags: str, log: str):
    "Run a page in this process, its output goes to a file; the exit status says whether it ran through."
    stream = os.open(log, os.O_WRONLY)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    os.chdir(ROOT)
    multiprocessing.set_start_method(None, force=True)  # the platform's, as in any other process
    os.environ["TQDM_DISABLE"] = "1"
    from nbdev.config import get_config
    from nbdev.test import test_nb

    config = get_config()
    success, _ = test_nb(Path(path), config.tst_flags.split(), flags.split(), basepath=config.config_path)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(not success)
