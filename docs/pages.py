"""The pages: minutes to read, cells, size, pictures. With --pictures: the list of all pictures.

python docs/pages.py [--pictures]
"""

import ast
import re
import sys
from pathlib import Path
import nbformat

NBS = Path(__file__).resolve().parents[1] / "nbs"
WORDS, LINES = 200, 15  # read in a minute: words of prose, lines of code
SETTINGS = {"torch.set_num_threads", "plt.rcParams.update", "pd.set_option", "warnings.filterwarnings", "pipeline"}
UNREAD = re.compile(
    r"^#\|\s*(hide\b|code-fold:\s*true|echo:\s*false)", re.M
)  # cells whose code the site leaves out or folds


def only_setup(source: str) -> bool:
    "Whether a cell holds imports, settings of libraries and the picture of the pipeline, and nothing else: it is folded."
    try:
        body = ast.parse(source).body
    except SyntaxError:  # a cell with IPython magic
        return False
    imports = lambda node: isinstance(node, (ast.Import, ast.ImportFrom))
    setting = lambda node: isinstance(node, ast.Expr) and ast.unparse(node).split("(")[0] in SETTINGS
    return all(imports(node) or setting(node) for node in body)


def minutes(cells: list) -> int:
    "Minutes to read a page; hidden and folded cells are not read."
    shown = [c for c in cells if not UNREAD.search(c.source)]
    prose = " ".join(re.sub(r"\]\([^)]*\)|\$[^$]*\$", " ", c.source) for c in shown if c.cell_type == "markdown")
    code = [c.source for c in shown if c.cell_type == "code" and not only_setup(c.source)]
    lines = sum(bool(line.strip()) for source in code for line in source.splitlines())
    return round(len(re.findall(r"\w+", prose)) / WORDS + lines / LINES)


def facts(path: Path) -> dict:
    "What a page holds."
    cells = nbformat.read(path, 4).cells
    shown = [c for c in cells if not UNREAD.search(c.source)]
    code = [c for c in shown if c.cell_type == "code" and not only_setup(c.source)]
    alts = [
        (re.findall(r"^#\|\s*fig-alt:\s*(.+)$", c.source, re.M) or ["no description"])[0]
        for c in cells
        if c.cell_type == "code" and any(k.startswith("image/") for o in c.outputs for k in o.get("data", {}))
    ]
    return {
        "minutes": minutes(cells),
        "cells": len(cells),
        "prose": f"{1 - len(code) / len(shown):.0%}",
        "KB": path.stat().st_size // 1024,
        "pictures": alts,
    }


def total(name: str, found: list[dict]) -> str:
    length, cells, size = (sum(f[key] for f in found) for key in ("minutes", "cells", "KB"))
    return f"{name:32}{length:8}{cells:7}{'':7}{size:6}{sum(len(f['pictures']) for f in found):10}"


if __name__ == "__main__":
    paths = [p for p in NBS.rglob("*.ipynb") if not any(part[0] in "_." for part in p.relative_to(NBS).parts)]
    found = {p.relative_to(NBS).with_suffix("").as_posix(): facts(p) for p in sorted(paths)}
    if "--pictures" in sys.argv:
        print("\n".join(f"{name}: {alt}" for name, f in found.items() for alt in f["pictures"]))
    else:
        print(f"{'page':32}{'minutes':>8}{'cells':>7}{'prose':>7}{'KB':>6}{'pictures':>10}")
        for name, f in found.items():
            print(f"{name:32}{f['minutes']:8}{f['cells']:7}{f['prose']:>7}{f['KB']:6}{len(f['pictures']):10}")
        book = [f for name, f in found.items() if name.startswith("book/")]
        print(total(f"the book, {len(book)} pages", book))
        print(total(f"all {len(found)}", list(found.values())))
