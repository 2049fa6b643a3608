"Faults that need no run: names that do not exist, imports that nothing uses, code that does not do what it says."

import io
import re
import subprocess
import sys
import tokenize
import pytest
from frame import ROOT, cells, name, notebooks


def lint(*paths):
    return subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format", "concise", *map(str, paths)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


def test_the_linter_finds_nothing():
    done = lint(".")
    assert not done.returncode, done.stdout + done.stderr


def test_the_linter_would_find_something(tmp_path):
    for code, rule in {
        "def f(): return no_such_name": "F821",
        "def f(a=[]): return a": "B006",
        "assert (1, 'always')": "F631",
        "eval('1')": "S307",
    }.items():
        (tmp_path / "bad.py").write_text(code + "\n")
        done = lint("--config", ROOT / "ruff.toml", tmp_path / "bad.py")
        assert done.returncode and rule in done.stdout, code


def too_wide(code: str) -> list[str]:
    "Lines of more than 120 characters that can be broken: not directives, texts of several lines, parameters' comments."
    inside = {
        row
        for t in tokenize.generate_tokens(io.StringIO(code).readline)
        if t.type == tokenize.STRING
        for row in range(t.start[0], t.end[0] + (t.end[0] > t.start[0]))
    }
    return [
        line
        for row, line in enumerate(code.splitlines(), 1)
        if len(line) > 120
        and row not in inside
        and not re.match(r"#\||\s*\S+: .*  # |\) -> .*  # |\s+\w+(=\S*)?,? +# |\s*def .*  # ", line)
    ]


@pytest.mark.parametrize("path", notebooks(), ids=name)
def test_code_fits_on_a_screen(path):
    wide = [line for c in cells(path) if c.cell_type == "code" for line in too_wide(c.source)]
    assert not wide, "at most 120 characters, so that a page needs no scrolling: " + "\n".join(wide)


def test_a_wide_line_would_be_found():
    long = "x" * 120
    assert too_wide(f"a = 1\n{long} = 1") and too_wide(f"f({long})") and too_wide(f"# {long}") and too_wide(f"'{long}'")
    assert not too_wide(f"#| fig-alt: {long}\ndef f(\n    a: int,  # {long}\n): pass\n'''\n{long}\n'''")
