"Every notebook is collected as a test, and keeps the rules of the house."

import re
import subprocess
import sys
from pathlib import Path
import nbformat
import pytest
from frame import PACKAGE, ROOT, cells, module_of, name, notebooks

LIMIT = 500 * 1024  # bytes of one notebook
HOMES = re.compile(
    r"(?<![\w.])(/home/\w|/Users/\w|/root/|/tmp/|/var/folders/|/work(?:space)?/|[A-Z]:\\\\?Users)|[^\s\"']*/site-packages/"
)
EXPORT = re.compile(r"#\|\s*hide\s*\nimport nbdev\s*;?\s*nbdev\.nbdev_export\(\)\s*")
each = pytest.mark.parametrize("path", notebooks(), ids=name)


def texts(cell) -> str:
    "Source and text outputs of a cell, without pictures."
    out = [cell.source]
    for output in cell.get("outputs", []):
        out += [output.get("text", ""), "\n".join(output.get("traceback", []))]
        out += [str(value) for kind, value in output.get("data", {}).items() if not kind.startswith("image/")]
    return "\n".join(out)


def test_there_are_notebooks():
    assert (ROOT / "nbs" / "index.ipynb") in notebooks() and len(notebooks()) > 1


def test_every_notebook_is_collected():
    "A lost conftest.py would leave them out in silence."
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-o",
        "addopts=",
        "--collect-only",
        "-q",
        "-p",
        "no:cacheprovider",
        "nbs",
    ]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    collected = {line.split("::")[0] for line in result.stdout.splitlines() if "::" in line}
    assert collected == {p.relative_to(ROOT).as_posix() for p in notebooks()}, result.stdout + result.stderr


def test_every_module_comes_from_one_notebook():
    made = sorted(m for p in notebooks() if (m := module_of(p)) and m.rpartition(".")[2][0] != "_")
    there = sorted(".".join(p.relative_to(PACKAGE).with_suffix("").parts) for p in PACKAGE.rglob("[a-z]*.py"))
    assert made == there, f"notebooks export {made}, the package holds {there}"


@each
def test_it_is_small(path):
    assert path.stat().st_size <= LIMIT, f"{path.stat().st_size // 1024} KB: make its pictures smaller"


@each
def test_it_names_no_machine(path):
    own = [str(ROOT), str(Path.home())] if len(str(Path.home())) > 1 else [str(ROOT)]
    for number, cell in enumerate(cells(path)):
        text = texts(cell)
        found = [m[0] for m in HOMES.finditer(text)] + [p for p in own if p + "/" in text]
        assert not found, f"cell {number} holds a path of a machine: {found[0]}"


@each
def test_it_opens_with_title_and_subtitle(path):
    first = cells(path)[0]
    assert first.cell_type == "markdown" and re.match(r"# \S.*\n\n> \S", first.source), (
        "the first cell is '# Title', an empty line, '> one-line subtitle'"
    )


@each
def test_an_exporting_notebook_closes_with_the_export_cell(path):
    if module_of(path) is None:
        return
    assert EXPORT.fullmatch(cells(path)[-1].source), (
        "the last cell is `#| hide` and `import nbdev; nbdev.nbdev_export()`"
    )


@each
def test_cells_can_be_run_again_after_the_last_one(path):
    assert not [c.source for c in cells(path) if ".cleanup()" in c.source], (
        "a temporary folder goes with the kernel: readers run cells again, and move sliders, after Run All"
    )


@each
def test_it_is_clean_and_runs_with_the_standard_kernel(path):
    nb = nbformat.read(path, 4)
    assert nb.metadata.get("kernelspec", {}).get("name") == "python3", "another kernel than python3 would not be run"
    assert all(c.get("execution_count") is None for c in nb.cells), "run `make prepare`: execution counts are left"
    assert not any("skip_exec" in c.source for c in nb.cells), "skip_exec keeps it from being run"
    assert not any(o.output_type == "error" for c in nb.cells for o in c.get("outputs", [])), (
        "it was saved with an error"
    )


@each
def test_headings_go_down_one_level_at_a_time(path):
    text = "\n".join(
        re.sub(r"^(```|~~~).*?^\1", "", c.source, flags=re.S | re.M) for c in cells(path) if c.cell_type == "markdown"
    )
    levels = [len(h) for h in re.findall(r"^(#{1,6}) \S", text, re.M)]
    assert levels[0] == 1 and levels.count(1) == 1, "one title, at the top"
    assert all(b - a <= 1 for a, b in zip(levels, levels[1:])), f"levels of the headings: {levels}"
