"Tables 2 to 4 with methods as rows: what is trained, what goes on, what is printed, and what is kept apart."

import re
import signal
import sys
import pandas as pd
import pytest
from frame import ROOT

sys.path.insert(0, str(ROOT))
from corrmatch.cli import main
from corrmatch.data.toy import make_toy
from corrmatch.engine import trainer
from corrmatch.engine.runs import load_checkpoint, read_log, save_json
from corrmatch.methods import DEFAULT, methods
from corrmatch.recipes.published import RECIPES, Recipe, toy
from reproduction.methods import TABLES_OF_METHODS, costs, measured_methods, method_names, method_of, published
from reproduction.paper import paper_table
from reproduction.runs import SCALES, change, recipes_here, row_config, run_of

SMALL = {
    "data.crop": 48,
    "model.width": 4,
    "model.channels": 8,
    "model.low_channels": 4,
    "model.weights": None,
    "batch": 2,
    "log_every": 1,
    "steps": 4,
    "system.device": "cpu",
}
ASKED = "supervised,st_plus_plus,cps"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return make_toy(tmp_path_factory.mktemp("data") / "toy", labelled=4, unlabelled=4, val=2, size=48)


@pytest.fixture
def miniature(monkeypatch):
    monkeypatch.setitem(RECIPES, "toy", Recipe(lambda method=DEFAULT: change(toy(method), SMALL), "In miniature."))


def test_rows_of_the_paper_are_methods_here():
    assert [method_of(r) for r in ("ST++ [63]", "PS-MT [37]", "Mean Teacher [49]", "CutMix-Seg [11]", "CorrMatch")] == [
        "st_plus_plus",
        "ps_mt",
        "mean_teacher",
        "cutmix_seg",
        "corrmatch",
    ]
    table = published("table2", ["st_plus_plus", "corrmatch", "supervised"])
    assert table.loc["st_plus_plus"].tolist() == [65.2, 71.0, 74.6, 77.3, 79.1]
    assert list(table.index) == ["st_plus_plus", "corrmatch"], "Table 2 has no supervised row"
    assert published("table3").loc["supervised", "voc_aug_662_321"] == 65.6
    for name in TABLES_OF_METHODS:
        assert {method_of(r) for r in paper_table(name).index} & set(methods()) == set(published(name).index)
    with pytest.raises(ValueError, match="no methods"):
        published("table6")


def test_every_method_has_settings_at_every_scale():
    for recipes in SCALES.values():
        for recipe in recipes:
            for method in methods():
                config = row_config(recipe, run_of(method), 3, root="x")
                assert config.method.name == method and config.name == f"{recipe}/{run_of(method)}_seed3"
                assert config.method == RECIPES[recipe].make(method).method
    assert run_of("supervised") == "labelled_only" and run_of("cps") == "cps"
    assert recipes_here("table2", "voc_animals") == ["voc_animals_31", "voc_animals_104", "voc_animals_437"]


def test_names_are_checked():
    assert method_names("cps, corrmatch,cps") == ["cps", "corrmatch"] and method_names("all") == list(methods())
    for wrong in ("", "cps,fixmach"):
        with pytest.raises(ValueError, match="--methods"):
            method_names(wrong)


def test_costs_are_what_methods_say():
    table = costs(["st_plus_plus", "cps"])
    assert table.loc["st_plus_plus"].tolist() == ["2B G", "1, three times", 3] and table.loc["cps", "trainings"] == 1


def asked_for(scenes, out, more=""):
    return f"reproduce table2 table3 --methods {ASKED} --seeds 0 --steps 2 --root {scenes} --out {out} {more}".split()


