"""What people really bring, and what they are told: each situation is made here, and its lines stand in situations.csv.

`python tests/test_situations.py` writes the file anew; read the difference before it is committed."""

import csv
import io
import json
import os
import re
import shutil
import struct
import tempfile
import unicodedata
import warnings
import zlib
from functools import cache
from pathlib import Path
import numpy as np
import pytest
import torch
from PIL import Image
import miniature
from corrmatch.data import check, folder, prepare
from corrmatch.data.check import (
    Classes,
    Folder,
    absent_classes,
    all_images,
    check_folder,
    compare_classes,
    resolve_split,
)
from corrmatch.data.toy import make_toy
from corrmatch.engine import trainer
from corrmatch.engine.config import Config, DataConfig, OptimConfig, SystemConfig, method_config, to_dict
from corrmatch.testing import command_line
from drills import TINY
from test_data_faults import SIZE, Sample, data, labels_of, mask, picture

TOLD = Path(__file__).with_name("situations.csv")
GROUND, RED, GREEN = range(3)
A, B, F = (labels_of(i) for i in (0, 1, 5))
binary = lambda labels: np.where(labels > 0, 255, 0).astype(np.uint8)
without = lambda labels, k: np.where(labels == k, GROUND, labels).astype(np.uint8)


def put(*masks, layout="plain", classes=None):
    "A change of the sample: masks by letter, another classes.txt."

    def change(s):
        for letter, labels in masks:
            s.write(s.mask, letter, mask(labels))
        if classes:
            (s.root / "classes.txt").write_text(classes)

    return change


def drawn(labels, colours):
    "A palette mask."
    image = Image.fromarray(labels)
    image.putpalette([v for colour in colours for v in colour])
    return data(image)


def palettes(s):
    red_first, green_first = ((0, 0, 0), (255, 0, 0), (0, 255, 0)), ((0, 0, 0), (0, 255, 0), (255, 0, 0))
    for letter, colours in zip("abf", (red_first, red_first, green_first)):
        s.write(s.mask, letter, drawn(labels_of("abcdef".index(letter)), colours))


def file(name, content=None):
    "One more file."

    def change(s):
        (path := s.root / name).parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data(picture()) if content is None else content)

    return change


def link(name, target):
    return lambda s: (s.root / name).symlink_to(s.root / target)


def rename(pattern, *letters, folder="masks"):
    "Other names for masks."

    def change(s):
        for letter in letters or "abcdf":
            (s.root / folder / f"{letter}.png").rename(s.root / folder / pattern.format(letter))

    return change


def all_of(*changes):
    return lambda s: [change(s) for change in changes]


def linked_folder(s):
    file("../elsewhere/g.png")(s)
    link("images/more", "../elsewhere")(s)


def accents(s):
    "The disk says e and an accent, the list says one character."
    name = "e\u0301t\u00e9"
    for place, content in ((s.image, data(picture())), (s.mask, mask(A))):
        s.write(place, unicodedata.normalize("NFD", name), content)
    s.lines("labelled", raw=f"a\nb\n{unicodedata.normalize('NFC', name)}\n")


