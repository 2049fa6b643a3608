"""Make the measured rows of this folder, and the tables from their logs.

    python results/make.py train table6 table5 [--scale toy|camvid|voc] [--seeds 0 1 2] [--root DIR]
                                                           train the rows of these tables that are not there yet (or go on with them)
    python results/make.py tables                          rebuild every table from the logs
    python results/make.py pictures [--root DIR]           draw the runs of seed 0, from runs/results

Runs go to runs/results; their text files (settings, environment, log, scores) are copied to results/RECIPE.
"""
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
import tyro
from matplotlib import pyplot as plt
from corrmatch import recipes
from corrmatch.evaluation import predict
from corrmatch.figures import colour, curves, explain, run_picture, show_images
from corrmatch.reproduce import train_tables
from corrmatch.results import bars, load_run, over_seeds, score_table, validation_views
from corrmatch.runs import read_log

HERE = Path(__file__).parent
METHODS = {"labelled only": "labelled_only", "weak to strong": "weak_to_strong", "pixel propagation": "pixel_only", "CorrMatch": "corrmatch"}


def tables():
    "Rebuild the table of every recipe that has rows."
    for recipe in sorted(p.name for p in HERE.iterdir() if p.is_dir() and p.name in recipes.RECIPES):
        found = {method: sorted((HERE / recipe).glob(f"{run}_seed*")) for method, run in METHODS.items()}
        table = over_seeds({m: runs for m, runs in found.items() if runs})
        table.to_csv(HERE / f"{recipe}.csv", index_label="method", float_format="%.2f")
        print(f"\n{recipe}: mIoU on its validation images, %, mean and spread over the seeds\n\n{table.round(1).to_string()}")


def pictures(root: str | None):
    "Curves, IoU class by class, and what the networks say about the first validation images, for the runs of seed 0."
    for recipe in sorted(p.name for p in HERE.iterdir() if p.is_dir() and p.name in recipes.RECIPES):
        runs = {m: folder for m, run in METHODS.items() if (folder := Path("runs/results") / recipe / f"{run}_seed0").is_dir()}
        if not runs: continue
        data = root if recipe != "toy" else "toy"
        logs, scores = ({m: read_log(run, name) for m, run in runs.items()} for name in ("log.csv", "scores.csv"))
        def draw(fig, name): fig.savefig(HERE / recipe / f"{name}.png", dpi=110, bbox_inches="tight"); plt.close(fig)
        draw(curves(dict(reversed(logs.items())), scores), "curves")
        draw(bars(score_table(runs, root=data)), "classes")
        panels, titles = [], []
        net, classes, config = load_run(runs["CorrMatch"], "last")
        views = validation_views(config, data)
        if recipe == "toy": draw(run_picture(net, views, classes, logs["CorrMatch"]["tau"].iloc[-1], rows=range(4)), "images"); continue
        for i in range(0, len(views), len(views) // 3):  # of a set that may not be passed on: only what networks say
            for m, run in runs.items():
                panels.append(colour(predict(load_run(run, "last")[0], views[i]["image"]), classes)); titles.append(m)
            e = explain(net, views[i]["image"], logs["CorrMatch"]["tau"].iloc[-1])
            panels += [colour(e["labels"], classes, e["confident"]), colour(e["spread"], classes, e["mask"])]; titles += ["trusted alone", "regions have spread"]
        fig = show_images(panels, titles, columns=len(runs) + 2)
        fig.legend([plt.Rectangle((0, 0), 1, 1, color=[v / 255 for v in c]) for c in classes.palette], classes.names, loc="lower center", ncol=6, fontsize=7, frameon=False, bbox_to_anchor=(.5, -.06))
        draw(fig, "predictions")


@dataclass
class Arguments:
    what: Annotated[str, tyro.conf.Positional]                         # train, tables or pictures
    names: Annotated[tuple[str, ...], tyro.conf.Positional] = ()       # of the tables to train
    scale: str = "toy"                                                 # toy, camvid or voc
    seeds: tuple[int, ...] = (0, 1, 2)
    root: str | None = None                                            # folder of the dataset


if __name__ == "__main__":
    a = tyro.cli(Arguments, description=__doc__)
    if a.what == "pictures": pictures(a.root)
    elif a.what == "train": train_tables(a.names, a.scale, a.seeds, "runs/results", HERE, root=a.root)
    tables()
