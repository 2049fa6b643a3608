"The command line as a user meets it: what works, what is refused in one line before anything is trained, and the same numbers twice."

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
import numpy as np
import pytest
import torch
from PIL import Image
from corrmatch.engine import trainer
from corrmatch.cli import COMMANDS
from corrmatch.testing import command_line
from corrmatch.engine.config import to_dict
from corrmatch.recipes.published import RECIPES
from corrmatch.engine.results import load_run
from corrmatch.methods import methods
from corrmatch.engine.runs import load_checkpoint, read_log
from corrmatch.data.toy import TOY_CLASSES, make_toy

SMALL = "--batch 4 --steps 4 --data.crop 48 --method.num-shapes 8 --log-every 1"
CONSOLE = Path(sys.executable).with_name("corrmatch")


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return make_toy(tmp_path_factory.mktemp("data") / "scenes", labelled=4, unlabelled=16, val=2, size=64)


@pytest.fixture
def scenes(sound, tmp_path):
    return Path(shutil.copytree(sound, tmp_path / "scenes"))


def refused(line, *words):
    "The line is refused with one readable line that has all the words; warnings may stand before it."
    status, out, err = command_line(line)
    assert status == 2, out + err
    err = "".join(text for text in err.splitlines(True) if not text.startswith("corrmatch: warning: "))
    assert (
        err.startswith("corrmatch: error: ")
        and err.count("\n") == 1
        and "Traceback" not in out + err
        and "error: error" not in err
    ), err
    for word in words:
        assert str(word) in err, err
    return err


# What can be asked for


