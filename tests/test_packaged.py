"The network that comes with the package, how it was packed, and what was not looked at to choose its settings."

import sys
import pytest
import torch
from frame import ROOT

sys.path.insert(0, str(ROOT))
from corrmatch.data.splits import packaged
from corrmatch.data.toy import make_toy
from corrmatch.engine.results import load_method, packaged_runs
from corrmatch.engine.runs import load_checkpoint
from corrmatch.engine.trainer import train
from corrmatch.methods.corrmatch.method import correlation_row, explain
from corrmatch.recipes.published import toy
from reproduction import pack, pictures, search
from reproduction.runs import change
from test_reproduction import SMALL


def test_a_dataset_of_the_same_name_is_no_run(tmp_path, monkeypatch):
    pytest.importorskip("timm")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "voc_animals" / "JPEGImages").mkdir(parents=True)
    method, classes, config = load_method("voc_animals")
    assert classes.names == ("background", "cat", "cow", "dog", "horse", "person", "sheep")
    assert method.name == "corrmatch" and config.data.root == "" and config.system.precision == "float32"
    with pytest.raises(FileNotFoundError, match=r"package \(voc_animals\)"):
        load_method("voc_animls")


def test_the_packaged_file_holds_no_place_of_a_machine():
    text = packaged_runs()["voc_animals"].read_bytes()
    assert len(text) < 9e6 and b"/work" not in text and b"/home" not in text and b"optimizers" not in text


def test_the_packaged_file_holds_the_map_too(tmp_path):
    "Projection, w1, w2 and the threshold: pages draw regions from it without a run. Untrained, a third of a row lies on the dog."
    pytest.importorskip("timm")
    o = pictures.packaged(pictures.photographs(tmp_path / "photographs"))
    assert o.views.ids == ["corgi", "shepherd", "cat_and_shepherd"] and 0.5 < o.tau < 0.95
    assert o.tau != o.config.method.threshold_init
    image, truth = o.pair(1)
    assert image.shape[1:] == truth.shape == (320, 320) and set(truth.unique().tolist()) == {0, 3, 255}
    row = correlation_row(o.method, image, 220, 190)  # a pixel of the dog
    on_dog = torch.nn.functional.adaptive_avg_pool2d((truth == 3).float()[None], row.shape)[0]
    assert torch.allclose(row.sum(), torch.tensor(1.0)) and (row * on_dog).sum() > 0.7
    e = explain(o.method, image)
    assert e["mask"].sum() > e["confident"].sum() > 0.5 * truth.numel()


@pytest.mark.filterwarnings("ignore:.*no validation mask holds", "ignore:.*both unlabelled and validation")
def test_a_run_is_packed_in_half_precision(tmp_path):
    root = make_toy(tmp_path / "toy", labelled=4, unlabelled=4, val=2, size=48)
    settings = SMALL | {"name": "tiny", "data.root": str(root), "out": str(tmp_path), "steps": 2}
    run = train(change(toy(), settings), progress=False).folder
    file = pack.pack(run, tmp_path / "packed.pt")
    state = load_checkpoint(file)
    kinds = {v.dtype for v in state["method"].values() if torch.is_tensor(v) and v.is_floating_point()}
    assert kinds == {torch.float16} and state["config"]["data"]["root"] == "" and "optimizers" not in state
    image = torch.randn(1, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        whole, half = (load_method(f, "last")[0].net(image).softmax(1) for f in (run, file))
    torch.testing.assert_close(whole, half, atol=0.02, rtol=0)
    with pytest.raises(FileExistsError, match="already"):
        pack.pack(run, file)


def test_settings_are_chosen_on_masks_that_no_recipe_reads():
    ids = search.unread_ids()
    read = {i for n in (31, 65, 104, 222, 437) for i in packaged("voc_animals", f"labelled_{n}")}
    assert len(ids) == 300 and not read & set(ids) and not set(packaged("voc_animals", "val")) & set(ids)
    assert set(ids) <= set(packaged("voc_animals", "train"))
