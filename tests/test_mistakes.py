"What a newcomer gets wrong in a method: each mistake is one line with the place and the way out, and no step is lost."

import sys
from pathlib import Path
import pytest
from corrmatch.data.toy import make_toy
from corrmatch.engine.config import Config, DataConfig, OptimConfig, SystemConfig, method_config
from corrmatch.engine.mistakes import AT_FIRST
from corrmatch.engine.results import load_run
from corrmatch.engine.runs import read_json
from corrmatch.engine.trainer import train
from corrmatch.methods import base
from corrmatch.testing import command_line
from drills import TINY

SOUND = """
from dataclasses import dataclass
import torch
from corrmatch.data.views import Views
from corrmatch.methods import Method, MethodConfig, register
from corrmatch.methods.base import Losses, weighted_sum
from corrmatch.nn.ema import follow, make_teacher


@dataclass
class MineConfig(MethodConfig):
    views = Views(box=None)
    weight: float = 1.0
    # more settings


@register
class Mine(Method):
    name, Config = "mine", MineConfig

    def __init__(self, config, build):
        super().__init__(config, build)
        self.net = build()

    def forward(self, phase, batch, clock):
        p = self.net(batch["image_s"]).softmax(1)
        entropy = -(p * p.clamp(min=1e-6).log()).sum(1).mean()
        terms = {"sup": self.supervised(self.net(batch["image_x"]), batch, clock), "entropy": entropy}
        return weighted_sum(terms, {"sup": 1.0, "entropy": self.config.weight})

    def after(self, phase, clock):
        pass
"""
LAST = "return weighted_sum(terms, {"
MISTAKES = {  # what is wrong -> a text of the file, what stands in its place, words of the line
    "no network": ("self.net = build()", "pass", ["'mine' has no network", "predictor is None", "self.net = build()"]),
    "build is not called": ("build()", "build", ["predictor is a function", "self.net = build()"]),
    "a predictor that is None": ("def after", "predictor = None\n    def after", ["predictor is None"]),
    "a predictor that is no Segmenter": ("self.net = build()", "self.net = torch.nn.Conv2d(3, 6, 1)", ["a Conv2d"]),
    "super is not called": ("super().__init__(config, build)", "pass", ["mine.py, line 23, in __init__", "Module"]),
    "no forward": ("def forward", "def foward", ["no forward(self, phase, batch, clock)", "it has foward"]),
    "forward without a phase": (
        "def forward(self, phase, ",
        "def forward(self, ",
        ["line", "has to take (self, phase"],
    ),
    "after without a clock": (
        "def after(self, phase, clock",
        "def after(self",
        ["Mine.after has to take (self, phase"],
    ),
    "nothing is returned": (LAST, "weighted_sum(terms, {", ["mine.py, line 25", "returned None", "weighted_sum"]),
    "a tensor is returned": (LAST, "return entropy\n        return ({", ["a tensor of shape ()", "weighted_sum"]),
    "a dict is returned": (LAST, "return terms\n        return ({", ["returned a dict", "weighted_sum"]),
    "a total of many numbers": (LAST, "return Losses(p, terms, {})\n        return ({", ["(4, 6, 32, 32)", ".mean()"]),
    "a total without gradient": (LAST, "return Losses(p.detach().mean(), terms, {})\n        ({", ["no_grad"]),
    "terms without total": (LAST, "return Losses(entropy, terms, {})\n        ({", ["'total'", "weighted_sum"]),
    "a term of many numbers": (".sum(1).mean()", ".sum(1)", ["a total that is a tensor of shape (4, 32, 32)"]),
    "a diagnostic of many numbers": (
        '"entropy": self.config.weight}',
        '"entropy": self.config.weight}, logs={"share": p.detach()}',
        ["'share'", "(4, 6, 32, 32)"],
    ),
    "a second strong view": (
        '"image_s"',
        '"image_s2"',
        ["line 26, in forward", "image_s2", "image_x", "views = Views(strong=2)"],
    ),
    "a key with a slip": ('batch["image_s"]', 'batch["images_s"]', ["images_s", "did you mean 'image_s'?"]),
    "the logarithm of 0": ("entropy = -", "entropy = (0 * p).log().mean() -", ["the loss entropy", AT_FIRST]),
    "an empty mask": ("entropy = -", "entropy = p[p > 2].mean() -", ["the loss entropy", "nan", "empty mask"]),
    "a root at 0": ("entropy = -", "entropy = (0 * p).sum().sqrt() -", ["the gradient of net", "root or norm at 0"]),
    "no annotation": ("weight: float = 1.0", "weight = 1.0", ["line 17", "no annotation", "weight: float = 1.0"]),
    "no dataclass": ("@dataclass\n", "", ["MineConfig is no dataclass", "@dataclass"]),
    "views of the wrong class": ("def after", "views = Views()\n    def after", ["move it into MineConfig"]),
    "views that are a dict": ("views = Views(box=None)", "views = dict(box=None)", ["Views(...)"]),
    "not registered": ("@register\n", "", ["registers no method", "@register above class Mine"]),
    "registered with brackets": ("@register\n", "@register()\n", ["line", "register"]),
    "a name with capitals": ('"mine"', '"My Method"', ["'My Method'", "'my_method'"]),
    "the name of another one": ('"mine"', '"fixmatch"', ["'fixmatch' already", "another name"]),
    "a field without a default": ("# more settings", "more: int", ["line", "default"]),
    "a syntax error": ("def after(self, phase, clock):", "def after(self, phase, clock)", ["mine.py, line 31", "':'"]),
    "an error at import": ("@register\n", "1 / 0\n@register\n", ["mine.py, line 17", "ZeroDivisionError"]),
    "an exit at import": ("@register\n", "raise SystemExit(3)\n@register\n", ["mine.py, line 17", "SystemExit"]),
    "an import that is not there": ("import torch\n", "import torhc\n", ["mine.py, line 3", "torhc"]),
    "phases that are a text": ("def after", 'phases = "main"\n    def after', ["phases = 'main'", "('main',)"]),
    "no weight fits": (
        '{"sup": 1.0, "entropy": self.config.weight}',
        '{"supervised": 1.0}',
        ["the weight 'supervised' has no term", "the term 'sup'"],
    ),
    "shapes that do not fit": (".sum(1).mean()", ".sum(1) @ p", ["mine.py, line 27, in forward", "RuntimeError"]),
    "a slip in after": (
        "        pass\n",
        "        follow(self.teacher, self.net, 0.9)\n",
        ["line 32, in after", "teacher"],
    ),
    "in place": (
        "entropy = -",
        "p.mul_(2); q = p.exp(); q.mul_(2); entropy = q.mean() -",
        ["backward pass", "inplace"],
    ),
    "everything frozen": ("self.net = build()", "self.net = build().requires_grad_(False)", ["no parameter that is"]),
    "a confidence without property": ("def after", "def confident_at(self): return 0.9\n    def after", ["@property"]),
}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return make_toy(tmp_path_factory.mktemp("mistakes") / "scenes", labelled=4, unlabelled=8, val=2, size=64)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    "An empty folder, and afterwards nothing of what was brought."
    monkeypatch.chdir(tmp_path)
    before = dict(base._METHODS)
    yield tmp_path
    base._METHODS.clear()
    base._METHODS.update(before)
    base._LOADED.clear()
    for name in [name for name, module in sys.modules.items() if hasattr(module, "_brought")]:
        del sys.modules[name]


