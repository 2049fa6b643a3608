"What a newcomer gets wrong in a method: each mistake is one line with the place and the way out, and no step is lost."

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
import pytest
import torch
from corrmatch.data.toy import make_toy
from corrmatch.engine.mistakes import AT_FIRST
from corrmatch.methods import base
from corrmatch.testing import command_line

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
MISTAKES = {  # what is wrong -> what stands in the place of which text, words of the line
    "no network": ("self.net = build()", "pass", ["'mine' has no network", "predictor is None", "self.net = build()"]),
    "build is not called": ("build()", "build", ["predictor is a function", "self.net = build()"]),
    "a predictor that is None": ("def after", "predictor = None\n    def after", ["predictor is None"]),
    "a predictor that is no Segmenter": ("self.net = build()", "self.net = torch.nn.Conv2d(3, 6, 1)", ["a Conv2d"]),
    "super is not called": ("super().__init__(config, build)", "pass", ["mine.py, line 24, in __init__", "Module"]),
    "no forward": ("def forward", "def foward", ["no forward(self, phase, batch, clock)", "it has foward"]),
    "forward without a phase": ("def forward(self, phase, ", "def forward(self, ", ["line", "has to take (self, phase"]),
    "after without a clock": ("def after(self, phase, clock", "def after(self", ["Mine.after has to take (self, phase"]),
    "nothing is returned": (LAST, "weighted_sum(terms, {", ["mine.py, line 26", "returned None", "weighted_sum"]),
    "a tensor is returned": (LAST, "return entropy\n        return ({", ["a tensor of shape ()", "weighted_sum"]),
    "a dict is returned": (LAST, "return terms\n        return ({", ["returned a dict", "weighted_sum"]),
    "a total of many numbers": (LAST, "return Losses(p, terms, {})\n        return ({", ["(4, 6, 48, 48)", ".mean()"]),
    "a total without gradient": (LAST, "return Losses(p.detach().mean(), terms, {})\n        ({", ["no_grad"]),
    "terms without total": (LAST, "return Losses(entropy, terms, {})\n        ({", ["'total'", "weighted_sum"]),
    "a term of many numbers": (".sum(1).mean()", ".sum(1)", ["a total that is a tensor of shape (4, 48, 48)"]),
    "a diagnostic of many numbers": (
        '"entropy": self.config.weight}',
        '"entropy": self.config.weight}, logs={"share": p.detach()}',
        ["'share'", "(4, 6, 48, 48)"],
    ),
    "a second strong view": ('"image_s"', '"image_s2"', ["line 27", "image_s2", "image_x", "views = Views(strong=2)"]),
    "a key with a slip": ('batch["image_s"]', 'batch["images_s"]', ["images_s", "did you mean 'image_s'?"]),
    "a key in a dict of its own": ('terms["sup"]', '', []),
    "the logarithm of 0": ("entropy = -", "entropy = (0 * p).log().mean() -", ["the loss entropy", AT_FIRST]),
    "an empty mask": ("entropy = -", "entropy = p[p > 2].mean() -", ["the loss entropy", "nan", "empty mask"]),
    "a root at 0": ("entropy = -", "entropy = (0 * p).sum().sqrt() -", ["a gradient", "root or norm at 0"]),
    "no annotation": ("weight: float = 1.0", "weight = 1.0", ["line 17", "no annotation", "weight: float = 1.0"]),
    "no dataclass": ("@dataclass\n", "", ["MineConfig is no dataclass", "@dataclass"]),
    "views of the wrong class": ("def after", "views = Views()\n    def after", ["move it into MineConfig"]),
    "views that are a dict": ("views = Views(box=None)", "views = dict(box=None)", ["Views(...)"]),
    "not registered": ("@register\n", "", ["registers no method", "@register above class Mine"]),
    "registered with brackets": ("@register\n", "@register()\n", ["line", "register"]),
    "a name with capitals": ('"mine"', '"My Method"', ["'My Method'", "'my_method'"]),
    "the name of another one": ('"mine"', '"fixmatch"', ["'fixmatch' already", "another name"]),
    "a field without a default": ("# more settings", "more: int", ["line", "default"]),
    "a syntax error": ("def after(self, phase, clock):", "def after(self, phase, clock)", ["mine.py, line 32", "':'"]),
    "an error at import": ("@register\n", "1 / 0\n@register\n", ["mine.py, line 20", "ZeroDivisionError"]),
    "an exit at import": ("@register\n", "raise SystemExit(3)\n@register\n", ["mine.py, line 20", "SystemExit"]),
    "an import that is not there": ("import torch\n", "import torhc\n", ["mine.py, line 3", "torhc"]),
    "phases that are a text": ("def after", 'phases = "main"\n    def after', ["phases = 'main'", "('main',)"]),
    "no weight fits": ('{"sup": 1.0, "entropy": self.config.weight}', '{"supervised": 1.0}', ["no term has a weight"]),
    "shapes that do not fit": (".sum(1).mean()", ".sum(1) @ p", ["mine.py, line 28, in forward", "RuntimeError"]),
    "a slip in after": ("        pass\n", "        follow(self.teacher, self.net, 0.9)\n", ["line 33, in after", "teacher"]),
    "in place": ("entropy = -", "p.mul_(2); q = p.exp(); q.mul_(2); entropy = q.mean() -", ["backward pass", "inplace"]),
    "everything frozen": ("self.net = build()", "self.net = build().requires_grad_(False)", ["no parameter that is"]),
    "a confidence without property": ("def after", "def confident_at(self): return 0.9\n    def after", ["@property"]),
}
del MISTAKES["a key in a dict of its own"]


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


def write(text, monkeypatch, name="mine.py"):
    Path(name).write_text(text)
    base._METHODS.pop("mine", None)
    base._LOADED.clear()
    monkeypatch.setenv(base.PLUGINS, name)


def line_of(scenes, name="one", method="--method mine"):
    small = "--model.width 4 --model.channels 8 --model.low-channels 4 --model.weights None --model.rates 1 2 3"
    return f"train toy {method} --data.root {scenes} {small} --data.crop 48 --batch 4 --steps 2 --log-every 1 --name {name}"


def the_line(answer) -> str:
    "The one line of an error."
    status, out, err = answer
    lines = [line for line in err.splitlines() if not line.startswith("corrmatch: warning: ")]
    assert status == 2 and len(lines) == 1 and lines[0].startswith("corrmatch: error: "), out + err
    return lines[0]


def test_the_sound_method_trains(scenes, monkeypatch):
    write(SOUND, monkeypatch)
    status, _, err = command_line(line_of(scenes))
    assert status == 0 and Path("runs/one/last.pt").exists(), err


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_costs_no_step(mistake, scenes, monkeypatch):
    old, new, words = MISTAKES[mistake]
    assert old in SOUND
    write(SOUND.replace(old, new, 1), monkeypatch)
    told = the_line(command_line(line_of(scenes)))
    assert all(word in told for word in words), told
    assert not Path("runs/one").exists()
