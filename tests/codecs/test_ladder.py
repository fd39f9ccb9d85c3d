from __future__ import annotations

import json

import pytest

from hoarfrost.codecs import Exact, Half, Ladder, Linear, Shared
from hoarfrost.errors import ArgumentError, CodecError


def test_named_ladders() -> None:
    auto = Ladder.named("auto").rungs
    assert auto[:5] == tuple(map(Shared, (256, 215, 181, 152, 128)))
    assert auto[-3:] == tuple(map(Shared, (5, 4, 3)))
    assert len(set(auto)) == len(auto)
    assert Ladder.named("exact").rungs == (Exact(),)
    assert Ladder.named("gentle").rungs == (Linear(8),)
    assert Ladder.named("half").rungs == (Half(),)


def test_an_unknown_name_lists_the_known() -> None:
    known = "auto, bfloat16, bounded:ERROR, exact, gentle, half, zfp"
    with pytest.raises(ArgumentError, match=f"unknown ladder 'best'; known ladders: {known}"):
        Ladder.named("best")


@pytest.mark.parametrize(
    ("value", "rungs"),
    [
        ("half", (Half(),)),
        (Half(), (Half(),)),
        (4, (Linear(4),)),
        ([8, Linear(4), 2], (Linear(8), Linear(4), Linear(2))),
        (Ladder([Exact()]), (Exact(),)),
    ],
    ids=repr,
)
def test_ladders_are_made_of_what_users_hand_over(value: object, rungs: tuple[object, ...]) -> None:
    ladder = Ladder.of(value)  # type: ignore[arg-type]
    assert ladder.rungs == rungs
    assert list(ladder) == list(rungs)
    assert ladder[len(ladder) - 1] == rungs[-1]


@pytest.mark.parametrize("value", [None, True, 1.5, [], ["auto"], [None]], ids=repr)
def test_anything_else_is_refused(value: object) -> None:
    with pytest.raises(ArgumentError, match=r"ladder|rung"):
        Ladder.of(value)  # type: ignore[arg-type]


def test_bits_out_of_range_are_refused() -> None:
    with pytest.raises(CodecError, match="1 to 8 bits, not 9"):
        Ladder.of(9)


def test_configs_round_trip_through_json() -> None:
    ladder = Ladder([Exact(), Linear(8), Linear(3)])
    assert Ladder.from_config(json.loads(json.dumps(ladder.to_config()))) == ladder
