"""The paper's tables and figures: numbers, settings of their rows, records in results/, one command that trains, goes on, prints and draws.

Where something is trained, the toy recipe is exchanged for one in miniature: a network of a few channels, a few images, three or four steps.
"""

import re
import signal
import sys
from dataclasses import replace
from types import SimpleNamespace
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from frame import ROOT, cells

sys.path.insert(0, str(ROOT))
from corrmatch.cli import main
from corrmatch.data.toy import make_toy
from corrmatch.engine import trainer
from corrmatch.engine.config import to_dict
from corrmatch.engine.results import Result
from corrmatch.engine.runs import load_checkpoint, read_log, save_json
from corrmatch.methods import DEFAULT
from corrmatch.methods.corrmatch.method import CorrMatchConfig, Weights
from corrmatch.methods.corrmatch.propagation import propagate_regions
from corrmatch.recipes.published import RECIPES, Recipe, labelled_only, toy, using, voc_classic_92
from reproduction import figures, pictures, search, step_picture
from reproduction.compare import apart, explained, measure, measured_in, noise, readable, verdict
from reproduction.paper import TABLES, paper_table, plot_field, source
from reproduction.runs import ALONE, RUNS, change, check_same, recipes_of, row_config

SMALL = {
    "data.crop": 48,
    "model.width": 4,
    "model.channels": 8,
    "model.low_channels": 4,
    "model.weights": None,
    "method.projection": 8,
    "method.num_shapes": 8,
    "method.threshold_init": 0.2,
    "batch": 2,
    "log_every": 1,
    "evaluate_every": 1,
    "steps": 4,
    "system.device": "cpu",
}
ROWS = ("weak_to_strong", "pixel_only", "corrmatch")
# where the runs of the figures lie: the second has rows of tables
LOGS = [ROOT / "results" / folder for folder in ("figures/toy", "toy")]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return make_toy(tmp_path_factory.mktemp("data") / "toy", labelled=4, unlabelled=4, val=3, size=48)


@pytest.fixture
def miniature(monkeypatch):
    monkeypatch.setitem(RECIPES, "toy", Recipe(lambda method=DEFAULT: change(toy(method), SMALL), "In miniature."))


def steps_of(monkeypatch, stop_at=None) -> list:
    "One entry for each training step from now; Ctrl-C is pressed in the n-th."
    seen, real = [], trainer.training_step

    def counted(*args, **options):
        seen.append(1)
        if len(seen) == stop_at:
            signal.raise_signal(signal.SIGINT)
        return real(*args, **options)

    monkeypatch.setattr(trainer, "training_step", counted)
    return seen


def refused(capsys, line, *words):
    with pytest.raises(SystemExit) as stop:
        main(line.split())
    said = capsys.readouterr().err
    assert stop.value.code == 2 and len(said.splitlines()) == 1 and all(w in said for w in words), said


# the paper's numbers


def test_the_tables_are_whole_and_agree():
    "A source, one name a row, columns that are recipes, mIoU between 50 and 90; the same run has the same number everywhere, but for one."
    printed = {}  # (run, recipe) -> {number: tables}
    for name in TABLES:
        table = paper_table(name)
        head = rf"Table {name[5:]} of CorrMatch \(Sun et al\., CVPR 2024\): "
        assert re.match(head, source(name)) and table.index.is_unique
        if name == "table1":
            continue
        numbers = table.drop(columns=["run", "crop"], errors="ignore")
        assert set(numbers) <= set(RECIPES) and numbers.stack().dropna().between(50, 90).all()
        assert all(bool(re.search(r" \[\d+\]$", row)) == (run == "") for row, run in table["run"].items())
        for recipe in numbers:
            for run, number in zip(table["run"], table[recipe]):
                if run and number == number:
                    printed.setdefault((run, recipe), {}).setdefault(number, []).append(name)
    assert [len(paper_table(t)) for t in TABLES] == [5, 14, 18, 9, 9, 3, 4, 10, 3, 3, 6, 4, 2]
    torn = {key: numbers for key, numbers in printed.items() if len(numbers) > 1}
    assert torn == {("corrmatch", "voc_classic_732"): {80.6: ["table2", "table13"], 80.4: ["table7"]}}
    ours = {recipe: next(iter(numbers)) for (run, recipe), numbers in printed.items() if run == "corrmatch"}
    assert ours == {name: r.paper for name, r in RECIPES.items() if r.paper}
    with pytest.raises(ValueError, match="no table of the paper"):
        paper_table("table14")