def test_help_explains_each_setting_with_its_default(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    status, text, _ = command_line("train toy --help")
    assert status == 0 and max(map(len, text.splitlines())) <= 100
    blocks = {
        m[1]: " ".join(m[2].split())
        for m in re.finditer(r"^\W*(--[\w.-]+)[^\n]*\n(.*?)(?=^\W*--[a-z]|^\W*$|^\W*-{20}|\Z)", text, re.M | re.S)
    }

    def settings(values, prefix=""):
        for name, value in values.items():
            if isinstance(value, dict):
                yield from settings(value, f"{prefix}{name}.")
            else:
                yield "--" + f"{prefix}{name}".replace("_", "-"), value

    for option, value in settings(to_dict(RECIPES["toy"].make())):
        if option == "--method.name":
            continue  # chosen by --method
        default = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        said = re.search(r"(\S.*)\(default: (.*?)\)", blocks[option])
        assert said and len(said[1]) > 5 and said[2] == default, f"{option}: {blocks.get(option)}"


def test_help_of_each_command_explains_its_arguments(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")

    def each(commands, prefix=""):
        for name, c in commands.items():
            if isinstance(c, dict):
                yield from each(c, f"{name} ")
            else:
                yield prefix + name, c

    for name, command in each(COMMANDS):
        status, text, _ = command_line(f"{name} --help")
        assert status == 0 and max(map(len, text.splitlines()[1:])) <= 100  # the first line names all recipes
        assert command.__doc__.split(";")[0].split(":")[0][:40] in " ".join(text.split())
        flat = " ".join(text.replace("│", " ").split())
        for f in dataclasses.fields(command):
            if f.name == "recipe":
                continue
            spelled = f"--{f.name.replace('_', '-')}" if f"--{f.name.replace('_', '-')}" in flat else f.name.upper()
            m = re.search(
                rf"{spelled}\]?\s(?:\S+\s)?(.*?)\((?:default|required)",
                flat.split("options", 1)[1] if spelled.startswith("--") else flat.split("positional arguments", 1)[1],
            )
            assert m and len(m[1]) > 4, f"{name}: {spelled} is not explained"


def test_each_recipe_is_listed_and_can_be_described():
    status, text, _ = command_line("recipes")
    assert status == 0 and all(name in text and recipe.about in text for name, recipe in RECIPES.items())


def test_each_method_is_listed_with_its_cost_and_trains(sound, tmp_path):
    status, text, _ = command_line("methods")
    assert status == 0 and all(name in text and m.about in text and m.cost in text for name, m in methods().items())
    line = f"train toy --data.root {sound} --out {tmp_path} --name other --batch 4 --steps 1 --data.crop 48"
    status, _, err = command_line(f"{line} --method fixmatch --method.threshold 0.7")
    config = json.loads((tmp_path / "other" / "config.json").read_text())
    assert status == 0 and config["method"]["name"] == "fixmatch" and config["method"]["threshold"] == 0.7, err


def test_the_settings_of_a_run_make_another_one(sound, run, tmp_path):
    line = f"train --config {run}/config.json --out {tmp_path} --name second"
    assert command_line(line)[0] == 0 and numbers(tmp_path / "second").equals(numbers(run))
    status, out, _ = command_line(f"{line} --method supervised --name third --dry-run")
    assert status == 0 and "supervised" in out


def test_the_console_script_starts_and_fails_as_the_function_does(tmp_path):
    command = [CONSOLE] if CONSOLE.exists() else [sys.executable, "-m", "corrmatch"]
    run = lambda *words: subprocess.run([*command, *words], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert re.fullmatch(r"corrmatch \d+\.\d+\.\d+\n", run("--version").stdout)
    done = run("train", "toy", "--data.root", "nowhere")
    assert (
        done.returncode == 2
        and done.stderr.startswith("corrmatch: error: nowhere: there is no such folder")
        and done.stderr.count("\n") == 1
    )
    assert not list(tmp_path.iterdir())


def test_a_reader_that_goes_away_is_no_error():
    code = (
        "import os, sys\nfrom corrmatch.cli import "
        "main\nsys.stdout.reconfigure(write_through=True)\nmain(['--version'])"
    )
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-c", code], stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writing)
    assert done.returncode == 141 and not done.stderr, done.stderr


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["evaluate", "--help"], ["data", "check", "nowhere"]])
def test_what_needs_no_network_does_not_load_pytorch(words, tmp_path):
    code = (
        "import sys\nfrom corrmatch.cli import main\ntry: main(sys.argv[1:])\nexcept SystemExit: pass\nassert "
        "'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, *words], cwd=tmp_path, check=True, capture_output=True, timeout=60)


# What is refused: the command


@pytest.mark.parametrize(
    "line, words",
    [
        ("train tooy", ["tooy", " toy,"]),
        ("train", ["toy"]),
        ("trian toy", ["trian", "train, evaluate"]),
        ("train toy --data.crp 64", ["--data.crp: ", "perhaps you meant --data.crop\n"]),
        ("train toy --treshold 0.9", ["--treshold: ", "perhaps you meant --method.threshold\n"]),
        ("train toy --method.treshold 0.9", ["--method.treshold: ", "perhaps you meant --method.threshold\n"]),
        ("train toy --methd fixmatch", ["--methd: ", "perhaps you meant --method\n"]),
        ("evaluate runs/x --rot y", ["--rot: corrmatch evaluate has no such option; perhaps you meant --root\n"]),
        ("train toy --recipe.data.crop 64", ["--recipe.data.crop"]),
        ("train toy --method.threshold dinamic", ["--method.threshold", "dinamic", "dynamic"]),
        ("train toy --model.encoder resnet19", ["model.encoder", "resnet19", "resnet18"]),
        ("train toy --mode slidingwindow", ["--mode", "slidingwindow", "sliding_window"]),
        ("train toy --steps many", ["--steps", "many"]),
        ("train toy --batch 2.5", ["--batch", "2.5"]),
        ("train toy --steps", ["--steps"]),
        ("train toy --batch 0", ["batch", "0"]),
        ("train toy --data.crop -1", ["data.crop", "-1"]),
        ("predict runs/x", ["--out"]),
        ("predict runs/x photo.jpg --out y --size 0", ["--size 0", "at least 1"]),
        ("evaluate runs/x --size 0", ["--size 0", "at least 1"]),
        ("train toy --method fixmtach", ["fixmtach", "perhaps you meant fixmatch"]),
        ("train toy --method", ["--method", "corrmatch methods"]),
        ("train toy --method fixmatch --method.num-shapes 8", ["--method.num-shapes: ", "--method fixmatch --help"]),
        ("train --config nowhere.json", ["nowhere.json", "no such file"]),
        ("train toy --config nowhere.json", ["toy", "--config", "not both"]),
        ("data chek x", ["chek", "check"]),
    ],
)
def test_a_word_that_is_not_understood(line, words):
    refused(line, *words)


# What is refused: the data


def image(scenes, name):
    return scenes / "JPEGImages" / f"{name}.png"


def mask(scenes, name):
    return scenes / "SegmentationClass" / f"{name}.png"


def listed(scenes, name, text):
    (scenes / "ImageSets" / "Segmentation" / f"{name}.txt").write_text(text)


def wrong_label(scenes):
    labels = np.array(Image.open(mask(scenes, "labelled_0002")))
    labels[0, :3] = 77
    Image.fromarray(labels).save(mask(scenes, "labelled_0002"))


def truncate(path):
    path.write_bytes(path.read_bytes()[:600])


FAULTS = {  # what is wrong -> what is done to the dataset, further options, words of the message
    "folder missing": (shutil.rmtree, "", ["scenes", "no such folder"]),
    "absent image in a list": (lambda s: listed(s, "labelled", "labelled_0000\nzebra\n"), "", ["zebra", "not there"]),
    "mask of another size": (
        lambda s: Image.new("L", (64, 60)).save(mask(s, "labelled_0001")),
        "",
        ["labelled_0001.png", "64x60", "64x64"],
    ),
    "label outside the classes": (wrong_label, "", ["labelled_0002.png", "label 77", "0 to 5"]),
    "RGB mask": (
        lambda s: Image.new("RGB", (64, 64)).save(mask(s, "val_0001")),
        "",
        ["val_0001.png", "RGB", "class ids"],
    ),
    "image truncated": (lambda s: truncate(image(s, "unlabelled_0003")), "", ["unlabelled_0003.png", "decoded"]),
    "image unreadable": (
        lambda s: image(s, "unlabelled_0004").write_text("<html>"),
        "",
        ["unlabelled_0004.png", "not an image"],
    ),
    "list empty": (lambda s: listed(s, "labelled", "\n"), "", ["labelled.txt", "empty"]),
    "batch larger than the set": (lambda s: None, "--batch 17", ["batch of 17", "16 images", "16 or less"]),
    "list unknown": (lambda s: None, "--data.labelled labeled", ["labeled", "labelled"]),
    "weights missing": (lambda s: None, "--model.weights nowhere.pt", ["nowhere.pt"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_data_stops_a_training_before_it_starts(fault, scenes, tmp_path):
    damage, options, words = FAULTS[fault]
    damage(scenes)
    refused(f"train toy --data.root {scenes} --out {tmp_path}/runs {SMALL} {options}", *words)
    assert not (tmp_path / "runs").exists()


def test_a_folder_without_masks_is_one_line(scenes, tmp_path):
    shutil.rmtree(scenes / "SegmentationClass")
    told = refused(
        f"train toy --data.root {scenes} --out {tmp_path}/runs {SMALL}", "none of the 6 labelled and validation"
    )
    assert "(labelled_0000.png, labelled_0001.png, labelled_0002.png and 3 more)" in told


def test_all_faults_are_reported_at_once_and_by_data_check_too(scenes, tmp_path):
    wrong_label(scenes)
    truncate(image(scenes, "unlabelled_0003"))
    status, _, err = command_line(f"train toy --data.root {scenes} --out {tmp_path}/runs {SMALL}")
    assert (
        status == 2
        and len(err.splitlines()) == 2
        and all(line.startswith("corrmatch: error: /") for line in err.splitlines())
    )
    status, out, err = command_line(f"data check {scenes}")
    assert (
        status == 1
        and "label 77" in out
        and "unlabelled_0003.png" in out
        and "2 errors" in out
        and "Traceback" not in err
    )
    status, out, _ = command_line(f"data check {tmp_path}/nowhere")
    assert status == 1 and "no such folder" in out


def test_a_device_that_is_not_there_is_named(sound, tmp_path):
    refused(f"train toy --data.root {sound} --out {tmp_path}/runs {SMALL} --system.device tpu", "tpu")
    if not torch.cuda.is_available():
        refused(f"train toy --data.root {sound} --out {tmp_path}/runs {SMALL} --system.device cuda", "cuda")
    assert not (tmp_path / "runs").exists()


# Runs


def train(sound, out, name, options=""):
    status, text, err = command_line(f"train toy --data.root {sound} --out {out} --name {name} {SMALL} {options}")
    assert status == 0, err
    return out / name


@pytest.fixture(scope="module")
def run(sound, tmp_path_factory):
    return train(sound, tmp_path_factory.mktemp("runs"), "first")


def tensors(run):
    return {k: v for k, v in load_checkpoint(run / "last.pt")["method"].items() if torch.is_tensor(v)}


def numbers(run):
    return read_log(run).drop(columns="seconds")


def test_the_same_seed_gives_the_same_run_bit_for_bit(sound, run, tmp_path):
    log, net = numbers(run), tensors(run)
    assert log.index.tolist() == [1, 2, 3, 4] and "total" in log and len(net) > 100
    for name, options in (("again", ""), ("workers", "--data.workers 2")):
        other = train(sound, tmp_path, name, options)
        theirs = tensors(other)
        assert numbers(other).equals(log), name
        assert theirs.keys() == net.keys() and all(torch.equal(v, theirs[k]) for k, v in net.items()), name
    other = train(sound, tmp_path, "seed", "--seed 1")
    assert not numbers(other).equals(log), "another seed is another run"


def test_a_run_is_never_overwritten(sound, run):
    before = {p.name: p.read_bytes() for p in run.iterdir() if p.is_file()}
    line = f"train toy --data.root {sound} --out {run.parent} --name first {SMALL}"
    refused(line, run, "--resume", "--name")
    refused(f"{line} --dry-run", run, "--resume")
    refused(f"{line} --resume --optim.lr 0.5", "optim.lr", "0.5")
    refused(f"train toy --data.root {sound} --out {run.parent} --name other {SMALL} --resume", "other", "config.json")
    assert {p.name: p.read_bytes() for p in run.iterdir() if p.is_file()} == before
    status, out, _ = command_line(f"{line} --resume")
    assert status == 0 and "finished at step 4" in out and numbers(run).index.tolist() == [1, 2, 3, 4]


def test_a_dry_run_writes_nothing_and_says_every_setting(sound, tmp_path):
    status, out, _ = command_line(
        f"train toy --data.root {sound} --out {tmp_path}/runs {SMALL} --dry-run --optim.lr 0.03"
    )
    assert (
        status == 0
        and "optim.lr = 0.03" in out
        and "4 labelled, 16 unlabelled, 2 validation images" in out
        and not (tmp_path / "runs").exists()
    )


def test_a_stopped_run_says_how_to_go_on(sound, tmp_path, monkeypatch):
    monkeypatch.setattr(
        trainer, "train", lambda *_, **__: trainer.Result(tmp_path / "x", 2, float("nan"), float("nan"), 1.0, False)
    )
    status, out, _ = command_line(f"train toy --data.root {sound} --out {tmp_path} --name x {SMALL}")
    assert status == 130 and "continue with --resume" in out and "step 2" in out


def test_evaluate_says_what_the_training_wrote(run, tmp_path):
    miou = read_log(run, "scores.csv")["miou"].iloc[-1]
    status, out, _ = command_line(f"evaluate {run} --csv {tmp_path}/new/scores.csv")
    assert status == 0 and f"mIoU {100 * miou:.2f} %" in out and all(name in out for name in TOY_CLASSES.names)
    assert (tmp_path / "new" / "scores.csv").read_text().startswith("class,IoU %")
    refused(f"evaluate {run} --csv {tmp_path}/new/scores.csv", "scores.csv", "--csv")
    refused(f"evaluate {tmp_path}/nowhere", "nowhere")
    for mode in ("center_crop", "sliding_window"):
        assert f", {mode})" in command_line(f"evaluate {run} --mode {mode} --size 32")[1]
    refused(f"evaluate {run} --mode middle", "--mode", "middle", "center_crop")


def test_predict_names_what_it_cannot_read_and_overwrites_nothing(sound, run, tmp_path):
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for name in ("a.jpg", "b.png", "c.PNG"):
        Image.open(image(sound, "val_0000")).resize((70, 50)).save(photos / name)
    (photos / "broken.jpg").write_bytes((photos / "a.jpg").read_bytes()[:300])
    (photos / "notes.txt").write_text("no image")
    status, said, err = command_line(f"predict {run} {photos} --out {out}")
    assert status == 2 and "3 of 4 images" in said and "broken.jpg" in err and len(err.splitlines()) == 1
    assert sorted(p.name for p in out.iterdir()) == [f"{n}{e}" for n in "abc" for e in (".png", "_overlay.jpg")]
    with Image.open(out / "a.png") as labels:
        assert (
            labels.mode == "P"
            and labels.size == (70, 50)
            and labels.getpalette()[:18] == [v for c in TOY_CLASSES.palette for v in c]
            and np.asarray(labels).max() < 6
        )
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    (out / "b.png").unlink()  # it was interrupted there
    status, said, err = command_line(f"predict {run} {photos} --out {out}")
    assert status == 2 and "1 of 4 images" in said and "2 were there already" in said and "broken.jpg" in err
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    refused(f"predict {run} {photos / 'b.png'} --out {out} --size 32 --mode sliding_window", "b.png", "--out")
    refused(f"predict {run} {photos / 'b.png'} --out {photos}", "b.png", "--out")
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    refused(f"predict {run} {photos / 'broken.jpg'} --out {tmp_path}/one", "broken.jpg")
    refused(f"predict {run} {tmp_path}/nowhere --out {tmp_path}/two", "nowhere")


def test_export_is_onnx_unless_asked_otherwise(run, tmp_path):
    refused(f"export {run} --out {tmp_path}/net.pt2", "net.onnx", "--format torch")


@pytest.mark.parametrize("kind, ending", [("torch", ".pt2"), ("onnx", ".onnx")])
def test_export_writes_a_file_that_answers_as_the_run_does(kind, ending, run, sound, tmp_path):
    from corrmatch.engine.evaluation import predict_labels
    from corrmatch.extras.export import load_exported, to_unit, why_no_onnx

    if kind == "onnx" and (why := why_no_onnx()):
        pytest.skip(why)
    file = tmp_path / f"net{ending}"
    status, said, err = command_line(f"export {run} --format {kind} --out {file} --which last")
    assert status == 0 and str(file) in said and not err, err
    model, details = load_exported(file)
    picture, net = Image.open(image(sound, "val_0000")).resize((75, 53)), load_run(run, "last")[0]
    assert (
        details["names"] == list(TOY_CLASSES.names)
        and (model(to_unit(picture)[None]).argmax(1)[0] == predict_labels(net, picture)).float().mean() > 0.999
    )
    before = file.read_bytes()
    refused(f"export {run} --format {kind} --out {file}", file, "already", "--out")
    refused(f"export {run} --format {kind} --out {tmp_path / 'net.bin'}", "net.bin", ending)
    refused(
        f"export {tmp_path / 'nothing'} --format {kind} --out {tmp_path / f'other{ending}'}",
        "nothing",
        "no such run folder",
    )
    assert file.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == [file.name]


def test_a_report_is_one_file_and_replaces_only_an_earlier_report(run, tmp_path):
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    status, out, _ = command_line(f"report {copy} --images 1")
    text = (copy / "report.html").read_text()
    assert (
        status == 0 and "report.html" in out and f"{100 * read_log(run, 'scores.csv')['miou'].iloc[-1]:.2f} %" in text
    )
    assert (
        "http" not in text
        and "<script" not in text
        and text.count("<img") == text.count("data:image/") == text.count('alt="')
    )
    assert command_line(f"report {copy} --images 1")[0] == 0
    (copy / "report.html").write_text("mine")
    refused(f"report {copy}", "report.html", "--out")
    refused(f"report {copy} --out {copy}/log.csv", "log.csv", "--out")
    refused(f"report {tmp_path}/nowhere", "nowhere")
    assert (copy / "report.html").read_text() == "mine" and numbers(copy).equals(numbers(run))


def test_a_training_shows_its_pictures_where_tensorboard_is_installed(sound, run, tmp_path, monkeypatch):
    class Writer:
        tags = []

        def add_scalar(self, *_):
            pass

        def add_image(self, tag, *_, **__):
            self.tags.append(tag)

        def close(self):
            pass

    monkeypatch.setattr(trainer, "tensorboard_writer", lambda *_: Writer())
    watched = train(sound, tmp_path, "watched")
    assert {tag.split("/")[0] for tag in Writer.tags} >= {
        "prediction",
        "pseudo labels",
        "after propagation",
        "row of C, point 1",
    }
    assert all(torch.equal(v, tensors(watched)[k]) for k, v in tensors(run).items())


def test_a_checkpoint_that_cannot_be_read_is_named(run, tmp_path, sound):
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    for p in copy.glob("*.pt*"):
        os.truncate(p, 1000)
    refused(f"predict {copy} {image(sound, 'val_0000')} --out {tmp_path}/out", "no usable checkpoint", "best.pt")
    assert not (tmp_path / "out").exists()


def test_a_round_trip_on_the_embedded_dataset(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = command_line("train toy --steps 2 --batch 4 --data.crop 48 --method.num-shapes 8")
    assert (
        status == 0
        and "runs/toy: finished at step 2" in out
        and json.loads(Path("runs/toy/config.json").read_text())["steps"] == 2
    ), err
    assert command_line("data check runs/data/toy --labelled labelled --val val --batch 8")[:2] == (
        0,
        "runs/data/toy: 0 errors, 0 warnings\n",
    )
    status, out, _ = command_line("evaluate runs/toy --device cpu")
    assert (
        status == 0
        and f"mIoU {100 * read_log('runs/toy', 'scores.csv')['miou'].iloc[-1]:.2f} %" in out
        and "64 images, whole" in out
    )
    assert command_line("predict runs/toy runs/data/toy/JPEGImages/val_0000.png --out labels")[0] == 0
    net, classes, config = load_run("runs/toy", "last")
    assert (
        classes == TOY_CLASSES and config.steps == 2 and np.asarray(Image.open("labels/val_0000.png")).shape == (96, 96)
    )
