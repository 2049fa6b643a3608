"Datasets in miniature: the layout, the ids and the image sizes of VOC, Cityscapes and CamVid, with a handful of pictures behind thousands of names."

import os
import shutil
from pathlib import Path
import numpy as np
from PIL import Image
from corrmatch.data.folder import CAMVID_CLASSES, CITYSCAPES_CLASSES, VOC_CLASSES, label_image
from corrmatch.data.splits import packaged, write_ids

# left, top, right, bottom, class
STREET = (
    (0, 0, 1, 1, 10),
    (0, 0.25, 0.6, 0.7, 2),
    (0.6, 0.3, 1, 0.7, 8),
    (0, 0.6, 1, 1, 0),
    (0, 0.7, 0.2, 0.9, 1),
    (0.3, 0.1, 0.32, 0.7, 5),
    (0.45, 0.55, 0.7, 0.75, 13),
    (0.8, 0.5, 0.84, 0.8, 11),
    (0, 0.95, 1, 1, 255),
)


def link(source: Path, target: Path):
    "One more name for a file."
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)  # a file system without hard links, or with few


def name_all(ids, pairs, images: str, masks: str):
    "Give the pairs of (image, mask) the names of all ids in turn; a name is a path with ID in it."
    for i, id in enumerate(ids):
        for source, path in zip(pairs[i % len(pairs)], (images, masks)):
            link(source, Path(path.replace("ID", id)))


def drawing(size, shapes, seed: int, classes: int) -> tuple[Image.Image, np.ndarray]:
    "Rectangles with their class ids; each has a colour of its own, so a network could tell them apart."
    (w, h), r = size, np.random.default_rng(seed)
    colours, labels = r.integers(30, 226, (256, 3), dtype=np.uint8), np.zeros((h, w), np.uint8)
    for left, top, right, bottom, k in shapes:
        labels[int(top * h) : int(bottom * h), int(left * w) : int(right * w)] = k if k == 255 else k % classes
    return Image.fromarray(colours[labels]), labels


def save_pairs(folder: Path, drawings, classes, image_ending: str) -> list[tuple[Path, Path]]:
    "Write the pictures that get the names."
    folder.mkdir(parents=True)
    pairs = [(folder / f"{i}{image_ending}", folder / f"{i}_mask.png") for i in range(len(drawings))]
    for (image, labels), (a, b) in zip(drawings, pairs):
        image.save(a)
        label_image(labels, classes).save(b)
    return pairs


def voc(root: Path) -> Path:
    "VOC 2012 with the masks of SBD in SegmentationClassAug: 10,582 + 1,449 ids, four pictures of the usual sizes."
    own, val = packaged("voc", "classic_1464"), packaged("voc", "val")
    shapes = lambda i: (
        (0, 0, 1, 1, 0),
        (0.2, 0.2, 0.8, 0.9, 1 + 5 * i),
        (0.5, 0.5, 0.95, 0.95, 2 + 5 * i),
        (0.18, 0.2, 0.2, 0.9, 255),
    )
    drawings = [
        drawing(size, shapes(i), i, 21) for i, size in enumerate([(500, 375), (375, 500), (500, 333), (334, 500)])
    ]
    pairs = save_pairs(root / "pictures", drawings, VOC_CLASSES, ".jpg")
    home, coarse = root / "VOCdevkit" / "VOC2012", sorted(set(packaged("voc", "train_aug")) - set(own))
    name_all(own + val, pairs, f"{home}/JPEGImages/ID.jpg", f"{home}/SegmentationClass/ID.png")
    name_all(coarse, pairs, f"{home}/JPEGImages/ID.jpg", f"{home}/SegmentationClassAug/ID.png")
    return home


def cityscapes(root: Path) -> Path:
    "Cityscapes with its train ids: 2,975 + 500 ids, two drawings of 2048x1024."
    pairs = save_pairs(
        root / "pictures", [drawing((2048, 1024), STREET, i, 19) for i in range(2)], CITYSCAPES_CLASSES, ".png"
    )
    home, ids = root / "cityscapes", packaged("cityscapes", "train") + packaged("cityscapes", "val")
    name_all(ids, pairs, f"{home}/leftImg8bit/ID_leftImg8bit.png", f"{home}/gtFine/ID_gtFine_labelTrainIds.png")
    return home


def camvid(root: Path) -> Path:
    "CamVid in VOC layout: 367 + 101 ids, two drawings of 480x360."
    home, lists = root / "camvid", {"train": 367, "val": 101}
    pairs = save_pairs(
        root / "pictures", [drawing((480, 360), STREET, i, 11) for i in range(2)], CAMVID_CLASSES, ".png"
    )
    for name, n in lists.items():
        ids = [f"{name}_{i:04d}" for i in range(n)]
        name_all(ids, pairs, f"{home}/JPEGImages/ID.png", f"{home}/SegmentationClass/ID.png")
        (home / "ImageSets" / "Segmentation").mkdir(parents=True, exist_ok=True)
        write_ids(home / "ImageSets" / "Segmentation" / f"{name}.txt", ids)
    (home / "classes.txt").write_text("".join(f"{n}\n" for n in CAMVID_CLASSES.names))
    return home
