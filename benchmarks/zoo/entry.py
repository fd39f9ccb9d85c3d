"""One model of the zoo."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Build", "Entry", "Example", "Samples", "images"]

Example = Tensor | tuple[Any, ...] | dict[str, Any]
Samples = Callable[[int], Example]
Build = Callable[[], tuple[nn.Module, Samples]]


@dataclass(frozen=True)
class Entry:
    """How a model is made, with random weights, and what it is called with.

    Attributes:
        group: where it comes from; a key of `catalog.GROUPS`.
        name: its name there.
        build: gives the model and a function from a number of samples to arguments with so many: a tensor, a tuple
            of positional arguments, or a dictionary of keyword arguments. Other numbers give other values.
    """

    group: str
    name: str
    build: Build

    @property
    def label(self) -> str:
        return f"{self.group}/{self.name}"


def images(size: int, channels: int = 3) -> Samples:
    """Batches of images [N, C, size, size]."""
    return lambda rows: torch.randn(rows, channels, size, size)
