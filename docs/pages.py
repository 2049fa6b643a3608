"""The pages of the book: minutes to read, cells, size, pictures. With --pictures: the list of all pictures.

python docs/pages.py [--pictures]
"""

import re
import sys
from pathlib import Path
import nbformat

NBS = Path(__file__).resolve().parents[1] / "nbs"
WORDS, LINES = 200, 15  # read in a minute: words of prose, lines of code


def facts(path: Path) -> dict:
    "What a page holds; hidden cells are not read."
    shown = [c for c in nbformat.read(path, 4).cells if not re.match(r"#\|\s*hide\b", c.source)]
    prose = " ".join(re.sub(r"\]\([^)]*\)|\$[^$]*\$", " ", c.source) for c in shown if c.cell_type == "markdown")
    code = [c for c in shown if c.cell_type == "code" and c.source.strip()]
    lines = sum(bool(line.strip()) for c in code for line in c.source.splitlines())
    alts = [
        (re.findall(r"^#\|\s*fig-alt:\s*(.+)$", c.source, re.M) or ["no description"])[0]
        for c in code
        if any(k.startswith("image/") for o in c.outputs for k in o.get("data", {}))
    ]
    return {
        "minutes": round(len(re.findall(r"\w+", prose)) / WORDS + lines / LINES),
        "cells": len(shown),
        "prose": f"{1 - len(code) / len(shown):.0%}",
        "KB": path.stat().st_size // 1024,
        "pictures": alts,
    }


if __name__ == "__main__":
    found = {p.stem: facts(p) for p in sorted(NBS.glob("[!_.]*.ipynb"))}
    if "--pictures" in sys.argv:
        print("\n".join(f"{name}: {alt}" for name, f in found.items() for alt in f["pictures"]))
    else:
        print(f"{'page':22}{'minutes':>8}{'cells':>7}{'prose':>7}{'KB':>5}{'pictures':>10}")
        for name, f in found.items():
            print(f"{name:22}{f['minutes']:8}{f['cells']:7}{f['prose']:>7}{f['KB']:5}{len(f['pictures']):10}")
        print(
            f"{'all ' + str(len(found)):22}{sum(f['minutes'] for f in found.values()):8}{sum(f['cells'] for f in found.values()):7}{'':7}{sum(f['KB'] for f in found.values()):5}{sum(len(f['pictures']) for f in found.values()):10}"
        )
