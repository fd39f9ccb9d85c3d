"""Batches of samples, rendered, and how workers hand them over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..cuts import map_leaves
from .parcel import Parcel

__all__ = ["Rendered", "RenderedGroups"]


@dataclass(frozen=True)
class Rendered:
    """One batch: as the user's loader would give it; targets [n, ...], or sample numbers where items are no pairs; and
    the items without their images."""

    batch: Any
    targets: Tensor
    rests: list[Any] | Parcel | None = None

    def pin_memory(self) -> Rendered:
        """The same in page-locked memory; DataLoader calls this by its name."""
        pinned = map_leaves(lambda leaf: leaf.pin_memory() if isinstance(leaf, Tensor) else leaf, self.batch)
        return replace(self, batch=pinned)


class RenderedGroups(Dataset[Rendered]):
    """Whole batches as the items of a data set, for DataLoader's workers.

    Args:
        render: makes the batch of a group.
        groups: the samples of each.
    """

    def __init__(self, render: Callable[[Tensor], Rendered], groups: Sequence[Tensor]) -> None:
        self._render, self._groups = render, groups

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, number: int) -> Rendered:
        torch.set_num_threads(1)
        rendered = self._render(self._groups[number])
        return replace(rendered, rests=Parcel(rendered.rests)) if isinstance(rendered.rests, list) else rendered
