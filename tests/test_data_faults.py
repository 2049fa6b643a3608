"Every kind of bad input is found before training, and said in one line: which file, what was found, what to do."

import io
import struct
import zlib
from functools import partial
import numpy as np
import pytest
from PIL import Image
from corrmatch.data.check import (
    Classes,
    Diagnostic,
    Folder,
    check_folder,
    read_image,
    read_mask,
    read_pair,
    resolve_split,
)
from corrmatch.data.prepare import write_list, write_missing
from corrmatch.data.splits import make_split, protocol, protocols, read_ids, write_ids

CLASSES = Classes(("ground", "red", "green"))
SIZE = (24, 18)
PLACES = {  # layout -> where image, mask and list of an id lie
    "voc": ("JPEGImages/{}.png", "SegmentationClass/{}.png", "ImageSets/Segmentation/{}.txt", "{}"),
    "plain": ("images/{}.png", "masks/{}.png", "{}.txt", "{}"),
    "cityscapes": ("leftImg8bit/{}_leftImg8bit.png", "gtFine/{}_gtFine_labelTrainIds.png", "{}.txt", "train/ulm/{}"),
}


def labels_of(i):
    rows, columns = np.mgrid[: SIZE[1], : SIZE[0]]
    labels = ((rows - 9) ** 2 + (columns - 6 - 2 * i) ** 2 < 25) * (1 + i % 2)
    labels[15:, 20:] = 2 - i % 2  # every mask holds every class
    return labels.astype(np.uint8)


