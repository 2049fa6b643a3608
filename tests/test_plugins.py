"Methods that others bring: a file, a module, an installed package."

from importlib.metadata import EntryPoint
import pytest
from corrmatch.methods import base, methods
from corrmatch.testing import command_line

BODY = """
from dataclasses import dataclass
from corrmatch.methods import Method, MethodConfig, register

@dataclass
class Settings(MethodConfig):
    factor: float = 1.0

@register
class Brought(Method):
    name, Config, about = "brought", Settings, "from elsewhere"
"""


@pytest.fixture(autouse=True)
def forget():
    yield
    base._METHODS.pop("brought", None)
    base._LOADED.clear()


@pytest.mark.parametrize("how", ["file", "module", "entry point"])
def test_a_method_is_brought(how, tmp_path, monkeypatch):
    (tmp_path / f"brought_{how[0]}.py").write_text(BODY)
    monkeypatch.syspath_prepend(tmp_path)
    if how == "entry point":
        found = [EntryPoint("mine", "brought_e", "corrmatch.methods")]
        monkeypatch.setattr(base, "entry_points", lambda group: found)
    else:
        name = f"{tmp_path}/brought_f.py, " if how == "file" else "brought_m"
        monkeypatch.setenv(base.PLUGINS, name)
    assert methods()["brought"].Config(factor=2).factor == 2 and list(methods())[-1] == "brought"
    status, out, err = command_line("methods")
    assert status == 0 and "from elsewhere" in out, err


@pytest.mark.parametrize(
    "body, message",
    [(None, "no such file"), ("import nothing_of_this_name", "nothing_of_this_name"), ("1/0", "division")],
)
def test_what_cannot_be_imported_is_named_each_time(body, message, tmp_path, monkeypatch):
    if body:
        (tmp_path / "broken.py").write_text(body)
    monkeypatch.setenv(base.PLUGINS, str(tmp_path / "broken.py"))
    for _ in range(2):
        status, _, err = command_line("methods")
        assert status == 2 and "broken.py cannot be imported" in err and message in err


def test_an_unknown_method_says_how_one_is_brought():
    status, _, err = command_line("train toy --method zzzz --dry-run")
    assert status == 2 and base.PLUGINS in err


def test_two_files_cannot_bring_one_name(tmp_path, monkeypatch):
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text(BODY)
    monkeypatch.setenv(base.PLUGINS, f"{tmp_path}/one.py,{tmp_path}/two.py")
    status, _, err = command_line("methods")
    assert status == 2 and "two.py" in err and "there is a method 'brought' already: one.Brought" in err


def test_settings_belong_to_one_method(tmp_path, monkeypatch):
    (tmp_path / "shared.py").write_text(
        "from corrmatch.methods import register\nfrom corrmatch.methods.fixmatch import FixMatch\n\n"
        "@register\nclass Mine(FixMatch):\n    name = 'mine'\n"
    )
    monkeypatch.setenv(base.PLUGINS, str(tmp_path / "shared.py"))
    status, _, err = command_line("methods")
    assert status == 2 and "its Config FixMatchConfig belongs to the method 'fixmatch' already" in err
    monkeypatch.delenv(base.PLUGINS)
    assert methods()["fixmatch"].Config.name == "fixmatch" and "mine" not in methods()
