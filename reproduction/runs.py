"""The rows of Tables 5 to 13 as settings, and a command that trains those that are lacking"""

import json, shutil
from dataclasses import replace
from pathlib import Path
import torch
from corrmatch.engine.config import Config, differences, from_dict, to_dict
from corrmatch.methods.corrmatch.method import Weights
from reproduction.paper import paper_table
from corrmatch.recipes.published import RECIPES, using
from corrmatch.engine.results import finish


def change(
    config,  # a settings dataclass
    settings: dict,  # name, as on the command line -> value
):
    "The same settings with some of them changed; `method` alone names another method."
    for name, value in settings.items():
        if name == "method":
            config = using(config, value, config.name)
            continue
        part, _, rest = name.partition(".")
        config = replace(config, **{part: change(getattr(config, part), {rest: value}) if rest else value})
    return config


ALONE = {"method.region": False, "method.pixel": False}  # nothing is propagated
FIXED = {"method.threshold": "fixed", "method.threshold_init": 0.95}  # Table 5, lower half


def lambdas(*args, **kw):
    "The three weights of Eq. 12 as a change of settings."
    return {"method.weights": Weights.from_lambdas(*args, **kw)}


RUNS = {
    "corrmatch": {},
    "labelled_only": {"method": "supervised"},
    "weak_to_strong": ALONE,
    "pixel_only": {"method.region": False},  # Table 6
    "hard": ALONE | lambdas(soft=0.0),
    "soft": ALONE | lambdas(hard=0.0),
    "hard_propagation": lambdas(soft=0.0),  # Table 5
    "fixed_hard": FIXED | ALONE | lambdas(soft=0.0),
    "fixed_weak_to_strong": FIXED | ALONE,
    "fixed_hard_propagation": FIXED | lambdas(soft=0.0),
    "fixed": FIXED,
    **{f"feature_{place}": {"method.feature": place} for place in ("aspp", "fusion", "classifier")},  # Table 7
    **{f"random_{n}": {"method.num_shapes": n} for n in (16, 32, 64, 256)},  # Table 8
    **{f"uniform_{n}": {"method.num_shapes": n, "method.sampling": "uniform"} for n in (16, 32, 64, 128, 256)},
    **{f"momentum_{m}": {"method.threshold_momentum": m} for m in (0.99, 0.9999)},  # Table 9
    **{f"soft_{kind}": {"method.soft": kind} for kind in ("cross_entropy", "cosine")},  # Table 10
    **{
        "weights_" + "_".join(f"{x:g}" for x in l): lambdas(*l)
        for l in ((0.25, 0.5, 0.25), (0.25, 0.25, 0.5), (0.3, 0.3, 0.3), (0.5, 0.5, 0.5), (1, 1, 1))
    },  # Table 11
    **{
        f"threshold_{kind}": {"method.threshold": kind} for kind in ("pixel", "maximum", "mean", "class")
    },  # Tables 12, 13
}


def run_of(
    method: str,  # its name
) -> str:
    "The name of a row that is a method at its default settings."
    return next((run for run, settings in RUNS.items() if settings == {"method": method}), method)


def row_config(
    recipe: str,  # a name in RECIPES
    run: str,  # a name in RUNS, or a method
    seed: int = 0,
    out="runs/reproduce",  # folder for the runs
    root=None,  # folder of the dataset; None: the recipe's
    steps: int | None = None,  # fewer steps, to try it out
) -> Config:
    "The settings of one row of a table at the scale of a recipe."
    make = RECIPES[recipe].make
    config = change(make(), RUNS[run]) if run in RUNS else make(run)
    root = str(root) if root else config.data.root
    if not root:
        raise ValueError(f"recipe {recipe} needs images: give the folder of the dataset with --root")
    return change(
        config,
        {
            "name": f"{recipe}/{run}_seed{seed}",
            "seed": seed,
            "out": str(out),
            "data.root": root,
            "steps": steps or config.steps,
        },
    )


