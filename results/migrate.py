"""Bring the records of runs in this folder to the names of today, once: settings, columns, file names. A second call changes nothing.

The numbers stay as they were written, digit by digit: only headers and settings change.
"""

import json
from dataclasses import fields
from pathlib import Path
from corrmatch.engine.config import Config, from_dict
from corrmatch.methods.base import MethodConfig

HERE = Path(__file__).parent
LOG = {"confident": "confident_ratio", "spread": "mask_ratio"}
COUNTS = {"tau": "threshold", "trusted": "mask_ratio", "right": "correct_ratio"}
SHARED = {f.name for f in fields(MethodConfig)}


def settings(old: dict) -> dict:
    "Settings as they are written today: the method has a name, and what belongs to CorrMatch lies there."
    new = json.loads(json.dumps(old))
    new["data"].pop("colours", None)
    if new["system"]["precision"] == "float32":  # the default was called so; on a CPU both compute the same
        new["system"]["precision"] = "tf32"
    method = new["method"]
    if "name" in method:
        return new
    moved = {name: new["model"].pop(name) for name in ("feature", "projection", "dropout") if name in new["model"]}
    if method.pop("unlabelled", True):
        new["method"] = {"name": "corrmatch"} | method | moved
    else:
        new["method"] = {"name": "supervised"} | {name: v for name, v in method.items() if name in SHARED}
    return new


def header(file: Path, name):
    "Rename the columns of a CSV file."
    first, _, rest = file.read_text(encoding="utf-8").partition("\n")
    file.write_text(",".join(map(name, first.split(","))) + "\n" + rest, encoding="utf-8")


def score(column: str) -> str:
    return column if column in ("step", "miou", "accuracy") or column.startswith("iou/") else f"iou/{column}"


def migrate(run: Path):
    "One run folder."
    file = run / "config.json"
    values = settings(json.loads(file.read_text(encoding="utf-8")))
    from_dict(Config, values)  # it can be loaded
    file.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    header(run / "log.csv", lambda column: LOG.get(column, column))
    header(run / "scores.csv", score)
    if (run / "trusted.csv").exists():
        (run / "trusted.csv").rename(run / "pseudo_labels.csv")
        header(run / "pseudo_labels.csv", lambda column: COUNTS.get(column, column))


if __name__ == "__main__":
    for config in sorted(HERE.rglob("config.json")):
        migrate(config.parent)
