from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hoarfrost.seeds import mix


@given(st.lists(st.integers(0, 2**63), min_size=1, max_size=4), st.lists(st.integers(0, 2**63), min_size=1, max_size=4))
def test_different_numbers_give_different_seeds(one: list[int], other: list[int]) -> None:
    assert 0 <= mix(*one) < 2**63
    assert (mix(*one) == mix(*other)) == (one == other)
