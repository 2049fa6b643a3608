"The pages as a book: every picture is described, and both READMEs say the same."

import importlib.util
import io
import re
import shlex
from collections import Counter
from contextlib import redirect_stdout
import pytest
from frame import ROOT, cells, name, notebooks

each = pytest.mark.parametrize("path", notebooks(), ids=name)
ENGLISH, CHINESE = (ROOT / f for f in ("README.md", "README.zh.md"))


def pictures(path) -> list:
    "The cells of a notebook that show a picture."
    return [
        c
        for c in cells(path)
        if c.cell_type == "code" and any(kind.startswith("image/") for o in c.outputs for kind in o.get("data", {}))
    ]


def undescribed(cell) -> bool:
    told = re.search(r"^#\|\s*fig-alt:\s*(.*)$", cell.source, re.M)
    return not told or len(told[1].split()) < 4


@each
def test_every_picture_is_described(path):
    bare = [c.source[:80] for c in pictures(path) if undescribed(c)]
    assert not bare, f"begin the cell with '#| fig-alt: what the picture shows': {bare}"


@each
def test_no_picture_is_hidden(path):
    hidden = [c.source[:80] for c in pictures(path) if re.search(r"^#\|\s*hide\b", c.source, re.M)]
    assert not hidden, f"the site leaves out a cell with '#| hide'; use '#| echo: false': {hidden}"


def commands(text: str) -> list:
    "Lines of code, without what stands beside them."
    blocks = re.findall(r"```\w+\n(.*?)```", text, re.S)
    return [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]


def numbers(text: str) -> Counter:
    "Numbers of the prose."
    prose = re.sub(r"```.*?```|\]\([^)]*\)|`[^`]*`|<!--.*?-->", " ", text, flags=re.S | re.M)
    return Counter(re.findall(r"(?<![\w.])\d+(?:,\d{3})*(?:\.\d+)?", prose))


def difference(a: str, b: str) -> list:
    "What the one README names and the other does not."
    targets = lambda text: re.findall(r"\]\((?!README)([^)]+)\)", text)
    named = lambda text: Counter(re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.S)))
    found = []
    for what, read in (
        ("commands", lambda t: Counter(commands(t))),
        ("numbers", numbers),
        ("links and pictures", lambda t: Counter(targets(t))),
        ("names", named),
    ):
        one, other = read(a), read(b)
        if one != other:
            found.append(f"{what}: only the first has {sorted(one - other)}, only the second {sorted(other - one)}")
    return found


def test_both_readmes_name_the_same_commands_numbers_and_pages():
    found = difference(ENGLISH.read_text(encoding="utf-8"), CHINESE.read_text(encoding="utf-8"))
    assert not found, "\n".join(["change nbs/index.ipynb and nbs/zh.md together, then `make prepare`", *found])


@pytest.mark.parametrize(
    "old, new, what",
    [
        ("make demo", "make dmo", "commands"),
        ("76.4", "76.5", "numbers"),
        ("book/07_propagation", "book/08_threshold", "links"),
        ("`runs/demo`", "`runs`", "names"),
    ],
)
def test_a_readme_that_differs_is_noticed(old, new, what):
    text = CHINESE.read_text(encoding="utf-8")
    assert old in text and any(
        what in line for line in difference(ENGLISH.read_text(encoding="utf-8"), text.replace(old, new))
    )


def test_the_first_screen_has_pipeline_commands_and_result():
    "What it is, two commands with numbers and times, the pipeline and a result stand before anything else, in sixty lines."
    head = "\n".join(ENGLISH.read_text(encoding="utf-8").splitlines()[:60])
    assert (
        head.count("![") == 2 and "make demo" in head and "make test" in head and "minutes" in head and "mIoU" in head
    )


BOOK = [p for p in notebooks() if name(p).startswith("book/")]


@pytest.mark.parametrize("path, after", list(zip(BOOK, BOOK[1:])), ids=lambda p: name(p))
def test_a_page_of_the_book_leads_to_the_next(path, after):
    last = [c.source for c in cells(path) if c.cell_type == "markdown"][-1]
    assert f"({after.name}" in last, f"the page ends with '{last[-80:]}'; the next one is {after.name}"