def write(text, monkeypatch, name="mine.py"):
    Path(name).write_text(text)
    base._METHODS.pop("mine", None)
    base._LOADED.clear()
    monkeypatch.setenv(base.PLUGINS, name)


def settings(scenes, name="one") -> Config:
    "Two steps of the method."
    data = DataConfig(str(scenes), "labelled", val="val", crop=32, check=False)
    system = SystemConfig("cpu")
    return Config(name, data, TINY, method_config("mine"), OptimConfig(0.01), system, batch=4, steps=2, log_every=1)


def line_of(call, error=(ValueError, FloatingPointError)) -> str:
    "The message of the error that a call ends with: one line."
    with pytest.raises(error) as told:
        call()
    assert "\n" not in str(told.value), told.value
    return str(told.value)


def refused(line) -> str:
    "The one line that the command line answers with."
    status, out, err = command_line(line)
    assert status == 2 and err.count("\n") == 1 and err.startswith("corrmatch: error: ") and not out, out + err
    return err


def test_the_sound_method_trains(scenes, monkeypatch):
    write(SOUND, monkeypatch)
    assert train(settings(scenes), progress=False).finished


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_costs_no_step(mistake, scenes, monkeypatch):
    old, new, words = MISTAKES[mistake]
    assert old in SOUND
    write(SOUND.replace(old, new, 1), monkeypatch)
    told = line_of(lambda: train(settings(scenes), progress=False))
    assert all(word in told for word in words), told
    assert not Path("runs/one").exists()


