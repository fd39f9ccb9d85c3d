"""The random decisions behind every rendition of a sample, and features of one rendition made from another's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..augment import Border, Draw, Form, Grid, derive
from ..cache import CacheSpec, StoredView
from ..codecs import Packed
from ..cuts import Cut
from ..feeding.loading import Order
from ..seeds import mix
from .dataset import Frame, Samples

__all__ = ["WAYS", "Deriver", "Renditions", "Way", "assembled", "dense", "grid_of", "to_store"]


class Renditions:
    """The random decisions behind every rendition: pure functions of the seed and of what they are for.

    A live epoch has a draw of its own; so has each edition of each stored view of each freeze.
    """

    LIVE, VIEW = 1, 2

    def __init__(self, samples: Samples, seed: int) -> None:
        self._samples = samples
        self._seed = seed
        self._held: dict[tuple[int, ...], Draw] = {}

    def live(self, epoch: int) -> Draw:
        """The renditions that an epoch on images sees."""
        return self._draw(self.LIVE, epoch)

    def view(self, event: int, view: int, edition: int = 0, base: str = "random") -> Draw:
        """The renditions stored as a view after the freeze event before epoch `event`, when drawn so often anew."""
        if view == 0 and base == "clean":
            return self._samples.pipeline.still(len(self._samples))
        return self._draw(self.VIEW, event, view, *[edition] * (edition > 0))

    def _draw(self, *purpose: int) -> Draw:
        # Reading threads ask too: one dictionary is replaced by another, never changed, and only the own draw is given.
        draw = self._held.get(purpose)
        if draw is None:
            draw = self._samples.pipeline.draw(len(self._samples), mix(self._seed, *purpose))
            others = {key: held for key, held in self._held.items() if not self._replaces(purpose, key)}
            self._held = {**others, purpose: draw}
        return draw

    def _replaces(self, new: tuple[int, ...], old: tuple[int, ...]) -> bool:
        """Whether an older draw is no longer needed: of an earlier epoch or freeze, or two editions behind."""
        if new[0] != old[0]:
            return False
        if new[0] == self.LIVE or new[1] != old[1]:
            return True
        return new[2] == old[2] and sum(old[3:]) < sum(new[3:]) - 1


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
        frame: sizes of the images; all have one size, else nothing can be derived.
        grid: how the features lie over the image.
        border, form: see `hoarfrost.augment.derive`.
    """

    samples: Samples
    order: Order
    frame: Frame
    grid: Grid
    border: Border
    form: Form = "cells"

    @classmethod
    def of(
        cls,
        cut: Cut,
        samples: Samples,
        order: Order,
        frame: Frame | None,
        way: Way,
        blank: Callable[[], Tensor | None],
    ) -> Deriver | None:
        """None where features or images allow none, or where there is nothing `blank`.

        Args:
            blank: gives the features that cells get in that way.
        """
        grid = None if frame is None else grid_of(cut, frame.rendered)
        border: Border | None = blank() if way.border == "blank" else way.border
        if frame is None or grid is None or border is None:
            return None
        return cls(samples, order, frame, grid, border, way.form)

    def derive(self, features: Tensor, chunk: int, source: Draw, target: Draw) -> Tensor:
        """[n, ...] of a chunk's samples as `target` shows them, from what they are under `source`."""
        ids, place = self.order.members(chunk), self.samples.pipeline.placement
        return derive(
            features,
            place(source, ids, self.frame.raw),
            place(target, ids, self.frame.raw),
            self.grid,
            self.border,
            self.form,
        )


def to_store(stored: StoredView, axis: int, features: Tensor, derived: Tensor | None) -> Tensor:
    """What a record holds of a view's features [n, ...]: its channels, or what they differ from the derived ones.

    Args:
        axis: of the channels.
        derived: the same view's features, derived from view 0; for a view with gains alone.
    """
    kept = _channels(stored, axis, features)
    if stored.gains is None or derived is None:
        return kept
    return kept - _gains(stored, axis, kept) * _channels(stored, axis, derived)


def assembled(stored: StoredView, axis: int, record: Tensor, derived: Tensor) -> Tensor:
    """A view's features [n, ...] from its record and the features derived for it, which are overwritten."""
    if stored.gains is not None:
        record = record + _gains(stored, axis, record) * _channels(stored, axis, derived)
    if stored.channels is None:
        return record
    return derived.index_copy_(axis, torch.tensor(stored.channels), record)


def dense(packed: Packed, spec: CacheSpec) -> Tensor:
    """A record's values as floats, in logical order."""
    return spec.logical(packed.dense())


def _channels(stored: StoredView, axis: int, features: Tensor) -> Tensor:
    return features if stored.channels is None else features.index_select(axis, torch.tensor(stored.channels))


def _gains(stored: StoredView, axis: int, like: Tensor) -> Tensor:
    shape = [1] * like.ndim
    shape[axis] = -1
    return torch.tensor(stored.gains, dtype=like.dtype).view(shape)
