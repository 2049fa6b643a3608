"""Compare a setting on masks that no recipe of VOC animals reads, so that validation images choose nothing

python -m reproduction.search voc_animals_104 optim.lr 0.0025 0.005 0.01 0.02 --method supervised --steps 320 --root VOC_ANIMALS
"""

import argparse
from dataclasses import replace
from pathlib import Path
from corrmatch.data.splits import packaged, write_ids
from corrmatch.engine.predict import evaluate
from corrmatch.engine.results import finish
from corrmatch.recipes.published import RECIPES
from reproduction.runs import change


def unread_ids(
    step: int = 9,  # every so many images
) -> list[str]:
    "Training images of VOC animals that are labelled in no recipe; they have masks."
    labelled = set(packaged("voc_animals", "labelled_437"))
    return [i for i in packaged("voc_animals", "train") if i not in labelled][::step]


def search(
    recipe: str,
    setting: str,  # as on the command line: optim.lr
    values: list,
    method: str,
    steps: int,
    root: Path,  # of VOC animals
    out: Path,  # for the runs; one that is there is not trained again
) -> dict:  # value -> mIoU (%) on `unread_ids`, after the last step
    "Train once for each value; the runs are neither validated nor chosen by validation images."
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "unread.txt").exists():
        write_ids(out / "unread.txt", unread_ids())
    found = {}
    for value in values:
        config = change(RECIPES[recipe].make(method), {setting: value})
        config = replace(config, name=f"{recipe}/{method}_{setting}_{value:g}", steps=steps, out=str(out))
        result = finish(replace(config, data=replace(config.data, root=str(root), val=None)))
        if not result.finished:
            raise KeyboardInterrupt  # the same command goes on
        found[value] = 100 * evaluate(result.folder, root, str(out / "unread.txt")).miou
        print(f"{setting} {value:g}: {found[value]:.1f}", flush=True)
    return found


def main(argv=None):
    "The command line."
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("recipe", choices=[name for name in RECIPES if name.startswith("voc_animals")])
    p.add_argument("setting")
    p.add_argument("values", type=float, nargs="+")
    p.add_argument("--method", default="supervised")
    p.add_argument("--steps", type=int, default=320)
    p.add_argument("--root", type=Path, required=True)
    p.add_argument("--out", type=Path, default=Path("runs/search"))
    a = p.parse_args(argv)
    search(a.recipe, a.setting, a.values, a.method, a.steps, a.root, a.out)


if __name__ == "__main__":
    main()
