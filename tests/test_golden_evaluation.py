"Counts, scores and the three ways to predict against the authors' implementation."

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from corrmatch.data.check import Classes
from corrmatch.engine.evaluation import ConfusionMatrix, evaluate_views, middle, predict_labels, sliding_window, windows

FIXTURE = Path(__file__).parents[1] / "nbs" / "fixtures" / "evaluation.safetensors"
FULL = (
    Path(os.environ.get("CORRMATCH_GOLDEN", Path(__file__).parents[2] / "shared" / "golden")) / "evaluation.safetensors"
)
pytestmark = pytest.mark.parametrize(
    "file",
    [
        pytest.param(FIXTURE, id="fixture"),
        pytest.param(
            FULL,
            id="full",
            marks=pytest.mark.skipif(
                not FULL.exists(),
                reason="the full reference tensors are not here (set CORRMATCH_GOLDEN to their folder)",
            ),
        ),
    ],
)
CASES = {
    "crop_plain": "center_crop",
    "slide_plain": "sliding_window",
    "slide_centred": "sliding_window",
    "whole_plain": "whole",
    "whole_centred": "whole",
}


def toy_model(d, case):
    "The same linear map at every pixel; `centred` first takes the mean colour away."
    weight, bias = d["toy_weight"].double(), d["toy_bias"].double()

    def model(images):
        x = images.double()
        if case.endswith("centred"):
            x = x - x.mean((2, 3), keepdim=True)
        return torch.einsum("kc,bchw->bkhw", weight, x) + bias.view(1, -1, 1, 1)

    return model


def unions(matrix):
    return matrix.sum(0) + matrix.sum(1) - matrix.diagonal()


def test_counts_and_scores(file):
    d = load_file(file)
    k, total = d["iou_nclass"].item(), ConfusionMatrix(d["iou_nclass"].item())
    for i, (pred, target) in enumerate(zip(d["iou_pred"], d["iou_target"])):
        one = ConfusionMatrix(k).update(pred, target)
        assert torch.equal(one.matrix.diagonal(), d["iou_intersection"][i]) and torch.equal(
            unions(one.matrix), d["iou_union"][i]
        )
        assert torch.equal(one.matrix.sum(1), d["iou_target_area"][i])
        total = total + one
    assert (total.iou.nan_to_num(0) - d["iou_per_class"]).abs().max() < 1e-9
    assert abs(100 * total.miou_all - d["iou_mean_percent"].item()) < 1e-7
    assert total.iou.isnan().tolist() == [False] * (k - 1) + [True] and total.iou[2] == 0, (
        "absent is not the same as never right"
    )


@pytest.mark.parametrize("case", CASES)
def test_predictions(file, case):
    d = load_file(file)
    size, mode, model = d["grid"].item(), CASES[case], toy_model(d, case)
    items = [{"image": d[f"image{i}"], "labels": d[f"mask{i}"].long(), "id": f"image{i}"} for i in range(2)]
    for i, item in enumerate(items):
        pred = predict_labels(model, item["image"], mode, size)
        assert torch.equal(pred, d[f"{case}.pred{i}"].long())
        one = ConfusionMatrix(19).update(
            pred, middle(item["labels"], size) if mode == "center_crop" else item["labels"]
        )
        assert torch.equal(one.matrix.diagonal(), d[f"{case}.intersection"][i]) and torch.equal(
            unions(one.matrix), d[f"{case}.union"][i]
        )
    total = evaluate_views(model, items, Classes([str(k) for k in range(19)]), mode, size, progress=False)
    assert (total.iou.nan_to_num(0) - d[f"{case}.iou_per_class"]).abs().max() < 1e-9
    assert abs(100 * total.miou_all - d[f"{case}.miou_percent"].item()) < 1e-7


def test_windows(file):
    d = load_file(file)
    for i in range(2):
        assert windows(*d[f"image{i}"].shape[1:], d["grid"].item()) == [
            tuple(w) for w in d[f"slide_windows{i}"].tolist()
        ]


@pytest.mark.parametrize("case", [c for c in CASES if c.startswith("slide")])
@pytest.mark.parametrize("i", range(2))
def test_window_sums(file, case, i):
    d = load_file(file)
    if f"{case}.sum{i}" not in d:
        pytest.skip("left out of the small file")
    want = d[f"{case}.sum{i}"]
    tolerance = 1e-3 if want.dtype == torch.half else 1e-6  # the small file keeps half precision
    assert (
        sliding_window(toy_model(d, case), d[f"image{i}"][None], d["grid"].item())[0] - want
    ).abs().max() <= tolerance
