"""Cases that are all combinations of some values: the inner loop runs each value, `make check` each combination."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any

import pytest


def grid(**axes: Iterable[Any]) -> pytest.MarkDecorator:
    """A test for all combinations of these values, most of which are slow: quick are so few that each value comes once.

    Args:
        axes: an argument's values, or a mapping from their ids to them.
    """
    named = [axis if isinstance(axis, Mapping) else {str(value): value for value in axis} for axis in axes.values()]
    sizes = [len(values) for values in named]
    longest = sizes.index(max(sizes))
    strides = [1 if n == longest else math.prod(sizes[k] for k in range(n) if k != longest) for n in range(len(sizes))]
    count = max(stride * (size - 1) + 1 for stride, size in zip(strides, sizes, strict=True))
    quick = {tuple(n // stride % size for stride, size in zip(strides, sizes, strict=True)) for n in range(count)}
    cases = [
        pytest.param(
            *(values[key] for values, key in zip(named, keys, strict=True)),
            id="-".join(keys),
            marks=() if place in quick else pytest.mark.slow,
        )
        for place, keys in zip(product(*map(range, sizes)), product(*named), strict=True)
    ]
    return pytest.mark.parametrize(list(axes), cases)
