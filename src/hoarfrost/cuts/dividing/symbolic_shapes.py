"""What is known of a module's output beforehand: everything but the values of its tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..sandbox.pytrees import map_leaves, opened

__all__ = ["Outline"]


class Line:
    """A whole number that grows with the samples of a batch: `at_zero + slope * samples`."""

    def __init__(self, at_zero: int, slope: int) -> None:
        self.at_zero = at_zero
        self.slope = slope

    @classmethod
    def through(cls, rows: tuple[int, int], values: tuple[int, int]) -> Line:
        slope, rest = divmod(values[1] - values[0], rows[1] - rows[0])
        if rest:
            raise ValueError(f"{values} do not grow evenly with {rows} samples")
        return cls(values[0] - slope * rows[0], slope)

    def at(self, samples: int) -> int:
        return self.at_zero + self.slope * samples


class TensorOutline:
    """Size, memory order (the slowest dimension first) and dtype."""

    def __init__(self, size: tuple[Line, ...], order: tuple[int, ...], dtype: torch.dtype) -> None:
        self.size = size
        self.order = order
        self.dtype = dtype

    def on_meta(self, samples: int) -> Tensor:
        size = [line.at(samples) for line in self.size]
        strides, step = [0] * len(size), 1
        for dimension in reversed(self.order):
            strides[dimension] = step
            step *= max(size[dimension], 1)
        return torch.empty_strided(size, strides, dtype=self.dtype, device="meta")


class ForEachSample:
    """A list with one entry a sample, all alike."""

    def __init__(self, entry: Any) -> None:
        self.entry = entry


class Container:
    """Any other nested value, with the outlines of what it holds."""

    def __init__(self, model: Any, items: list[Any]) -> None:
        self.model = model
        self.items = items


@dataclass(frozen=True)
class Outline:
    """A nested value whose tensors and batch-dependent numbers are known for any number of samples."""

    structure: Any

    @classmethod
    def between(cls, rows: tuple[int, int], small: Any, large: Any) -> Outline:
        """From the same output seen with two numbers of samples.

        Raises:
            ValueError: the two differ in more than the batch.
        """
        return cls(_between(rows, small, large))

    def fill(self, samples: int, make: Callable[[Tensor], Any]) -> Any:
        """The structure for that many samples; `make` gives each tensor for an empty one of its shape."""
        return _fill(self.structure, samples, make)


def _between(rows: tuple[int, int], small: Any, large: Any) -> Any:
    if isinstance(small, Tensor) and isinstance(large, Tensor):
        if small.is_nested or large.is_nested:
            raise ValueError("a nested tensor has no shape")
        size = tuple(Line.through(rows, pair) for pair in zip(small.shape, large.shape, strict=True))
        strides = small.stride()
        order = tuple(sorted(range(small.ndim), key=lambda d: (-strides[d], d)))
        return TensorOutline(size, order, small.dtype)
    if type(small) is int and type(large) is int and small != large:
        return Line.through(rows, (small, large))
    mine, theirs = opened(small), opened(large)
    if mine is None or theirs is None:
        if type(small) is not type(large):
            raise ValueError("the structure changes with the number of samples")
        return small
    if isinstance(small, list) and (len(small), len(large)) == rows:
        return ForEachSample(_between(rows, small[0], large[0]))
    if len(mine[0]) != len(theirs[0]):
        raise ValueError("the structure changes with the number of samples")
    # Kept without the contents of its tensors, and with tensors, for what is an object without any is no container.
    hollow = map_leaves(lambda leaf: torch.empty(0) if isinstance(leaf, Tensor) else leaf, small)
    return Container(hollow, [_between(rows, a, b) for a, b in zip(mine[0], theirs[0], strict=True)])


def _fill(known: Any, samples: int, make: Callable[[Tensor], Any]) -> Any:
    if isinstance(known, TensorOutline):
        return make(known.on_meta(samples))
    if isinstance(known, Line):
        return known.at(samples)
    if isinstance(known, ForEachSample):
        return [_fill(known.entry, samples, make) for _ in range(samples)]
    if isinstance(known, Container):
        inner = opened(known.model)
        assert inner is not None, "only containers are kept as such"
        return inner[1]([_fill(item, samples, make) for item in known.items])
    return known
