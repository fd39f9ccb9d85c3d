from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoarfrost import Selection, Views
from hoarfrost.errors import ArgumentError


@given(st.integers(0, 500), st.integers(0, 500), st.integers(1, 6))
def test_a_chunk_shows_every_view_once_in_as_many_epochs(chunk: int, epoch: int, count: int) -> None:
    assert sorted(Views.shown(chunk, epoch + i, count) for i in range(count)) == list(range(count))


@given(st.integers(0, 500), st.integers(1, 6), st.integers(1, 20))
def test_an_epoch_mixes_all_views_evenly(epoch: int, count: int, rounds: int) -> None:
    shown = Counter(Views.shown(chunk, epoch, count) for chunk in range(rounds * count))
    assert shown == dict.fromkeys(range(count), rounds)


def test_a_number_is_a_count_and_views_stay_as_they_are() -> None:
    views = Views(3, Selection(share=0.5))
    assert Views.of(3) == Views(count=3)
    assert Views.of(views) is views


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"count": 0}, "views must be a whole number of at least 1, not 0"),
        ({"count": True}, "not True"),
        ({"count": 1.5}, "not 1.5"),
        ({"base": "tidy"}, 'the base view is "random" or "clean", not \'tidy\''),
        ({"metric": "harm"}, "the metric of views is one of 'cosine', 'relative', 'energy', not 'harm'"),
    ],
    ids=["none", "bool", "half", "base", "metric"],
)
def test_what_makes_no_views_is_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        Views(**options)
