"Region propagation: how many operations a device is given, whether the host waits, and equality with the loop at sizes of training."

import pytest
import torch
from torch.nn import functional as F

from corrmatch.methods.corrmatch.propagation import propagate_regions, propagate_regions_reference
from corrmatch.testing import Launches

WAITS = ("_local_scalar_dense", "nonzero", "unique", "masked_select", "bincount", "equal", "is_nonzero")


def scene(images, shapes=128, side=33, classes=21, seed=0):
    "Overlapping blobs over labels in patches: some shapes are accepted, some are not."
    g = torch.Generator().manual_seed(seed)
    blobs = F.interpolate(torch.rand(images, shapes, 6, 6, generator=g), (side, side), mode="bilinear") > 0.6
    patches = F.interpolate(torch.rand(images, classes, 5, 5, generator=g), (side, side), mode="bilinear").argmax(1)
    return blobs, patches, torch.rand(images, side, side, generator=g) < 0.8


def launches(images, shapes=128):
    inputs = scene(images, shapes)
    with Launches() as found:
        propagate_regions(*inputs, 0.5, 21)
    return found.names


def test_launches_do_not_depend_on_the_images():
    counts = {images: len(launches(images)) for images in (1, 4, 16)}
    assert len(set(counts.values())) == 1 and counts[16] <= 540, counts


def test_nothing_waits_for_the_device():
    names = launches(4)
    assert not [name for name in names if name.split(".")[0] in WAITS]
    inputs = scene(1, 8)
    with Launches() as found:
        propagate_regions(*inputs, 0.5)  # the number of classes is read from the labels
    assert "_local_scalar_dense" in found.names


@pytest.mark.parametrize("shapes", (1, 7, 8, 9, 128))
@pytest.mark.parametrize("threshold", (0.0, 0.5, 0.7))
def test_equal_to_the_loop(shapes, threshold):
    inputs = scene(2, shapes, seed=shapes)
    got, expected = propagate_regions(*inputs, threshold, 21), propagate_regions_reference(*inputs, threshold)
    assert all(torch.equal(a, b) for a, b in zip(got, expected))
    assert threshold > 0 or not torch.equal(got[0], inputs[1]), "labels change, or nothing is compared"
