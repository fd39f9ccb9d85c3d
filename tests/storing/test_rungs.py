"""Which ladder a tensor is stored by, as measured."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from hoarfrost.codecs import Exact, FirstTokens, Ladder, Linear, RungMeasure, Shared, Values
from hoarfrost.cuts import find_cut, find_cuts
from hoarfrost.storing import rungs
from hoarfrost.storing.calibration_sample import CalibrationSample
from shared.nets import resnet, vit

LADDER = Ladder([Linear(8), Linear(6), Linear(4), Linear(2)])


def chosen_of(
    monkeypatch: pytest.MonkeyPatch, tokens: int, harms: Any, nbytes: Any, **told: Any
) -> tuple[Any, list[int]]:
    """What is taken where rung i does harms(i, apart) and takes nbytes(i, apart); and which rungs apart were tried."""
    tried: list[int] = []

    def measured(suffix: Any, features: Any, ladder: Ladder, above: int, **options: Any) -> Iterator[RungMeasure]:
        found = []
        for index in range(above + 1, len(ladder)):
            apart = isinstance(ladder[index], FirstTokens)
            tried.extend([index] * apart)
            harm = harms(index, apart)
            found.append(RungMeasure(index, ladder[index], harm, nbytes(index, apart), 1.0, harm <= 1e-3))
        return found

    monkeypatch.setattr(rungs, "measure_rungs", measured)
    spec = SimpleNamespace(ragged=False, chunk_size=64, channels_last=False)
    sample: Any = SimpleNamespace(
        specs=[spec], tensors=[torch.zeros(2, 3, 4)], channel_axis=lambda n: 2, first_tokens=lambda n: tokens
    )
    task = Values(torch.ones(1))
    found = rungs.rungs_of(0, sample, nn.Identity(), LADDER, 1e-3, task, **told)
    return rungs.pick(found, 1e-3, 0), tried


def gains_two_rungs(index: int, apart: bool) -> float:
    return 1e-4 if index < 1 + 2 * apart else 1.0


def test_first_tokens_stand_apart_where_a_stronger_rung_takes_fewer_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    rung, tried = chosen_of(monkeypatch, 5, gains_two_rungs, lambda i, apart: 100 - 20 * i + 5 * apart)
    assert rung.codec == FirstTokens(5, Linear(4), Linear(8))
    assert tried == [1, 2, 3]


@pytest.mark.parametrize("costs", [45, 40], ids=["more", "as many"])
def test_they_do_not_where_it_takes_more(costs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rung, _ = chosen_of(
        monkeypatch,
        1,
        gains_two_rungs,
        lambda i, apart: 100 - 20 * i + costs * apart,
    )
    assert rung.codec == Linear(8)


def test_where_nothing_keeps_to_the_tolerance_the_least_harm_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    rung, tried = chosen_of(monkeypatch, 1, lambda i, apart: 0.1 + i - 0.05 * apart, lambda i, apart: 100 - i)
    assert rung.codec == FirstTokens(1, Linear(8), Linear(8))
    assert tried == [0, 1, 2, 3]


@pytest.mark.parametrize(("tokens", "told"), [(0, {}), (1, {"first_tokens": False})], ids=["none", "not asked"])
def test_where_there_are_none_nothing_more_is_tried(
    tokens: int, told: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    rung, tried = chosen_of(monkeypatch, tokens, lambda i, apart: 1e-4, lambda i, apart: 100 - i, **told)
    assert (rung.codec, tried) == (Linear(2), [])


def test_only_rungs_of_levels_are_set_apart() -> None:
    mixed = Ladder([Exact(), FirstTokens(2, Linear(3)), Shared(9)])
    assert mixed.apart(1, Exact()).rungs == (Exact(), FirstTokens(2, Linear(3)), FirstTokens(1, Shared(9)))
    assert mixed.apart(0, Exact()) == mixed


@pytest.mark.parametrize(
    ("model", "label", "tokens"),
    [(vit, "encoder.layers.encoder_layer_0", 1), (resnet, "layer1", 0)],
    ids=["vit", "resnet"],
)
def test_they_are_those_in_front_of_the_grid(model: Any, label: str, tokens: int) -> None:
    sample: Any = SimpleNamespace(cut=find_cut(find_cuts(model(), torch.zeros(2, 1, 28, 28)), label))
    assert CalibrationSample.first_tokens(sample, 0) == tokens