def test_an_interrupted_table_of_methods_goes_on(miniature, scenes, tmp_path, monkeypatch, capsys):
    "Ctrl-C comes in the second stage of the second row; the same command goes on with it, and touches no finished row."
    real, calls = trainer.training_step, []

    def counted(*args, **options):
        calls.append(1)
        if len(calls) == 2 + 2 + 1:
            signal.raise_signal(signal.SIGINT)
        return real(*args, **options)

    monkeypatch.setattr(trainer, "training_step", counted)
    with pytest.raises(SystemExit) as stop:
        main(asked_for(scenes, tmp_path))
    assert stop.value.code == 130 and "the same command goes on" in capsys.readouterr().err
    runs = tmp_path / "toy"
    assert sorted(p.name for p in runs.iterdir()) == ["labelled_only_seed0", "st_plus_plus_seed0"]
    assert load_checkpoint(runs / "st_plus_plus_seed0" / "stage2" / "last.pt")["step"] == 1
    before = (runs / "labelled_only_seed0" / "last.pt").stat().st_mtime_ns
    main(asked_for(scenes, tmp_path, f"--keep {tmp_path / 'kept'}"))
    said = capsys.readouterr().out
    assert len(calls) == 2 + 3 * 2 + 2, "no step is made twice"
    assert (runs / "labelled_only_seed0" / "last.pt").stat().st_mtime_ns == before
    measured = pd.read_csv(tmp_path / "table2_toy_methods.csv", index_col=["recipe", "method"])
    assert [m for _, m in measured.index] == ASKED.split(",") and measured["trainings"].tolist() == [1, 3, 1]
    for method in ASKED.split(","):
        scores = 100 * read_log(tmp_path / "kept" / "toy" / f"{run_of(method)}_seed0", "scores.csv")["miou"]
        row = measured.loc[("toy", method)]
        assert row["last"] == pytest.approx(scores.iloc[-1], abs=0.01)
        assert row["best"] == pytest.approx(scores.max(), abs=0.01)
        assert re.search(rf"^{method} +{row['last']:.1f} +{row['best']:.1f} +1 ", said, re.M)
    assert (tmp_path / "kept" / "toy" / "st_plus_plus_seed0" / "stage1" / "labels.csv").exists()
    two, three = said.split("Table 2, rows are methods")[1].split("Table 3, rows are methods")
    assert "(as published)" in two and re.search(r"^st_plus_plus +65\.2 +71\.0", two, re.M)
    assert re.search(r"^supervised +65\.6 +70\.4 +72\.8", three, re.M)
    assert two.index("(measured)") < two.index("In miniature.") < two.index("(as published)")
    assert not any(str(v) in measured.to_csv() for v in (65.2, 64.1)), "what was published is kept apart"
    main(f"reproduce table2 --methods cps,corrmatch --measured --keep {tmp_path / 'kept'} --out {tmp_path}/b".split())
    assert list(pd.read_csv(tmp_path / "b" / "table2_toy_methods.csv")["method"]) == ["cps"]
    assert len(calls) == 2 + 3 * 2 + 2, "nothing is trained"


@pytest.mark.parametrize(
    "line, words",
    [
        ("reproduce table6 --methods cps", ["table6", "no methods", "table2"]),
        ("reproduce table2 --methods fixmach", ["fixmach", "choose some of"]),
        ("reproduce table2 --methods cps --scale voc_animals", ["--root"]),
    ],
)
def test_what_cannot_be_made_is_one_line(line, words, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*line.split(), "--out", str(tmp_path)])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and len(said.splitlines()) == 1 and all(w in said for w in words), said


def test_measured_rows_are_means_over_seeds(tmp_path):
    for seed, miou in enumerate((60.0, 61.0, 65.0)):
        run = tmp_path / "toy" / f"cps_seed{seed}"
        save_json(run / "config.json", {"name": run.name, "seed": seed})
        save_json(run / "environment.json", {"commit": "none"})
        (run / "log.csv").write_text("step,seconds\n2,1\n")
        (run / "scores.csv").write_text(f"step,miou\n1,{miou / 100 + 0.01}\n2,{miou / 100}\n")
    m = measured_methods("toy", tmp_path)
    assert list(m.index) == ["cps"] and m.loc["cps", ["seeds", "last", "best"]].tolist() == pytest.approx([3, 62, 63])
    assert m.loc["cps", "± last"] == pytest.approx(7**0.5) and not len(measured_methods("toy", tmp_path, ["corrmatch"]))
    assert measured_methods("toy", tmp_path, seeds=(2,)).loc["cps", "last"] == pytest.approx(65)