def data(image, form="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def picture(i=0, mode="RGB"):
    return Image.fromarray(np.random.default_rng(i).integers(0, 256, (*SIZE[::-1], 3), dtype=np.uint8)).convert(mode)


def mask(values):
    return data(Image.fromarray(np.asarray(values)))


def bomb():
    "A few bytes that claim 10,000 x 10,000 pixels."
    png = bytearray(data(Image.new("1", (8, 8))))
    png[16:24] = struct.pack(">II", 10_000, 10_000)
    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    return bytes(png)


class Sample:
    "A sound dataset of six images: train a to e, of which a to d have masks, and f for validation."

    def __init__(self, root, layout):
        self.root, self.layout = root, layout
        self.image, self.mask, self.list, self.name = PLACES[layout]
        for i, id in enumerate("abcdef"):
            self.write(self.image, id, data(picture(i)))
            if id != "e":
                self.write(self.mask, id, mask(labels_of(i)))
        (root / "classes.txt").write_text("ground\nred\ngreen\n")
        for name, ids in (("labelled", "ab"), ("train", "abcde"), ("val", "f")):
            self.lines(name, *ids)

    def id(self, letter):
        return self.name.format(letter)

    def path(self, place, letter):
        return self.root / place.format(letter if place == self.list else self.id(letter))

    def write(self, place, letter, content):
        path = self.path(place, letter)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def lines(self, name, *letters, end="\n", raw=None):
        self.write(self.list, name, (raw or "".join(self.id(i) + end for i in letters)).encode())

    def check(self, labelled="labelled", **settings):
        return check_folder(self.root, labelled, **settings)


@pytest.fixture(params=PLACES)
def sample(request, tmp_path):
    return Sample(tmp_path / "set", request.param)


def test_a_sound_folder_has_no_findings(sample):
    assert sample.check() == []
    assert sample.check(labelled=None) == []
    assert sample.check("1/4", seed=3, batch=3, crop=48) == []


def damaged_image(content):
    return lambda s: s.write(s.image, "c", content)


def damaged_mask(content):
    return lambda s: s.write(s.mask, "a", content)


def listed(*letters, raw=None):
    return lambda s: s.lines("labelled", *letters, raw=raw)


one_wrong = labels_of(0)
one_wrong[0, 0] = 7
two_wrong = labels_of(0)
two_wrong[0, :2] = 3, 254
FAULTS = {  # name -> what is done to the sample, words of the diagnostic
    "image absent": (lambda s: s.path(s.image, "c").unlink(), ["c", "not there", "add the image or remove its id"]),
    "mask absent": (lambda s: s.path(s.mask, "a").unlink(), ["a", "no such mask", "add the mask or remove the id"]),
    "validation mask absent": (lambda s: s.path(s.mask, "f").unlink(), ["f", "no such mask"]),
    "mask smaller": (damaged_mask(mask(np.zeros((18, 20), np.uint8))), ["a", "20x18", "24x18", "same size"]),
    "mask turned": (damaged_mask(mask(np.zeros((24, 18), np.uint8))), ["18x24", "24x18", "turned"]),
    "label outside": (damaged_mask(mask(one_wrong)), ["a", "label 7 (1 of 432 pixels)", "0 to 2", "255 is ignored"]),
    "labels outside": (damaged_mask(mask(two_wrong)), ["label 3, 254 (2 of 432 pixels)"]),
    "RGB mask": (damaged_mask(data(picture())), ["a", "mode RGB", "class ids"]),
    "RGBA mask": (damaged_mask(data(picture(0, "RGBA"))), ["mode RGBA"]),
    "1-bit mask": (damaged_mask(data(picture(0, "1"))), ["mode 1"]),
    "16-bit mask": (damaged_mask(mask(labels_of(0).astype(np.uint16))), ["a", "mode I;16", "8-bit"]),
    "mask of zero bytes": (damaged_mask(b""), ["a", "not an image (0 bytes)"]),
    "mask truncated": (damaged_mask(data(picture(0, "L"))[:200]), ["a", "cannot be decoded"]),
    "image truncated": (
        damaged_image(data(picture())[:400]),
        ["c", "cannot be decoded", "replace the file or remove its id"],
    ),
    "image cut in its header": (damaged_image(data(picture())[:20]), ["c", "cannot be decoded"]),
    "image of zero bytes": (damaged_image(b""), ["c", "not an image (0 bytes)"]),
    "image is text": (damaged_image(b"<html>404</html>"), ["c", "not an image (16 bytes)"]),
    "16-bit image": (
        damaged_image(mask(np.full(SIZE[::-1], 999, np.uint16))),
        ["c", "more than 8 bits", "8-bit image"],
    ),
    "decompression bomb": (damaged_image(bomb()), ["c", "more pixels than can be read safely", "smaller images"]),
    "empty list": (listed(raw="\n\r\n"), ["labelled.txt", "empty", "one image id per line"]),
    "id twice": (listed("a", "b", "a"), ["labelled.txt, line 3", "line 1", "remove one"]),
    "id climbs out": (listed(raw="../a\n"), ["labelled.txt, line 1", "'../a'", "below the image folder"]),
    "id is absolute": (listed(raw="/etc/passwd\n"), ["labelled.txt, line 1", "'/etc/passwd'"]),
    "id has a second name": (listed(raw="./a\n"), ["labelled.txt, line 1", "'./a'"]),
    "list is not UTF-8": (
        lambda s: s.path(s.list, "labelled").write_bytes("a\n".encode("utf-16")),
        ["labelled.txt", "UTF-8"],
    ),
    "list names an absent image": (listed("a", "zebra"), ["zebra", "a list names this image", "not there"]),
    "no images": (lambda s: [s.path(s.image, i).unlink() for i in "abcdef"], ["no image in it"]),
    "classes twice": (
        lambda s: (s.root / "classes.txt").write_text("red\nred\n"),
        ["classes.txt", "two classes are called 'red'"],
    ),
    "classes not in UTF-8": (
        lambda s: (s.root / "classes.txt").write_text("caf\xe9\n", encoding="latin-1"),
        ["classes.txt", "not text in UTF-8", "save it as UTF-8"],
    ),
    "classes empty": (lambda s: (s.root / "classes.txt").write_text(""), ["classes.txt", "0 class names"]),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_one_finding_that_names_the_file(sample, name):
    damage, words = FAULTS[name]
    damage(sample)
    diagnostics = sample.check()
    assert len(diagnostics) == 1, list(map(str, diagnostics))
    text = str(diagnostics[0])
    assert diagnostics[0].level == "error" and "\n" not in text and diagnostics[0].todo
    for word in words:
        assert word in text


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"batch": 4}, ["batch of 4", "3 images", "3 or less"]),
        ({"labelled": "lablled"}, ["labelled='lablled'", "no such list", "did you mean labelled?"]),
        ({"labelled": "voc_clasic_92"}, ["did you mean voc_classic_92?"]),
        ({"labelled": "absent.txt"}, ["labelled='absent.txt'", "a number, a fraction or a protocol"]),
        ({"val": "absent"}, ["val='absent'", "no such list"]),
        ({"unlabelled": "absent"}, ["unlabelled='absent'", "no such list"]),
        ({"labelled": "0"}, ["labelled=0", "at least one"]),
        ({"labelled": "1.5"}, ["labelled=1.5", "between 0 and 1"]),
        ({"labelled": "99"}, ["labelled=99", "of 5"]),
    ],
)
def test_a_setting_that_cannot_be_is_one_finding(sample, settings, words):
    diagnostics = sample.check(**{"labelled": "labelled"} | settings)
    assert len(diagnostics) == 1 and diagnostics[0].level == "error"
    for word in words:
        assert word in str(diagnostics[0])