@pytest.mark.parametrize(
    "name, a, b, gains",
    [
        ("table2", "CorrMatch", "UniMatch [62]", [1.2, 1.3, 0.6, 0.7, 0.6]),
        ("table3", "CorrMatch", "Supervised", [12.0, 7.4, 5.5]),
        ("table4", "CorrMatch", "UniMatch [62]", [0.7, 0.6, 0.2, 0.9]),
        ("table5", "dynamic: hard + soft + propagation", "dynamic: hard + soft", [2.0, 1.3]),
        ("table6", "pixels", "no propagation", [1.4, 0.4, 0.8]),
    ],
)
def test_differences_are_those_that_the_text_names(name, a, b, gains):
    table = paper_table(name)
    numbers = table[[c for c in table if c in RECIPES]]
    assert (numbers.loc[a] - numbers.loc[b]).dropna().round(1).tolist() == gains


def test_figure_1_has_a_line_for_each_method():
    fig = plot_field("table2", {"voc_classic_92": (70.0, 1.0)})
    assert len(fig.axes[0].lines) == len(paper_table("table2")) + 3  # a measured point: marker and two caps


# rows as settings


def test_every_row_has_its_settings():
    "Every row of the ablations, no settings that no table asks for, no two names for one run."
    asked = {run for name in TABLES[1:] for run in paper_table(name)["run"] if run}
    assert asked == set(RUNS) and all((paper_table(f"table{n}")["run"] != "").all() for n in range(5, 14))
    for recipe in ("toy", "voc_classic_92", "cityscapes_186"):
        made = [to_dict(change(RECIPES[recipe].make(), settings)) for settings in RUNS.values()]
        assert all(a != b for i, a in enumerate(made) for b in made[:i])
    assert change(toy(), RUNS["labelled_only"]) == labelled_only(toy(), "toy")
    by_hand = CorrMatchConfig(
        threshold="fixed",
        threshold_init=0.95,
        pixel=False,
        region=False,
        weights=Weights(unsup_hard=0.25, unsup_fp=0.25, unsup_soft=0.0, unsup_corr=0.25),
    )
    assert change(voc_classic_92(), RUNS["fixed_hard"]) == replace(voc_classic_92(), method=by_hand)
    assert (
        change(toy(), {"method.weights.unsup_soft": 0.1}).method.weights.unsup_soft
        == 0.1
        != toy().method.weights.unsup_soft
    )
    with pytest.raises((TypeError, AttributeError)):
        change(toy(), {"method.sofft": "cosine"})


# steps of rows that were made with --steps; results/README.md gives the command
SHORTER = {"voc_animals_104": 640}


def test_the_kept_rows_are_the_rows_of_the_tables():
    "Settings of the runs in results/ are those that their names say; every record has the columns of today."
    found = sorted((ROOT / "results").glob("*/*_seed*/config.json"))
    assert len(found) > 100
    for path in found:
        recipe, (run, seed) = path.parts[-3], path.parts[-2].rsplit("_seed", 1)
        if recipe in RECIPES:
            check_same(path.parent, row_config(recipe, run, int(seed), root="x", steps=SHORTER.get(recipe)))
    for path in sorted((ROOT / "results").rglob("config.json")):
        log, scores = read_log(path.parent), read_log(path.parent, "scores.csv")
        assert not {"confident", "spread", "trusted"} & set(log) and not (path.parent / "trusted.csv").exists()
        assert all(c in ("miou", "accuracy") or c.startswith("iou/") for c in scores), path
        if (path.parent / "pseudo_labels.csv").exists():
            counts = read_log(path.parent, "pseudo_labels.csv")
            assert list(counts) == ["threshold", "mask_ratio", "correct_ratio"]