COMMAND = re.compile(r"^(?:\.venv/bin/)?corrmatch |^torchrun .*-m corrmatch ")


def shell_lines(text: str) -> list[str]:
    "The calls of corrmatch in the blocks of a text."
    lines = [
        line.split("  #")[0].strip()
        for block in re.findall(r"```(?:bash|sh)?\n(.*?)```", text, re.S)
        for line in block.splitlines()
    ]
    return [COMMAND.sub("", line) for line in lines if COMMAND.match(line) and "..." not in line]


def prose(path) -> str:
    return "\n".join(c.source for c in cells(path) if c.cell_type == "markdown")


@pytest.fixture(scope="module")
def options():
    "Every option that `corrmatch train` knows."
    from corrmatch.cli import main

    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as said:
        patch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit):
            main(["train", "toy", "--help"])
    return set(re.findall(r"--[a-z][\w.-]+", said.getvalue()))


def test_every_command_of_a_page_is_understood():
    from corrmatch.cli import parse

    said = {line: name(p) for p in notebooks() for line in shell_lines(prose(p))} | {
        line: "README.zh.md" for line in shell_lines(CHINESE.read_text(encoding="utf-8"))
    }
    wrong = []
    for line, page in said.items():
        try:
            parse(shlex.split(line))
        except FileNotFoundError:
            assert "--config" in line  # of a run that is not here
        except (ValueError, SystemExit) as error:
            wrong.append(f"{page}: corrmatch {line}: {str(error)[:200]}")
    assert len(said) > 20 and not wrong, "\n".join(wrong)


def test_every_option_of_a_page_exists(options):
    asked = {flag: name(p) for p in notebooks() for flag in re.findall(r"(--[a-z]+\.[a-z][\w.-]*\w)", prose(p))}
    unknown = {flag: page for flag, page in asked.items() if flag not in options}
    assert len(asked) > 10 and not unknown, f"no such option (what is switched off is --part.no-name): {unknown}"


def pages_module():
    "docs/pages.py: what a page holds, and how long it takes to read."
    spec = importlib.util.spec_from_file_location("pages", ROOT / "docs" / "pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pages_are_read_in_one_sitting():
    "At most 25 minutes each, the book at most five hours, Eq. 4 within the first 100 minutes."
    minutes = {name(p): pages_module().facts(p)["minutes"] for p in notebooks()}
    assert not {page: m for page, m in minutes.items() if m > 25}, "delete, shorten, or fold what nobody reads"
    book = [minutes[name(p)] for p in BOOK]
    first = next(i for i, p in enumerate(BOOK) if "Eq. 4, as printed" in prose(p))
    assert sum(book) <= 300 and sum(book[:first]) <= 100


ANSWERS = {  # question -> the page that answers it, words of the answer there
    1: ("01_problem", "This is *confirmation bias*", "isolated errors are outvoted"),
    2: ("02_splits", "compares masks, not methods"),
    3: ("03_views", "no loss looks at it"),
    4: ("05_consistency", "divided by the valid ones", "each would weigh ten times as much"),
    5: ("06_correlation", "each row of $C$ sums to one", "$z$ is an average at every position"),
    6: ("06_correlation", "a cross-entropy on those (Eq. 6)"),
    7: ("07_propagation", "a shape without a confident pixel is skipped", r"r_2=\frac{G(k^*)}{\sum_l G(l)}>\tau"),
    8: ("08_threshold", "full share"),
    9: (
        "11_evaluation",
        "the one network that was trained, without map and propagation",
        "the first of its two networks",
    ),
    10: ("12_results", "five points can be seen"),
}


def test_the_ten_questions_are_answered_where_they_point():
    last = prose(BOOK[-1])
    asked = dict(re.findall(r"^(\d+)\. (.+\?.*)$", last[last.index("## Ten questions") : last.index("Answers")], re.M))
    assert [int(n) for n in asked] == list(range(1, 11))
    for number, (page, *words) in ANSWERS.items():
        path = next(p for p in BOOK if p.stem == page)
        assert f"({page}.ipynb)" in asked[str(number)] or (path == BOOK[-1] and "This page" in asked[str(number)])
        assert all(w in prose(path) for w in words), f"question {number}: {page} no longer has {words}"
