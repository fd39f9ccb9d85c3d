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
        ({"metric": "guess"}, "the metric of views is one of 'cosine', 'relative', 'energy', 'harm', not 'guess'"),
        ({"bits": 9}, "the bits of further views are a whole number from 1 to 8, or None, not 9"),
        ({"derived": 1.5}, "the derived share of views is a number from 0 to 1, not 1.5"),
        ({"refresh_every": 0}, "refresh_every is a whole number of epochs, at least 1, or None, not 0"),
        ({"refresh": "often"}, 'views are refreshed "rolling" or "together", not \'often\''),
        ({"record": "later"}, 'views are recorded "ahead" or as they are "shown", not \'later\''),
    ],
    ids=["none", "bool", "half", "base", "metric", "bits", "derived", "every", "refresh", "record"],
)
def test_what_makes_no_views_is_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        Views(**options)


def test_views_that_are_not_refreshed_stay_in_their_first_edition() -> None:
    assert {Views().edition(chunk, epoch, 4) for chunk in range(9) for epoch in range(4, 40)} == {0}


@given(st.integers(1, 9), st.integers(0, 50), st.integers(0, 20))
def test_refreshed_together_all_chunks_are_drawn_anew_in_the_same_epochs(every: int, chunk: int, event: int) -> None:
    views = Views(refresh_every=every, refresh="together")
    found = [views.edition(chunk, event + epoch, event) for epoch in range(5 * every)]
    assert found == [epoch // every for epoch in range(5 * every)]


@given(st.integers(1, 9), st.integers(0, 20))
def test_rolling_each_epoch_draws_an_equal_share_anew_and_each_chunk_every_so_many_epochs(
    every: int, event: int
) -> None:
    views, chunks = Views(refresh_every=every), 4 * every
    before = [views.edition(chunk, event, event) for chunk in range(chunks)]
    assert before == [0] * chunks
    for epoch in range(event + 1, event + 3 * every):
        now = [views.edition(chunk, epoch, event) for chunk in range(chunks)]
        assert sum(b - a for a, b in zip(before, now, strict=True)) == chunks // every
        before = now


@given(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]))
def test_the_derived_share_is_that_of_the_chunks_of_an_epoch_and_over_epochs(derived: float) -> None:
    views = Views(derived=derived)
    by_epoch = [sum(views.moved(chunk, epoch) for chunk in range(4000)) / 4000 for epoch in range(3)]
    by_chunk = [sum(views.moved(chunk, epoch) for epoch in range(4000)) / 4000 for chunk in range(3)]
    assert all(abs(found - derived) < 0.05 for found in by_epoch + by_chunk)
    assert len(set(by_epoch)) == 3 or derived in (0, 1)
