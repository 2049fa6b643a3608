"""All methods as pictures: who comes from whom, who teaches whom, and what a step costs beside what it brought"""

import re
from io import BytesIO
from pathlib import Path
from unittest.mock import patch
import nbformat
import pandas as pd
import PIL.Image
from IPython.display import Image
from matplotlib import pyplot as plt
from corrmatch.methods import methods
from corrmatch.viz import diagram
from reproduction.methods import measured_methods

ROOT = Path(__file__).resolve().parents[1]


def family() -> pd.DataFrame:  # method -> title, year, from, adds, here
    "What each method takes over and what it adds; those of the paper's tables, then what else is registered."
    table = pd.read_csv(Path(__file__).with_suffix(".csv"), index_col="method", dtype={"year": "Int64"})
    table = table.fillna({"from": ""})
    for name, method in methods().items():
        if name not in table.index:
            table.loc[name] = {"title": name, "year": pd.NA, "from": "", "adds": method.about}
        if found := re.search(r"\b20\d\d\b", method.paper):
            table.loc[name, "year"] = int(found[0])
    return table.assign(here=[name in methods() for name in table.index])


def family_order(
    table: pd.DataFrame,  # from `family`
) -> list[str]:
    "Parents before children, each with all that comes from it; the youngest branch last."

    def below(name):
        children = table.index[table["from"] == name]
        return [name, *(found for child in sorted(children, key=size) for found in below(child))]

    def size(name):
        return len(below(name)), table.loc[name, "year"] if pd.notna(table.loc[name, "year"]) else 0

    return [found for root in table.index[table["from"] == ""] for found in below(root)]


def plot_family(
    table: pd.DataFrame,  # from `family`
):
    "One row a method, at its year; a line from what it takes over; beside it what it adds."
    order = family_order(table)
    years = table["year"].fillna(table["year"].min() - 1).astype(int)
    row = {name: -i for i, name in enumerate(order)}
    fig, ax = plt.subplots(figsize=(9, 0.28 * len(order) + 0.5))
    for name in order:
        x, y, parent = years[name], row[name], table.loc[name, "from"]
        if parent:
            ax.plot([years[parent], years[parent], x], [row[parent], y, y], color="0.65", lw=1, zorder=1)
        colour = "#c1121f" if name == "corrmatch" else "#1d4e89"
        ax.plot(x, y, "o", ms=7, mec=colour, mfc=colour if table.loc[name, "here"] else "white", zorder=2)
        ax.text(x + 0.18, y, table.loc[name, "title"], va="center", fontsize=8, weight="bold", color=colour)
        ax.text(years.max() + 2.5, y, table.loc[name, "adds"], va="center", fontsize=7.5)
    ticks = range(years.min() + 1, years.max() + 1)
    ax.set(xlim=(years.min() - 0.3, years.max() + 14.8), ylim=(-len(order) + 0.3, 0.8), yticks=[], xticks=ticks)
    ax.tick_params(axis="x", labelsize=8, length=3)
    ax.spines[:].set_visible(False)
    fig.tight_layout(pad=0.3)
    return fig


def diagrams(
    nbs=ROOT / "nbs",  # folder of the pages
) -> dict[str, tuple]:  # method -> boxes, arrows, frozen
    "The picture that each method's own page begins with."
    found = {}
    for name, method in methods().items():
        page = Path(nbs) / f"{method.__module__.removeprefix('corrmatch.').replace('.', '/')}.ipynb"
        cells = nbformat.read(page, 4).cells if page.is_file() else []
        source = next((c.source for c in cells if c.cell_type == "code" and "= who_teaches_whom(" in c.source), "")
        if source:
            record = lambda boxes, arrows, frozen=(), name=name, **_: found.update({name: (boxes, arrows, frozen)})
            with patch.object(diagram, "who_teaches_whom", record):
                exec(source, {})  # a cell of a page of ours
    return found


