"What the tests of the frame share: the notebooks, and a copy of the tree to work on."

import ast
import re
import shutil
from pathlib import Path
import nbformat

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "corrmatch"


def notebooks(root: Path = ROOT) -> list[Path]:
    "Every notebook that is a page of the book, in reading order."
    found = (root / "nbs").rglob("*.ipynb")
    return sorted(p for p in found if not any(part[0] in "_." for part in p.relative_to(root).parts))


def name(path: Path) -> str:
    return path.relative_to(ROOT / "nbs").with_suffix("").as_posix()


def cells(path: Path) -> list:
    return nbformat.read(path, 4).cells


def module_of(path: Path):
    "The module a notebook exports to, or None."
    found = [
        re.search(r"^#\s*\|\s*default_exp\s+([\w.]+)", c.source, re.M) for c in cells(path) if c.cell_type == "code"
    ]
    return next((m[1] for m in found if m), None)


def copy_tree(target: Path) -> Path:
    "Copy what export, clean, README and packaging read and write, so that they never touch the tree other tests are using."
    for part in (
        "settings.ini",
        "setup.py",
        "pyproject.toml",
        "ruff.toml",
        "MANIFEST.in",
        "constraints.txt",
        "README.md",
        "README.zh.md",
        "CHANGELOG.md",
        "LICENSE",
    ):
        if (ROOT / part).exists():
            shutil.copy(ROOT / part, target / part)
    ignore = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "_build", ".last_checked", "*.safetensors")
    for folder in ("nbs", "corrmatch", "docs", "index_files"):
        if (ROOT / folder).exists():
            shutil.copytree(ROOT / folder, target / folder, ignore=ignore)
    return target


def imported(path: Path) -> set[str]:
    "Top-level names of the packages that a module imports."
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    plain = {alias.name for n in nodes if isinstance(n, ast.Import) for alias in n.names}
    return {m.split(".")[0] for m in plain | {n.module for n in nodes if isinstance(n, ast.ImportFrom) and not n.level}}