# measured beside published


@pytest.fixture
def invent(tmp_path):
    "A function that makes up runs: one folder for each seed, the given mIoU, and half a point less after the last step."

    def made(run, scores):
        for seed, miou in enumerate(scores):
            folder = tmp_path / "toy" / f"{run}_seed{seed}"
            save_json(folder / "config.json", {"name": f"toy/{run}_seed{seed}", "seed": seed})
            save_json(folder / "environment.json", {"commit": "none"})
            (folder / "log.csv").write_text("step,seconds\n2,1\n")
            (folder / "scores.csv").write_text(f"step,miou\n1,{miou / 100}\n2,{(miou - 0.5) / 100}\n")
        return tmp_path

    return made


def test_a_difference_counts_when_it_is_more_than_chance(invent):
    "By hand: 60, 61, 65 have the mean 62 and the deviations -2, -1, 3, so the spread is the root of (4 + 1 + 9) / 2."
    invent("weak_to_strong", (60.5, 61.5, 65.5))
    m = measure("table6", "toy", invent("corrmatch", (64.5, 65.5, 69.5)))
    assert m.index.tolist() == ["no propagation", "pixels and regions"] and noise(m) == pytest.approx(7**0.5)
    assert m.loc["no propagation", ["last", "± last", "best"]].tolist() == pytest.approx([62, 7**0.5, 62.5])
    assert apart(m) == {} and "more than 4.3 points" in verdict(m) and "0 of 1 pairs do." in verdict(m)
    text = readable("table6", {"toy": m})
    assert text.loc["no propagation"].tolist() == ["74.4", "78.5", "80.5", "62.0 ± 2.6", "62.5 ± 2.6", "3"]
    assert text.loc["pixels"].tolist() == ["75.8", "78.9", "81.3", "", "", ""]
    here = invent("pixel_only", (70.5, 71.5, 75.5))  # ten points above no propagation, six above CorrMatch
    three = measure("table6", "toy", here)
    assert list(apart(three)) == [("no propagation", "pixels"), ("pixels", "pixels and regions")]
    assert "2 of 3 pairs do: no propagation - pixels: -10.0; pixels - pixels and regions: +6.0." in verdict(three)
    assert "nothing is known" in verdict(measure("table6", "toy", here, (0,)))
    assert list(measured_in(here, "table2")["toy"].index) == ["CorrMatch"] and measured_in(here / "no", "table6") == {}


# the command


def command(scenes, out, more=""):
    return f"reproduce table6 --seeds 0 --steps 3 --root {scenes} --out {out} {more}".split()


