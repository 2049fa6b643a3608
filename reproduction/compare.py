"""What was measured beside what the paper prints, and how much of it is more than chance"""

from itertools import combinations
from pathlib import Path
import pandas as pd
from matplotlib import pyplot as plt
from reproduction.paper import paper_table, plot_field, source
from corrmatch.recipes.published import RECIPES
from reproduction.runs import SCALES, recipes_of, train_tables
from corrmatch.engine.results import collect, over_seeds


def measure(
    name: str,  # of a table
    recipe: str,
    folder,  # holds RECIPE/RUN_seedN
    seeds=None,  # None: all that are there
) -> pd.DataFrame:  # one row for each row of the table that has runs
    "Mean and spread over the seeds of the runs of a table."

    def runs(run):
        return [
            r
            for r in sorted((Path(folder) / recipe).glob(f"{run}_seed*"))
            if (r / "scores.csv").exists() and (seeds is None or int(r.name.rpartition("seed")[2]) in seeds)
        ]

    table = paper_table(name)["run"]
    found = {row: there for row, run in table.items() if run and (there := runs(run))}
    return (
        over_seeds(found) if found else pd.DataFrame(columns=["seeds", "last", "± last", "best", "± best", "seconds"])
    )


def measured_in(
    folder,  # holds RECIPE/RUN_seedN
    name: str,  # of a table
) -> dict:  # recipe -> table from `measure`
    "All measured versions of a table that a folder holds."
    recipes = [r for scale in (*SCALES, "voc") for r in recipes_of(name, scale)]
    return {r: m for r in dict.fromkeys(recipes) if len(m := measure(name, r, folder))}


def side_by_side(
    name: str,  # of a table
    measured: dict,  # recipe -> table from `measure`
) -> pd.DataFrame:
    "The paper's numbers and the measured ones, in columns that say which they are."
    table = paper_table(name)
    parts = [table.drop(columns="run").rename(columns={c: f"{c} (paper)" for c in table if c in RECIPES})]
    return pd.concat(
        parts
        + [
            m.add_suffix(" (measured)").add_prefix(f"{recipe} ").reindex(table.index)
            for recipe, m in measured.items()
            if len(m)
        ],
        axis=1,
    )


def readable(
    name: str,  # of a table
    measured: dict,  # recipe -> table from `measure`
) -> pd.DataFrame:  # of text; the upper line of the header says whose number it is
    "The same table for people: mean ± spread, and for a single seed the number alone."
    paper = paper_table(name).drop(columns="run")
    columns = {
        ("paper", c): paper[c].map(lambda v: v if isinstance(v, str) else "" if pd.isna(v) else str(v)) for c in paper
    }

    def cell(m, s):
        return "" if pd.isna(m) else f"{m:.1f}" if pd.isna(s) else f"{m:.1f} ± {s:.1f}"

    for recipe, m in measured.items():
        if not len(m):
            continue
        m = m.reindex(paper.index)
        for which in ("last", "best"):
            columns["measured", f"{recipe} {which}"] = [cell(*pair) for pair in zip(m[which], m[f"± {which}"])]
        columns["measured", f"{recipe} seeds"] = ["" if pd.isna(n) else f"{n:.0f}" for n in m["seeds"]]
    return pd.DataFrame(columns, index=paper.index.rename(None))


def explained(
    name: str,  # of a table
    measured: dict,  # recipe -> table from `measure`
) -> str:
    "A table with the words that it needs to stand alone."
    lines = [f"(paper)     {source(name)}"]
    lines += [
        f"(measured)  by this project, recipe {recipe}: {RECIPES[recipe].about}"
        for recipe, m in measured.items()
        if len(m)
    ]
    if any(map(len, measured.values())):
        lines.append(
            "            mIoU (%) on its validation images, mean ± spread over the seeds. last: after the "
            "last step; best: the highest of all evaluations, chosen with the images it is measured on."
        )
    elif name != "table1":
        lines.append(f"(measured)  nothing yet{' with ' if measured else ''}{', '.join(measured)}")
    return "\n".join(lines) + f"\n\n{readable(name, measured).to_string(sparsify=False)}"


def noise(
    m: pd.DataFrame,  # from `measure`
    which: str = "last",  # last or best
) -> float:  # nan while no row has two seeds
    "The spread of one seed, from all rows of a table that have several."
    several = m[m["seeds"] > 1]
    freedom = several["seeds"] - 1
    return (
        float(((several[f"± {which}"] ** 2 * freedom).sum() / freedom.sum()) ** 0.5) if len(several) else float("nan")
    )


def apart(
    m: pd.DataFrame,  # from `measure`
    which: str = "last",  # last or best
) -> dict:  # (row, row) -> difference, the largest first
    "The pairs of rows whose means differ by more than chance: by more than two standard errors."
    m, s = m[m["seeds"] > 1], noise(m, which)
    differ = {(a, b): m.loc[a, which] - m.loc[b, which] for a, b in combinations(m.index, 2)}
    error = {(a, b): s * (1 / m.loc[a, "seeds"] + 1 / m.loc[b, "seeds"]) ** 0.5 for a, b in differ}
    return {pair: d for pair, d in sorted(differ.items(), key=lambda item: -abs(item[1])) if abs(d) > 2 * error[pair]}


