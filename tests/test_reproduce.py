"""A table is trained, interrupted, continued and printed by one command; the pages show what the logs hold.

The toy recipe is exchanged for one in miniature: a network of a few channels, two validation images, three steps.
"""

import re
import signal
import pandas as pd
import pytest
import torch
from corrmatch.reproduction import reproduce
from corrmatch.engine import trainer
from corrmatch.cli import main
from corrmatch.reproduction.compare import explained, measured_in, verdict
from corrmatch.reproduction.paper import paper_table
from corrmatch.recipes.published import RECIPES, Recipe, toy
from corrmatch.engine.runs import load_checkpoint, read_log
from corrmatch.data.toy import make_toy
from frame import ROOT, cells

SMALL = {
    "data.crop": 48,
    "model.width": 4,
    "model.channels": 8,
    "model.low_channels": 4,
    "model.projection": 8,
    "model.weights": None,
    "batch": 2,
    "method.num_shapes": 8,
    "log_every": 1,
}
ROWS = ("weak_to_strong", "pixel_only", "corrmatch")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    torch.set_num_threads(1)
    return make_toy(tmp_path_factory.mktemp("data") / "toy", labelled=4, unlabelled=6, val=2, size=48)


@pytest.fixture(autouse=True)
def miniature(monkeypatch):
    monkeypatch.setitem(RECIPES, "toy", Recipe(lambda: reproduce.change(toy(), SMALL), "In miniature."))


def command(scenes, out, more=""):
    return f"reproduce table6 --seeds 0 --steps 3 --root {scenes} --out {out} {more}".split()


def stop_at(monkeypatch, n):
    "Press Ctrl-C in the n-th training step from now."
    seen, real = [], trainer.update

    def update(*args, **kw):
        seen.append(1)
        if len(seen) == n:
            signal.raise_signal(signal.SIGINT)
        return real(*args, **kw)

    monkeypatch.setattr(trainer, "update", update)
    return seen


def test_an_interrupted_table_goes_on_where_it_stopped(scenes, tmp_path, monkeypatch, capsys):
    main(command(scenes, tmp_path / "straight"))
    with monkeypatch.context() as patch:
        stop_at(patch, 5)  # in the second of three steps of the second row
        with pytest.raises(SystemExit) as stop:
            main(command(scenes, tmp_path / "stopped"))
    assert stop.value.code == 130 and "the same command goes on" in capsys.readouterr().err
    runs = tmp_path / "stopped" / "toy"
    assert [p.name for p in sorted(runs.iterdir())] == ["pixel_only_seed0", "weak_to_strong_seed0"] and len(
        read_log(runs / "pixel_only_seed0")
    ) == 2
    assert not list((tmp_path / "stopped").glob("*.csv")), "half a table is no table"
    seen, before = stop_at(monkeypatch, 99), (runs / "weak_to_strong_seed0" / "last.pt").stat().st_mtime_ns
    main(command(scenes, tmp_path / "stopped"))
    assert len(seen) == 1 + 3, "one step of the second row, three of the third"
    assert (runs / "weak_to_strong_seed0" / "last.pt").stat().st_mtime_ns == before, "a finished row is not touched"
    for run in ROWS:
        straight, stopped = (tmp_path / way / "toy" / f"{run}_seed0" for way in ("straight", "stopped"))
        assert read_log(straight).drop(columns="seconds").equals(read_log(stopped).drop(columns="seconds"))
        assert all(
            torch.equal(a, b)
            for a, b in zip(*(load_checkpoint(r / "last.pt")["net"].values() for r in (straight, stopped)))
        )
    tables = [
        pd.read_csv(tmp_path / way / "table6_toy.csv", index_col="row").drop(columns="toy seconds (measured)")
        for way in ("straight", "stopped")
    ]
    pd.testing.assert_frame_equal(*tables)


def test_the_printed_table_says_whose_numbers_it_shows(scenes, tmp_path, capsys):
    main(command(scenes, tmp_path, f"--keep {tmp_path / 'kept'}"))
    said = capsys.readouterr().out
    table = pd.read_csv(tmp_path / "table6_toy.csv", index_col="row")
    for row, run in paper_table("table6")["run"].items():
        scores = read_log(tmp_path / "kept" / "toy" / f"{run}_seed0", "scores.csv")["miou"]
        assert (
            table.loc[row, "toy last (measured)"] == pytest.approx(100 * scores.iloc[-1], abs=0.01)
            and table.loc[row, "toy seeds (measured)"] == 1
        )
        assert table.loc[row, "voc_classic_92 (paper)"] == paper_table("table6").loc[row, "voc_classic_92"]
        assert re.search(
            rf"^{row} .*{paper_table('table6').loc[row, 'voc_classic_92']}.* "
            rf"{100 * scores.iloc[-1]:.1f}",
            said,
            re.M,
        )
    assert (
        "(paper)     Table 6 of CorrMatch" in said
        and "Pascal VOC 2012 val" in said
        and "(measured)  by this project, recipe toy" in said
    )
    # --measured trains nothing: it reads what is kept
    for path in (tmp_path / "toy").rglob("*.pt"):
        path.unlink()
    main(f"reproduce table6 table2 --measured --keep {tmp_path / 'kept'} --out {tmp_path / 'other'}".split())
    again = capsys.readouterr().out
    assert [line for line in again.splitlines() if line.startswith("pixels and")] == [
        line for line in said.splitlines() if line.startswith("pixels and")
    ]
    assert re.search(r"^UniMatch \[62\] .*81.2", again, re.M) and not (tmp_path / "other" / "toy").exists()


@pytest.mark.parametrize(
    "line, words",
    [
        ("reproduce table60", "no table of the paper"),
        ("reproduce table6 --scale camvid", "--root"),
        ("reproduce", "table"),
        ("reproduce table6 --measured --keep NOWHERE", "NOWHERE"),
    ],
)
def test_a_mistake_is_one_line(line, words, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*line.split(), "--out", str(tmp_path / "runs")])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and words in said and len(said.splitlines()) == 1 and not (tmp_path / "runs").exists()


def test_the_kept_rows_are_the_rows_of_the_tables(monkeypatch):
    "Settings of the runs in results/ are those that their names say; the paths of no machine stand there."
    for path in sorted((ROOT / "results").glob("*/*_seed*/config.json")):
        recipe, (run, seed) = path.parts[-3], path.parts[-2].rsplit("_seed", 1)
        monkeypatch.setitem(RECIPES, "toy", Recipe(toy, toy.__doc__))
        reproduce.check_same(path.parent, reproduce.row_config(recipe, run, int(seed), root="x"))
        assert {p.name for p in path.parent.iterdir()} >= {"environment.json", "log.csv", "scores.csv"}


PAGES = [
    p for p in sorted((ROOT / "nbs").glob("13*.ipynb")) if any("measured_in(RESULTS" in c.source for c in cells(p))
]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_the_pages_show_the_logs_of_today(page, monkeypatch):
    "A page that was saved before new runs came shows old tables: python results/make.py pages"
    monkeypatch.setitem(RECIPES, "toy", Recipe(toy, toy.__doc__))
    said = "\n".join(o.get("text", "") for c in cells(page) for o in c.get("outputs", []))
    names = sorted(
        {n for c in cells(page) for n in re.findall(r'"(table\d+)"', c.source) if "measured_in(RESULTS" in c.source}
    )
    assert names
    for name in names:
        measured = measured_in(ROOT / "results", name)
        for text in (explained(name, measured), *map(verdict, measured.values())):
            assert text in said, f"{page.name}, {name}: run python results/make.py pages"


def test_there_are_pages():
    assert len(PAGES) == 4
