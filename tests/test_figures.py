"""`corrmatch reproduce fig2 ... fig9`: from logs, from a run, and from nothing; and runs from before there was a trusted.csv.

The toy recipe is exchanged for one in miniature: a network of a few channels, three validation images, a few steps.
"""

import signal
from dataclasses import replace
import pytest
import torch
from PIL import Image
from corrmatch.reproduction import figures as paper_figures
from corrmatch.engine import trainer
from corrmatch.cli import main
from corrmatch.recipes.published import RECIPES, Recipe, toy
from corrmatch.reproduction.reproduce import change
from corrmatch.engine.runs import read_log
from corrmatch.data.toy import make_toy
from frame import ROOT

SMALL = {
    "data.crop": 48,
    "model.width": 4,
    "model.channels": 8,
    "model.low_channels": 4,
    "model.projection": 8,
    "model.weights": None,
    "batch": 2,
    "method.num_shapes": 8,
    "method.threshold_init": 0.2,
    "log_every": 1,
    "evaluate_every": 1,
    "steps": 4,
    "system.device": "cpu",
}
# where the runs of the figures lie: the second has rows of tables
LOGS = [ROOT / "results" / folder for folder in ("figures/toy", "toy")]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    torch.set_num_threads(1)
    return make_toy(tmp_path_factory.mktemp("data") / "toy", labelled=4, unlabelled=4, val=3, size=48)


@pytest.fixture(autouse=True)
def miniature(monkeypatch):
    monkeypatch.setitem(RECIPES, "toy", Recipe(lambda: change(toy(), SMALL), "In miniature."))


def refused(capsys, line, *words):
    with pytest.raises(SystemExit) as stop:
        main(line.split())
    said = capsys.readouterr().err
    assert stop.value.code == 2 and len(said.splitlines()) == 1 and all(w in said for w in words), said


@pytest.mark.parametrize("name", ["fig5", "fig7", "fig8"])
def test_curves_are_drawn_from_logs_alone(name, tmp_path, capsys):
    runs = " ".join(
        str(next(d for d in LOGS if (d / f"{run}_seed0").exists()) / f"{run}_seed0")
        for run in paper_figures.NEEDS[name]
    )
    main(f"reproduce {name} {runs} --out {tmp_path}/new/{name}.png".split())
    assert str(tmp_path) in capsys.readouterr().out and min(Image.open(tmp_path / "new" / f"{name}.png").size) > 200
    refused(capsys, f"reproduce {name} {runs} --out {tmp_path}/new/{name}.png", "--out")


def test_a_figure_without_runs_trains_those_it_needs_and_no_more(scenes, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = []
    monkeypatch.setattr(
        trainer, "update", lambda *args, update=trainer.update, **kw: (made.append(1), update(*args, **kw))[1]
    )
    main(f"reproduce fig7 --steps 3 --root {scenes}".split())
    assert len(made) == 2 * 3 and (tmp_path / "runs" / "figures" / "fig7.png").exists()
    for name in ("fig2", "fig3", "fig9"):
        main(f"reproduce {name} --steps 3 --root {scenes} --out {tmp_path}/{name}.png".split())
    assert len(made) == 2 * 3, "all figures share their runs"
    assert all(min(Image.open(tmp_path / f"{name}.png").size) > 200 for name in ("fig2", "fig3", "fig9"))


def test_a_mistake_is_one_line(tmp_path, capsys):
    refused(capsys, "reproduce fig12", "fig12", "fig2")
    refused(
        capsys,
        f"reproduce fig7 {LOGS[0]}/corrmatch_seed0 --out {tmp_path}/a.png",
        "without matching",
        "corrmatch_seed0",
    )
    refused(capsys, f"reproduce fig7 {tmp_path} --out {tmp_path}/a.png", "config.json")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("fate", ["an earlier version wrote none", "a row more than the checkpoint knows"])
def test_a_run_is_continued_whatever_has_become_of_its_trusted_csv(fate, scenes, tmp_path, monkeypatch):
    "What was written before stays; a new file begins where the run goes on, and a row that lies after the last checkpoint is made again."
    config = replace(
        RECIPES["toy"].make(), name="run", out=str(tmp_path), data=replace(RECIPES["toy"].make().data, root=str(scenes))
    )
    whole = trainer.train(replace(config, name="whole"), progress=False).folder
    with monkeypatch.context() as patch:
        seen, real = [], trainer.update
        patch.setattr(
            trainer,
            "update",
            lambda *args, **kw: (
                seen.append(1),
                len(seen) == 3 and signal.raise_signal(signal.SIGINT),
                real(*args, **kw),
            )[2],
        )
        run = trainer.train(config, progress=False).folder
    assert list(read_log(run, "trusted.csv").index) == [2]
    if fate.endswith("none"):
        (run / "trusted.csv").unlink()
        assert paper_figures.logged(run).trusted is None
    else:
        (run / "trusted.csv").write_text((run / "trusted.csv").read_text() + "4,0.5,0.5,0.5\n")
    trainer.train(config, resume=True, progress=False)
    first = 1 if fate.endswith("none") else 0
    assert read_log(run, "trusted.csv").equals(read_log(whole, "trusted.csv").iloc[first:]) and read_log(
        run, "scores.csv"
    ).equals(read_log(whole, "scores.csv"))
