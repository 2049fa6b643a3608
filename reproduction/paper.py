"""Tables 1 to 13 as data: every number that the paper prints, and the name of the run that stands for its row"""

from pathlib import Path
import pandas as pd
from matplotlib import pyplot as plt
from corrmatch.recipes.published import RECIPES


TABLES = tuple(f"table{n}" for n in range(1, 14))
FOLDER = Path(__file__).parent / "paper_tables"


def path(
    name: str,  # table1 to table13
):
    "The file of a table."
    if name not in TABLES:
        raise ValueError(f"{name!r} is no table of the paper; choose one of {TABLES[0]} to {TABLES[-1]}")
    return FOLDER / f"{name}.csv"


def source(
    name: str,  # table1 to table13
) -> str:
    "What a table shows, where it was published, and on what it was measured."
    return path(name).read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")


def paper_table(
    name: str,  # table1 to table13
) -> pd.DataFrame:  # one row a method; `run`: its settings here, "" if it has none
    "A table of the paper, with the paper's numbers."
    with path(name).open(encoding="utf-8") as f:
        table = pd.read_csv(f, skiprows=1, index_col="row", dtype={"run": str, "row": str})
    return table.fillna({"run": ""}) if "run" in table else table.assign(run="")


def plot_field(
    name: str = "table2",  # table2, table3 or table4
    measured=None,  # recipe -> (mean, spread) of this project's CorrMatch runs
    best: int = 6,  # other methods with a name and a colour; the rest is grey
):
    "Figure 1: mIoU of the methods in each column of a table."
    table, measured = paper_table(name), measured or {}
    numbers = table[[c for c in table if c in RECIPES]]
    others = numbers[table["run"] == ""]
    named = [*others.mean(axis=1).sort_values(ascending=False).index[:best]]
    fig, ax = plt.subplots(figsize=(7, 3.4))
    for row, values in others.iterrows():
        ax.plot(
            values.to_numpy(),
            "o-",
            ms=3,
            lw=1.1,
            color=f"C{named.index(row) + 1}" if row in named else "0.8",
            label=row if row in named else None,
            zorder=2 if row in named else 1,
        )
    ax.plot(numbers.loc["CorrMatch"].to_numpy(), "o-", ms=5, lw=2.2, color="C0", label="CorrMatch", zorder=3)
    for x, recipe in enumerate(numbers):
        if recipe in measured:
            ax.errorbar(
                x,
                *measured[recipe],
                fmt="s",
                color="black",
                capsize=3,
                label="CorrMatch, measured here" if recipe == next(iter(measured)) else None,
                zorder=4,
            )
    ax.set(
        xticks=range(numbers.shape[1]),
        ylabel="mIoU, % (paper)",
        title=source(name).split(": ", 1)[1].split(". ")[0].split(", labelled")[0],
    )
    ax.set_xticklabels(
        numbers,
        rotation=20 if numbers.shape[1] > 5 else 0,
        ha="right" if numbers.shape[1] > 5 else "center",
        fontsize=7,
    )
    ax.legend(fontsize=6.5, ncol=2, framealpha=0.6)
    fig.tight_layout()
    return fig
