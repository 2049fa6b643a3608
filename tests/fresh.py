"""Run notebooks afresh and compare what they show with what was saved.

    python tests/fresh.py nbs/reference/config.ipynb ...      no name: all of them

Texts have to be equal, pictures nearly so. A cell whose code begins with `# timing:` may show something else. Exit status 1 if a cell differs.
"""

import base64
import io
import re
import sys
from pathlib import Path
import nbformat
import numpy as np
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image
from frame import notebooks

SKIPPED = re.compile(r"^#\|\s*(slow|gpu|notest|eval:\s*false)\b", re.M)  # as nbdev_test does
FREE = re.compile(r"(?:#\|.*\n)*# timing:")
NEARLY = 1.0  # of 255: mean difference of two pictures that count as the same


def may_differ(cell) -> bool:
    return bool(FREE.match(cell.source) or SKIPPED.search(cell.source))


def outputs_of(cell) -> str:
    "All that a cell says, without its pictures and addresses of objects."
    said = []
    for o in cell.outputs:
        data = o.get("data", {})
        said += [o.get("text", "")] + [data[kind] for kind in ("text/html", "text/markdown") if kind in data]
        if not any(kind.startswith("image/") or kind == "text/html" for kind in data):
            said.append(data.get("text/plain", ""))
    lines = "\n".join(said).splitlines()  # without empty ones: where a stream is cut into outputs is chance
    return re.sub(r" at 0x[0-9a-f]+", "", "\n".join(s.rstrip() for s in lines if s.strip()))


def pictures(cell) -> list:
    found = [
        data[kind]
        for o in cell.outputs
        for data in [o.get("data", {})]
        for kind in ("image/png", "image/jpeg")
        if kind in data
    ]
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(p))).convert("RGB"), float) for p in found]


def sliders(cell) -> bool:
    return any("application/vnd.jupyter.widget-view+json" in o.get("data", {}) for o in cell.outputs)


def difference(saved, fresh) -> str:
    "What a cell shows now and did not show then; empty if it is the same. Sliders keep their picture to themselves: nothing to compare."
    if sliders(fresh):
        return ""
    a, b = outputs_of(saved), outputs_of(fresh)
    if a != b:
        then, now = next(
            ((x, y) for x, y in zip(a.splitlines() + [""], b.splitlines() + [""]) if x != y), (a[-80:], b[-80:])
        )
        return f"saved {then[:150]!r}, now {now[:150]!r}"
    one, other = pictures(saved), pictures(fresh)
    if [p.shape for p in one] != [p.shape for p in other]:
        return f"pictures of {[p.shape[:2] for p in one]} were saved, now {[p.shape[:2] for p in other]}"
    far = [np.abs(p - q).mean() for p, q in zip(one, other)]
    return f"a picture differs by {max(far):.1f} of 255 on average" if far and max(far) > NEARLY else ""


def compare(path) -> list[str]:
    "The cells of a notebook that show something else after a fresh run."
    saved, fresh = nbformat.read(path, 4), nbformat.read(path, 4)
    for cell in fresh.cells:
        if cell.cell_type == "code" and SKIPPED.search(cell.source):
            cell.metadata["tags"] = ["skip-execution"]
    runner = NotebookClient(fresh, timeout=900, resources={"metadata": {"path": str(Path(path).parent)}})
    try:
        runner.execute()
    except CellExecutionError as error:
        return [f"{Path(path).name} stops with {error.ename}: {error.evalue[:300]}"]
    return [
        f"{Path(path).name}, cell {i}: {told}"
        for i, (a, b) in enumerate(zip(saved.cells, fresh.cells))
        if a.cell_type == "code" and not may_differ(a) and (told := difference(a, b))
    ]


if __name__ == "__main__":
    found = [line for p in (sys.argv[1:] or notebooks()) for line in compare(p)]
    print("\n".join(found) or "what was saved is what a fresh run shows")
    sys.exit(bool(found))