def test_an_interrupted_table_goes_on_where_it_stopped(miniature, scenes, tmp_path, monkeypatch, capsys):
    main(command(scenes, tmp_path / "straight"))
    with monkeypatch.context() as patch:
        steps_of(patch, stop_at=5)  # in the second of three steps of the second row
        with pytest.raises(SystemExit) as stop:
            main(command(scenes, tmp_path / "stopped"))
    assert stop.value.code == 130 and "the same command goes on" in capsys.readouterr().err
    runs = tmp_path / "stopped" / "toy"
    assert [p.name for p in sorted(runs.iterdir())] == ["pixel_only_seed0", "weak_to_strong_seed0"]
    assert len(read_log(runs / "pixel_only_seed0")) == 2
    assert not list((tmp_path / "stopped").glob("*.csv")), "half a table is no table"
    seen, before = steps_of(monkeypatch), (runs / "weak_to_strong_seed0" / "last.pt").stat().st_mtime_ns
    main(command(scenes, tmp_path / "stopped", f"--keep {tmp_path / 'kept'}"))
    said = capsys.readouterr().out
    assert len(seen) == 1 + 3, "one step of the second row, three of the third"
    assert (runs / "weak_to_strong_seed0" / "last.pt").stat().st_mtime_ns == before, "a finished row is not touched"
    for run in ROWS:
        straight, stopped = (tmp_path / way / "toy" / f"{run}_seed0" for way in ("straight", "stopped"))
        assert read_log(straight).drop(columns="seconds").equals(read_log(stopped).drop(columns="seconds"))
        ends = [load_checkpoint(r / "last.pt")["method"] for r in (straight, stopped)]
        assert all(torch.equal(v, ends[1][k]) for k, v in ends[0].items() if torch.is_tensor(v))
    # the printed table says whose numbers it shows
    table, paper = pd.read_csv(tmp_path / "stopped" / "table6_toy.csv", index_col="row"), paper_table("table6")
    for row, run in paper["run"].items():
        last = 100 * read_log(tmp_path / "kept" / "toy" / f"{run}_seed0", "scores.csv")["miou"].iloc[-1]
        number = paper.loc[row, "voc_classic_92"]
        assert table.loc[row, "toy last (measured)"] == pytest.approx(last, abs=0.01)
        assert table.loc[row, "voc_classic_92 (paper)"] == number
        assert re.search(rf"^{row} .*{number}.* {last:.1f}", said, re.M)
    assert "(paper)     Table 6 of CorrMatch" in said and "(measured)  by this project, recipe toy" in said
    # --measured trains nothing: it reads what is kept, which is text that names no folder of this machine
    kept = tmp_path / "kept" / "toy" / "corrmatch_seed0"
    assert not any(str(tmp_path) in p.read_text() or str(scenes) in p.read_text() for p in kept.iterdir())
    main(f"reproduce table6 table2 --measured --keep {tmp_path / 'kept'} --out {tmp_path / 'other'}".split())
    again = capsys.readouterr().out
    rows = [[line for line in text.splitlines() if line.startswith("pixels and")] for text in (said, again)]
    assert rows[0] == rows[1] != [] and not (tmp_path / "other" / "toy").exists()


@pytest.mark.parametrize(
    "line, words",
    [
        ("reproduce table60", "no table of the paper"),
        ("reproduce table6 --scale camvid", "--root"),
        ("reproduce", "table"),
        ("reproduce table6 --measured --keep NOWHERE", "NOWHERE"),
        ("reproduce fig12", "fig2"),
        (f"reproduce fig7 {LOGS[0]}/corrmatch_seed0", "without matching"),
        (f"reproduce fig7 {ROOT}/nbs", "config.json"),
    ],
)
def test_a_mistake_is_one_line(line, words, tmp_path, capsys):
    refused(capsys, f"{line} --out {tmp_path / 'runs'}", words)
    assert not (tmp_path / "runs").exists()


def test_without_a_clone_the_command_says_so(tmp_path, capsys, monkeypatch):
    "An installed package has no folder `reproduction` beside it."
    import corrmatch

    monkeypatch.setattr(corrmatch, "__file__", str(tmp_path / "site" / "corrmatch" / "__init__.py"))
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p and not (tmp_path / p / "reproduction").is_dir()])
    for name in [m for m in sys.modules if m.split(".")[0] == "reproduction"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [f for f in sys.meta_path if "editable" not in repr(f)])
    monkeypatch.chdir(tmp_path)
    refused(capsys, "reproduce table1", "clone of the repository")


PAGES = sorted((ROOT / "nbs" / "paper").glob("table*.ipynb"))


def test_a_search_goes_on_where_it_stopped(tmp_path, monkeypatch):
    results = [True, False, True, True]  # whether a run came to its end
    run = lambda config: Result(tmp_path / config.name, 1, 0.5, 0.5, 1.0, results.pop(0))
    monkeypatch.setattr(search, "finish", run)
    monkeypatch.setattr(search, "evaluate", lambda *args: SimpleNamespace(miou=0.5))
    words = ["voc_animals_31", "optim.lr", [0.01, 0.02], "supervised", 4, tmp_path / "data", tmp_path / "out"]
    with pytest.raises(KeyboardInterrupt):
        search.search(*words)
    assert search.search(*words) == {0.01: 50.0, 0.02: 50.0}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_the_pages_show_the_logs_of_today(page):
    "A page that was saved before new runs came shows old tables: python results/make.py pages"
    said = "\n".join(o.get("text", "") for c in cells(page) for o in c.get("outputs", []))
    names = sorted(
        {n for c in cells(page) for n in re.findall(r'"(table\d+)"', c.source) if "measured_in(RESULTS" in c.source}
    )
    assert names and len(PAGES) == 4
    for name in names:
        measured = measured_in(ROOT / "results", name)
        for text in (explained(name, measured), *map(verdict, measured.values())):
            assert text in said, f"{page.name}, {name}: run python results/make.py pages"