def damaged_note(s):
    "Pillow opens the image and warns of its EXIF data."
    s.path(s.image, "c").unlink()
    (s.root / "images/c.jpg").write_bytes(data(picture(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01\x03\0"))


def unread(patched, refused):
    "Make a file or a folder one that may not be read, whoever asks."

    def change(s):
        owner, name, real = *patched, getattr(*patched)

        def ask(path, *args, **settings):
            if str(path).endswith(refused):
                raise PermissionError(13, "Permission denied", str(path))
            return real(path, *args, **settings)

        s.patch(owner, name, ask)

    return change


def text(name, content):
    return lambda s: (s.root / name).write_text(content)


def lossy(s):
    for letter in "abf":
        s.write(s.mask, letter, data(Image.fromarray(labels_of("abcdef".index(letter))), "JPEG", quality=95))


def pages(s):
    "An image of two pages."
    s.path(s.image, "c").unlink()
    both = io.BytesIO()
    picture(1).save(both, "TIFF", save_all=True, append_images=[picture(2)])
    (s.root / "images/c.tif").write_bytes(both.getvalue())


def deeper(s):
    "Images by day, masks all in one folder."
    (s.root / "images/day").mkdir()
    for letter in "abc":
        s.path(s.image, letter).rename(s.root / f"images/day/{letter}.png")
    s.lines("labelled", raw="day/a\nday/b\n")
    s.lines("train", raw="day/a\nday/b\nday/c\nd\ne\n")


def copied(s):
    "The picture to validate with is one to train with."
    for place in (s.image, s.mask):
        shutil.copy(s.path(place, "a"), s.path(place, "f"))


def no_masks(s):
    shutil.rmtree(s.root / "masks")
    link("masks", "../elsewhere/masks")(s)


# What is done with a run: the folder of all is the working directory, with the dataset `set` and a run `runs/one`


@cache
def trained() -> Path:
    "A run of two steps on the sound sample, and its settings."
    place = Path(tempfile.mkdtemp())
    Sample(place / "set", "plain")
    data = DataConfig("set", "labelled", crop=16)
    method = method_config("supervised")
    c = Config("one", data, TINY, method, OptimConfig(0.01), SystemConfig("cpu"), batch=2, steps=2, log_every=1)
    (place / "one.json").write_text(json.dumps(to_dict(c)))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert command_line("train --config one.json")[0] == 0
    return place


def toy_folder(s):
    s.patch(trainer, "make_toy", lambda root: make_toy(root, labelled=2, unlabelled=2, val=1, size=32))
    (s.root / "../toy").mkdir()


def moved(s):
    s.path(s.list, "labelled").rename(s.root / "../mine.txt")


def edited(s):
    (s.root / "../mine.txt").write_text("a\n")


def foreign(s):
    torch.save({"model": {"weight": torch.zeros(3)}, "epoch": 3}, s.root / "../other.pt")


def cut_short(s):
    mask = s.root / "../out/c.png"
    mask.write_bytes(mask.read_bytes()[:50])


def one_class_less(s):
    "A test set of which no mask holds green, and predictions that do not either."
    put(*zip("abf", (without(m, GREEN) for m in (A, B, F))))(s)
    for letter in "cd":
        s.path(s.mask, letter).unlink()
    state = torch.load(file := s.root / "../runs/one/last.pt", weights_only=True)
    *_, bias = (v for k, v in state["method"].items() if k.endswith("bias") and v.shape == (3,))
    bias[GREEN] = -1e4
    torch.save(state, file)


reordered = text("classes.txt", "ground\ngreen\nred\n")
PREDICT = "predict runs/one set/images --out out"
home = lambda s: s.patch(os.environ, "HOME", str(s.root.parent))
nothing = lambda s: None
SITUATIONS = {  # kind -> situation -> change of a sound data set, settings of the check
    "what masks hold": {
        "labelled masks saved as 0 and 255": (put(("a", binary(A)), ("b", binary(B))), {}),
        "validation masks saved as 0 and 255": (put(("f", binary(F))), {}),
        "one labelled mask saved as 0 and 255": (put(("b", binary(B))), {}),
        "masks that are mostly 255": (put(("a", np.where(A == GROUND, 255, A).astype(np.uint8))), {}),
        "labelled masks of one class alone": (put(*((i, np.full(SIZE[::-1], RED, np.uint8)) for i in "ab")), {}),
        "a class that no mask holds": (put(*zip("abf", (without(m, RED) for m in (A, B, F)))), {}),
        "a class that only validation masks hold": (put(*zip("ab", (without(m, RED) for m in (A, B)))), {}),
        "a class that no validation mask holds": (put(("f", without(F, GREEN))), {}),
        "palettes that contradict each other": (palettes, {}),
    },
    "classes": {
        "a heading in classes.txt": (put(classes="name\nground\nred\ngreen\n"), {}),
        "a heading of colours in classes.txt": (put(classes="class,r,g,b\nground\nred\ngreen\n"), {}),
        "a comment in classes.txt": (put(classes="# our classes\nground\nred\ngreen\n"), {}),
        "a class twice in classes.txt": (put(classes="ground\nred\nred\n"), {}),
        "VOC's folders without classes.txt": (lambda s: (s.root / "classes.txt").unlink(), {"layout": "voc"}),
        "numbers before the names": (text("classes.txt", "0: ground\n2: green\n1: red\n"), {}),
        "numbers from 1 before the names": (text("classes.txt", "1 ground\n2 red\n3 green\n"), {}),
        "a blank line between the names": (text("classes.txt", "ground\n\nred\ngreen\n"), {}),
        "all names on one line": (text("classes.txt", "ground, red, green\n"), {}),
        "colours with commas": (text("classes.txt", "ground 0,0,0\nred,255,0,0\ngreen 0,255,0\n"), {}),
        "two classes of one colour": (text("classes.txt", "ground 0 0 0\nred 255 0 0\ngreen 255 0 0\n"), {}),
        "names in labels.txt": (lambda s: (s.root / "classes.txt").rename(s.root / "labels.txt"), {}),
    },
    "folders": {
        "copies in .ipynb_checkpoints": (file("images/.ipynb_checkpoints/a-checkpoint.png"), {}),
        "a directory called x.png": (lambda s: (s.root / "images/x.png").mkdir(), {}),
        "thumbnails in @eaDir": (file("images/@eaDir/a.png/SMALL.jpg"), {}),
        "images of a camera (.heic)": (all_of(file("images/g.heic"), file("images/h.HEIC")), {}),
        "a second image folder": (file("JPEGImages/a.png"), {}),
        "a link to a folder of images": (linked_folder, {}),
        "a link to the folder itself": (link("images/inside", "images"), {}),
        "a link to the folder above": (link("images/inside", "."), {}),
        "a link that leads nowhere": (link("images/more", "../absent"), {}),
        "a folder that may not be read": (all_of(file("images/sub/g.png"), unread((os, "scandir"), "sub")), {}),
        "an image that may not be read": (unread((Image, "open"), "c.png"), {}),
        "an image called .jfif": (file("images/g.jfif", data(picture(), "JPEG")), {}),
        "a folder called Images": (lambda s: (s.root / "images").rename(s.root / "Images"), {}),
        "the folder of images instead of the dataset": (nothing, {"root": "{}/images"}),
        "a copy of a training image to validate with": (copied, {}),
        "two pages in one image": (pages, {}),
        "images that share an id": (all_of(file("images/a.JPG"), file("images/c.bmp"), file("images/c.tif")), {}),
    },
    "masks and their names": {
        "masks called .PNG": (rename("{}.PNG"), {}),
        "masks called .jpg": (rename("{}.jpg"), {}),
        "JPEG masks called .png": (lossy, {}),
        "images in folders, masks in one": (deeper, {}),
        "masks that are a link to nowhere": (no_masks, {}),
        "masks called _mask": (rename("{}_mask.png"), {}),
        "masks called _mask, no lists": (rename("{}_mask.png"), {"labelled": None}),
        "a mask called _label beside the others": (file("masks/e_label.png", mask(A)), {}),
        "a mask with a slip in its name": (all_of(file("images/street.png"), file("masks/stret.png", mask(A))), {}),
        "masks among the images": (all_of(*(file(f"images/{i}_mask.png", mask(A)) for i in "ab")), {}),
        "masks in ADE's folder annotations": (lambda s: (s.root / "masks").rename(s.root / "annotations"), {}),
        "masks in annotations, no lists": (
            lambda s: (s.root / "masks").rename(s.root / "annotations"),
            {"labelled": None},
        ),
    },
    "names and notes": {
        "accents in two forms of Unicode": (accents, {}),
        "a path with ~": (home, {"root": "~/set"}),
        "a list with ~": (all_of(home, file("../mine.txt", b"a\nb\n")), {"labelled": "~/mine.txt"}),
        "an image with a damaged note": (damaged_note, {}),
        "a list of images and masks": (
            text("labelled.txt", "images/a.png masks/a.png\nimages/b.png masks/b.png\n"),
            {},
        ),
        "a list of VOC's that says which class": (text("labelled.txt", "a  1\nb -1\n"), {}),
        "a list in capitals": (text("labelled.txt", "A\nB\n"), {}),
    },
    "runs": {
        "a list that has moved": (moved, ["train --config one.json --resume --data.labelled mine.txt"]),
        "another list under a new name": (edited, ["train --config one.json --resume --data.labelled mine.txt"]),
        "classes reordered after the training": (reordered, ["evaluate runs/one"]),
        "classes reordered, and the run continued": (reordered, ["train --config one.json --resume"]),
        "settings that are a list": (text("../no.json", "[1, 2]"), ["train --config no.json"]),
        "a folder called toy": (
            toy_folder,
            ["train --config one.json --name two --data.root toy --data.crop 8 --data.labelled labels --dry-run"],
        ),
        "a run below a file": (text("../file", ""), ["train --config one.json --out file"]),
    },
    "results": {
        "the checkpoint of another program": (foreign, ["evaluate other.pt"]),
        "a test set without classes.txt": (
            lambda s: (s.root / "classes.txt").unlink(),
            ["evaluate runs/one --root set"],
        ),
        "a test set that lacks a class": (one_class_less, ["evaluate runs/one --root set --csv scores.csv"]),
        "images that lie beside other classes": (reordered, [PREDICT]),
        "the same prediction twice": (nothing, [PREDICT, PREDICT]),
        "a prediction that was cut short": (nothing, [PREDICT, cut_short, PREDICT]),
        "predictions of another setting": (nothing, [PREDICT, f"{PREDICT} --size 8 --mode sliding_window"]),
        "predictions into the folder of the images": (nothing, ["predict runs/one set/images --out set/images"]),
        "a dataset instead of its images": (nothing, ["predict runs/one set --out out"]),
        "an empty log": (text("../runs/one/log.csv", ""), ["report runs/one --out page.html"]),
        "a path with ~ in quotes": (home, ["evaluate '~/runs/one' --csv=~/scores.csv"]),
    },
}
# where it was met: repository and number; else it is our own
SOURCES = {
    "labelled masks saved as 0 and 255": "open-mmlab/mmsegmentation#1609",
    "validation masks saved as 0 and 255": "PaddlePaddle/PaddleSeg#1110",
    "one labelled mask saved as 0 and 255": "huggingface/transformers#27224",
    "a class that no mask holds": "NVIDIA/semantic-segmentation#24",
    "a class that no validation mask holds": "isl-org/Open3D-PointNet2-Semantic3D#75",
    "palettes that contradict each other": "cvat-ai/cvat#6274",
    "VOC's folders without classes.txt": "open-mmlab/mmrazor#10",
    "numbers before the names": "PaddlePaddle/PaddleSeg#478",
    "numbers from 1 before the names": "nightrome/cocostuff#7",
    "colours with commas": "NVIDIA/DIGITS#1605",
    "copies in .ipynb_checkpoints": "bghira/SimpleTuner#94",
    "thumbnails in @eaDir": "photoprism/photoprism#1543",
    "images of a camera (.heic)": "photoprism/photoprism#3705",
    "a link to a folder of images": "fastai/fastai#2270",
    "a link to the folder itself": "twisted/twisted#3098",
    "a link to the folder above": "c0m4r/paranoya#7",
    "an image that may not be read": "deepfakes/faceswap#1133",
    "an image called .jfif": "supervisely/supervisely#839",
    "images that share an id": "Ugness/PiCANet-Implementation#6",
    "masks called .PNG": "open-edge-platform/anomalib#3058",
    "masks called .jpg": "aurooj/Hand-Segmentation-in-the-Wild#4",
    "JPEG masks called .png": "mantasu/glasses-detector#23",
    "masks called _mask": "milesial/Pytorch-UNet#102",
    "masks called _mask, no lists": "MouseLand/cellpose#667",
    "a mask with a slip in its name": "namtpham/casia2groundtruth#3",
    "accents in two forms of Unicode": "owncloud/core#31544",
    "a path with ~": "tensorflow/tensorflow#44264",
    "an image with a damaged note": "saimn/sigal#394",
    "a test set that lacks a class": "Lightning-AI/torchmetrics#2558",
}
CASES = [(kind, name) for kind, situations in SITUATIONS.items() for name in situations]


def patcher(patch):
    "Sets an attribute, or a variable of the environment, until the situation is over."
    return lambda owner, name, value: (patch.setitem if owner is os.environ else patch.setattr)(owner, name, value)


def answers(change, lines: list, place: Path, patch) -> list[str]:
    "What the last of some commands says; numbers that depend on the machine are left out."
    shutil.copytree(trained(), place, dirs_exist_ok=True)
    patch.chdir(place)
    sample = Sample(place / "set", "plain")
    sample.patch = patcher(patch)
    change(sample)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        for line in lines:
            said = line(sample) if callable(line) else "".join(command_line(line)[1:])
    said = said.replace(f"{place}/", "").splitlines()
    told = [line for line in said if re.match("corrmatch: |The mean is|.* predicted into|.* at step", line)]
    csv = place / "scores.csv"
    told += [f"{csv.name}: {row.split(',')[0]}" for row in csv.read_text().splitlines()[-1:]] if csv.exists() else []
    return [re.sub(" after .*", "", line.removeprefix("corrmatch: ")) for line in told] or [
        re.sub(r" [\d.]+ %.*", " is printed", said[-1])
    ]


def told(kind: str, name: str, place: Path, patch) -> list[str]:
    "The lines of a check, what was warned of, and what was read."
    change, settings = SITUATIONS[kind][name]
    if isinstance(settings, list):
        return answers(change, settings, place, patch)
    settings = dict(settings)
    sample = Sample(place / "set", settings.pop("layout", "plain"))
    sample.patch = patcher(patch)
    change(sample)
    root = str(settings.pop("root", sample.root)).replace("{}", str(sample.root))
    labelled = settings.pop("labelled", "labelled")
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        diagnostics = check_folder(root, labelled, **settings)
    lines = [*map(str, diagnostics), *sorted({f"warning: {w.message}" for w in warned})]
    lines = [
        " ".join(line.replace(f"{sample.root}/", "").replace(str(sample.root), "DATASET").split()) for line in lines
    ]
    if any(line.startswith("error") for line in lines):
        return lines
    seen = Folder(root)
    masks = sum(i in seen.paths for i in seen.mask_files)
    return [*lines, f"{len(seen.ids)} images and {masks} masks are read"]


def read_told() -> list[tuple]:
    with open(TOLD, encoding="utf-8", newline="") as f:
        return [(row["kind"], row["situation"], row["what you are told"]) for row in csv.DictReader(f)]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind, name", CASES, ids=[name for _, name in CASES])
def test_a_situation_is_told_as_the_table_says(kind, name, tmp_path, monkeypatch):
    expected = [line for k, n, line in read_told() if (k, n) == (kind, name)]
    assert told(kind, name, tmp_path, monkeypatch) == expected


def test_the_table_has_every_situation_and_no_other():
    assert {(k, n) for k, n, _ in read_told()} == set(CASES)
    with open(TOLD, encoding="utf-8", newline="") as f:
        assert all(row["source"] == SOURCES.get(row["situation"], "own") for row in csv.DictReader(f))
    assert set(SOURCES) <= {name for _, name in CASES}
    fine = [
        n for _, n, line in read_told() if line.endswith("are read") and [m for _, m, _ in read_told()].count(n) == 1
    ]
    assert len(fine) >= 8 and len(read_told()) > len(CASES)


def test_a_score_over_fewer_classes_is_known():
    assert absent_classes([4, 0, 2], ("ground", "red", "green")) == ["red"]


def test_classes_that_changed_are_named():
    then = Classes(("ground", "red", "green"), ((9, 9, 9), (250, 0, 0), (0, 250, 0)))
    said = lambda names, **settings: "; ".join(compare_classes(then, Classes(names, **settings)))
    assert said(then.names) == "" == said(then.names, palette=((1, 2, 3), (250, 0, 0), (0, 250, 1)))
    assert "class 1: 'red' then, 'green' now (the same names in another order)" in said(("ground", "green", "red"))
    assert said(("ground", "red", "blue")) == "class 2: 'green' then, 'blue' now"
    assert said(("ground", "red")) == "classes: 3 then, 2 now"
    assert said(then.names, ignore_index=7) == "ignore_index: 255 then, 7 now"
    assert "'green' then, 'red' now" in said(then.names, palette=((9, 9, 9), (0, 250, 0), (250, 0, 0)))


class Counted(str):
    "An id that counts how often it is looked up."

    looked_up = 0

    def __hash__(self):
        Counted.looked_up += 1
        return super().__hash__()


def look_ups(n: int, monkeypatch) -> int:
    "How often ids are looked up to make the lists of a data set of n images, n/2 of them labelled."
    ids = [Counted(f"{i:05d}") for i in range(n)]
    lists = {"labelled": ids[: n // 2], "train": ids[: 3 * n // 4], "val": ids[3 * n // 4 :]}

    class Stub:
        root, masks, layout = Path("."), ("masks",), "plain"
        mask_files = paths = {str(i): Path(i) for i in ids}
        list_path = staticmethod(lambda name: Path("absent"))

    Stub.ids = ids
    monkeypatch.setattr(check, "find_list", lambda _, name: lists.get(str(name)))
    monkeypatch.setattr(check, "find_images", lambda *_: {})
    monkeypatch.setattr(check, "check_image", lambda *_: check.Seen())
    Counted.looked_up = 0
    split = resolve_split(Stub, "labelled")
    assert len(split.unlabelled) == n // 4
    all_images(Stub)
    check.read_files(Stub, split)
    return Counted.looked_up


def test_the_work_grows_with_the_number_of_images_and_no_faster(monkeypatch):
    assert 0 < look_ups(8000, monkeypatch) < 2.1 * look_ups(4000, monkeypatch) < 200_000


def matrix(flags, shape, *parts):
    "A matrix of a MAT-file."
    block = lambda kind, content: struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)
    head = block(6, struct.pack("<II", flags, 0)) + block(5, struct.pack("<2i", *shape)) + block(1, b"GTcls")
    return block(14, head + b"".join(parts))


def compressed(content):
    packed = zlib.compress(content)
    return struct.pack("<II", 15, len(packed)) + packed


def nested(levels):
    inner = b""
    for _ in range(levels):
        inner = matrix(1, (1, 1), inner)
    return inner


@pytest.mark.parametrize(
    "content, words",
    [
        (compressed(matrix(2, (2**15, 2**15))), "not an annotation of SBD"),
        (compressed(matrix(9, (2**15, 2**15), bytes(2**25))), "unpacks to more than 16 MB"),
        (compressed(compressed(bytes(2**25))), "it has no Segmentation"),
        (compressed(nested(3000)), "it has no Segmentation"),
        (bytes(2**21), "more than 1 MB"),
    ],
    ids=["a claimed size", "a bomb", "a bomb in a bomb", "3,000 matrices in each other", "a large file"],
)
def test_a_harmful_annotation_is_refused(tmp_path, content, words):
    (path := tmp_path / "a.mat").write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + content)
    with pytest.raises(ValueError, match=words):
        prepare.read_sbd(path)


def test_the_check_prints_the_table(tmp_path):
    sample = Sample(tmp_path / "set", "plain")
    status, out, _ = command_line(f"data check {sample.root} --labelled labelled --table")
    assert status == 0 and "labelled masks" in out and "validation %" in out
    for name in ("ground", "red", "green", "ignored"):
        assert f"\n{name} " in out
    assert "labelled masks" not in command_line(f"data check {sample.root} --labelled labelled")[1]


def test_voc_animals_are_made_from_voc(tmp_path, monkeypatch):
    lists = {name: prepare.packaged("voc_animals", name) for name in prepare.ANIMAL_LISTS}
    precise = lists["labelled_437"][:3]
    few = {
        "train": precise + [i for i in lists["train"] if i not in lists["labelled_437"]][:3],
        "val": lists["val"][:2],
    }
    ids = few["train"] + few["val"]
    with monkeypatch.context() as patched:
        names = {"classic_1464": precise, "train_aug": few["train"], "val": few["val"]}
        patched.setattr(miniature, "packaged", lambda _, name: names[name])
        home = miniature.voc(tmp_path)
    monkeypatch.setattr(prepare, "packaged", lambda _, name: few.get(name, precise))
    status, out, _ = command_line(f"data prepare voc_animals {home} {tmp_path}/animals")
    assert status == 0 and "8 images, 8 masks" in out and "7 classes" in out
    made = Folder(tmp_path / "animals")
    assert (
        made.ids == sorted(ids)
        and made.has_classes
        and list(made.classes.names) == ("background cat cow dog horse person sheep".split())
    )
    for id in ids:
        image, labels = check.read_pair(made, id)
        whole = Folder(home, folder.VOC_CLASSES)
        assert image.size == tuple((n + 1) // 2 for n in folder.read_image(whole.image_path(id)).size)
        before = np.asarray(folder.read_mask(whole.mask_path(id)))[::2, ::2]
        after = np.asarray(labels)
        for k, name in enumerate(made.classes.names):
            assert ((after == k) == (before == folder.VOC_CLASSES.names.index(name))).all()
    for name in prepare.ANIMAL_LISTS:
        assert check.find_list(made, name) == few.get(name, precise)
    assert "0 files written" in command_line(f"data prepare voc_animals {home} {tmp_path}/animals")[1]
    assert (
        command_line(f"data prepare voc_animals {home}")[0] == command_line(f"data prepare voc {home} {home}")[0] == 2
    )


if __name__ == "__main__":
    with open(TOLD, "w", encoding="utf-8", newline="") as out:
        rows = csv.writer(out, lineterminator="\n")
        rows.writerow(["kind", "situation", "what you are told", "source"])
        for kind, name in CASES:
            with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
                source = SOURCES.get(name, "own")
                rows.writerows((kind, name, line, source) for line in told(kind, name, Path(place), patch))
