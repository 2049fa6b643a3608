"The index of the paper is whole and points somewhere: every number has a row, every page, function, test and command exists."

import ast
import re
import shlex
import sys
from functools import lru_cache
from importlib import import_module
from pathlib import Path
import pytest
import tyro
from corrmatch import cli
from frame import ROOT, cells

sys.path.insert(0, str(ROOT))
MAP = ROOT / "nbs" / "paper" / "map.ipynb"
NUMBERS = (
    [f"Eq. {n}" for n in range(1, 15)]
    + ["Alg. 1", "Alg. 2"]
    + [f"Table {n}" for n in range(1, 14)]
    + [f"Figure {n}" for n in range(1, 10)]
)


def rows(path: Path, ending: str) -> list[list[str]]:
    "The rows of the Markdown tables of a notebook whose heading ends so."
    found, inside = [], False
    for line in (
        line.strip() for c in cells(path) if c.cell_type == "markdown" for line in [*c.source.splitlines(), ""]
    ):
        if line.startswith("|") and line.endswith(ending):
            inside = True
        elif not line.startswith("|"):
            inside = False
        elif inside and not re.fullmatch(r"[|\-: ]+", line):
            found.append([part.strip() for part in re.split(r"(?<!\\)\|", line)[1:-1]])
    return found


ROWS = rows(MAP, "| code | test | run it |")


def asserts(page: Path) -> bool:
    return any(c.cell_type == "code" and re.search(r"\bassert\b|refuses\(", c.source) for c in cells(page))


def says(row: list[str]) -> list[str]:
    "What is wrong with a row of the index."
    paper, _, place, code, test, command = row
    wrong, page = [], re.fullmatch(r"\[.+\]\((.+\.ipynb)\)", place)
    if not page or not (MAP.parent / page[1]).exists():
        return [f"{paper}: no page {place}"]
    for name in re.findall(r"`([\w.]+)`", code):
        module, _, attribute = name.rpartition(".")
        try:
            there = hasattr(
                import_module(module if module.startswith("reproduction") else f"corrmatch.{module}"), attribute
            )
        except ModuleNotFoundError:
            there = False
        if not there:
            wrong.append(f"{paper}: there is no {name}")
    if "`" not in code:
        wrong.append(f"{paper}: no code")
    if found := re.fullmatch(r"`(\w+)::(\w+)`", test):
        file = ROOT / "tests" / f"test_{found[1]}.py"
        if not file.exists() or f"test_{found[2]}" not in {
            n.name for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.FunctionDef)
        }:
            wrong.append(f"{paper}: there is no test {test}")
    elif test != "the page" or not asserts(MAP.parent / page[1]):
        wrong.append(f"{paper}: nothing is asserted in {test}")
    return wrong + runs(paper, command)


def runs(paper: str, command: str) -> list[str]:
    "What is wrong with a command."
    name, *words = shlex.split(command.strip("`")) or [""]
    if name != "corrmatch" or not words or words[0] not in cli.COMMANDS:
        return [f"{paper}: no command {command}"]
    app = cli.make_app({words[0]: cli.COMMANDS[words[0]], "about": cli.About})
    try:
        made = app.cli(prog="corrmatch", args=words, config=(tyro.conf.CascadeSubcommandArgs,))
    except SystemExit:
        return [f"{paper}: {command} is not understood"]
    return [f"{paper}: there is nothing called {w}" for w in getattr(made, "what", ()) if w not in known()]


@lru_cache
def known() -> set[str]:
    from reproduction.figures import FIGURES
    from reproduction.paper import TABLES

    return {*TABLES, *FIGURES, "fig1"}


def test_every_number_of_the_paper_has_one_row():
    listed = [row[0] for row in ROWS]
    assert [n for n in listed if n in NUMBERS or n[:2] in ("Eq", "Al", "Ta", "Fi")] == NUMBERS


@pytest.mark.parametrize("row", ROWS, ids=[f"{row[0]}: {row[1]}" for row in ROWS])
def test_a_row_points_to_what_exists(row):
    assert not says(row)


GOOD = [
    "Eq. 5",
    "",
    "[propagation](../book/07_propagation.ipynb)",
    "`methods.corrmatch.propagation.propagate_pixels`",
    "`golden_propagation::pixels`",
    "`corrmatch recipes`",
]


@pytest.mark.parametrize(
    "column, value, word",
    [
        (2, "[none](99_none.ipynb)", "page"),
        (3, "`methods.corrmatch.propagation.nothing`", "propagation.nothing"),
        (3, "`propagation.propagate_pixels`", "propagate_pixels"),
        (3, "propagate_pixels", "code"),
        (4, "`golden_propagation::nothing`", "test"),
        (4, "", "asserted"),
        (5, "`corrmatch dance`", "command"),
        (5, "`corrmatch train toy --no-such-flag`", "understood"),
        (5, "`corrmatch reproduce fig99`", "fig99"),
        (5, "-", "command"),
    ],
)
def test_a_row_that_points_nowhere_is_found(column, value, word):
    assert says(GOOD) == []
    found = says([*GOOD[:column], value, *GOOD[column + 1 :]])
    assert len(found) == 1 and word in found[0]


def test_the_table_of_differences_is_that_of_the_pages():
    "The saved output of the index holds every row of every page, and no other."
    shown = next(
        "".join(o["data"]["text/markdown"])
        for c in cells(MAP)
        if c.cell_type == "code"
        for o in c.outputs
        if "text/markdown" in o.get("data", {})
    )
    listed = [line.split(" ", 2)[2].strip() for line in shown.splitlines()[2:]]
    folders = ("book", "methods", "reference", "howto")
    pages = [p for folder in folders for p in sorted((ROOT / "nbs" / folder).glob("*.ipynb"))]
    there = [[cell for cell in row] for p in pages for row in rows(p, "| paper | authors' implementation | here |")]
    assert [[part.strip() for part in re.split(r"(?<!\\)\|", line)[1:-1]] for line in listed] == there, (
        "run nbs/paper/map.ipynb again"
    )
