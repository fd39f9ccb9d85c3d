"""What is known of a module's output beforehand: everything but the values of its tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from ..sandbox.pytrees import map_leaves, opened

__all__ = ["Outline"]

Rational = int | Fraction


class Line:
    """A whole number that grows with the samples of a batch, `at_zero + slope * samples`, or with their length too:
    then both of these grow with it, by `longer` for each entry. Behind a stride several lengths in front are one: then
    it is the nearest whole number on the way between those that were seen."""

    def __init__(self, at_zero: Rational, slope: Rational, longer: tuple[Rational, Rational] = (0, 0)) -> None:
        self.at_zero = at_zero
        self.slope = slope
        self.longer = longer

    @classmethod
    def through(cls, rows: tuple[int, int], values: tuple[int, int]) -> Line:
        slope, rest = divmod(values[1] - values[0], rows[1] - rows[0])
        if rest:
            raise ValueError(f"{values} do not grow evenly with {rows} samples")
        return cls(values[0] - slope * rows[0], slope)

    @classmethod
    def across(cls, lengths: tuple[int, int], near: Line, far: Line) -> Line:
        apart = lengths[1] - lengths[0]
        longer = Fraction(far.at_zero - near.at_zero) / apart, Fraction(far.slope - near.slope) / apart
        return cls(near.at_zero - longer[0] * lengths[0], near.slope - longer[1] * lengths[0], longer)

    def at(self, samples: int, length: int = 0) -> int:
        one, each = self.at_zero + self.longer[0] * length, self.slope + self.longer[1] * length
        return round(one) + round(each) * samples


class TensorOutline:
    """Size, memory order (the slowest dimension first) and dtype."""

    def __init__(self, size: tuple[Line, ...], order: tuple[int, ...], dtype: torch.dtype) -> None:
        self.size = size
        self.order = order
        self.dtype = dtype

    def on_meta(self, samples: int, length: int = 0) -> Tensor:
        size = [line.at(samples, length) for line in self.size]
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

    @classmethod
    def across(cls, lengths: tuple[int, int], near: Outline, far: Outline) -> Outline:
        """Of any length, from the outlines for two.

        Raises:
            ValueError: the two differ in more than sizes that grow evenly.
        """
        return cls(_across(lengths, near.structure, far.structure))

    def fill(self, samples: int, make: Callable[[Tensor], Any], length: int = 0) -> Any:
        """The structure for that many samples, of that length where it matters; `make` gives each tensor for an empty
        one of its shape."""
        return _fill(self.structure, (samples, length), make)


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


def _across(lengths: tuple[int, int], near: Any, far: Any) -> Any:
    if isinstance(near, TensorOutline) and isinstance(far, TensorOutline):
        size = tuple(Line.across(lengths, *pair) for pair in zip(near.size, far.size, strict=True))
        return TensorOutline(size, near.order, near.dtype)
    numbers = [Line(known, 0) if type(known) is int else known for known in (near, far)]
    if all(isinstance(number, Line) for number in numbers):
        return near if type(near) is int and near == far else Line.across(lengths, numbers[0], numbers[1])
    if type(near) is not type(far):
        raise ValueError("the structure changes with the length")
    if isinstance(near, ForEachSample):
        return ForEachSample(_across(lengths, near.entry, far.entry))
    if isinstance(near, Container):
        if len(near.items) != len(far.items):
            raise ValueError("the structure changes with the length")
        return Container(near.model, [_across(lengths, *pair) for pair in zip(near.items, far.items, strict=True)])
    return near


def _fill(known: Any, batch: tuple[int, int], make: Callable[[Tensor], Any]) -> Any:
    if isinstance(known, TensorOutline):
        return make(known.on_meta(*batch))
    if isinstance(known, Line):
        return known.at(*batch)
    if isinstance(known, ForEachSample):
        return [_fill(known.entry, batch, make) for _ in range(batch[0])]
    if isinstance(known, Container):
        inner = opened(known.model)
        assert inner is not None, "only containers are kept as such"
        return inner[1]([_fill(item, batch, make) for item in known.items])
    return known