# small stand-ins for all columns of a table; of camvid's two the last one needs no GPU
SCALES = {
    "toy": ("toy",),
    "camvid": ("camvid", "camvid_cpu"),
    "voc_animals": ("voc_animals_31", "voc_animals_104", "voc_animals_437"),
}


def recipes_of(
    name: str,  # of a table
    scale: str = "toy",  # toy, camvid, voc_animals or voc
) -> list[str]:
    "The recipes that a table can be measured with: the paper's columns, or a small stand-in for them."
    if scale not in (*SCALES, "voc"):
        raise ValueError(f"scale is {scale!r}; choose {', '.join(SCALES)} or voc")
    columns = [c for c in paper_table(name) if c in RECIPES]
    return columns if scale == "voc" else [*SCALES[scale]]


def recipes_here(
    name: str,  # of a table
    scale: str = "toy",  # toy, camvid, voc_animals or voc
) -> list[str]:
    "The recipes that are trained on this machine: of two stand-ins the one that fits it."
    recipes = recipes_of(name, scale)
    return recipes if scale != "camvid" else recipes[:1] if torch.cuda.is_available() else recipes[-1:]


def keep_text(
    run: Path,  # a finished run
    target: Path,  # the folder to make
) -> Path:  # the same
    "Copy the text files of a run. The settings come last, without the dataset's path: where they are, the rest is."
    for stage in sorted(run.glob("*/config.json")):  # earlier trainings of a run in stages
        keep_text(stage.parent, target / stage.parent.name)
    target.mkdir(parents=True, exist_ok=True)
    for file in (run / "environment.json", *run.glob("*.csv")):
        shutil.copyfile(file, target / file.name)
    config = json.loads((run / "config.json").read_text())
    config["data"]["root"], config["out"] = Path(config["data"]["root"]).name, "runs"
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    return target


def check_same(
    run: Path,  # folder that holds a run
    config: Config,  # what the row asks for
):
    "Refuse to count a run that was made with other settings."
    old = from_dict(Config, json.loads((run / "config.json").read_text()))
    if lines := differences(to_dict(old), to_dict(config)):
        raise ValueError(
            f"{run} was made with other settings: {'; '.join(lines)}. Use the same ones, or another folder"
        )


def run_row(
    config: Config,  # from row_config
    keep: Path | None = None,  # folder for the text files of finished runs
    progress: bool = True,  # show a bar
) -> Path:  # folder with the logs
    "Train a row, or go on with it; one whose text files are kept is there already."
    kept, here = keep and Path(keep) / config.name, Path(config.out) / config.name
    for run in filter(None, (kept, here)):
        if (run / "config.json").exists():
            check_same(run, config)
    if kept and (kept / "config.json").exists():
        return kept
    result = finish(config, progress)
    if not result.finished:
        raise KeyboardInterrupt  # the same command goes on
    return keep_text(result.folder, kept) if kept else result.folder


def train_tables(
    names,  # of tables
    scale: str = "toy",  # toy, camvid, voc_animals or voc
    seeds=(0, 1, 2),
    out="runs/reproduce",  # folder for the runs
    keep: Path | None = None,  # folder for the text files of finished runs
    progress: bool = True,  # show a bar
    **options,  # of row_config: root, steps
):
    "Train every row that is lacking: all tables with the first seed, then all with the next."
    recipes = {name: recipes_here(name, scale) for name in names}
    todo = dict.fromkeys(
        (recipe, run, seed)
        for seed in seeds
        for name in recipes
        for recipe in recipes[name]
        for run in paper_table(name)["run"]
        if run
    )
    for i, row in enumerate(todo):  # a row that two tables share is there once
        config = row_config(*row, out, **options)
        print(f"{i + 1} of {len(todo)}: {config.name}", flush=True)
        run_row(config, keep, progress)
