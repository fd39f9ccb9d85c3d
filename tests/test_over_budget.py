from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoarfrost.errors import ArgumentError
from hoarfrost.settings import OverBudget
from hoarfrost.settings.over_budget import WAYS


def test_names_with_commas_are_an_order() -> None:
    assert OverBudget.of("views, rung,recompute") == OverBudget.of(["views", "rung", "recompute"])


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ("views,luck", "over_budget is an order of 'views', 'rung', 'cut', 'recompute'; there is no 'luck'"),
        (["rung", "rung"], "over_budget names a way twice: rung, rung"),
        ("recompute,views", "recomputing always fits, so nothing that stands behind it is tried"),
    ],
    ids=["unknown", "twice", "behind recomputing"],
)
def test_an_order_that_makes_no_sense_is_refused(order: object, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        OverBudget.of(order)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("order", "offers"),
    [
        ("views,rung", [(2, 0), (1, 0), (2, 1), (1, 1)]),
        ("rung,views", [(2, 0), (2, 1), (1, 0), (1, 1)]),
        ("views,recompute", [(2, 0), (1, 0)]),
        ("recompute", [(2, 0)]),
        ("", None),
    ],
    ids=["views first", "rung first", "views", "nothing", "empty"],
)
def test_a_way_is_used_up_before_the_next_is_touched(order: str, offers: list[tuple[int, int]] | None) -> None:
    if offers is None:
        with pytest.raises(ArgumentError, match="there is no ''"):
            OverBudget.of(order)
    else:
        assert list(OverBudget.of(order).offers(2, 2)) == offers


def test_before_a_deeper_cut_only_what_stands_in_front_of_it_is_tried() -> None:
    assert OverBudget.of("rung,cut,views").before_deepening == OverBudget(("rung",))


@given(st.permutations(WAYS[:3]), st.integers(1, 4), st.integers(1, 4))
def test_the_offers_begin_with_everything_and_reach_the_least(order: list[str], views: int, rungs: int) -> None:
    offers = list(OverBudget.of(order).offers(views, rungs))
    assert offers[0] == (views, 0)
    assert offers[-1] == (1, rungs - 1)
    assert sorted(offers) == sorted((v, r) for v in range(1, views + 1) for r in range(rungs))
