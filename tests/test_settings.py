"""Every number among the settings says in its annotation what it may be, and is held to it, by every class of settings."""

import dataclasses
import typing
import pytest
from corrmatch.engine.config import Config, DataConfig, OptimConfig, SystemConfig
from corrmatch.methods import methods
from corrmatch.methods.corrmatch.method import Weights
from corrmatch.models.build import ModelConfig
from corrmatch.settings import Range

KINDS = [m.Config for m in methods().values()] + [DataConfig, OptimConfig, SystemConfig, Config, ModelConfig, Weights]
FREE = {"seed", "scale", "excluded"}  # any number; a pair that is compared; classes, whose number the data decide


def alternatives(hint):
    "What a setting may be: the parts of `int | None`."
    return [hint] if hasattr(hint, "__metadata__") else [hint, *typing.get_args(hint)]


def numbers(kind):
    "Name and annotation of each setting that is a number or some of them."
    hints = typing.get_type_hints(kind, include_extras=True)
    for f in dataclasses.fields(kind):
        bare = [getattr(part, "__origin__", part) for part in alternatives(hints[f.name])]
        if {int, float} & {n for part in bare for n in (part, *typing.get_args(part))} and f.name not in FREE:
            yield f.name, alternatives(hints[f.name])


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_number_has_a_range_and_is_held_to_it(kind):
    assert list(numbers(kind))
    for name, parts in numbers(kind):
        rules = [r for part in parts for r in getattr(part, "__metadata__", ()) if isinstance(r, Range)]
        assert rules, f"{kind.__name__}.{name} has no Range in its annotation"
        several = isinstance(getattr(kind(), name), tuple)
        for wrong in (rules[0].low - 1, rules[0].high + 1, float("nan")):
            with pytest.raises(ValueError, match=rf"{name} is .*; it has to be "):
                kind(**{name: (wrong,) if several else wrong})