# pictures


def test_a_map_of_pseudo_labels_is_counted_where_the_truth_is_known():
    "By hand: four pixels, one of them ignored; two are selected, one of these is right."
    labels, mask = torch.tensor([[1, 1, 0, 0]]), torch.tensor([[True, True, False, True]])
    assert pictures.tally(labels, mask, torch.tensor([[1, 0, 0, 255]])) == "67% selected, 50% of it right"
    assert pictures.tally(labels, ~mask | mask, torch.full((1, 4), 255)) == "0% selected, 0% of it right"


def test_shape_by_shape_ends_where_all_shapes_end():
    "To the last pixel; a refused shape changes nothing."
    g, kinds = torch.Generator().manual_seed(0), set()
    for _ in range(20):
        labels = torch.randint(0, 3, (6, 8), generator=g) * (torch.rand(6, 8, generator=g) < 0.2)
        shapes, confident = torch.rand(5, 6, 8, generator=g) < 0.3, torch.rand(6, 8, generator=g) < 0.8
        seen = pictures.votes(shapes, labels, confident, 0.7)
        together = propagate_regions(shapes[None], labels[None], confident[None], 0.7)
        assert torch.equal(seen[-1].after[0], together[0][0]) and torch.equal(seen[-1].after[1], together[1][0])
        assert all(torch.equal(v.before[0], v.after[0]) for v in seen if v.added < 0)
        kinds |= {v.added > 0 for v in seen}
    assert kinds == {True, False}
    made = [(0, 9, 0.9), (0, 8, 0.9), (2, 1, 0.9), (0, 7, 0.9), (1, -1, 0.5), (1, -1, 0.7)]  # class, pixels, r1
    made = [(pictures.Vote(None, r1, 1.0, top, (), (), added), i) for i, (top, added, r1) in enumerate(made)]
    assert [i for _, i in pictures.most_telling(made)] == [0, 2, 5] and pictures.most_telling([]) == []


@pytest.fixture(scope="module")
def short(scenes, tmp_path_factory):
    "Four steps of CorrMatch."
    out = str(tmp_path_factory.mktemp("runs"))
    config = change(toy(), SMALL | {"name": "short", "out": out, "data.root": str(scenes)})
    return trainer.train(config, progress=False).folder


def test_a_step_in_pictures(short):
    o = pictures.with_map(short)
    made, losses = step_picture.step_tensors(o)
    batch, _, _, _, _, _, again, pseudo = step_picture.recorded_step(pictures.with_map(short))
    assert {k: v.item() for k, v in losses.items()} == {k: v.item() for k, v in again.items()}, "the same step twice"
    assert not o.method.training and "view" not in vars(o.method) and not o.method.proj._forward_hooks
    i = step_picture.most_classes(batch["box"], pseudo.labels, pseudo.mask)
    white = (made["t_s"] == 255).all(2)
    assert np.array_equal(white, ~pseudo.mask[i].numpy()), "white is what does not supervise"
    inside = batch["box"][i].numpy()
    assert inside.any() and np.array_equal(made["cut"][inside], made["t_s"][inside]), "no region enters the box"
    fig = step_picture.fig2([short])
    assert len(fig.axes[0].images) == len(step_picture.PLACES), "every tensor has its picture"
    words = " ".join(t.get_text() for t in fig.axes[0].texts)
    assert all(f"{losses[t].item():.3f}" in words for t in (*step_picture.LOSSES, "unsup_soft"))
    three = torch.zeros(3, 6, 6).bool()
    three[1, 1:5, 1:5] = three[2, 2, 2] = True  # empty, large, one pixel
    dark = (step_picture.mosaic(three) == 30).all(2)
    assert dark.shape == (12, 12) and [dark[:6, :6].sum(), dark[:6, 6:].sum(), dark[6:, 6:].sum()] == [16, 16, 1]


