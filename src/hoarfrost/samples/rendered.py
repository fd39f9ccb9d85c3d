"""Batches of samples, rendered, and how workers hand them over."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..cuts import map_leaves
from ..errors import HoarfrostError
from .parcel import Parcel
from .workers import Workers

__all__ = ["Rendered", "rendered_ahead"]


@dataclass(frozen=True)
class Rendered:
    """One batch: whose it is; as the user's loader would give it, None where no sample of it is left; targets [n, ...],
    or sample numbers where items are no pairs; the items without their images; what could not be read so far, by
    whoever read it; digests of the items, for a journal; and sizes of their frames."""

    ids: list[int]
    batch: Any
    targets: Tensor
    rests: list[Any] | Parcel | None = None
    unreadable: Mapping[int, str] = field(default_factory=dict)
    digests: str | None = None
    frames: Tensor | None = None

    def pin_memory(self) -> Rendered:
        """The same in page-locked memory; DataLoader calls this by its name."""
        pinned = map_leaves(lambda leaf: leaf.pin_memory() if isinstance(leaf, Tensor) else leaf, self.batch)
        return replace(self, batch=pinned)


class _Groups(Dataset["Rendered | HoarfrostError"]):
    """Whole batches as the items of a data set, for DataLoader's workers.

    Args:
        render: makes the batch of a group.
        groups: the samples of each.
    """

    def __init__(self, render: Callable[[Tensor], Rendered], groups: Sequence[Tensor]) -> None:
        self._render, self._groups = render, groups

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, number: int) -> Rendered | HoarfrostError:
        """The batch, or the error that its reader is to raise: a worker's own would come with a traceback in words."""
        torch.set_num_threads(1)
        try:
            rendered = self._render(self._groups[number])
        except HoarfrostError as error:
            return error
        return replace(rendered, rests=Parcel(rendered.rests)) if isinstance(rendered.rests, list) else rendered


def rendered_ahead(
    render: Callable[[Tensor], Rendered], groups: Sequence[Tensor], workers: Workers
) -> Iterator[Rendered]:
    """What `render` makes of each group, in their order, ahead where there are workers."""
    if not workers.count:
        for ids in groups:
            rendered = render(ids)
            yield rendered.pin_memory() if workers.pinned else rendered
        return
    for made in workers.read(_Groups(render, groups)):
        if isinstance(made, HoarfrostError):
            raise made
        yield made
