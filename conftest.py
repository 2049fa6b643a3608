"Every notebook is one test: nbdev_test runs it from top to bottom."

import os
import subprocess
import sys
from pathlib import Path
import pytest

ROOT = Path(__file__).parent
LIMIT = 900  # seconds for one notebook


def pytest_addoption(parser):
    parser.addoption(
        "--nb-flags", default="", help="run the notebook cells that carry these nbdev flags too, e.g. 'slow gpu'"
    )


def pytest_collect_file(parent, file_path):
    inside = file_path.relative_to(ROOT).parts if file_path.is_relative_to(ROOT / "nbs") else ()
    if file_path.suffix == ".ipynb" and inside and not any(part[0] in "_." for part in inside):
        return NotebookFile.from_parent(parent, path=file_path)


class NotebookFile(pytest.File):
    def collect(self):
        yield Notebook.from_parent(self, name="runs")


class NotebookFailure(Exception):
    "A notebook did not run through."


class Notebook(pytest.Item):
    def runtest(self):
        command = [str(Path(sys.executable).with_name("nbdev_test")), "--path", str(self.path)]
        if flags := self.config.getoption("--nb-flags"):
            command += ["--flags", flags]
        try:
            result = subprocess.run(
                command, cwd=ROOT, env=os.environ | {"TQDM_DISABLE": "1"}, capture_output=True, text=True, timeout=LIMIT
            )
        except subprocess.TimeoutExpired:
            raise NotebookFailure(f"{self.path.name} did not end within {LIMIT} seconds")
        if result.returncode or "Success." not in result.stdout:
            raise NotebookFailure((result.stdout[-2000:] + result.stderr[-6000:]).strip())

    def repr_failure(self, excinfo):
        return str(excinfo.value) if isinstance(excinfo.value, NotebookFailure) else super().repr_failure(excinfo)

    def reportinfo(self):
        return self.path, 0, f"notebook {self.path.name}"
