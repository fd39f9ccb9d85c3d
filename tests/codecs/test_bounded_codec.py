"""A linear codec within an error that is told."""

from __future__ import annotations

import pytest
import torch

from hoarfrost.codecs import Bounded, Ladder, codec_from_config
from hoarfrost.errors import ArgumentError, CodecError


def features(scale: float = 3.0) -> torch.Tensor:
    return torch.randn(8, 4, 6, 6, generator=torch.Generator().manual_seed(0)).relu() * scale


@pytest.mark.parametrize("error", [0.03, 0.1, 0.5, 2.0, 50.0])
def test_no_value_comes_back_further_off_than_the_error(error: float) -> None:
    codec, given = Bounded(error), features()
    decoded = codec.decode(codec.encode(given), given.shape, given.dtype)
    assert float((decoded - given).abs().max()) <= error * (1 + 1e-5)
    assert torch.equal(decoded[given == 0], given[given == 0])


def test_a_wider_error_takes_fewer_bytes() -> None:
    sizes = [len(Bounded(error).encode(features())) for error in (0.02, 0.1, 0.5, 2.0)]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 4


def test_what_spans_too_many_steps_has_wider_ones_and_says_so() -> None:
    codec, given = Bounded(1e-4), features()
    bound = codec.error_bound(given)
    decoded = codec.decode(codec.encode(given), given.shape, given.dtype)
    assert bool((bound > 1e-3).all())
    assert bool(((decoded - given).abs().double().amax((0, 2, 3)) <= bound).all())


@pytest.mark.parametrize("error", [0, -1.0, float("nan"), float("inf"), True, "0.1"])
def test_an_error_is_a_number_above_zero(error: object) -> None:
    with pytest.raises(CodecError, match="Bounded takes an error above 0, in the features' own unit"):
        Bounded(error)  # type: ignore[arg-type]


def test_it_has_a_name_that_is_typed() -> None:
    assert Ladder.named("bounded:0.25").rungs == (Bounded(0.25),)
    assert codec_from_config(Bounded(1).to_config()) == Bounded(1.0)
    with pytest.raises(ArgumentError, match=r"the ladder bounded:much names no number: write bounded:0.1"):
        Ladder.named("bounded:much")
    with pytest.raises(ArgumentError, match=r"unknown ladder 'bounded'; known ladders: auto, .*bounded:ERROR.* zfp"):
        Ladder.named("bounded")
