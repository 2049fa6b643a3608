"""How many images one core loads a second: reading, decoding, and all views of a training item, for CorrMatch.

    python benchmarks/loading.py                    # records in results/benchmarks/loading.csv
    python benchmarks/loading.py --items 4 --sizes 500x375.jpg:321

The images are drawn scenes, enlarged, with some noise. An item is a labelled image and an unlabelled one, which is cut twice, with a weak and a
strong view of each crop. What is measured is processor time: other programs disturb it less, and loading is that of one process.
"""

import argparse
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
import numpy as np
import pandas as pd
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from corrmatch.data.toy import make_toy
from corrmatch.data.views import TrainingViews
from corrmatch.engine.trainer import open_data
from corrmatch.recipes.published import RECIPES

SIZES = ("500x375.jpg:321", "500x375.jpg:513", "2048x1024.png:801", "4096x2048.jpg:801")  # image and crop


def enlarged(root: Path, images: int, size: tuple[int, int], form: str) -> Path:
    "A folder of drawn scenes of this size; noise keeps the files from being small."
    make_toy(root, labelled=images, unlabelled=images, val=1)
    rng = np.random.default_rng(0)
    for file in sorted((root / "JPEGImages").iterdir()):
        picture = np.asarray(Image.open(file).convert("RGB").resize(size, Image.Resampling.BICUBIC), dtype=np.float32)
        noisy = (picture + rng.normal(0, 4, picture.shape)).clip(0, 255).astype(np.uint8)
        file.unlink()
        Image.fromarray(noisy).save(file.with_suffix(f".{form}"), quality=90)
    for file in (root / "SegmentationClass").iterdir():
        Image.open(file).resize(size, Image.Resampling.NEAREST).save(file)
    return root


def per_item(views: TrainingViews, items: int) -> float:
    "Median of the processor seconds of an item; the first one is not counted."
    found = []
    for i in range(items + 1):
        start = time.process_time()
        views[i % len(views)]
        found.append(time.process_time() - start)
    return statistics.median(found[1:])


def measure(size: tuple[int, int], form: str, crop: int, items: int) -> list[dict]:
    "One row with, and one without `data.fast_resize`."
    c, rows = RECIPES["voc_classic_92"].make(), []
    with TemporaryDirectory() as place:
        root = enlarged(Path(place) / "scenes", min(items, 4), size, form)
        d = replace(c.data, root=str(root), labelled="labelled", unlabelled=None, val="val", check=False)
        folder, split = open_data(replace(c, data=d, batch=1))
        for fast in (False, True):
            views = TrainingViews(
                folder, split, crop, partner="crop", scale=d.scale, views=c.method.views, raw=True, fast=fast
            )
            seconds = per_item(views, items)
            row = {"width": size[0], "height": size[1], "format": form, "crop": crop, "fast_resize": fast}
            rows.append(row | {"items": items, "cpu_seconds": seconds, "images_per_second": 2 / seconds})
    return rows


def main(words=None) -> pd.DataFrame:
    "Measure, print and save."
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--sizes", nargs="+", default=SIZES, help="WIDTHxHEIGHT.FORMAT:CROP")
    p.add_argument("--items", type=int, default=16, help="how many are timed, of each")
    p.add_argument("--out", type=Path, default=ROOT / "results" / "benchmarks" / "loading.csv")
    a = p.parse_args(words)
    torch.set_num_threads(1)
    rows = []
    for words in a.sizes:
        name, crop = words.split(":")
        size, form = name.split(".")
        rows += measure(tuple(map(int, size.split("x"))), form, int(crop), a.items)
        a.out.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(rows).to_csv(a.out, index=False, float_format="%.4g")
    print(f"{pd.DataFrame(rows).to_string(float_format='%.4g')}\n\nwritten: {a.out}")
    return pd.DataFrame(rows)


if __name__ == "__main__":
    main()
