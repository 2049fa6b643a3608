"The index of the paper is whole and points somewhere: every number has a row, every page, section, function, test and command exists."

import ast
import re
import shlex
from functools import lru_cache
from importlib import import_module
from pathlib import Path
import pytest
import tyro
from corrmatch import cli
from frame import ROOT, cells

MAP = ROOT / "nbs" / "paper/map.ipynb"
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


ROWS = rows(MAP, "| code, and below it its test | run it |")


@lru_cache
def sections(page: str) -> dict[str, list]:
    "Heading -> code cells below it, to the next heading of the same rank or a higher one."
    found, open_ = {}, []
    for cell in cells(ROOT / "nbs" / page):
        for rank, title in re.findall(r"^(#+)\s+(.+?)\s*$", cell.source, re.M) if cell.cell_type == "markdown" else ():
            open_ = [(r, t) for r, t in open_ if r < len(rank)] + [(len(rank), title)]
            found.setdefault(title, [])
        if cell.cell_type == "code":
            for _, title in open_:
                found[title].append(cell.source)
    return found


def says(row: list[str]) -> list[str]:
    "What is wrong with a row of the index."
    paper, _, place, (code, _, test), command = *row[:3], row[3].partition("<br>"), row[4]
    wrong, page = [], re.match(r"\[(\w+)\]\((\w+\.ipynb)\), \*(.+)\*$", place)
    if not page or f"{page[1]}.ipynb" != page[2] or not (ROOT / "nbs" / page[2]).exists():
        return [f"{paper}: no page {place}"]
    if page[3] not in sections(page[2]):
        wrong.append(f"{paper}: {page[2]} has no section {page[3]!r}")
    for name in re.findall(r"`([\w.]+)`", code):
        module, _, rest = name.partition(".")
        if not rest or not hasattr(import_module(f"corrmatch.{module}"), rest):
            wrong.append(f"{paper}: there is no {name}")
    if "`" not in code:
        wrong.append(f"{paper}: no code")
    if found := re.fullmatch(r"`(\w+)::(\w+)`", test):
        file = ROOT / "tests" / f"test_{found[1]}.py"
        if not file.exists() or f"test_{found[2]}" not in {
            n.name for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.FunctionDef)
        }:
            wrong.append(f"{paper}: there is no test {test}")
    else:
        # a section of this page or of another one
        found = re.fullmatch(r"(?:\[\w+\]\((\w+\.ipynb)\), )?\*(.+)\*", test)
        if not found or not any("assert" in source for source in sections(found[1] or page[2]).get(found[2], ())):
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
    from corrmatch.reproduction.paper import TABLES
    from corrmatch.reproduction.figures import FIGURES

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
    "[04_propagation](book/07_propagation.ipynb), *Reference implementation*",
    "`propagation.propagate_pixels`<br>`golden_propagation::pixels`",
    "`corrmatch recipes`",
]


@pytest.mark.parametrize(
    "column, value, word",
    [
        (2, "[04_propagation](book/07_propagation.ipynb), *No such section*", "section"),
        (2, "[99_none](99_none.ipynb), *Cost*", "page"),
        (3, "`propagation.nothing`<br>`golden_propagation::pixels`", "propagation.nothing"),
        (3, "`propagation.propagate_regions`<br>`golden_propagation::nothing`", "test"),
        (3, "`propagation.propagate_regions`<br>*Exercises*, *none*", "asserted"),
        (3, "`propagation.propagate_regions`", "asserted"),
        (4, "`corrmatch dance`", "command"),
        (4, "`corrmatch train toy --no-such-flag`", "understood"),
        (4, "`corrmatch reproduce fig99`", "fig99"),
        (4, "-", "command"),
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
    pages = [p for p in sorted((ROOT / "nbs").glob("[0-9]*.ipynb")) if p != MAP]
    there = [[cell for cell in row] for p in pages for row in rows(p, "| paper | authors' implementation | here |")]
    assert [[part.strip() for part in re.split(r"(?<!\\)\|", line)[1:-1]] for line in listed] == there, (
        "run nbs/paper/map.ipynb again"
    )
