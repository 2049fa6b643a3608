"Promises that every registered method keeps, and a method of an outsider that nothing else knows of."

import io
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
import pytest
import torch
from torch.nn import functional as F
from corrmatch.data.toy import make_toy
from corrmatch.engine.config import Config, DataConfig, OptimConfig, SystemConfig, method_config
from corrmatch.engine.processes import Processes
from corrmatch.engine.results import load_method, load_run
from corrmatch.engine.runs import load_checkpoint
from corrmatch.engine.state import TrainState, training_step
from corrmatch.engine.trainer import make_context, train
from corrmatch.extras.export import export_run, load_exported
from corrmatch.methods import Method, MethodConfig, methods, register
from corrmatch.methods import base
from corrmatch.methods.base import Clock, weighted_sum
from corrmatch.models.base import Segmenter
from corrmatch.nn.ema import follow, make_teacher
from corrmatch.testing import image_forwards
import drills
from twenty_steps import TINY

NAMES = sorted(methods())
SETTINGS = {  # a network that has learnt nothing is confident nowhere: thresholds that its pixels reach
    "corrmatch": {"threshold_init": 0.2, "projection": 16, "num_shapes": 16},
    "fixmatch": {"threshold": 0.2},
    "unimatch": {"threshold": 0.2},
    "cutmix_seg": {"threshold": 0.17},
    "augseg": {"threshold": 0.17},
    "ccvc": {"threshold": 0.2},
    "ps_mt": {"threshold": 0.17, "warmup": 0},
    "cac": {"threshold": 0.17, "warmup": 0},
    "u2pl": {"warmup": 0, "positive": 0.17, "queue": 50, "background": 80, "channels": 8},
    "ael": {"threshold": 0.17},
    "gct": {"width": 4, "floor": 0.0, "flawed": 0.3},  # a small detector
    "eln": {"width": 4, "pretrain": 0.0, "localise": 0.0, "gates": (0.0, 0.0), "side": 6},  # a small localiser
    "pcr": {"threshold": 0.17},
}
# the view that is made NaN; CorrMatch stops at once when the weak prediction is NaN, which its threshold would keep
POISONED = {"corrmatch": "image_s", "ps_mt": "image_s"}
MEANS = {
    "ps_mt"
}  # whose predictor is the mean of two teachers, which no student becomes: its student alone is compared
# methods whose predictor does not follow the supervised baseline when all unlabelled terms are off: why
EXCEPTIONS: dict[str, str] = {
    "gta": "unlabelled images pass through the student, behind no loss: its batch norm sees them",
}
# the CutMix source of the published code where it is not a second crop; the cost that a method states is with it
SOURCES = dict.fromkeys(("ccvc", "gta", "ael", "pcr"), "batch")


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return make_toy(tmp_path_factory.mktemp("methods") / "toy", labelled=8, unlabelled=16, val=2, size=64)


@pytest.fixture
def start(toy, tmp_path):
    "A function: name of a method -> settings of a run, its batches, and its state."

    def make(name, off=False, partner="crop", accumulate=1, skip=0, **settings):
        method = method_config(name, **SETTINGS.get(name, {}) | settings)
        config = Config(
            f"{name}-{len(list(tmp_path.iterdir()))}",
            DataConfig(str(toy), "labelled", val="val", crop=48, partner=partner, check=False),
            TINY,
            replace(method, **method.unlabelled_off()) if off else method,
            OptimConfig(0.01),
            SystemConfig("cpu", accumulate=accumulate, skip_bad_steps=skip),
            batch=4,
            steps=4,
            out=str(tmp_path),
        )
        context = make_context(config, Processes())
        if config.method.stages:  # what the stages before have labelled
            masks = [context.folder.mask_path(id) for id in context.split.labelled]
            context.views.labels = dict(zip(context.split.unlabelled, masks * 2))
        return config, list(context.batches(0)), TrainState(config, 6)

    return make


def run(config, batches, state, until):
    "Go on to a step; the losses of the last one."
    while state.step < until:
        losses = training_step(state, batches[state.step], config, 4)
    return losses


def leaves(value, path=""):
    "All plain values of nested dicts and lists, with their places."
    if isinstance(value, (Mapping, list, tuple)):
        for key, part in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from leaves(part, f"{path}/{key}")
    else:
        yield path, value


