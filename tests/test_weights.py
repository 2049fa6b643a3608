"Files of weights against the recorded names: the authors' checkpoint and the deep-stem ImageNet file, at full size."

import re
import pytest
import torch
from corrmatch.models.build import ModelConfig, build_segmenter
from corrmatch.models.deeplab import ResNet
from corrmatch.methods.corrmatch.method import CorrMatch, CorrMatchConfig
from corrmatch.models.weights import difference, entries, load_weights
from test_golden_model import GOLDEN, value

README = GOLDEN / "README.md"
needs_list = pytest.mark.skipif(
    not README.exists(), reason="the recorded state-dict list is not here (set CORRMATCH_GOLDEN to its folder)"
)
PUBLISHED = ModelConfig("resnet101", "deep", weights=None)


def published() -> CorrMatch:
    return CorrMatch(CorrMatchConfig(), lambda: build_segmenter(PUBLISHED, 21))


def recorded():
    "Name -> shape of the recorded list; every entry a meta tensor."
    lines = README.read_text().split("State dict of the ResNet-101 build")[1].split("```")[1].strip().splitlines()
    pairs = [line.split(" ", 1) for line in lines]
    sizes = {name: tuple(map(int, re.findall(r"\d+", shape))) for name, shape in pairs}
    return {
        name: torch.empty(
            size, device="meta", dtype=torch.int64 if name.endswith("num_batches_tracked") else torch.float32
        )
        for name, size in sizes.items()
    }


@needs_list
def test_the_released_names_are_ours():
    with torch.device("meta"):
        method = published()
    assert difference(method, recorded()) == "" and len(recorded()) == 703 == len(entries(method))


@needs_list
def test_every_number_of_a_released_checkpoint_arrives(tmp_path):
    "64 million numbers by the fill rule, through a file as training code writes it."
    theirs = {name: value(name, torch.empty(like.shape, dtype=like.dtype)) for name, like in recorded().items()}
    torch.save({"model": {f"module.{name}": v for name, v in theirs.items()}, "epoch": 79}, tmp_path / "released.pth")
    own = entries(load_weights(published(), tmp_path / "released.pth"))
    assert own.keys() == theirs.keys() and all(torch.equal(own[name], v) for name, v in theirs.items())
    backbone = load_weights(ResNet("resnet101", "deep"), tmp_path / "released.pth")
    assert all(torch.equal(v, theirs[f"backbone.{name}"]) for name, v in backbone.state_dict().items())


@needs_list
def test_the_deep_stem_imagenet_names_are_ours():
    "The same names without the prefix, and a classifier that is dropped."
    file = {name.removeprefix("backbone."): v for name, v in recorded().items() if name.startswith("backbone.")}
    with torch.device("meta"):
        net = ResNet("resnet101", "deep")
    assert (
        load_weights(
            net,
            file | {"fc.weight": torch.empty(1000, 2048, device="meta"), "fc.bias": torch.empty(1000, device="meta")},
        )
        is net
    )
    with pytest.raises(ValueError, match="1 missing: layer4.2.bn3.weight"):
        load_weights(net, {k: v for k, v in file.items() if k != "layer4.2.bn3.weight"})


@pytest.mark.parametrize(
    "change, said",
    [
        (
            lambda s: {k: v for k, v in s.items() if not k.startswith(("proj.", "corr."))},
            "without the correlation branch",
        ),
        (
            lambda s: {k: v[:19] if k.startswith(("classifier.", "corr.")) else v for k, v in s.items()},
            "19 classes, the network for 21",
        ),
        (
            lambda s: s | {"aux_classifier.0.weight": torch.empty(1, device="meta")},
            "1 unexpected: aux_classifier.0.weight",
        ),
        (lambda s: {k: v for k, v in s.items() if k != "corr.conv2.bias"}, "1 missing: corr.conv2.bias"),
    ],
)
def test_a_checkpoint_that_does_not_fit_says_so_in_one_line(change, said):
    with torch.device("meta"):
        method, other = published(), published()
    with pytest.raises(ValueError) as error:
        load_weights(method, change(entries(other)))
    assert said in str(error.value) and "\n" not in str(error.value)
