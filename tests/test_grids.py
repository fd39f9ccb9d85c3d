from __future__ import annotations

import math

import pytest

from shared.grids import grid


@pytest.mark.parametrize("sizes", [(3,), (3, 3), (2, 6), (2, 2, 2), (5, 2, 2), (2, 3, 4)], ids=str)
def test_every_combination_is_a_case_and_every_value_a_quick_one(sizes: tuple[int, ...]) -> None:
    mark = grid(**{f"axis{n}": range(size) for n, size in enumerate(sizes)})
    _, cases = mark.args
    assert len({case.values for case in cases}) == len(cases) == math.prod(sizes)
    quick = [case.values for case in cases if not case.marks]
    assert [len(set(values)) for values in zip(*quick, strict=True)] == [*sizes]
    assert len(quick) < len(cases) or len(sizes) == 1
