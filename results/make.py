"""Make the measured rows of this folder, and the tables from their logs.

    python results/make.py toy [SEED ...]                  train the rows of a recipe that are not there yet (or go on with them)
    python results/make.py camvid_cpu [SEED ...] --root DIR
    python results/make.py tables                          rebuild every table from the logs

Runs go to runs/results; their text files (settings, environment, log, scores) are copied to results/RECIPE.
"""
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated
import torch
import tyro
from corrmatch import recipes
from corrmatch.results import finish, over_seeds

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


@dataclass
class Arguments:
    what: Annotated[str, tyro.conf.Positional]                         # a recipe, or "tables"
    seeds: Annotated[tuple[int, ...], tyro.conf.Positional] = (0, 1, 2)
    methods: tuple[str, ...] = tuple(METHODS)
    root: str | None = None                                            # folder of the dataset
    threads: int = 0                                                   # of PyTorch; 0: its own choice


if __name__ == "__main__":
    a = tyro.cli(Arguments, description=__doc__)
    if a.what != "tables": rows(a.what, a.seeds, a.methods, a.root, a.threads)
    tables()
