"Package, notebooks and README are in step: export, clean and the README script change no byte. All of it runs on a copy."

import difflib
import subprocess
import sys
from pathlib import Path
import pytest
from frame import copy_tree

BIN = Path(sys.executable).parent
HINT = "run `make prepare`; edit notebooks, never the files made from them"


def tracked(root: Path) -> dict[str, bytes]:
    "Path -> bytes of every file that the three steps may write."
    files = [
        *root.glob("nbs/**/*.ipynb"),
        *root.glob("corrmatch/**/*.py"),
        *root.glob("README*.md"),
        *root.glob("index_files/*"),
    ]
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in files if p.is_file()}


def run(root: Path, *command):
    result = subprocess.run([str(c) for c in command], cwd=root, capture_output=True, text=True)
    assert not result.returncode, f"{command[0]} failed:\n{result.stdout[-2000:]}{result.stderr[-2000:]}"


def rebuild(root: Path):
    "Make package, notebooks and README afresh; modules are deleted first, so one whose notebook is gone does not come back."
    for module in root.glob("corrmatch/**/*.py"):
        if module.name != "__init__.py":
            module.unlink()
    run(root, BIN / "nbdev_export")
    run(root, BIN / "ruff", "format", "--no-cache", "-q", "corrmatch", "nbs")
    run(root, BIN / "nbdev_clean")
    run(root, sys.executable, root / "docs" / "readme.py")


def report(before: dict[str, bytes], after: dict[str, bytes]) -> str:
    "One block for each file that differs: what was found against what it should be."
    blocks = []
    for path in sorted(before.keys() | after.keys()):
        old, new = before.get(path), after.get(path)
        if old == new:
            continue
        if old is None or new is None:
            blocks.append(f"{path}: {'is missing' if old is None else 'comes from no notebook'}")
        else:
            lines = [b.decode(errors="replace").splitlines() for b in (old, new)]
            blocks.append(
                "\n".join(
                    [
                        f"{path}:",
                        *(
                            line[:160]
                            for line in list(difflib.unified_diff(*lines, "found", "should be", lineterm="", n=0))[:12]
                        ),
                    ]
                )
            )
    return "\n".join(blocks)


@pytest.fixture
def tree(tmp_path):
    return copy_tree(tmp_path)


def test_export_clean_and_readme_change_nothing(tree):
    before = tracked(tree)
    rebuild(tree)
    if found := report(before, tracked(tree)):
        pytest.fail(f"{HINT}\n{found}", pytrace=False)


def test_a_hand_edited_module_is_noticed(tree):
    victim = sorted(p for p in tree.glob("corrmatch/[a-z]*.py"))[0]
    victim.write_bytes(victim.read_bytes() + b"\nedited_by_hand = True\n")
    before = tracked(tree)
    rebuild(tree)
    assert "edited_by_hand" in report(before, tracked(tree))


def test_a_module_without_a_notebook_is_noticed(tree):
    (tree / "corrmatch" / "orphan.py").write_text("left = 'over'\n")
    before = tracked(tree)
    rebuild(tree)
    assert "corrmatch/orphan.py: comes from no notebook" in report(before, tracked(tree))


def test_an_edited_readme_is_noticed(tree):
    (tree / "README.md").write_bytes((tree / "README.md").read_bytes() + b"more\n")
    before = tracked(tree)
    rebuild(tree)
    assert "README.md:" in report(before, tracked(tree))
