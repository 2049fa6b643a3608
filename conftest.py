"Every notebook is one test: it runs from top to bottom, as nbdev_test runs it."

import tempfile
from pathlib import Path
import pytest
from run_page import CONTEXT, LIBRARIES, run_notebook

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
        CONTEXT.set_forkserver_preload(LIBRARIES)
        with tempfile.NamedTemporaryFile() as log:
            flags = self.config.getoption("--nb-flags")
            page = CONTEXT.Process(target=run_notebook, args=(str(self.path), flags, log.name))
            page.start()
            page.join(LIMIT)
            if page.is_alive():
                page.kill()
                raise NotebookFailure(f"{self.path.name} did not end within {LIMIT} seconds")
            if page.exitcode:
                said = Path(log.name).read_text(encoding="utf-8", errors="replace")
                raise NotebookFailure(f"exit status {page.exitcode}\n{said[-8000:].strip()}")

    def repr_failure(self, excinfo):
        return str(excinfo.value) if isinstance(excinfo.value, NotebookFailure) else super().repr_failure(excinfo)

    def reportinfo(self):
        return self.path, 0, f"notebook {self.path.name}"
