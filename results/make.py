"""What stands in this folder beside the runs themselves: their list, the tables, the pictures.

    python results/make.py tables                  every table from the logs, and the pages that show them
    python results/make.py pictures [--root DIR]   the runs of seed 0, from runs/results

The runs come from `corrmatch reproduce TABLE ... --out runs/results --keep results`.
"""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
import pandas as pd
import tyro
from matplotlib import pyplot as plt

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # the package and `reproduction` of this clone
from corrmatch.engine.evaluation import predict_labels
from corrmatch.engine.results import collect, load_method, load_run, over_seeds, score_table, validation_views
from corrmatch.engine.runs import read_log
from corrmatch.methods.corrmatch.method import explain
from corrmatch.recipes import published as recipes
from corrmatch.viz.curves import bars, curves
from corrmatch.viz.inspect import run_picture
from corrmatch.viz.palette import colour, show_images
from reproduction.compare import measured_in, side_by_side
from reproduction.paper import TABLES

ROWS = {
    "supervised": "labelled_only",
    "Mean Teacher": "mean_teacher",
    "CutMix-Seg": "cutmix_seg",
    "AugSeg": "augseg",
    "FixMatch": "fixmatch",
    "UniMatch": "unimatch",
    "consistency baseline": "weak_to_strong",
    "pixel propagation": "pixel_only",
    "CorrMatch": "corrmatch",
}
PAGES = sorted((HERE.parent / "nbs" / "paper").glob("table*.ipynb"))  # they show what these logs hold


def measured_recipes():
    return sorted(p.name for p in HERE.iterdir() if p.is_dir() and p.name in recipes.RECIPES)


def tables():
    "For each recipe: the list of its runs, the four main methods, and every table of the paper that has a measured row."
    for recipe in measured_recipes():
        folder = HERE / recipe
        runs = collect(sorted(p.parent for p in folder.glob("*_seed*/config.json")))
        runs["device"] = [
            pd.read_json(p, typ="series")["device"] for p in sorted(folder.glob("*_seed*/environment.json"))
        ]
        runs.to_csv(folder / "runs.csv", index=False, float_format="%.2f")
        found = {method: sorted(folder.glob(f"{run}_seed*")) for method, run in ROWS.items()}
        main = over_seeds({m: there for m, there in found.items() if there})
        main.to_csv(HERE / f"{recipe}.csv", index_label="method", float_format="%.2f")
        print(
            f"\n{recipe}: mIoU on its validation images, %, mean and spread over the seeds; {len(runs)} "
            f"runs\n\n{main.round(1).to_string()}"
        )
    (HERE / "tables").mkdir(exist_ok=True)
    for name in TABLES[1:]:
        if measured := measured_in(HERE, name):
            side_by_side(name, measured).to_csv(HERE / "tables" / f"{name}.csv", float_format="%.2f")


def pages():
    "Run the pages that show the tables, and clean them (the development tools have to be installed)."
    tools, env = Path(sys.executable).parent, os.environ | {"TQDM_DISABLE": "1"}
    for page in PAGES:
        subprocess.run([tools / "jupyter", "execute", "--inplace", page.name], cwd=page.parent, env=env, check=True)
        subprocess.run([tools / "nbdev_clean", "--fname", page], cwd=HERE.parent, check=True)


def pictures(root: str | None):
    "Curves, IoU class by class, and what the networks say about the first validation images, for the runs of seed 0."
    for recipe in measured_recipes():
        runs = {
            m: folder for m, run in ROWS.items() if (folder := Path("runs/results") / recipe / f"{run}_seed0").is_dir()
        }
        if not runs:
            continue
        data = root if recipe != "toy" else "toy"
        logs, scores = ({m: read_log(run, name) for m, run in runs.items()} for name in ("log.csv", "scores.csv"))

        def draw(fig, name):
            fig.savefig(HERE / recipe / f"{name}.png", dpi=110, bbox_inches="tight")
            plt.close(fig)

        draw(curves(dict(reversed(logs.items())), scores), "curves")
        draw(bars(score_table(runs, root=data)), "classes")
        panels, titles = [], []
        method, classes, config = load_method(runs["CorrMatch"], "last")
        views = validation_views(config, data)
        if recipe == "toy":
            draw(run_picture(method, views, classes, rows=range(4)), "images")
            continue
        for i in range(0, len(views), len(views) // 3):  # of a set that may not be passed on: only what networks say
            for m, run in runs.items():
                panels.append(colour(predict_labels(load_run(run, "last")[0], views[i]["image"]), classes))
                titles.append(m)
            e = explain(method, views[i]["image"])
            panels += [colour(e["labels"], classes, e["confident"]), colour(e["spread"], classes, e["mask"])]
            titles += ["confident pixels", "after region propagation"]
        fig = show_images(panels, titles, columns=len(runs) + 2)
        fig.legend(
            [plt.Rectangle((0, 0), 1, 1, color=[v / 255 for v in c]) for c in classes.palette],
            classes.names,
            loc="lower center",
            ncol=6,
            fontsize=7,
            frameon=False,
            bbox_to_anchor=(0.5, -0.06),
        )
        draw(fig, "predictions")


@dataclass
class Arguments:
    what: Annotated[str, tyro.conf.Positional] = "tables"  # tables or pictures
    root: str | None = None  # folder of the dataset


if __name__ == "__main__":
    a = tyro.cli(Arguments, description=__doc__)
    if a.what not in ("tables", "pictures"):
        sys.exit(
            f"results/make.py {a.what}: choose tables or pictures; runs come from `corrmatch reproduce TABLE "
            "--out runs/results --keep results`"
        )
    if a.what == "pictures":
        pictures(a.root)
    tables()
    pages()