def assert_same(a, b):
    "Equal to the last bit, everywhere."
    a, b = dict(leaves(a)), dict(leaves(b))
    assert list(a) == list(b)
    differ = [k for k in a if not (torch.equal(a[k], b[k]) if torch.is_tensor(a[k]) else a[k] == b[k])]
    assert not differ, differ[:5]


def copied(state):
    "Method and optimisers of a state, through the bytes of a file."
    file = io.BytesIO()
    torch.save({k: v for k, v in state.state_dict().items() if k not in ("last", "best")}, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def weights(state):
    return [p.detach().clone() for p in state.net.parameters()]


@pytest.mark.parametrize("name", NAMES)
def test_a_method_says_what_it_is(name):
    method = methods()[name]
    assert method.about and method.cost and method.networks and method.fidelity
    assert method.paper or name == "supervised"
    assert method.Config().views.unlabelled == (name != "supervised")


@pytest.mark.parametrize("name", NAMES)
def test_two_steps_run_and_no_gradient_reaches_a_teacher(name, start):
    config, batches, state = start(name)
    first = {k: v.clone() for k, v in state.method.state_dict().items() if torch.is_tensor(v)}
    losses = run(config, batches, state, 2)
    values = {**losses.terms, **losses.logs}
    assert all(v.isfinite() and not v.requires_grad for v in values.values())
    if config.method.views.unlabelled:
        assert all(v > 0 for k, v in losses.terms.items() if k.startswith("unsup"))
        assert any(k.startswith("unsup") for k in losses.terms)
    frozen = {k: p for k, p in state.method.named_parameters() if not p.requires_grad}
    moved = {id(p) for o in state.optimizers.values() for g in o.param_groups for p in g["params"]}
    assert bool(frozen) == ("teacher" in state.method.networks)
    assert all(p.grad is None and id(p) not in moved for p in frozen.values())
    for key, p in state.method.named_parameters():
        assert p.requires_grad == (id(p) in moved)
        assert not torch.equal(p, first[key]) or key in frozen and not p.any(), key


def student(state):
    "The parameters of a method's first network."
    net = next(m for m in state.method.modules() if isinstance(m, Segmenter))
    return [p.detach().clone() for p in net.parameters()]


@pytest.mark.parametrize("name", [n for n in NAMES if n != "supervised"])
def test_without_unlabelled_terms_student_and_predictor_are_the_supervised_one(name, start):
    if name in EXCEPTIONS:
        pytest.skip(EXCEPTIONS[name])
    baseline, off, on = start("supervised"), start(name, off=True), start(name)
    for step in (1, 2, 3):
        for run_of in (baseline, off):
            losses = run(*run_of, until=step)
        assert losses.terms["total"] > 0
        assert_same(student(off[2]), weights(baseline[2]))
        if name not in MEANS:
            assert_same(weights(off[2]), weights(baseline[2]))
    run(*on, until=1)
    assert any(not torch.equal(a, b) for a, b in zip(weights(on[2]), weights(start("supervised")[2])))


def test_gta_is_the_supervised_baseline_but_for_batch_norm(start):
    "In its warm-up to the bit; behind it where the statistics of batch norm are constants."
    baseline, off = start("supervised"), start("gta", warmup=3)
    for run_of in (baseline, off):
        run(*run_of, until=3)
    assert_same(weights(off[2]), weights(baseline[2]))

    baseline, off, on = start("supervised"), start("gta", off=True), start("gta")
    for config, batches, state in (baseline, off, on):
        for m in state.method.modules():
            if isinstance(m, torch.nn.BatchNorm2d):
                m.eval()
        run(config, batches, state, 4)
    student = lambda state: state.method.net.parameters()
    far = lambda a, b: max((x - y).abs().max().item() for x, y in zip(student(a), student(b)))
    assert far(off[2], baseline[2]) < 1e-5 < 1e-3 < far(on[2], baseline[2])


@pytest.mark.parametrize("name", NAMES)
def test_two_steps_and_two_more_are_four(name, start):
    config, batches, state = start(name)
    run(config, batches, state, 2)
    saved, again = copied(state), start(name)[2]
    run(config, batches, again, 1)  # another state, to be overwritten
    again.load_state_dict(saved)
    for one in (state, again):
        run(config, batches, one, 4)
    assert_same(copied(state), copied(again))


@pytest.mark.parametrize("name", NAMES)
def test_a_step_in_two_parts_runs(name, start):
    config, batches, state = start(name, partner="batch", accumulate=2)
    before = weights(state)
    losses = run(config, batches, state, 1)
    assert all(v.isfinite() for v in losses.terms.values()) and state.step == 1
    assert any(not torch.equal(a, b) for a, b in zip(before, weights(state)))


@pytest.mark.parametrize("name", NAMES)
def test_a_step_that_is_left_out_changes_nothing(name, start):
    config, batches, state = start(name, skip=1)
    run(config, batches, state, 1)
    before = copied(state)
    batches[1][POISONED.get(name, "image_x")][0] = torch.nan
    with pytest.warns(UserWarning, match="left out"):
        losses = run(config, batches, state, 2)
    assert not losses.terms and (state.step, state.skipped) == (2, 1)
    after = copied(state)
    for part in ("method", "optimizers"):
        rates = [k for k, _ in leaves(before[part]) if k.endswith("/lr")]  # the step's own, whatever became of it
        pick = lambda state: {k: v for k, v in leaves(state[part]) if k not in rates}
        assert_same(pick(before), pick(after))


PHASES = [(name, phase) for name in NAMES for phase in methods()[name].phases]


@pytest.mark.parametrize("name, phase", [pair for pair in PHASES if pair[1] != "main"])
def test_a_phase_that_fails_takes_the_whole_step_with_it(name, phase, start, monkeypatch):
    "What earlier phases of the step have moved goes back: networks, momenta, statistics."
    config, batches, state = start(name, skip=1)
    run(config, batches, state, 2)
    before, forward, seen = copied(state), methods()[name].forward, []

    def spoilt(self, now, batch, clock):
        losses = forward(self, now, batch, clock)
        seen.append(now)
        if now != phase:
            return losses
        terms = losses.terms | {"total": losses.total.detach() * torch.nan}
        return losses._replace(total=losses.total * torch.nan, terms=terms)

    monkeypatch.setattr(methods()[name], "forward", spoilt)
    with pytest.warns(UserWarning, match="left out"):
        losses = run(config, batches, state, 3)
    assert not losses.terms and seen == list(state.method.phases[: state.method.phases.index(phase) + 1])
    for part in ("method", "optimizers"):
        pick = lambda state: {k: v for k, v in leaves(state[part]) if not k.endswith("/lr")}
        assert_same(pick(before), pick(copied(state)))
    monkeypatch.undo()
    assert run(config, batches, state, 4).terms and state.skipped == 1


@pytest.mark.parametrize("name, phase", PHASES)
def test_a_run_that_is_killed_in_a_phase_goes_on_from_its_last_checkpoint(name, phase, start, monkeypatch):
    config = replace(start(name)[0], save_every=1, steps=6)  # an epoch has four
    whole = train(replace(config, name="whole"), progress=False)
    forward = methods()[name].forward

    def deadly(self, now, batch, clock):
        losses = forward(self, now, batch, clock)
        if now == phase and clock.step == 4:  # the rehearsal is that of the last step
            drills.die()
        return losses

    monkeypatch.setattr(methods()[name], "forward", deadly)
    config = replace(config, name="killed")
    assert drills.ended(drills.child(lambda: train(config, progress=False))) == -signal.SIGKILL
    monkeypatch.undo()
    first = [*(stage.name for stage in config.method.stages), ""][0]  # of several trainings it was in the first
    assert load_checkpoint(Path(config.out, "killed", first, "last.pt"))["step"] == 4
    result = train(config, resume=True, progress=False)
    assert whole.finished and result.finished and result.steps == 6
    drills.same_runs(whole.folder, result.folder)


@pytest.mark.parametrize("name", NAMES)
def test_the_cost_is_what_hooks_count(name, start):
    _, batches, state = start(name, partner=SOURCES.get(name, "crop"))
    assert image_forwards(state.method, batches[0], Clock(step=2, total=4)) == state.method.cost  # behind a warm-up


@pytest.mark.parametrize("name", NAMES)
def test_a_run_predicts_images_of_any_size(name, start):
    config, _, _ = start(name)
    result = train(replace(config, steps=1), progress=False)
    net, classes, loaded = load_run(result.folder)
    assert loaded.method == config.method and result.finished
    with torch.no_grad():
        assert net(torch.zeros(1, 3, 40, 57)).shape == (1, len(classes), 40, 57)


def test_a_method_may_choose_its_phases_by_its_settings(start):
    for future, phases in ((0, ("main",)), (2, ("future 1", "future 2", "main"))):
        config, batches, state = start("fst", future=future)
        assert state.method.phases == phases and run(config, batches, state, 1).total.isfinite()


@pytest.mark.parametrize("phase", ["future 2", "main"])
def test_what_a_step_that_is_left_out_remembered_is_forgotten(phase, start, monkeypatch):
    settings = {"future": 2, "restore_momentum": True, "skip": 1}
    config, batches, state = start("fst", **settings)
    run(config, batches, state, 1)
    forward = methods()["fst"].forward

    def spoilt(self, now, batch, clock):
        losses = forward(self, now, batch, clock)
        return losses._replace(total=losses.total * torch.nan) if now == phase else losses

    monkeypatch.setattr(methods()["fst"], "forward", spoilt)
    with pytest.warns(UserWarning, match="left out"):
        run(config, batches, state, 2)
    monkeypatch.undo()
    again = start("fst", **settings)[2]
    again.load_state_dict(copied(state))
    for one in (state, again):
        run(config, batches, one, 4)
    assert_same(copied(state), copied(again))


def test_a_method_may_choose_its_views_by_its_settings(start):
    for cutmix, boxes in ((True, {"box", "image_w_mix", "valid_mix"}), (False, set())):
        config, batches, state = start("cps", cutmix=cutmix)
        assert {k for k in batches[0] if "box" in k or "mix" in k} == boxes and "image_s" not in batches[0]
        assert run(config, batches, state, 1).total.isfinite()


@dataclass
class OutsiderConfig(MethodConfig):
    weight: float = 1.0


class Outsider(Method):
    name, Config = "outsider", OutsiderConfig

    def __init__(self, config, build):
        super().__init__(config, build)
        self.net = build()
        self.teacher = make_teacher(self.net)
        self.register_buffer("queue", torch.zeros(3))

    def forward(self, phase, batch, clock):
        target = self.teacher(batch["image_w"]).softmax(1)
        self.mean = target.amax(1).mean().detach()
        terms = {
            "sup_hard": self.supervised(self.net(batch["image_x"]), batch, clock),
            "unsup_mse": F.mse_loss(self.net(batch["image_s"]).softmax(1), target),
        }
        return weighted_sum(terms, {"sup_hard": 1.0, "unsup_mse": self.config.weight})

    def after(self, phase, clock):
        follow(self.teacher, self.net, 0.9)
        self.queue = torch.cat([self.queue[1:], self.mean[None]])


@pytest.fixture
def outsider():
    register(Outsider)
    yield Outsider
    base._METHODS.pop("outsider")


def test_a_method_of_an_outsider_trains_stops_resumes_and_is_exported(outsider, start, tmp_path, monkeypatch):
    config, _, _ = start("outsider")
    whole = train(replace(config, name="whole"), progress=False)

    def killed(self, phase, clock):
        outsider.follows(self, phase, clock)
        if clock.step == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(outsider, "follows", outsider.after, raising=False)
    monkeypatch.setattr(outsider, "after", killed)
    config = replace(config, name="killed")
    assert not (stopped := train(config, progress=False)).finished and stopped.steps == 2
    monkeypatch.undo()
    result = train(config, resume=True, progress=False)
    assert whole.finished and result.finished and result.steps == 4
    one, other = (load_method(r.folder, "last")[0] for r in (whole, result))
    assert_same(one.state_dict(), other.state_dict())
    assert (one.queue > 0).all() and not torch.equal(one.teacher.classifier.weight, one.net.classifier.weight)

    assert export_run(result.folder, tmp_path / "outsider.pt2", "torch") < 1e-3
    predict, details = load_exported(tmp_path / "outsider.pt2")
    assert predict(torch.rand(1, 3, 40, 57)).shape == (1, 6, 40, 57) and details["run"] == "killed"
