"""Run a notebook so that coverage sees the lines of its module.

A notebook defines what it exports in its own cells, so its tests never run the lines of `corrmatch/X.py`, although they are the same text.
Here an exported cell is compiled under the name of the module and at the line where it stands there. Cells that nbdev_test skips are skipped.

    python tests/as_module.py nbs/book/06_correlation.ipynb
"""

import os
import re
import sys
from pathlib import Path
from types import ModuleType
import nbformat

ROOT = Path(__file__).resolve().parents[1]
SKIPPED = re.compile(r"^#\|\s*(eval:\s*false|notest|slow|gpu)\b", re.M)
EXPORTED = re.compile(r"^#\|\s*export(i|_hidden)?\b", re.M)


def places(module: Path) -> dict[str, int]:
    "Cell id -> the line above its code in the module."
    lines = module.read_text(encoding="utf-8").splitlines()
    return {m[1]: n for n, line in enumerate(lines, 1) if (m := re.match(r"# %% \S+ #(\S+)$", line))}


def code(cell, module: Path | None, lines: dict):
    "The cell, compiled; an exported one as a part of its module."
    source = cell.source
    if not EXPORTED.search(source):
        return compile(source, f"<cell {cell.id}>", "exec")
    body = re.sub(r"^(#\|.*\n)+", "", source)
    return compile("\n" * lines[cell.id] + body, str(module), "exec")


def run(path: Path):
    import matplotlib

    matplotlib.use("Agg")
    cells = [c for c in nbformat.read(path, 4).cells if c.cell_type == "code"]
    name = next((m[1] for c in cells if (m := re.search(r"^#\|\s*default_exp\s+([\w.]+)", c.source, re.M))), None)
    module = ROOT / "corrmatch" / f"{name.replace('.', '/')}.py" if name else None
    lines = places(module) if module else {}
    main = sys.modules["__main__"] = ModuleType("__main__")
    main.__dict__.update(display=lambda *_: None, get_ipython=lambda: None)
    for cell in cells:
        if SKIPPED.search(cell.source) or "nbdev_export()" in cell.source:
            continue
        try:
            exec(code(cell, module, lines), main.__dict__)
        except Exception:
            print(f"{path.name}, cell {cell.id}:\n{cell.source[:300]}", file=sys.stderr)
            raise


if __name__ == "__main__":
    path = Path(sys.argv[1]).resolve()
    os.chdir(path.parent)
    sys.path[0] = str(ROOT)
    run(path)