def test_missing_folders_are_found(tmp_path):
    for path, words in (
        (tmp_path / "nowhere", "no such folder"),
        (tmp_path, "no JPEGImages/ or images/ or leftImg8bit/ in it"),
    ):
        (diagnostic,) = check_folder(path)
        assert diagnostic.level == "error" and words in diagnostic.found and str(path) in diagnostic.file
    Sample(tmp_path / "VOC2012", "voc")
    assert check_folder(tmp_path)[0].todo == f"did you mean {tmp_path / 'VOC2012'}?"


def test_all_faults_are_reported_together(sample):
    sample.path(sample.image, "c").unlink()
    sample.write(sample.mask, "a", mask(one_wrong))
    sample.write(sample.mask, "b", data(picture()))
    assert len(sample.check(batch=9)) == 4


def test_unknown_classes_hide_no_other_fault(tmp_path):
    sample = Sample(tmp_path / "set", "plain")
    (sample.root / "classes.txt").unlink()
    sample.write(sample.mask, "a", data(picture()))
    diagnostics = sample.check()
    assert (
        len(diagnostics) == 2
        and "one class name per line" in diagnostics[0].todo
        and "mode RGB" in diagnostics[1].found
    )


def test_many_findings_of_a_kind_are_counted(tmp_path):
    sample = Sample(tmp_path / "set", "plain")
    sample.lines("train", raw="".join(f"x{i}\n" for i in range(100)) + "a\nb\n")
    diagnostics = sample.check(limit=5)
    assert len(diagnostics) == 6 and "94 others" in diagnostics[-1].found


@pytest.mark.parametrize(
    "damage, settings, words",
    [
        (lambda s: s.lines("val", "f", "a"), {}, "both labelled and validation: 1"),
        (lambda s: s.lines("train", *"abcdef"), {}, "both unlabelled and validation: 1"),
        (lambda s: None, {"unlabelled": "train"}, "both labelled and unlabelled: 2"),
        (lambda s: None, {"crop": 64}, "half as long as the crop of 64"),
        (
            lambda s: [s.write(s.mask, i, mask((labels_of(0) > 0).astype(np.uint8) * 255)) for i in "ab"],
            {},
            "no class but ground",
        ),
        (lambda s: s.write(s.mask, "a", mask(np.full(SIZE[::-1], 255, np.uint8))), {}, "more than half ignored"),
    ],
)
def test_what_is_possible_but_rarely_meant_is_a_warning(sample, damage, settings, words):
    damage(sample)
    (diagnostic,) = sample.check(**settings)
    assert diagnostic.level == "warning" and words in str(diagnostic)


def turned(s):
    note = Image.Exif()
    note[0x0112] = 6
    s.write(s.image, "a", data(picture().transpose(Image.Transpose.ROTATE_90), exif=note))


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.lines("labelled", raw=f"\ufeff{s.id('a')}\r\n\r\n{s.id('b')}\r\n"),
        lambda s: s.write(s.mask, "c", b"not read, as c is unlabelled"),
        turned,
    ],
    ids=[
        "list from Windows",
        "damaged mask of an unlabelled image",
        "photograph stored lying down",
    ],
)
def test_what_looks_like_a_fault_but_is_none_is_not_reported(sample, change):
    change(sample)
    assert sample.check() == []


def test_without_a_split_the_whole_folder_is_read(sample):
    sample.write(sample.image, "e", b"")
    sample.write(sample.mask, "d", mask(one_wrong))
    texts = [str(f) for f in sample.check(labelled=None)]
    assert len(texts) == 2 and any("not an image" in t for t in texts) and any("label 7" in t for t in texts)


