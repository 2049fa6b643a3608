"""Tables 2 to 4 with this project's methods as rows: what was measured, and apart from it what was published"""

import re
from pathlib import Path
import pandas as pd
from corrmatch.engine.results import over_seeds
from corrmatch.methods import methods
from corrmatch.recipes.published import RECIPES
from reproduction.compare import verdict
from reproduction.paper import paper_table, source
from reproduction.runs import recipes_here, recipes_of, row_config, run_of, run_row

TABLES_OF_METHODS = ("table2", "table3", "table4")
OTHERS = (
    "other networks, crops, optimisers and lengths, some run again by others; most are the best epoch on the images "
    "that they are measured on: no target"
)


def method_names(
    names: str,  # with commas between them; all: every method
) -> list[str]:
    "The methods that a command line asks for."
    if names == "all":
        return [*methods()]
    asked = [name.strip() for name in names.split(",") if name.strip()]
    if not asked or (unknown := [name for name in asked if name not in methods()]):
        wrong = ", ".join(unknown) if asked else repr(names)
        raise ValueError(f"--methods {wrong}: choose some of {', '.join(methods())}, with commas between, or all")
    return [*dict.fromkeys(asked)]


def method_of(
    row: str,  # of a table, e.g. ST++ [63]
) -> str:  # its name here, if it has one: st_plus_plus
    "A name of the paper as this package would write it."
    return re.sub("[^a-z0-9]+", "_", re.sub(r" \[\d+\]$", "", row).lower().replace("++", "_plus_plus"))


def published(
    name: str,  # table2, table3 or table4
    names=None,  # of methods; None: all rows that have one
) -> pd.DataFrame:  # rows: methods; columns: recipes
    "The paper's numbers of the rows that are methods here."
    if name not in TABLES_OF_METHODS:
        raise ValueError(f"{name!r}: its rows are no methods; choose {', '.join(TABLES_OF_METHODS)}")
    table = paper_table(name).rename(index=method_of)
    known = [m for m in (methods() if names is None else names) if m in table.index]
    return table.loc[known, [c for c in table if c in RECIPES]]


def costs(names) -> pd.DataFrame:
    "What a method costs, as it says itself: cost of a step, networks, trainings in a row."
    of = methods()
    rows = {m: (of[m].cost, of[m].networks, len(of[m].Config().stages) + 1) for m in names}
    return pd.DataFrame.from_dict(rows, "index", columns=["cost a step", "networks", "trainings"])


def measured_methods(
    recipe: str,
    folder,  # holds RECIPE/METHOD_seedN
    names=None,  # of methods; None: all that have runs
    seeds=None,  # None: all that are there
) -> pd.DataFrame:  # one row for each method that has runs
    "Mean and spread over the seeds of the methods on a recipe."
    found = {}
    for method in methods() if names is None else names:
        runs = sorted((Path(folder) / recipe).glob(f"{run_of(method)}_seed*"))
        wanted = [r for r in runs if seeds is None or int(r.name.rpartition("seed")[2]) in seeds]
        if there := [r for r in wanted if (r / "scores.csv").exists()]:
            found[method] = there
    columns = ["seeds", "last", "± last", "best", "± best", "seconds"]
    return over_seeds(found) if found else pd.DataFrame(columns=columns)


def as_text(
    m: pd.DataFrame,  # from `measured_methods`
) -> pd.DataFrame:
    "The same for people: mean ± spread, the last step first; for a single seed the number alone."

    def cell(value, spread):
        return f"{value:.1f}" if pd.isna(spread) else f"{value:.1f} ± {spread:.1f}"

    columns = {which: [cell(*pair) for pair in zip(m[which], m[f"± {which}"])] for which in ("last", "best")}
    return pd.DataFrame(columns | {"seeds": [f"{n:.0f}" for n in m["seeds"]]}, index=m.index.rename(None))


def told_methods(
    name: str,  # table2, table3 or table4
    measured: dict,  # recipe -> table from `measured_methods`
    names,  # of methods
) -> str:
    "Measured rows with their cost, recipe by recipe, and apart from them the published ones."
    parts = [
        "(measured)      by this project: mIoU (%) on validation images, mean ± spread over the seeds. last: after the "
        "last step; best: the highest of all evaluations, chosen with the images it is measured on. Cost of a step in "
        "image-forwards, G with gradient, N without; B labelled and B unlabelled images."
    ]
    for recipe, m in measured.items():
        parts.append(f"{recipe}: {RECIPES[recipe].about}")
        parts.append(as_text(m).join(costs(m.index)).to_string() if len(m) else "nothing yet")
        parts.append(verdict(m) if len(m) > 1 else "")
    rows = published(name, names).dropna(axis=1, how="all").map(lambda v: "" if pd.isna(v) else str(v))
    parts.append(f"(as published)  {source(name)} {OTHERS}.")
    parts.append(rows.to_string() if len(rows) else "none of these methods is a row of it")
    return "\n".join(part for part in parts if part)


def reproduce_methods(
    tables,  # some of TABLES_OF_METHODS
    names: list[str],  # of methods
    scale: str = "toy",  # toy, voc_animals, camvid or voc
    seeds=(0, 1, 2),
    out="runs/reproduce",  # folder for the runs and the CSV files
    keep: Path | None = None,  # folder for the text files of finished runs
    train: bool = True,  # False: show what is in `keep`, with all its seeds
    progress: bool = True,  # show a bar
    **options,  # of row_config: root, steps
) -> dict:  # name of a table -> all its measured rows
    "Train the rows that are lacking, print the methods of each table, write what was measured as CSV."
    for name in tables:
        published(name, names), recipes_of(name, scale)  # what is mistyped is an error before anything is trained
    if train:
        recipes = dict.fromkeys(r for name in tables for r in recipes_here(name, scale))
        todo = [(r, run_of(m), seed) for seed in seeds for r in recipes for m in names]
        configs = [row_config(*row, out, **options) for row in todo]
        for i, config in enumerate(configs):
            print(f"{i + 1} of {len(todo)}: {config.name}", flush=True)
            run_row(config, keep, progress)
    found = {}
    for name in tables:
        recipes = recipes_of(name, scale)
        measured = {r: measured_methods(r, keep or out, names, seeds if train else None) for r in recipes}
        print(f"\nTable {name[5:]}, rows are methods\n{told_methods(name, measured, names)}")
        rows = [m.join(costs(m.index)).rename_axis("method") for m in measured.values()]
        found[name] = pd.concat(dict(zip(measured, rows)), names=["recipe"])
        file = Path(out) / f"{name}_{scale}_methods.csv"
        file.parent.mkdir(parents=True, exist_ok=True)
        found[name].to_csv(file, float_format="%.2f")
        print(f"\nwritten: {file}")
    return found
