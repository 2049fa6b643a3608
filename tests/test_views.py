"Views from worker processes, however they are started, and with as little memory as the images need. All else is tested in nbs/book/03_views.ipynb."

import gc
import pickle
import weakref

import numpy as np
import pytest
import torch
from PIL import Image

from corrmatch.data import views as module
from corrmatch.data.check import Classes, Folder
from corrmatch.data.splits import Split
from corrmatch.data.views import TrainingViews, batches
from corrmatch.testing import same


@pytest.fixture
def made(tmp_path):
    "A folder of eight small images, two of them with masks, and its split."
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for k, id in enumerate("abcdefgh"):
        Image.fromarray(rng.integers(0, 256, (24 + k, 32, 3), dtype=np.uint8)).save(tmp_path / "images" / f"{id}.png")
        if id in "ab":
            Image.fromarray(rng.integers(0, 2, (24 + k, 32), dtype=np.uint8)).save(tmp_path / "masks" / f"{id}.png")
    return Folder(tmp_path, Classes(("ground", "disc"))), Split(["a", "b"], list("cdefgh"))


@pytest.mark.parametrize("start", [m for m in ("fork", "spawn") if m in torch.multiprocessing.get_all_start_methods()])
def test_workers_change_nothing(made, start):
    dataset = TrainingViews(*made, 17, seed=1, partner="crop")
    want, before = list(batches(dataset, 2)), torch.get_rng_state()
    loader = batches(dataset, 2, workers=2)
    loader.multiprocessing_context = start
    assert len(want) == 3 and all(same(a, b) for a, b in zip(loader, want, strict=True))
    assert torch.equal(torch.get_rng_state(), before)


def test_workers_follow_the_epoch(made):
    dataset = TrainingViews(*made, 17, seed=1)
    loader = batches(dataset, 2, workers=1)
    first = list(loader)
    dataset.epoch = 1
    second, fresh = list(loader), list(batches(TrainingViews(*made, 17, seed=1, epoch=1), 2))
    assert all(same(a, b) for a, b in zip(second, fresh, strict=True)) and not same(first[0], second[0])


def test_an_error_in_a_worker_names_the_file(made):
    folder, split = made
    (folder.root / "images" / "e.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="e.png"):
        list(batches(TrainingViews(folder, split, 17), 2, workers=1))


def test_no_image_is_kept(made, monkeypatch):
    kept, read = [], module.read_listed

    def watched(folder, id):
        image = read(folder, id)
        kept.append(weakref.ref(image))
        return image

    monkeypatch.setattr(module, "read_listed", watched)
    dataset = TrainingViews(*made, 17, partner="crop")
    for i in range(len(dataset)):
        dataset[i]
    gc.collect()
    assert len(kept) == len(dataset) and not any(ref() for ref in kept)


def test_a_worker_gets_lists_not_images(made):
    "What travels to a spawned worker grows with the number of ids, some tens of bytes each."
    folder, _ = made
    few, many = (
        len(pickle.dumps(TrainingViews(folder, Split(["a"], [f"2007_{k:06}" for k in range(n)]), 17)))
        for n in (100, 10_100)
    )
    assert (many - few) / 10_000 < 40