def test_terms_that_come_and_go_are_named(scenes, monkeypatch):
    text = SOUND.replace("return w", "if clock.step == 0:\n            del terms['entropy']\n        return w", 1)
    write(text, monkeypatch)
    told = line_of(lambda: train(settings(scenes), progress=False))
    assert "step 1 has the loss terms sup, total" in told and "entropy" in told and "with 0 for one that is off" in told


def test_a_loss_that_is_no_number_in_the_first_step_is_no_matter_of_the_learning_rate(scenes, monkeypatch):
    write(
        SOUND.replace("entropy = -", "entropy = 0 / clock.step * p.mean() if clock.step else p.mean() * torch.nan -"),
        monkeypatch,
    )
    told = line_of(lambda: train(settings(scenes), progress=False), FloatingPointError)
    assert "step 1: the loss entropy is nan" in told and AT_FIRST in told and "smaller optim.lr" not in told


@pytest.fixture
def run(scenes, monkeypatch) -> Path:
    "A run of the method, which nobody knows any more."
    write(SOUND, monkeypatch)
    train(settings(scenes), progress=False)
    write("", monkeypatch)
    monkeypatch.delenv(base.PLUGINS)
    return Path("runs/one")


def test_a_run_says_which_file_its_method_came_from(run, scenes, monkeypatch):
    file = Path("mine.py").resolve()
    assert read_json(run / "config.json")["method"]["from"] == str(file)
    picture = next((scenes / "JPEGImages").iterdir())
    for line in (
        "evaluate runs/one",
        f"predict runs/one {picture} --out out",
        "export runs/one --out net.pt2 --format torch",
        "report runs/one",
        "train --config runs/one/config.json --resume",
    ):
        told = refused(line)
        assert f"method 'mine' of {file}" in told and f"{base.PLUGINS}={file} brings it" in told, told
        assert "perhaps" not in told
    file.unlink()
    assert "which is not there" in refused("evaluate runs/one")


def test_a_method_whose_file_was_changed_since_is_named(run, monkeypatch):
    write(
        SOUND.replace("self.net = build()", "self.net = build()\n        self.extra = torch.nn.Linear(2, 2)"),
        monkeypatch,
    )
    told = line_of(lambda: load_run(run, "last"))
    assert "does not fit the method 'mine'" in told and "mine.py" in told and "extra.bias is lacking (2 in all)" in told


FILES = {  # what CORRMATCH_METHODS says -> words of the line; `mine.py`, `folder/` and `note.ipynb` are there
    ".": ["is a folder", "give a .py file"],
    "folder": ["folder is a folder", "give a .py file"],
    "folder/": ["is a folder"],
    "mine": ["there is no module mine", "write mine.py"],
    "mien.py": ["no such file", "did you mean mine.py?"],
    "mine.py:other.py": ["no such file", "did you mean"],
    "mine.py other.py": ["no such file"],
    "note.ipynb": ["there is no module note"],
    "random.py": ["random is a module already", "another name"],
    "a b": ["neither a .py file nor a module", "commas"],
}


@pytest.mark.parametrize("value", FILES)
def test_what_brings_no_method_is_told_and_nothing_else(value, monkeypatch):
    for name in ("mine.py", "other.py", "random.py"):
        Path(name).write_text(SOUND)
    Path("folder").mkdir()
    Path("note.ipynb").write_text("{}")
    monkeypatch.setenv(base.PLUGINS, value)
    told = refused("methods")
    assert f"{base.PLUGINS}={value}" in told and all(word in told for word in FILES[value]), told


def test_blanks_around_a_comma_do_not_matter_and_a_cost_that_is_lacking_is_not_made_up(monkeypatch):
    write(SOUND, monkeypatch)
    Path("second.py").write_text(SOUND.replace('"mine"', '"second"'))
    monkeypatch.setenv(base.PLUGINS, " mine.py , second.py ,")
    status, out, _ = command_line("methods")
    assert status == 0 and "\nmine" in out and "\nsecond" in out and "cost not stated" in out
    base._METHODS.pop("second")
