"""The frames in which renditions of images are placed: their sizes, sample by sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..augment import STILL, unplaced
from .identity import spread
from .places import Place, nearest, size_of
from .rendering import Rendering

__all__ = ["Frames"]

TRIED = 4
"""Samples whose images are followed through each step, to see whether all sizes are as their places say."""


class Frames:
    """Sizes of the frames that all renditions of an image share (`Pipeline.frame`): 8 bytes an image where they differ.

    They are noted whenever a sample is rendered, and learned from the cache that holds its features, so that nobody
    reads it again to know where its renditions lie.

    Args:
        places: of the images in an item, one for each call of the model.
        read: numbers of samples -> their items.
        probed: items of a few samples. Where all have one frame, so has what nothing was told of.
    """

    def __init__(
        self,
        rendering: Rendering,
        places: Sequence[Place],
        read: Callable[[list[int]], list[Any]],
        samples: int,
        probed: Sequence[Any],
    ) -> None:
        self._rendering, self._places, self._read = rendering, tuple(places), read
        found = self.of_items(probed)
        self.known = found is not None
        """Whether the inputs are images at all."""
        first = torch.zeros(len(places), 2, dtype=torch.int32) if found is None else found[0]
        self._first, self._alike = first, found is None or bool((found == first).all())
        self._sizes = first.expand(samples, -1, -1) if self._alike else first.new_zeros(samples, *first.shape)

    @property
    def alike(self) -> bool:
        """Whether all that are known are one."""
        return self._alike

    def of_items(self, items: Sequence[Any]) -> Tensor | None:
        """Of raw items, [n, calls, 2]; None where an input is no image."""
        sizes = [size_of(nearest(item, place)) for item in items for place in self._places]
        raw = [size for size in sizes if size is not None]
        if len(raw) < len(sizes):
            return None
        frames = self._rendering.pipeline.frame(torch.tensor(raw), len(raw))
        return frames.to(torch.int32).view(len(items), len(self._places), 2)

    def note(self, ids: Sequence[int] | Tensor, sizes: Tensor | None) -> None:
        """Samples were rendered, whose images have frames of these sizes [n, calls, 2]."""
        rows = torch.as_tensor(ids, dtype=torch.int64)
        if sizes is None or torch.equal(self._sizes[rows], sizes):
            return
        if not self._sizes.is_contiguous():
            self._sizes = self._sizes.clone(memory_format=torch.contiguous_format)
        self._sizes[rows] = sizes

    def of(self, ids: Sequence[int] | Tensor, call: int = 0) -> Tensor:
        """[n, 2] int64, at one call of the model."""
        rows = torch.as_tensor(ids, dtype=torch.int64)
        lacking = rows[(self._sizes[rows] == 0).any(2).any(1)].tolist()
        if lacking:
            self.note(lacking, self.of_items(self._read(lacking)))
        return self._sizes[rows, call].to(torch.int64)

    def told(self, ids: Tensor, call: int) -> tuple[int, ...] | None:
        """For a journal: height and width of one after the other; None where they are those that all samples that were
        looked at have, or are not known."""
        sizes = self._sizes[ids, call]
        if bool((sizes == 0).any()) or (self._alike and bool((sizes == self._first[call]).all())):
            return None
        return tuple(sizes.flatten().tolist())

    def learn(self, ids: Tensor, told: Sequence[int], call: int) -> None:
        """The inverse of `told`."""
        sizes = self._sizes[ids]
        sizes[:, call] = torch.tensor(told, dtype=torch.int32).view(-1, 2)
        self.note(ids, sizes)

    @cached_property
    def unplaced(self) -> str | None:
        """The first step behind which nobody can tell where pixels lie, in words; None where all is known."""
        ids = spread(self._sizes.shape[0], TRIED)
        items = [nearest(item, self._places[0]) for item in self._read(ids)]
        told = (unplaced(self._rendering.pipeline, items, ids, self._rendering.draw(seed)) for seed in (STILL, 0))
        return next((reason for reason in told if reason is not None), None)
