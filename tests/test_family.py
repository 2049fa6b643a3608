"The page of all methods: its tree, its pictures, its costs."

import pandas as pd
import pytest
from matplotlib import pyplot as plt
from corrmatch.methods import methods
from reproduction import family as pictures
from reproduction.family import cost_and_score, diagrams, family, family_order
from reproduction.methods import method_of
from reproduction.paper import paper_table

OURS = [name for name, m in methods().items() if m.__module__.startswith("corrmatch.")]


def test_every_method_and_every_row_of_the_tables_has_a_place_in_the_tree():
    listed = pd.read_csv(pictures.__file__.replace(".py", ".csv"), index_col="method").index
    assert not {*OURS} - {*listed}, "give the method a line in reproduction/family.csv: year, from whom, what it adds"
    rows = {method_of(row) for name in ("table2", "table3", "table4") for row in paper_table(name).index}
    assert not {row for row in rows if not row.startswith("sup")} - {*listed}


def test_a_child_is_not_older_than_its_parent_and_stands_once():
    table = family()
    assert sorted(family_order(table)) == sorted(table.index)
    for name, row in table[table["from"] != ""].iterrows():
        parent = table.loc[row["from"]]
        assert pd.isna(parent["year"]) or parent["year"] <= row["year"], name


def test_the_year_is_that_of_the_paper(monkeypatch):
    monkeypatch.setattr(methods()["cps"], "paper", "Somebody, ICCV 2031")
    assert family().loc["cps", "year"] == 2031 and family().loc["cps", "here"] and not family().loc["rc2l", "here"]


@pytest.fixture(scope="module")
def drawn():
    return diagrams()


@pytest.mark.parametrize("name", [name for name in OURS if name != "corrmatch"])
def test_the_picture_is_that_of_its_page(name, drawn):
    boxes, arrows, frozen = drawn[name]
    assert arrows and {end for arrow in arrows for end in arrow[:2]} | {*frozen} <= {*boxes}


def test_trainings_in_a_row_cost_together(tmp_path):
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "toy").mkdir()
    head = "method,flops / supervised,cpu_seconds / supervised\n"
    (tmp_path / "benchmarks" / "toy_cpu.csv").write_text(head + "supervised,1,1\nst_plus_plus,2,3\n")
    table = cost_and_score("toy", tmp_path)
    assert table.loc["st_plus_plus", ["counted", "measured"]].tolist() == [5, 7]
    assert table["last"].isna().all() and [*table.index] == [*methods()]


def test_no_label_of_the_small_pictures_covers_a_box_and_every_text_fits_into_its_own(drawn):
    fig = pictures.plot_diagrams(drawn)
    fig.canvas.draw()
    for ax, name in zip(fig.axes, sorted(drawn, key=lambda n: max(y for _, y in drawn[n][0].values()))):
        extent = [artist.get_window_extent() for artist in ax.patches[: len(drawn[name][0])]]
        texts = [text.get_window_extent() for text in ax.texts]
        for box, own in zip(extent, texts):
            assert own.x0 >= box.x0 and own.x1 <= box.x1 and own.y0 >= box.y0 and own.y1 <= box.y1, name
        assert not any(label.overlaps(box) for label in texts[len(extent) :] for box in extent), name
    plt.close(fig)
