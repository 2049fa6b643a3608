"What is installed is whole: the wheel holds every module and asset, and asks for what it imports."

import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from configparser import ConfigParser
import pytest
from frame import PACKAGE, ROOT, copy_tree, imported

DISTRIBUTION = {"PIL": "pillow"}  # import name -> name of the package, where they differ


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    tree, out = copy_tree(tmp_path_factory.mktemp("tree")), tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-w",
        str(out),
        str(tree),
    ]
    result = subprocess.run(command, capture_output=True, text=True)
    assert not result.returncode, result.stdout + result.stderr
    return next(out.glob("*.whl"))


def test_the_wheel_holds_every_module_and_asset(wheel):
    here = {p.relative_to(ROOT).as_posix() for p in PACKAGE.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    with zipfile.ZipFile(wheel) as z:
        packed = set(z.namelist())
    assert here <= packed, f"not in the wheel: {sorted(here - packed)}"
    of_each_kind = ("cli.py", "nn/losses.py", "methods/corrmatch/method.py", "assets/toy_encoder.pt")
    assert {f"corrmatch/{name}" for name in of_each_kind} <= packed
    assert not {n for n in packed if n.startswith(("nbs/", "tests/", "docs/"))}


def test_the_installed_wheel_finds_its_assets(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as z:
        z.extractall(tmp_path)
    code = (
        "import corrmatch, corrmatch.data.splits as s; from importlib.resources import files; "
        "assert len(s.protocol('voc_classic_92').labelled) == 92; print(files('corrmatch'))"
    )
    result = subprocess.run(
        [
            sys.executable,
            "-P" if sys.version_info >= (3, 11) else "-B",
            "-c",
            f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {code}",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert not result.returncode, result.stderr
    assert str(tmp_path) in result.stdout


def test_the_installed_wheel_trains_from_an_empty_folder(wheel, tmp_path):
    "A new environment with the wheel and with what it needs, but neither the repository nor its link to it."
    env, work = tmp_path / "env", tmp_path / "work"
    work.mkdir()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(env)], check=True)
    python, site = env / "bin" / "python", next((env / "lib").glob("python*/site-packages"))
    subprocess.run(
        [sys.executable, "-m", "pip", "-q", "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)],
        check=True,
        capture_output=True,
    )
    (site / "needed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    plain = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")} | {"OMP_NUM_THREADS": "1"}

    def run(*words):
        return subprocess.run([str(w) for w in words], cwd=work, env=plain, capture_output=True, text=True, timeout=300)

    where = run(python, "-c", "import corrmatch, torch; print(corrmatch.__file__)")
    assert where.stdout.startswith(str(site)), where.stdout + where.stderr
    done = run(
        env / "bin" / "corrmatch",
        *"train toy --steps 3 --batch 4 --data.crop 48 --method.num-shapes 8 --system.device cpu".split(),
    )
    assert not done.returncode and "runs/toy: finished at step 3" in done.stdout, done.stdout + done.stderr
    assert sorted(p.name for p in work.iterdir()) == ["runs"] and (work / "runs" / "toy" / "last.pt").exists()


def test_every_import_is_a_requirement():
    config = ConfigParser(delimiters=["="])
    config.read(ROOT / "settings.ini", encoding="utf-8")
    asked = {re.split(r"[<>=!~;\[]", r)[0].lower() for r in config["DEFAULT"]["requirements"].split()}
    needed = (
        set().union(*(imported(p) for p in PACKAGE.rglob("[a-z]*.py"))) - set(sys.stdlib_module_names) - {"corrmatch"}
    )
    optional = {"tensorboard", "timm", "onnx", "onnxscript", "onnxruntime"}
    assert {DISTRIBUTION.get(n, n).lower() for n in needed} - optional <= asked, (
        f"imported {sorted(needed)}, required {sorted(asked)}"
    )
    assert not asked - {DISTRIBUTION.get(n, n).lower() for n in needed}, "a requirement that nothing imports"


def test_the_tested_versions_meet_the_requirements():
    from packaging.requirements import Requirement

    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    tested = {
        (r := Requirement(line)).name.lower().replace("_", "-"): next(iter(r.specifier)).version for line in lines
    }
    config = ConfigParser(delimiters=["="])
    config.read(ROOT / "settings.ini", encoding="utf-8")
    for text in (config["DEFAULT"]["requirements"] + " " + config["DEFAULT"]["dev_requirements"]).split():
        requirement = Requirement(text)
        assert requirement.name in tested, f"{requirement.name} has no line in constraints.txt"
        assert requirement.specifier.contains(tested[requirement.name]), (
            f"{text} against {tested[requirement.name]} in constraints.txt"
        )