def plot_diagrams(
    found: dict[str, tuple],  # from `diagrams`
    titles=None,  # of the methods
    columns: int = 2,
):
    "All of them, small, side by side."
    names = sorted(found, key=lambda name: max(y for _, y in found[name][0].values()))  # the simplest first
    lines = [names[i : i + columns] for i in range(0, len(names), columns)]
    heights = [1.25 + max(y for name in line for _, y in found[name][0].values()) for line in lines]
    fig = plt.figure(figsize=(9, 0.64 * sum(heights) + 0.5))
    grid = fig.add_gridspec(len(lines), columns, height_ratios=heights, hspace=0.12, wspace=0.03)
    for i, line in enumerate(lines):
        for j, name in enumerate(line):
            ax = fig.add_subplot(grid[i, j])
            diagram.who_teaches_whom(*found[name], ax=ax)
            top = max(y for _, y in found[name][0].values()) + 0.5
            right = max(2.5, max(x for x, _ in found[name][0].values()) + 0.5)
            ax.set(xlim=(-0.3, right), ylim=(top - heights[i], top))  # boxes of one size everywhere
            title = name if titles is None else titles[name]
            ax.set_title(title, fontsize=8.5, weight="bold", loc="left", pad=1)
    fig.legend(handles=diagram.legend_handles(), loc="lower center", ncol=4, fontsize=8, frameon=False)
    fig.subplots_adjust(left=0.01, right=0.99, top=1 - 0.25 / fig.get_figheight(), bottom=0.4 / fig.get_figheight())
    return fig


def cost_and_score(
    recipe: str = "voc_animals_104",
    results=ROOT / "results",
) -> pd.DataFrame:  # one row a method
    "Cost of a step relative to Supervised, counted and measured, all trainings in a row together; last mIoU, where measured."
    steps = pd.read_csv(Path(results) / "benchmarks" / "toy_cpu.csv", index_col="method").reindex([*methods()])
    costs = {"counted": steps["flops / supervised"], "measured": steps["cpu_seconds / supervised"]}
    table = pd.DataFrame(costs)
    for name, method in methods().items():  # a stage without unlabelled images costs as much as Supervised
        own = table.loc[name].copy()
        for stage in method.Config().stages:
            table.loc[name] += own if stage.method.views.unlabelled else 1
    scores = measured_methods(recipe, results)[["last", "± last", "seeds"]]
    return table.join(scores)


def plot_cost_and_score(
    table: pd.DataFrame,  # from `cost_and_score`
    titles=None,  # of the methods
):
    "mIoU over the cost of a step; below, what those cost that are not trained yet."
    done, owed = table.dropna(subset=["last", "counted"]), table[table["last"].isna()].dropna(subset=["counted"])
    fig, (ax, below) = plt.subplots(
        2, 1, figsize=(8, 4.6), sharex=True, height_ratios=[3, 2] if len(owed) else [1, 0.001], layout="constrained"
    )
    title = lambda name: name if titles is None else titles[name]
    for name, row in done.iterrows():
        spread = 0 if pd.isna(row["± last"]) else row["± last"]
        ax.plot([row["counted"], row["measured"]], [row["last"]] * 2, color="0.7", lw=1.2, zorder=1)
        ax.errorbar(row["counted"], row["last"], spread, fmt="o", ms=7, color="#1d4e89", capsize=3)
        ax.plot(row["measured"], row["last"], "o", ms=7, mec="#1d4e89", mfc="white")
        ax.annotate(title(name), (row["counted"], row["last"]), (0, 8), textcoords="offset points", fontsize=8.5)
    ax.set(ylabel="mIoU, %, last step", ylim=(done["last"].min() - 1.5, done["last"].max() + 1.5))
    ax.grid(alpha=0.25)
    for i, (name, row) in enumerate(owed.sort_values("counted").iterrows()):
        below.plot([row["counted"], row["measured"]], [-i, -i], color="0.8", lw=1.2, zorder=1)
        below.plot(row["counted"], -i, "o", ms=4, color="0.5")
        below.plot(row["measured"], -i, "o", ms=4, mec="0.5", mfc="white")
        right = max(row["counted"], row["measured"])
        below.annotate(title(name), (right, -i), (6, 0), textcoords="offset points", va="center", fontsize=7.5)
    below.set(
        xscale="log", xlabel="cost relative to Supervised: operations counted (filled), processor time measured (open)"
    )
    ticks = [1, 2, 3, 5, 8, 12, 20]
    below.set(
        yticks=[], xticks=ticks, xticklabels=ticks, xlim=(0.9, table[["counted", "measured"]].max(axis=None) * 1.5)
    )
    below.set_ylim(-len(owed), 1)
    below.minorticks_off()
    if len(owed):
        below.set_ylabel("not trained yet", fontsize=8.5)
    return fig


def few_colours(
    fig,  # a drawing, no photograph
    colours: int = 256,
) -> Image:
    "A figure as a PNG of a few colours, half the size or less."
    file = BytesIO()
    fig.savefig(file, format="png")
    plt.close(fig)
    picture = PIL.Image.open(file).convert("RGB").quantize(colours, PIL.Image.Quantize.MAXCOVERAGE)
    picture.save(small := BytesIO(), format="png", optimize=True)
    return Image(small.getvalue())
