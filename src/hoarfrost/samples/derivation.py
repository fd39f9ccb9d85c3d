"""Features of one rendition made from another's, in feature space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ..augment import Border, Draw, Form, Grid, derive
from ..cuts import Cut
from .dataset import Samples
from .order import Order

__all__ = ["WAYS", "Deriver", "Way", "grid_of"]


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

    def derive(self, features: Tensor, chunk: int, source: Draw, target: Draw) -> Tensor:
        """[n, ...] of a chunk's samples as `target` shows them, from what they are under `source`."""
        ids, main = self.order.members(chunk), self.samples.form.mains[self.call]
        frames, place = self.samples.frames.of(ids, self.call), self.samples.pipeline.placement
        shown, wanted = (place(self.samples.rendering.draw_at(draw, main), ids, frames) for draw in (source, target))
        return derive(features, shown, wanted, self.grid, self.border, self.form)
