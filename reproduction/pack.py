"""Write a trained method in half precision, for the package to deliver

python -m reproduction.pack runs/table/voc_animals_104/corrmatch_seed0 corrmatch/assets/networks/voc_animals.pt
"""

import argparse
from pathlib import Path
import torch
from corrmatch.engine.runs import load_checkpoint, save_checkpoint


def pack(
    run: Path,  # a run folder, or a checkpoint of one
    path: Path,  # the file to write; one that is there already is an error
    which: str = "last",
) -> Path:  # the same
    "Weights in half precision, without optimisers and without the places of this machine; computed in single precision."
    if path.exists():
        raise FileExistsError(f"{path}: there is such a file already; remove it first, or choose another name")
    state = load_checkpoint(run if run.is_file() else run / f"{which}.pt")
    half = lambda v: v.half() if torch.is_tensor(v) and v.dtype == torch.float32 else v
    config = state["config"]
    config["data"]["root"], config["out"], config["system"]["precision"] = "", "runs", "float32"
    kept = {name: state[name] for name in ("step", "classes", "preprocessing")}
    method = {name: half(value) for name, value in state["method"].items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(kept | {"config": config, "method": method}, path)
    return path


def main(argv=None):
    "The command line."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("path", type=Path)
    parser.add_argument("--which", default="last", help="last or best")
    args = parser.parse_args(argv)
    print(pack(args.run, args.path, args.which))


if __name__ == "__main__":
    main()
