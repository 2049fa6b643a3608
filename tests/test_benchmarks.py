"benchmarks/steps.py: what is counted is right, and every method is in the file as soon as it is measured."

import json
import sys
import pandas as pd
import pytest
import torch
from torch import nn
from frame import ROOT

sys.path.insert(0, str(ROOT))
from benchmarks import steps


def test_operations_and_waits_are_counted_by_hand():
    x = torch.arange(6.0)
    with steps.Launches() as seen:
        y = (x + 1).view(2, 3).t()  # one operation, two views
        y.sum().item()  # one more, and a value for the host
    assert (seen.operations, seen.waits) == (3, 1)
    with steps.Launches() as seen:
        x[x > 2]  # the size of the answer depends on the values
    assert seen.waits == 1


def test_saved_bytes_are_counted_once_and_without_parameters():
    layer, x = nn.Linear(4, 4, bias=False), torch.ones(8, 4, requires_grad=True)
    saved = steps.SavedBytes(layer)
    with torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda tensor: tensor):
        y = layer(x).exp()  # keeps x, and the result of exp
        y * y  # keeps that result again
    assert saved.total == 2 * 8 * 4 * 4


def test_a_tiny_measurement(tmp_path, capsys):
    out, words = tmp_path / "a.json", "--crop 33 --batch 2 --device cpu --seconds 0.01"
    table = steps.main([*words.split(), "--out", str(out), "--methods", "supervised", "fixmatch"])
    rows = json.loads(out.read_text())["steps"]
    assert (
        [r["method"] for r in rows] == ["supervised", "fixmatch"] == list(pd.read_csv(out.with_suffix(".csv")).method)
    )
    assert all(r["seconds"] > 0 and r["cpu_seconds"] > 0 and r["waits"] >= 0 for r in rows)
    one, two = rows  # the weak and the strong view come to the labelled images
    assert 2 < two["flops"] / one["flops"] <= 3 and two["memory"] > 1.5 * one["memory"]
    assert two["parameters"] == one["parameters"] and table.loc["supervised", "flops / supervised"] == 1
    assert "written" in capsys.readouterr().out


def test_a_mistyped_method_is_refused(capsys):
    with pytest.raises(SystemExit):
        steps.main(["--methods", "fixmach"])
    assert "fixmach" in capsys.readouterr().err
