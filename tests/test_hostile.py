"Files that are strange, broken or meant to harm: read as they are meant, or refused in one line. The readers are fuzzed for a bounded time."

import io
import os
import pickle
import struct
import unicodedata
import zlib
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from PIL import Image
from corrmatch.data.check import Folder, read_classes, read_image, read_mask
from corrmatch.engine.results import load_run
from corrmatch.engine.runs import load_checkpoint
from corrmatch.data.splits import check_id, parse_ids, read_ids
from corrmatch.models.weights import read_file
from corrmatch.testing import Trap
from test_data_faults import CLASSES, SIZE, Sample, bomb, data, labels_of, mask, picture

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*Corrupt EXIF", "ignore:.*Truncated File Read", "ignore:Detected pickle protocol"
)
fuzz = settings(max_examples=200, deadline=None, derandomize=True)


@pytest.fixture
def sample(tmp_path):
    return Sample(tmp_path / "set", "plain")


def put(sample, name, content):
    path = sample.root / "images" / name
    path.write_bytes(content)
    return path


def replace_image(sample, letter, name, content):
    sample.path(sample.image, letter).unlink()
    return put(sample, name, content)


def one_line(text):
    return text.isprintable() and len(text) < 1000


# What is strange, and fine


def png_16():
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", *SIZE, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress((b"\0" + b"\x80\x40" * 3 * SIZE[0]) * SIZE[1])),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts
    )


FINE = {
    "CMYK": ("c.jpg", data(picture(0, "CMYK"), "JPEG")),
    "RGBA": ("c.png", data(picture(0, "RGBA"))),
    "grey with transparency": ("c.png", data(picture(0, "LA"))),
    "palette": ("c.png", data(picture(0, "P"))),
    "black and white": ("c.png", data(picture(0, "1"))),
    "JPEG called PNG": ("c.png", data(picture(), "JPEG")),
    "PNG called JPEG": ("c.jpeg", data(picture())),
    "upper case": ("c.JPG", data(picture(), "JPEG")),
    "progressive JPEG": ("c.jpg", data(picture(), "JPEG", progressive=True)),
    "16 bits a colour": ("c.png", png_16()),
    "WebP": ("c.webp", data(picture(), "WEBP")),
    "TIFF": ("c.tif", data(picture(), "TIFF")),
}


@pytest.mark.parametrize("kind", FINE)
def test_an_image_of_another_kind_is_read_as_rgb(sample, kind):
    path = replace_image(sample, "c", *FINE[kind])
    image = read_image(path)
    assert image.mode == "RGB" and image.size == SIZE and sample.check() == []
    if kind == "16 bits a colour":
        assert image.getpixel((0, 0)) == (0x80, 0x80, 0x80), "the high byte of each value"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_as_its_note_says(tmp_path, orientation):
    back = {
        2: "FLIP_LEFT_RIGHT",
        3: "ROTATE_180",
        4: "FLIP_TOP_BOTTOM",
        5: "TRANSPOSE",
        6: "ROTATE_90",
        7: "TRANSVERSE",
        8: "ROTATE_270",
    }
    stored, note = picture(), Image.Exif()
    note[0x0112] = orientation
    if orientation > 1:
        stored = stored.transpose(getattr(Image.Transpose, back[orientation]))
    stored.save(tmp_path / "a.png", exif=note)
    assert np.array_equal(np.asarray(read_image(tmp_path / "a.png")), np.asarray(picture()))


@pytest.mark.parametrize("name", ["two words", "猫", "Straße", "e\u0301", "a;b", "one: two", "-rf", "100%", "'quoted'"])
def test_a_name_may_be_anything_that_can_be_printed(tmp_path, name):
    sample = Sample(tmp_path / "set", "plain")
    put(sample, f"{name}.png", data(picture()))
    sample.write(sample.mask, name, mask(labels_of(0)))
    sample.lines("labelled", raw=f"a\n{name}\r\n")
    assert sample.check() == [] and unicodedata.normalize("NFC", name) in Folder(sample.root).ids


# What is refused


def loop(s):
    (p := s.path(s.image, "c")).unlink()
    p.symlink_to(p.name)


def loop_of_masks(s):
    (p := s.path(s.mask, "a")).unlink()
    p.symlink_to(p.name)


