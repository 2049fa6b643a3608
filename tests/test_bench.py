"A tiny bench prints its tables, and writes JSON and a picture."

import json
import torch
import pytest
from PIL import Image
from corrmatch.cli import main


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder, before = tmp_path_factory.mktemp("bench"), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield (
            folder,
            f"bench --device cpu --crop 65 --batch 2 --shapes 8 --steps 1 --out {folder / 'a.json'} --picture {folder / 'a.png'}".split(),
        )
    finally:
        torch.set_num_threads(before)


def test_a_tiny_bench(report, capsys):
    folder, words = report
    main(words)
    text, got = capsys.readouterr().out, json.loads((folder / "a.json").read_text())
    for part in ("decode", "forward, strong", "region propagation", "backward", "optimiser"):
        assert f"\n{part} " in text
    assert {
        "settings",
        "environment",
        "hardware",
        "speed",
        "parts",
        "data",
        "whole",
        "memory",
        "references",
        "waits",
    } <= set(got)
    assert (
        all(row["seconds"] >= 0 and row["bytes"] >= 0 for row in got["parts"] + got["data"])
        and got["whole"]["literal step"] > 0
    )
    assert got["references"]["region propagation"]["agreement"] == 1
    assert Image.open(folder / "a.png").size[0] > 500


def test_it_overwrites_nothing_and_refuses_what_it_cannot_show(report, capsys):
    folder, words = report
    (folder / "a.json").touch()
    for line, said in (
        (words, "a.json"),
        ("bench --device cpu --classes 3".split(), "classes is 3"),
        ("bench --device cpu --batch 1".split(), "batch 1"),
        ("bench --device nowhere".split(), "nowhere"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(line)
        assert stop.value.code == 2 and said in capsys.readouterr().err