def verdict(
    m: pd.DataFrame,  # from `measure`
    which: str = "last",  # last or best
) -> str:
    "What a measured table shows, in view of its spread."
    several = m[m["seeds"] > 1]
    if len(several) < 2:
        return "Fewer than two rows have more than one seed: nothing is known about differences yet."
    found, s, seeds = apart(m, which), noise(m, which), several["seeds"].min()
    line, pairs = 2 * s * (2 / seeds) ** 0.5, len(several) * (len(several) - 1) // 2
    text = (
        f"One seed scatters by {s:.1f} points (all rows together). Two means of {seeds:.0f} seeds have to differ "
        f"by more than {line:.1f} points to mean anything; {len(found)} of {pairs} pairs do"
    )
    return (
        text
        + (
            ": "
            + "; ".join(f"{a} - {b}: {d:+.1f}" for (a, b), d in list(found.items())[:5])
            + ("; ..." if len(found) > 5 else "")
            if found
            else ""
        )
        + "."
    )


def dots(
    name: str,  # of a table
    recipe: str,
    folder,  # holds RECIPE/RUN_seedN
    which: str = "last",  # last or best
):
    "The paper's numbers of each row beside the seeds measured here."
    table = paper_table(name)
    fig, (left, right) = plt.subplots(1, 2, figsize=(9, 1.2 + 0.26 * len(table)), sharey=True, layout="constrained")
    for i, c in enumerate(c for c in table if c in RECIPES):
        left.plot(table[c], range(len(table)), "o", ms=5, color=f"C{i}", label=c.removeprefix("voc_classic_"))
    for y, run in enumerate(table["run"]):
        runs = sorted((Path(folder) / recipe).glob(f"{run}_seed*")) if run else []
        if not runs:
            right.text(
                0.5,
                y,
                "not measured yet",
                transform=right.get_yaxis_transform(),
                ha="center",
                va="center",
                fontsize=7,
                color="0.5",
            )
            continue
        scores = collect(runs)[which]
        right.plot(scores, [y] * len(scores), "o", ms=4, color="black", alpha=0.55)
        right.plot([scores.mean()] * 2, [y - 0.3, y + 0.3], lw=2, color="C3")
    left.set(yticks=range(len(table)), xlabel="mIoU, %", title=f"Table {name[5:]} (paper), Pascal VOC")
    left.set_yticklabels(table.index, fontsize=8)
    left.set_ylim(len(table) - 0.5, -0.5)
    low, high = right.get_xlim()
    # ten points at least: a tenth of a point should not look like a difference
    right.set_xlim(min(low, (low + high) / 2 - 5), max(high, (low + high) / 2 + 5))
    right.set(
        xlabel="mIoU, %",
        title=f"measured here, {recipe}, {which} step: seeds and mean"
        if which == "last"
        else f"measured here, {recipe}, best of all evaluations",
    )
    for ax in (left, right):
        ax.grid(axis="y", color="0.9")
        ax.set_axisbelow(True)
        ax.title.set_fontsize(9)
    fig.legend(
        loc="outside lower left",
        ncol=6,
        fontsize=7,
        frameon=False,
        title="labelled images",
        title_fontsize=7,
        alignment="left",
    )
    return fig


def reproduce_tables(
    names,  # of tables: table2 to table13
    scale: str = "toy",  # toy, camvid, voc_animals or voc
    seeds=(0, 1, 2),
    out="runs/reproduce",  # folder for the runs and the CSV files
    keep: Path | None = None,  # folder for the text files of finished runs
    train: bool = True,  # False: show what is in `keep`, with all its seeds
    progress: bool = True,  # show a bar
    **options,  # of row_config: root, steps
) -> dict:  # name -> table
    "Train the rows that are lacking, print each table beside the paper's, write it as CSV."
    tables = {}
    for name in names:
        recipes_of(name, scale)  # a mistyped name is an error before anything is trained
    if train:
        train_tables(names, scale, seeds, out, keep, progress, **options)
    for name in names:
        measured = {
            recipe: measure(name, recipe, keep or out, seeds if train else None) for recipe in recipes_of(name, scale)
        }
        tables[name] = side_by_side(name, measured)
        print(f"\n{explained(name, measured)}")
        file = Path(out) / f"{name}_{scale}.csv"
        file.parent.mkdir(parents=True, exist_ok=True)
        tables[name].to_csv(file, float_format="%.2f")
        for recipe, m in measured.items():
            if len(m):
                print(f"\n{recipe}: {verdict(m)}")
        print(f"\nwritten: {file}")
    return tables


def figure1(
    out="runs/reproduce",  # the PNG, or a folder for it
    folder=None,  # holds RECIPE/RUN_seedN; None: `out`
) -> Path:
    "Draw Figure 1: the methods of Table 2 as published, and this project's runs of its recipes where there are any."
    runs = {
        recipe: m.loc["CorrMatch", ["last", "± last"]].fillna(0)
        for recipe, m in measured_in(folder or out, "table2").items()
        if "CorrMatch" in m.index
    }
    file, fig = Path(out) if Path(out).suffix == ".png" else Path(out) / "fig1.png", plot_field("table2", runs)
    file.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(file, dpi=130)
    plt.close(fig)
    return file