def test_pictures_show_what_their_heads_say(short, scenes):
    heads, o = pictures.HEADS, pictures.with_map(short)
    fig = pictures.fig9([short], rows=(0,))
    assert [ax.get_title().split("\n")[0] for ax in fig.axes] == heads
    (x, y), (u, v) = ((line.get_xdata()[0], line.get_ydata()[0]) for line in fig.axes[0].lines)
    truth = o.pair(0)[1]
    assert truth[y, x] not in (0, 255) and truth[v, u] == 0, "an object, and the background"
    few = pictures.fig4([short], rows=(0,))
    same = [(few.axes[i].images[0].get_array(), fig.axes[j].images[0].get_array()) for i, j in enumerate((0, 3, 4, 6))]
    assert not any(ax.lines for ax in few.axes) and all(np.array_equal(a, b) for a, b in same)
    of = lambda ax: int(ax.get_title().split("\n")[-1].split("%")[0])
    strict, loose, ours = map(of, pictures.fig6([short], rows=(0,)).axes[1:4])
    assert strict <= ours and strict <= loose, "a stricter threshold selects less"
    base = change(toy(), SMALL | {"out": str(short.parent), "data.root": str(scenes), "steps": 1})
    off = change(base, {"name": "off"} | ALONE)
    for config, call in ((off, pictures.with_map), (using(base, "supervised", "alone"), pictures.opened)):
        run = trainer.train(config, progress=False).folder
        with pytest.raises(ValueError, match="give a run of CorrMatch"):
            call(run)


# curves


@pytest.fixture
def fake(tmp_path):
    "A function that writes the logs of a run without a run; columns of a row: step, tau, confident_ratio, mask_ratio."

    def made(name, rows=((10, 0.80, 0.5, 0.6), (20, 0.85, 0.6, 0.8)), counts=True, **method):
        folder, config = tmp_path / name, toy()
        folder.mkdir()
        save_json(folder / "config.json", to_dict(replace(config, name=name, method=replace(config.method, **method))))
        columns = ["step", "tau", "confident_ratio", "mask_ratio"]
        pd.DataFrame(rows, columns=columns).to_csv(folder / "log.csv", index=False)
        scores = {"step": [10, 20], "miou": [0.3, 0.4 + len(name) / 1000], "accuracy": [0.7, 0.8]}
        pd.DataFrame(scores).to_csv(folder / "scores.csv", index=False)
        shares = {"step": [10, 20], "threshold": [0.8, 0.85], "mask_ratio": [0.5, 0.6], "correct_ratio": [0.4, 0.54]}
        if counts:
            pd.DataFrame(shares).to_csv(folder / "pseudo_labels.csv", index=False)
        return folder

    return made


def test_curves_come_from_their_columns(fake, tmp_path):
    alone = {"pixel": False, "region": False}
    ours, without = fake("ours"), fake("without", **alone)
    fixed = fake("fixed", threshold="fixed", threshold_init=0.9, **alone)
    start = fake("start", ((10, 0.60, 0.5, 0.6), (20, 0.62, 0.6, 0.7)), threshold_init=0.5, threshold_momentum=0.99)
    old = fake("old", counts=False)
    kinds = [figures.logged(r).kind for r in (ours, without, fixed, fake("pixel", region=False))]
    assert kinds == ["ours", "without matching", "fixed", "another row of a table"]
    fig = figures.fig7([without, ours])  # in any order; percent, each panel from its own column
    assert [line.get_label() for line in fig.axes[0].lines] == ["with matching", "without"]
    assert [fig.axes[k].lines[0].get_ydata()[-1].round(6) for k in range(3)] == [60, 80, 54]
    fig = figures.fig8([ours, fixed])
    assert [line.get_label() for line in fig.axes[0].lines] == ["fixed 0.9", "ours"]
    assert fig.axes[0].lines[0].get_ydata().round(6).tolist() == [50, 55]  # a mean of five rows, of those there are
    a, b, c, d = figures.fig5([ours, start, without, fixed]).axes
    assert a.lines[0].get_ydata().tolist() == [0.5, 0.60, 0.62] and a.lines[1].get_ydata()[0] == 0.85
    assert [line.get_ydata()[-1].round(6) for line in b.lines] == [70, 55, 55]
    assert c.lines[0].get_ydata().round(6).tolist() == [80, 90]  # .4 of .5, .54 of .6
    assert [p.get_height().round(6) for p in d.patches] == [40.5, 40.4]
    assert len(figures.fig5([ours, without]).axes) == 2 and len(figures.fig5([old, without]).axes) == 1
    for runs in ([ours], [ours, fixed], [old, without]):
        with pytest.raises(ValueError, match="fig7 needs|pseudo_labels.csv"):
            figures.fig7(runs)


