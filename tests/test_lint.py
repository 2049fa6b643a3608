"Faults that need no run: names that do not exist, imports that nothing uses, code that does not do what it says."
import subprocess
import sys
from frame import ROOT


def lint(*paths): return subprocess.run([sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format", "concise", *map(str, paths)], cwd=ROOT, capture_output=True, text=True)


def test_the_linter_finds_nothing():
    done = lint(".")
    assert not done.returncode, done.stdout + done.stderr


def test_the_linter_would_find_something(tmp_path):
    for code, rule in {"def f(): return no_such_name": "F821", "def f(a=[]): return a": "B006", "assert (1, 'always')": "F631", "eval('1')": "S307"}.items():
        (tmp_path / "bad.py").write_text(code + "\n")
        done = lint("--config", ROOT / "ruff.toml", tmp_path / "bad.py")
        assert done.returncode and rule in done.stdout, code
