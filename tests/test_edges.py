"The edges of the numbers, searched by hypothesis: nothing valid, nothing sure, one class or 150, one cell, one pixel, logits as large as they come."

import math
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from PIL import Image
from corrmatch.methods.base import Clock
from corrmatch.methods.corrmatch.method import (
    CorrMatch,
    CorrMatchConfig,
    Predictions,
    Pseudo,
    corrmatch_loss,
    make_threshold,
)
from corrmatch.models.build import ModelConfig, build_segmenter
from corrmatch.methods.corrmatch.correlation import Correlation, correlation_map, shapes_from_rows
from corrmatch.data.check import Classes
from corrmatch.engine.evaluation import MODES, ConfusionMatrix, evaluate_views, predict_labels, scores
from corrmatch.nn.losses import OHEM
from corrmatch.methods.corrmatch.propagation import (
    propagate_pixels,
    propagate_regions,
    propagate_regions_reference,
)
from corrmatch.methods.corrmatch.threshold import DynamicThreshold
from corrmatch.data.views import cutmix_box, normalise, resize_crop_flip, strong_view
from replay import kept_pseudo_labels

settings.register_profile("bounded", max_examples=30, deadline=None, derandomize=True)
settings.load_profile("bounded")
CLASSES, SCALES, SHARES, TYPES = (
    (1, 2, 21, 150),
    (0.0, 1.0, 1e4, 1e30),
    (0.0, 0.3, 1.0),
    (torch.float32, torch.bfloat16),
)
TINY = ModelConfig("resnet18", width=4, rates=(1, 2, 3), channels=8, low_channels=4, weights=None)
small, seeds = st.integers(1, 9), st.integers(0, 10**6)
drawn = lambda *options: st.sampled_from(options)


def random(seed, *shape, scale=1.0, dtype=torch.float32):
    return (scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))).to(dtype)