@pytest.mark.parametrize("name", ["fig5", "fig7", "fig8"])
def test_curves_are_drawn_from_logs_alone(name, tmp_path, capsys):
    runs = " ".join(
        str(next(d for d in LOGS if (d / f"{run}_seed0").exists()) / f"{run}_seed0") for run in figures.NEEDS[name]
    )
    main(f"reproduce {name} {runs} --out {tmp_path}/new/{name}.png".split())
    assert str(tmp_path) in capsys.readouterr().out and min(Image.open(tmp_path / "new" / f"{name}.png").size) > 200
    refused(capsys, f"reproduce {name} {runs} --out {tmp_path}/new/{name}.png", "--out")


def test_a_figure_without_runs_trains_those_it_needs_and_no_more(miniature, scenes, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = steps_of(monkeypatch)
    main(f"reproduce fig7 --steps 3 --root {scenes}".split())
    assert len(made) == 2 * 3 and (tmp_path / "runs" / "figures" / "fig7.png").exists()
    main(f"reproduce fig3 --steps 3 --root {scenes} --out {tmp_path}/fig3.png".split())
    assert len(made) == 2 * 3, "all figures share their runs"
    assert min(Image.open(tmp_path / "fig3.png").size) > 200
    for name, needed in figures.NEEDS.items():
        assert figures.FIGURES[name].__doc__.startswith(f"Figure {name[3:]}:")
        assert all(figures.figure_config("toy", run).name == f"toy/{run}_seed0" for run in needed)


@pytest.mark.parametrize("fate", ["an earlier version wrote none", "a row more than the checkpoint knows"])
def test_a_run_is_continued_whatever_has_become_of_its_counts(fate, scenes, tmp_path, monkeypatch):
    "What was written before stays; a new file begins where the run goes on, and a row after the last checkpoint is made again."
    config = change(toy(), SMALL | {"name": "run", "out": str(tmp_path), "data.root": str(scenes)})
    whole = trainer.train(replace(config, name="whole"), progress=False).folder
    with monkeypatch.context() as patch:
        steps_of(patch, stop_at=3)
        run = trainer.train(config, progress=False).folder
    file = run / "pseudo_labels.csv"
    assert list(read_log(run, file.name).index) == [2]
    if fate.endswith("none"):
        file.unlink()
        assert figures.logged(run).counts is None
    else:
        file.write_text(file.read_text() + "4,0.5,0.5,0.5\n")
    trainer.train(config, resume=True, progress=False)
    first = 1 if fate.endswith("none") else 0
    assert read_log(run, file.name).equals(read_log(whole, file.name).iloc[first:])
    assert read_log(run, "scores.csv").equals(read_log(whole, "scores.csv"))


def test_the_scales_have_their_recipes():
    assert recipes_of("table5") == ["toy"] and recipes_of("table5", "camvid") == ["camvid", "camvid_cpu"]
    assert recipes_of("table5", "voc") == ["voc_classic_92", "voc_classic_1464"]
    for call in (lambda: recipes_of("table5", "tiny"), lambda: row_config("camvid", "corrmatch")):
        with pytest.raises(ValueError):
            call()
