"""Make the measured rows of this folder, and the tables from their logs.

    python results/make.py toy [SEED ...]                  train the rows of a recipe that are not there yet (or go on with them)
    python results/make.py camvid_cpu [SEED ...] --root DIR
    python results/make.py tables                          rebuild every table from the logs
    python results/make.py pictures [--root DIR]           draw the runs of seed 0, from runs/results

Runs go to runs/results; their text files (settings, environment, log, scores) are copied to results/RECIPE.
"""
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated
import torch
import tyro
from matplotlib import pyplot as plt
from corrmatch import recipes
from corrmatch.evaluation import predict
from corrmatch.figures import colour, curves, explain, run_picture, show_images
from corrmatch.results import bars, finish, load_run, over_seeds, score_table, validation_views
from corrmatch.runs import read_log

HERE = Path(__file__).parent
METHODS = {"labelled only": recipes.labelled_only, "weak to strong": recipes.weak_to_strong, "pixel propagation": recipes.pixel_only, "CorrMatch": lambda c, name: replace(c, name=name)}
TEXT = ("config.json", "environment.json", "log.csv", "scores.csv")  # what is kept of a run


def folder_name(method: str, seed: int) -> str: return f"{method.replace(' ', '_').lower()}_seed{seed}"


def rows(recipe: str, seeds: tuple[int, ...], methods: tuple[str, ...], root: str | None, threads: int):
    "Train the rows of a recipe, one after the other."
    if threads: torch.set_num_threads(threads)
    for seed in seeds:
        for method in methods:
            config = recipes.RECIPES[recipe].make()
            config = replace(config, seed=seed, out="runs/results", data=replace(config.data, root=root or config.data.root))
            result = finish(METHODS[method](config, f"{recipe}/{folder_name(method, seed)}"))
            if not result.finished: raise SystemExit("stopped; the same command goes on")
            keep(recipe, result.folder)


def keep(recipe: str, run: Path):
    "Copy the text files of a run; the path of its dataset is left out."
    target = HERE / recipe / run.name
    target.mkdir(parents=True, exist_ok=True)
    for name in TEXT: shutil.copy(run / name, target / name)
    config = json.loads((target / "config.json").read_text())
    config["data"]["root"], config["out"] = Path(config["data"]["root"]).name, "runs"
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def tables():
    "Rebuild the table of every recipe that has rows."
    for recipe in sorted(p.name for p in HERE.iterdir() if p.is_dir() and p.name in recipes.RECIPES):
        found = {method: sorted((HERE / recipe).glob(f"{folder_name(method, 0)[:-1]}*")) for method in METHODS}
        table = over_seeds({m: runs for m, runs in found.items() if runs})
        table.to_csv(HERE / f"{recipe}.csv", index_label="method", float_format="%.2f")
        print(f"\n{recipe}: mIoU on its validation images, %, mean and spread over the seeds\n\n{table.round(1).to_string()}")


def pictures(root: str | None):
    "Curves, IoU class by class, and what the networks say about the first validation images, for the runs of seed 0."
    for recipe in sorted(p.name for p in HERE.iterdir() if p.is_dir() and p.name in recipes.RECIPES):
        runs = {m: run for m in METHODS if (run := Path("runs/results") / recipe / folder_name(m, 0)).is_dir()}
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
    what: Annotated[str, tyro.conf.Positional]                         # a recipe, "tables" or "pictures"
    seeds: Annotated[tuple[int, ...], tyro.conf.Positional] = (0, 1, 2)
    methods: tuple[str, ...] = tuple(METHODS)
    root: str | None = None                                            # folder of the dataset
    threads: int = 0                                                   # of PyTorch; 0: its own choice


if __name__ == "__main__":
    a = tyro.cli(Arguments, description=__doc__)
    if a.what == "pictures": pictures(a.root)
    elif a.what != "tables": rows(a.what, a.seeds, a.methods, a.root, a.threads)
    tables()
