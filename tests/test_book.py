"The pages as a book: every picture is described, and both READMEs say the same."
import re
from collections import Counter
import pytest
from frame import ROOT, cells, name, notebooks

each = pytest.mark.parametrize("path", notebooks(), ids=name)
ENGLISH, CHINESE = (ROOT / f for f in ("README.md", "README.zh.md"))


def pictures(path) -> list:
    "The cells of a notebook that show a picture."
    return [c for c in cells(path) if c.cell_type == "code" and any(kind.startswith("image/") for o in c.outputs for kind in o.get("data", {}))]


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
    for what, read in (("commands", lambda t: Counter(commands(t))), ("numbers", numbers), ("links and pictures", lambda t: Counter(targets(t))), ("names", named)):
        one, other = read(a), read(b)
        if one != other: found.append(f"{what}: only the first has {sorted(one - other)}, only the second {sorted(other - one)}")
    return found


def test_both_readmes_name_the_same_commands_numbers_and_pages():
    found = difference(ENGLISH.read_text(encoding="utf-8"), CHINESE.read_text(encoding="utf-8"))
    assert not found, "\n".join(["change nbs/index.ipynb and nbs/zh.md together, then `make prepare`", *found])


@pytest.mark.parametrize("old, new, what", [("make demo", "make dmo", "commands"), ("42.8", "42.9", "numbers"), ("04_propagation", "05_threshold", "links"), ("`runs/demo`", "`runs`", "names")])
def test_a_readme_that_differs_is_noticed(old, new, what):
    text = CHINESE.read_text(encoding="utf-8")
    assert old in text and any(what in line for line in difference(ENGLISH.read_text(encoding="utf-8"), text.replace(old, new)))


def test_the_first_screen_has_pipeline_commands_and_result():
    "What it is, two commands with numbers and times, the pipeline and a result stand before anything else, in sixty lines."
    head = "\n".join(ENGLISH.read_text(encoding="utf-8").splitlines()[:60])
    assert head.count("![") == 2 and "make demo" in head and "make test" in head and "minutes" in head and "mIoU" in head