def test_without_a_split_every_list_is_read(tmp_path):
    sample = Sample(tmp_path / "set", "voc")
    sample.lines("extra", "a", "zebra")
    (diagnostic,) = sample.check(labelled=None)
    assert "zebra" in diagnostic.file and "a list names this image" in diagnostic.found


def test_readers_refuse_what_the_check_reports(sample):
    folder = Folder(sample.root)
    sample.write(sample.mask, "a", mask(one_wrong))
    with pytest.raises(ValueError, match="label 7"):
        read_pair(folder, sample.id("a"))
    with pytest.raises(ValueError, match="label 7"):
        read_mask(folder.mask_path(sample.id("a")), CLASSES)
    assert read_mask(folder.mask_path(sample.id("a"))).getpixel((0, 0)) == 7  # without classes nothing is compared
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        read_image(sample.root / "absent.png")
    for method in (folder.image_path, folder.mask_path):
        with pytest.raises(ValueError, match="below the image folder"):
            method("../secret")


def test_images_are_read_upright(tmp_path):
    note = Image.Exif()
    note[0x0112] = 6
    picture().transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=note)
    assert np.array_equal(np.asarray(read_image(tmp_path / "turned.png")), np.asarray(picture()))


def test_another_ignore_label_is_255_in_memory(tmp_path):
    Image.fromarray(np.array([[0, 1, 11]], np.uint8)).save(tmp_path / "m.png")
    assert np.asarray(read_mask(tmp_path / "m.png", Classes(("a", "b"), ignore_index=11))).tolist() == [[0, 1, 255]]
    with pytest.raises(ValueError, match="label 11"):
        read_mask(tmp_path / "m.png", Classes(("a", "b")))


def test_hidden_files_are_no_images(sample):
    sample.path(sample.image, "a").with_name("._a_leftImg8bit.png").write_bytes(b"")
    assert Folder(sample.root).ids == [sample.id(i) for i in "abcdef"] and sample.check(labelled=None) == []


def test_two_files_of_one_id_are_refused(tmp_path):
    sample = Sample(tmp_path / "set", "plain")
    (sample.root / "images/a.JPG").write_bytes(data(picture(), "JPEG"))
    (diagnostic,) = sample.check()
    assert "same id" in diagnostic.found


def test_a_list_is_never_overwritten(tmp_path):
    write_ids(tmp_path / "list.txt", ["a"])
    with pytest.raises(FileExistsError, match="exists already"):
        write_ids(tmp_path / "list.txt", ["b"])
    assert read_ids(tmp_path / "list.txt") == ["a"]


def test_half_a_list_of_a_killed_preparation_hinders_nothing(tmp_path):
    path = tmp_path / "train.txt"
    path.with_name("train.txt.part").write_text("a\n")
    assert write_missing({path: partial(write_list, ["a", "b"])}, "lists") == (1, [])
    assert path.read_text() == "a\nb\n" and len(list(tmp_path.iterdir())) == 1


def test_a_finding_is_its_error(sample):
    sample.write(sample.mask, "a", mask(one_wrong))
    with pytest.raises(ValueError) as caught:
        read_pair(Folder(sample.root), sample.id("a"))
    assert str(sample.check()[0]) == f"error: {caught.value}" == str(Diagnostic.of(caught.value))


def test_an_unmasked_image_is_never_drawn_as_labelled(sample):
    folder = Folder(sample.root)
    for seed in range(20):
        assert sample.id("e") in resolve_split(folder, "2/5", seed=seed).unlabelled


@pytest.mark.parametrize("name", protocols())
def test_protocols_are_sound(name):
    split = protocol(name)
    assert len(split.labelled) == int(name.split("_")[-1])
    assert len({*split.labelled, *split.unlabelled, *split.val}) == sum(
        map(len, (split.labelled, split.unlabelled, split.val))
    )


def test_a_fraction_is_rounded_up_as_the_published_sizes_are():
    for fraction, total, size in (
        (1 / 16, 10582, 662),
        (1 / 8, 10582, 1323),
        (1 / 16, 1464, 92),
        (1 / 30, 2975, 100),
        (1 / 8, 367, 46),
    ):
        assert len(make_split(map(str, range(total)), fraction).labelled) == size


def test_a_draw_depends_on_seed_and_ids_alone():
    ids = [f"{i:02d}" for i in range(20)]
    assert make_split(ids, 5).labelled == make_split(reversed(ids), 5).labelled == ["01", "05", "08", "10", "16"]