def some(seed, share, *shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < share


def finite(*tensors):
    return all(t.isfinite().all() for t in tensors)


@given(small, small, drawn(1, 2, 21), drawn(*SCALES), drawn(*TYPES), seeds)
def test_rows_of_the_map_are_shares_and_a_flat_row_has_no_shape(h, w, d, scale, dtype, seed):
    scale = min(scale, 1e4)  # of both vectors, so scores reach 1e9
    w1, w2 = (
        random(seed, 2, d, h * w, scale=scale, dtype=dtype).requires_grad_(),
        random(seed + 1, 2, d, h * w, scale=scale, dtype=dtype),
    )
    c = correlation_map(w1, w2)
    assert (
        c.dtype == torch.float32
        and finite(c)
        and (c >= 0).all()
        and torch.allclose(c.sum(-1), torch.ones(2, h * w), atol=1e-5)
    )
    out = propagate_pixels(random(seed + 2, 2, 3, h * w), c)
    out.sum().backward()
    assert finite(out, w1.grad)
    flat = shapes_from_rows(torch.full((1, 2, h, w), 1 / (h * w)), (3 * h + 1, 2 * w))
    assert flat.shape == (1, 2, 3 * h + 1, 2 * w) and not flat.any()


@given(small, small, drawn(*CLASSES), drawn(*SCALES), drawn(*TYPES), seeds)
def test_propagated_logits_are_finite_and_a_single_cell_works(h, w, k, scale, dtype, seed):
    corr = Correlation(4, k)
    logits, shapes = corr(
        random(seed, 2, 4, h, w, dtype=dtype).float(),
        random(seed, 2, k, 2 * h, 3 * w, scale=scale, dtype=dtype),
        num_shapes=5,
    )
    assert (
        finite(logits)
        and logits.shape == (2, k, 2 * h, 3 * w)
        and shapes.shape == (2, 5, 2 * h, 3 * w)
        and shapes.dtype == torch.bool
    )
    if h * w == 1:
        assert not shapes.any(), "a row of one cell is flat"


@given(small, small, drawn(*CLASSES), drawn(*SHARES), drawn(*SHARES), drawn(0.0, 0.5, 1.0), seeds)
def test_regions_do_what_the_double_loop_does(h, w, k, sure, filled, threshold, seed):
    shapes, confident = some(seed, filled, 2, 6, h, w), some(seed + 1, sure, 2, h, w)
    labels = torch.randint(k, (2, h, w), generator=torch.Generator().manual_seed(seed))
    before = [t.clone() for t in (shapes, labels, confident)]
    new, mask = propagate_regions(shapes, labels, confident, threshold)
    assert all(torch.equal(a, b) for a, b in zip(before, (shapes, labels, confident))), "arguments are left alone"
    want = propagate_regions_reference(shapes, labels, confident, threshold)
    assert torch.equal(new, want[0]) and torch.equal(mask, want[1]) and (mask | ~confident).all()
    if not confident.any():
        assert torch.equal(new, labels) and not mask.any()


@given(
    small,
    small,
    drawn(*CLASSES),
    drawn(*SCALES),
    drawn(*TYPES),
    drawn(*SHARES),
    drawn("dynamic", "maximum", "mean", "pixel", "class", "fixed"),
    seeds,
)
def test_a_threshold_stays_a_share_and_stays_put_where_nothing_is_valid(h, w, k, scale, dtype, share, kind, seed):
    threshold, valid = (
        make_threshold(CorrMatchConfig(threshold=kind, threshold_momentum=0.5)),
        some(seed, share, 2, h, w),
    )
    logits = random(seed, 2, k, h, w, scale=scale, dtype=dtype)
    for _ in range(3):
        threshold.update(logits, valid)
    assert 0 <= threshold.level <= 1 + 1e-6
    each = torch.as_tensor(threshold.per_pixel(logits.argmax(1)))
    assert finite(each) and (each >= 0).all() and (each <= 1 + 1e-6).all()
    if not valid.any():
        assert abs(threshold.level - 0.85) < 1e-6


def test_a_prediction_of_nan_stops_the_threshold():
    with pytest.raises(FloatingPointError, match="NaN"):
        DynamicThreshold().update(torch.full((1, 3, 2, 2), math.nan))


@given(
    small,
    small,
    drawn(*CLASSES),
    drawn(*SCALES),
    drawn(*SHARES),
    drawn(*SHARES),
    drawn("kl", "cross_entropy", "cosine"),
    st.booleans(),
    seeds,
)
def test_losses_are_finite_and_zero_where_nothing_counts(h, w, k, scale, share, sure, soft, ohem, seed):
    make = lambda i: random(seed + i, 2, k, h, w, scale=scale).requires_grad_()
    logits = [make(i) for i in range(6)]
    valid, confident = some(seed, share, 2, h, w), some(seed + 1, sure, 2, h, w)
    labels = torch.randint(k, (2, h, w), generator=torch.Generator().manual_seed(seed))
    pseudo = Pseudo(labels, confident & valid, valid, labels, confident & valid, confident & valid, valid)
    total, terms, _ = corrmatch_loss(
        Predictions(*logits[:2]),
        labels.masked_fill(~valid, 255),
        Predictions(*logits[2:5]),
        Predictions(*logits[4:6]),
        pseudo,
        ohem=OHEM(0.7, 3) if ohem else None,
        soft=soft,
    )
    total.backward()
    assert finite(*terms.values()) and all(t >= -1e-4 for t in terms.values()), terms
    assert finite(*(x.grad for x in logits if x.grad is not None))
    if not valid.any():
        assert all(t == 0 for t in terms.values())
    if not (valid & confident).any():
        assert all(terms[n] == 0 for n in ("unsup_hard", "unsup_fp", "unsup_soft", "unsup_corr"))


@settings(max_examples=12)
@given(
    st.integers(8, 41),
    drawn(2, 150),
    drawn(torch.float32, torch.bfloat16),
    drawn(*SHARES),
    st.booleans(),
    drawn(0.0, 1.0),
    seeds,
)
def test_a_whole_step_is_finite(crop, k, dtype, share, ignored, init, seed):
    torch.manual_seed(seed)
    config = CorrMatchConfig(projection=8, num_shapes=4, threshold_init=init)
    method = CorrMatch(config, lambda: build_segmenter(TINY, k))
    if dtype == torch.bfloat16:
        method.net.autocast = dtype
    labels = torch.full((2, crop, crop), 255) if ignored else torch.randint(k, (2, crop, crop))
    box = torch.stack([cutmix_box(crop), cutmix_box(crop)])
    batch = {
        "image_x": torch.randn(2, 3, crop, crop),
        "labels_x": labels,
        "image_w": torch.zeros(2, 3, crop, crop),
        "image_s": torch.randn(2, 3, crop, crop),
        "valid_u": some(seed, share, 2, crop, crop),
        "box": box,
    }
    with kept_pseudo_labels(method) as seen:
        losses = method("main", batch, Clock())
    losses.total.backward()
    assert finite(*losses.terms.values(), *(p.grad for p in method.parameters() if p.grad is not None))
    if ignored:
        assert losses.terms["sup_hard"] == losses.terms["sup_corr"] == 0
    (pseudo,) = seen
    assert not (pseudo.mask & ~pseudo.valid).any()


@given(st.integers(1, 90), st.integers(1, 90), st.integers(8, 40), seeds)
def test_an_image_of_any_size_gives_a_crop(w, h, crop, seed):
    torch.manual_seed(seed)
    image, mask = Image.new("RGB", (w, h), (9, 9, 9)), Image.new("L", (w, h), 3)
    view, labels, valid = resize_crop_flip(image, mask, crop)
    labels = torch.from_numpy(np.array(labels))
    assert view.size == (crop, crop) and valid.shape == (crop, crop) and valid.any()
    assert (labels[valid] == 3).all() and (labels[~valid] == 255).all(), "padding is ignored, and nothing else"
    assert finite(normalise(strong_view()(view))) and cutmix_box(crop, p=1.0).any()


@settings(max_examples=15)
@given(st.integers(1, 70), drawn(1, 2, 33, 70), drawn(*MODES), st.integers(1, 40), drawn(2, 150))
def test_an_image_of_any_size_is_predicted(h, w, mode, size, k):
    net = build_segmenter(TINY, k).eval()
    image = torch.randn(3, h, w, generator=torch.Generator().manual_seed(h))
    with torch.inference_mode():
        s = scores(net, image[None], mode, size)
    labels = predict_labels(net, image, mode, size)
    assert finite(s) and labels.shape == s.shape[-2:] and labels.max() < k
    assert labels.shape == ((min(h, size), min(w, size)) if mode == "center_crop" else (h, w))


@given(drawn(*CLASSES), drawn(*SHARES), seeds)
def test_a_score_leaves_out_what_does_not_occur(k, share, seed):
    labels = torch.randint(k, (9, 9), generator=torch.Generator().manual_seed(seed)).masked_fill(
        ~some(seed, share, 9, 9), 255
    )
    matrix = ConfusionMatrix(k).update(torch.zeros(9, 9, dtype=torch.long), labels)
    known = labels[labels != 255]
    assert matrix.matrix.sum() == len(known)
    if not len(known):
        assert math.isnan(matrix.miou) and matrix.iou.isnan().all(), "no pixel, no score"
    else:
        assert 0 <= matrix.miou <= 1 and matrix.iou.isnan().logical_not().sum() == len(set(known.tolist()) | {0})


def test_a_dataset_without_a_known_pixel_has_no_score():
    items = [{"image": torch.zeros(3, 8, 8), "labels": torch.full((8, 8), 255)}]
    assert math.isnan(
        evaluate_views(lambda x: torch.zeros(1, 2, 8, 8), items, Classes(("a", "b")), progress=False).miou
    )
