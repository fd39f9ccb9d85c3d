"""What is known of a module's output beforehand: everything but the values of its tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .nested import leaves, map_leaves

__all__ = ["Outline"]


class Line:
    """A whole number that grows with the samples of a batch: `at_zero + slope * samples`."""

    # No dataclass, here and below: those are containers to `map_leaves`, and these are leaves.
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
        others = iter(leaves(large))
        if len(leaves(small)) != len(leaves(large)):
            raise ValueError("the structure changes with the number of samples")
        return cls(map_leaves(lambda leaf: _leaf(rows, leaf, next(others)), small))

    def fill(self, samples: int, make: Callable[[Tensor], Any]) -> Any:
        """The structure for that many samples; `make` gives each tensor for an empty one of its shape."""

        def leaf(known: Any) -> Any:
            if isinstance(known, TensorOutline):
                return make(known.on_meta(samples))
            return known.at(samples) if isinstance(known, Line) else known

        return map_leaves(leaf, self.structure)

    def with_tensor(self, samples: int, tensor: Tensor) -> Any:
        """The structure with `tensor` as its only tensor."""
        if isinstance(self.structure, TensorOutline):
            return tensor
        return self.fill(samples, lambda _: tensor)


def _leaf(rows: tuple[int, int], small: Any, large: Any) -> Any:
    if isinstance(small, Tensor):
        size = tuple(Line.through(rows, pair) for pair in zip(small.shape, large.shape, strict=True))
        strides = small.stride()
        order = tuple(sorted(range(small.ndim), key=lambda d: (-strides[d], d)))
        return TensorOutline(size, order, small.dtype)
    if type(small) is int and type(large) is int and small != large:
        return Line.through(rows, (small, large))
    return small