def folder_loop(s):
    (s.root / "images" / "inside").symlink_to(s.root / "images")


def pipe(s):
    (p := s.path(s.image, "c")).unlink()
    os.mkfifo(p)


def pipe_of_masks(s):
    (p := s.path(s.mask, "a")).unlink()
    os.mkfifo(p)


def folder(s):
    (p := s.path(s.image, "c")).unlink()
    p.mkdir()


def text_bomb():
    "A PNG whose comment unpacks to 64 MB."
    png, packed = data(picture()), b"Comment\0\0" + zlib.compress(b"\0" * 2**26, 9)
    return (
        png[:33]
        + struct.pack(">I", len(packed))
        + b"zTXt"
        + packed
        + struct.pack(">I", zlib.crc32(b"zTXt" + packed))
        + png[33:]
    )


REFUSED = {
    "a link to itself": (loop, ["c.png", "cannot be decoded"]),
    "a mask that is a link to itself": (loop_of_masks, ["a.png", "cannot be decoded"]),
    "a pipe": (pipe, ["c.png", "a pipe or a device"]),
    "a mask that is a pipe": (pipe_of_masks, ["a.png", "a pipe or a device"]),
    "a folder": (folder, ["c.", "it is not there"]),
    "a truncated JPEG": (
        lambda s: replace_image(s, "c", "c.jpg", data(picture(), "JPEG", quality=95)[:-300]),
        ["c.jpg", "cannot be decoded"],
    ),
    "a comment that unpacks to 64 MB": (lambda s: s.write(s.image, "c", text_bomb()), ["c.png", "cannot be decoded"]),
    "a mask that claims 10,000 x 10,000 pixels": (
        lambda s: s.write(s.mask, "a", bomb()),
        ["a.png", "more pixels than can be read safely"],
    ),
    "a mask with transparency": (lambda s: s.write(s.mask, "a", data(picture(0, "LA"))), ["a.png", "mode LA"]),
    "a line break in a name": (lambda s: put(s, "a\nb.png", data(picture())), ["a\\nb.png", "rename"]),
    "a name that is not UTF-8": (
        lambda s: open(os.fsencode(s.root) + b"/images/\xff.png", "wb").write(data(picture())),
        ["rename"],
    ),
    "a control character in a list": (lambda s: s.lines("labelled", raw="a\n\x1b[2J\n"), ["labelled.txt, line 2"]),
    "a null byte in a list": (lambda s: s.lines("labelled", raw="a\nb\0\n"), ["labelled.txt, line 2"]),
    "an id that climbs out in its middle": (
        lambda s: s.lines("labelled", raw="x/../../a\n"),
        ["labelled.txt, line 1", "below the image folder"],
    ),
    "an id of Windows": (lambda s: s.lines("labelled", raw="C:\\a\n"), ["labelled.txt, line 1"]),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_a_harmful_file_is_one_finding_of_one_line(sample, fault):
    damage, words = REFUSED[fault]
    damage(sample)
    diagnostics = sample.check()
    assert len(diagnostics) == 1 and diagnostics[0].level == "error", list(map(str, diagnostics))
    assert one_line(str(diagnostics[0])), repr(str(diagnostics[0]))
    for word in words:
        assert word in str(diagnostics[0]), str(diagnostics[0])


def test_a_folder_that_holds_itself_is_searched_once(sample):
    folder_loop(sample)
    assert Folder(sample.root).ids == list("abcdef") and sample.check() == []


# What runs code is not run


@pytest.mark.parametrize(
    "save",
    [
        lambda o, p: torch.save(o, p),
        lambda o, p: p.write_bytes(pickle.dumps(o)),
        lambda o, p: torch.save(o, p, _use_new_zipfile_serialization=False),
    ],
    ids=["torch", "pickle", "old torch"],
)
@pytest.mark.parametrize(
    "inside",
    [lambda t: t, lambda t: {"net": {"w": t}}, lambda t: {"step": 1, "config": t}],
    ids=["alone", "among weights", "among settings"],
)
def test_a_checkpoint_that_would_run_code_is_refused_and_does_not(tmp_path, save, inside):
    (tmp_path / "run").mkdir()
    for name in ("last.pt", "best.pt", "last.pt.previous"):
        save(inside(Trap(tmp_path / "done")), tmp_path / "run" / name)
    for read in (
        lambda: load_checkpoint(tmp_path / "run" / "last.pt"),
        lambda: load_run(tmp_path / "run"),
        lambda: load_run(tmp_path / "run", "last"),
        lambda: read_file(tmp_path / "run" / "best.pt"),
    ):
        with pytest.raises((ValueError, FileNotFoundError)) as said:
            read()
        assert one_line(str(said.value)), said.value
    assert not (tmp_path / "done").exists()


# Fuzz


@fuzz
@given(
    st.one_of(
        st.text(max_size=60),
        st.lists(st.text(st.characters(codec="utf-8"), max_size=8), max_size=6).map("\n".join),
        st.lists(
            st.sampled_from(["a", "b/c", "..", "", " a", "\ufeffa", "a\r", "/", "a\\b", "C:a", "\x85", "\u2028"]),
            max_size=6,
        ).map("\n".join),
    )
)
def test_any_text_is_a_list_of_sound_ids_or_one_line(text):
    try:
        ids = parse_ids(text, "list")
    except ValueError as error:
        assert one_line(str(error)) and str(error).startswith("list")
        return
    assert (
        ids
        and len(set(ids)) == len(ids)
        and all(check_id(i) == i and i == i.strip() and ".." not in i.split("/") for i in ids)
    )
    assert parse_ids("\n".join(ids)) == ids, "written and read again, the same"


@fuzz
@given(content=st.one_of(st.binary(max_size=80), st.text(max_size=40).map(lambda t: t.encode("utf-16"))))
def test_any_bytes_are_a_list_or_one_line(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "list.txt"
    path.write_bytes(content)
    for read in (read_ids, read_classes):
        try:
            assert read(path)
        except ValueError as error:
            assert one_line(str(error)), repr(str(error))


SOUND = {
    "png": mask(labels_of(0)),
    "palette": data(Image.fromarray(labels_of(1)).convert("P")),
    "jpg": data(picture(), "JPEG"),
    "rgb": data(picture()),
    "tif": data(picture(), "TIFF", compression="tiff_lzw"),
    "bmp": data(picture(), "BMP"),
    "webp": data(picture(), "WEBP"),
}


@fuzz
@given(
    kind=st.sampled_from(sorted(SOUND)),
    edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=12),
    cut=st.floats(0, 1),
    at_all=st.booleans(),
)
def test_a_damaged_image_is_read_or_refused_in_one_line(tmp_path_factory, kind, edits, cut, at_all):
    content = bytearray(SOUND[kind])
    for where, value in edits:
        content[int(where * (len(content) - 1))] = value
    path = tmp_path_factory.getbasetemp() / f"fuzzed.{kind if kind in ('jpg', 'tif', 'bmp', 'webp') else 'png'}"
    path.write_bytes(content[: int(cut * len(content))] if at_all else content)
    for read in (read_image, lambda p: read_mask(p, CLASSES)):
        try:
            image = read(path)
        except ValueError as error:
            assert one_line(str(error)) and str(error).startswith(str(path)), repr(str(error))
            continue
        assert image.mode in ("RGB", "L") and min(image.size) > 0
        if image.mode == "L":
            assert set(np.unique(image)) <= {0, 1, 2, 255}


@settings(max_examples=40, deadline=None, derandomize=True)
@given(edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=8), cut=st.floats(0, 1))
def test_a_damaged_checkpoint_is_read_or_refused_in_one_line(tmp_path_factory, edits, cut):
    folder = tmp_path_factory.getbasetemp() / "damaged"
    folder.mkdir(exist_ok=True)
    buffer = io.BytesIO()
    torch.save({"step": 1, "net": {"w": torch.arange(50.0)}}, buffer)
    content = bytearray(buffer.getvalue())
    for where, value in edits:
        content[int(where * (len(content) - 1))] = value
    (folder / "last.pt").write_bytes(content[: int(cut * len(content)) + 1])
    for read in (lambda: load_checkpoint(folder / "last.pt"), lambda: read_file(folder / "last.pt")):
        try:
            read()
        except (ValueError, FileNotFoundError) as error:
            assert one_line(str(error)), repr(str(error))
