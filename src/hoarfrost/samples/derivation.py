"""Features of one rendition made from another's, in feature space."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from ..augment import Border, Draw, Form, Grid, Placement, derive
from ..cuts import Cut
from .dataset import Samples
from .order import Order

__all__ = ["WAYS", "Deriver", "Way", "grid_of"]

MOST_PLACED, DRAWS_PLACED = 1 << 18, 4
"""Samples and draws of which all placements are kept: at most 75 MB."""


def grid_of(cut: Cut, image_size: tuple[int, int]) -> Grid | None:
    """How the features of a cut lie over images of that size; None for what lies on no grid."""
    place, shape = cut.geometry, cut.shape
    pixels = None
    if place is not None:
        pixels = ((place.offset[0], place.stride[0]), (place.offset[1], place.stride[1]))
    if cut.layout == "NCHW" and len(shape) == 3:
        return Grid(image_size, (shape[1], shape[2]), pixels=pixels)
    if cut.layout == "NHWC" and len(shape) == 3:
        return Grid(image_size, (shape[0], shape[1]), "NHWC", pixels=pixels)
    if cut.layout == "tokens" and place is not None and shape[0] == place.prefix_tokens + place.grid[0] * place.grid[1]:
        return Grid(image_size, place.grid, "tokens", place.prefix_tokens, pixels=pixels)
    return None


@dataclass(frozen=True)
class Way:
    """How features of another rendition are derived.

    Attributes:
        border: what cells get that are not known: "zeros", "replicate" (the nearest cell), or "blank": the features of
            what the transform shows beyond an image's borders.
        form: whether whole cells are moved, or cells are interpolated.
    """

    border: Literal["zeros", "replicate", "blank"] = "zeros"
    form: Form = "cells"


WAYS = tuple(Way(border, form) for form in ("cells", "interpolated") for border in ("zeros", "replicate", "blank"))
"""What is tried at a freeze."""


@dataclass(frozen=True)
class Deriver:
    """Features of one rendition of a chunk from those of another, in feature space.

    Attributes:
        grid: how the features lie over what the model gets.
        border, form: see `hoarfrost.augment.derive`.
        call: which call of the model the features are of; each may have its own decisions.
    """

    samples: Samples
    order: Order
    grid: Grid
    border: Border
    form: Form = "cells"
    call: int = 0
    _placed: dict[Draw, Placement] = field(default_factory=dict, repr=False, compare=False)

    def turned(self, chunk: int, source: Draw, target: Draw) -> Tensor:
        """Which of a chunk's samples one of both draws shows mirrored from side to side, and the other does not:
        bool [n]."""
        ids, pipeline = self.order.members(chunk), self.samples.pipeline
        return pipeline.is_mirrored(self._own(source), ids) ^ pipeline.is_mirrored(self._own(target), ids)

    def _own(self, draw: Draw) -> Draw:
        """The decisions for this call's images."""
        return self.samples.rendering.draw_at(draw, self.samples.form.mains[self.call])

    def derive(self, features: Tensor, chunk: int, source: Draw, target: Draw) -> Tensor:
        """[n, ...] of a chunk's samples as `target` shows them, from what they are under `source`."""
        here, there = (self._place(self._own(draw), chunk) for draw in (source, target))
        return derive(features, here, there, self.grid, self.border, self.form)

    def _place(self, draw: Draw, chunk: int) -> Placement:
        """Where a chunk's samples lie under a draw; those of all samples are worked out at once and kept, unless they
        are many, or their frames differ."""
        ids, place, frames = self.order.members(chunk), self.samples.pipeline.placement, self.samples.frames
        if draw.samples > MOST_PLACED or not frames.alike:
            return place(draw, ids, frames.of(ids, self.call))
        found = self._placed.get(draw)
        if found is None:
            found = place(draw, range(draw.samples), frames.of(torch.arange(draw.samples), self.call))
            # Reading threads ask too: what is let go of was let go of by one of them.
            for old in list(self._placed)[: 1 - DRAWS_PLACED]:
                self._placed.pop(old, None)
            self._placed[draw] = found
        return found[ids]
