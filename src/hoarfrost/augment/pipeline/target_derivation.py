"""Masks, boxes and keypoints of one view from those of another, where that is exact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torchvision.transforms.v2 as v2
from PIL import Image
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional
from torchvision.transforms.v2._utils import _get_fill

from ..geometry.placement import Placement, as_sizes
from ..transforms.crops import PaddedCrop
from ..transforms.erasing import Erasing
from ..transforms.flips import HorizontalFlip, VerticalFlip
from .draws import Draw
from .joint import MOVING_WITH_IMAGES, moves_by_type
from .pipeline import Pipeline
from .step_placement import advance, first_paired
from .steps import Step

__all__ = ["derive_targets"]

# Coordinates that are multiples of 1 / _FINEST pixel and below 2 ** 15 are added and subtracted without rounding.
_FINEST = 256
_FARTHEST = float(1 << 15)
_IMAGES = (Image.Image, np.ndarray, tv_tensors.Image, tv_tensors.Video)
_FORMATS = ("XYXY", "XYWH")
# v2's that leave targets and their grid alone, whatever they decide.
_COLOURS: tuple[type, ...] = (
    *(v2.ColorJitter, v2.RandomGrayscale, v2.GaussianBlur, v2.RandomInvert, v2.RandomPosterize, v2.RandomSolarize),
    *(v2.RandomAdjustSharpness, v2.RandomAutocontrast, v2.RandomEqualize, v2.RandomPhotometricDistort),
    *(v2.RandomChannelPermutation, v2.Normalize, v2.ToImage, v2.ToDtype, v2.Grayscale, v2.RGB, v2.Identity),
    v2.PILToTensor,
)
_MOVES = (v2.Resize, v2.CenterCrop, v2.Pad)


def derive_targets(
    pipeline: Pipeline,
    others: Sequence[Any],
    source: Draw,
    target: Draw,
    ids: Sequence[int] | Tensor,
    frame: Sequence[int] | Tensor,
) -> list[Any | None]:
    """What `render_with` gave beside the images of one draw, moved to another: equal to its own to the bit, or None.

    Derived are flips and shifts by whole pixels, where the other view shows nothing of the image that this one lacks:
    masks, and boxes (XYXY, XYWH) and keypoints whose coordinates lie on a grid of 1/256 pixel, so that nothing is
    rounded. What moves with no image is the same in both. Where anything else may have moved or changed a target (a
    step that is not v2's own, a function, sanitized boxes, a second crop, an image among the targets), there is None:
    it has to be rendered again.

    Args:
        others: n trees, of the view `source`.
        source, target: from the pipeline's `draw`.
        ids: the n samples' numbers.
        frame: (height, width) of the images' frames in pixels (`Pipeline.frame`), or [n, 2], one for each.
    """
    n = len(others)
    rows = torch.as_tensor(ids, dtype=torch.int64).reshape(-1)
    apart = [_moving_leaves(other) for other in others]
    known = moves_by_type(pipeline.steps)
    if known and not any(apart):
        return list(others)
    if not known or not _is_derivable(pipeline.steps):
        return [other if known and not moving else None for other, moving in zip(others, apart, strict=True)]
    sizes = as_sizes(frame, n)
    for step in pipeline.steps[first_paired(pipeline.steps) : _first_random(pipeline.steps)]:
        _, sizes = advance(step.transform, Placement.identity(n), sizes)
    views = [_shifts(pipeline.steps, draw, rows, sizes) for draw in (source, target)]
    fill = _mask_fill(pipeline.steps)
    derived: list[Any | None] = []
    for i, other in enumerate(others):
        here, there = ((sign[i].tolist(), shift[i].tolist(), size[i].tolist()) for sign, shift, size in views)
        moved = _moved(other, here, there, sizes[i].tolist(), fill) if apart[i] else other
        derived.append(moved)
    return derived


_View = tuple[list[int], list[int], list[int]]


def _moved(other: Any, here: _View, there: _View, raw: list[int], fill: Any) -> Any | None:
    flips, offsets = [], []
    for axis in (0, 1):
        (sign, shift, size), (to_sign, to_shift, to_size) = (
            (view[0][axis], view[1][axis], view[2][axis]) for view in (here, there)
        )
        low, high = _shown(sign, shift, size, raw[axis])
        to_low, to_high = _shown(to_sign, to_shift, to_size, raw[axis])
        if to_low >= to_high or to_low < low or to_high > high:
            return None
        offset = sign * (to_shift - shift)
        flips.append(sign != to_sign)
        offsets.append(size - 1 - offset if sign != to_sign else offset)
    leaves = tree_flatten(other)[0]
    if any(isinstance(leaf, _IMAGES) for leaf in leaves):
        return None
    if not all(_is_exact(leaf) for leaf in leaves if isinstance(leaf, MOVING_WITH_IMAGES)):
        return None
    return tree_map(
        lambda leaf: (
            _leaf(leaf, flips, offsets, here[2], there[2], fill) if isinstance(leaf, MOVING_WITH_IMAGES) else leaf
        ),
        other,
    )


def _leaf(leaf: Any, flips: list[bool], offsets: list[int], size: list[int], to_size: list[int], fill: Any) -> Any:
    if flips[0]:
        leaf = functional.vertical_flip(leaf)
    if flips[1]:
        leaf = functional.horizontal_flip(leaf)
    before = [max(-offset, 0) for offset in offsets]
    after = [max(offset + to - had, 0) for offset, to, had in zip(offsets, to_size, size, strict=True)]
    if any(before) or any(after):
        leaf = functional.pad(leaf, [before[1], before[0], after[1], after[0]], fill=fill)
    if not any(offsets) and size == to_size:
        return leaf
    return functional.crop(leaf, offsets[0] + before[0], offsets[1] + before[1], *to_size)


def _shown(sign: int, shift: int, size: int, raw: int) -> tuple[int, int]:
    """From which to before which pixel of the raw image a view shows it, along one axis."""
    ends = (shift, sign * (size - 1) + shift)
    return max(min(ends), 0), min(max(ends) + 1, raw)


def _moving_leaves(other: Any) -> bool:
    return any(isinstance(leaf, (*MOVING_WITH_IMAGES, *_IMAGES)) for leaf in tree_flatten(other)[0])


def _is_exact(leaf: Any) -> bool:
    if isinstance(leaf, tv_tensors.Mask):
        return True
    if isinstance(leaf, tv_tensors.BoundingBoxes) and leaf.format.name not in _FORMATS:
        return False
    values = leaf.as_subclass(Tensor)
    if not values.is_floating_point():
        return True
    fine = values.double() * _FINEST
    return values.dtype in (torch.float32, torch.float64) and bool(
        (fine == fine.round()).all() and (values.abs() < _FARTHEST).all()
    )


def _first_random(steps: Sequence[Step]) -> int:
    return next((i for i, step in enumerate(steps) if _moves(step)), len(steps))


def _moves(step: Step) -> bool:
    return step.paired is not None and not isinstance(step.paired, Erasing)


def _is_derivable(steps: Sequence[Step]) -> bool:
    first = _first_random(steps)
    crops = [step for step in steps if isinstance(step.paired, PaddedCrop)]
    if len(crops) > 1 or (crops and crops[0].paired.padding_mode != "constant"):  # type: ignore[union-attr]
        return False
    for i, step in enumerate(steps):
        if step.paired is not None:
            known = isinstance(step.paired, (HorizontalFlip, VerticalFlip, PaddedCrop, Erasing))
            if not known or not isinstance(step.transform, v2.Transform):
                return False
        elif type(step.transform) not in _COLOURS and not (type(step.transform) in _MOVES and i < first):
            return False
    return True


def _mask_fill(steps: Sequence[Step]) -> Any:
    for step in steps:
        if isinstance(step.paired, PaddedCrop):
            return _get_fill(step.transform._fill, tv_tensors.Mask)
    return 0


def _shifts(steps: Sequence[Step], draw: Draw, rows: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sign, shift and size [n, 2] of a draw's views in images of the sizes [n, 2]."""
    placement = Placement.identity(len(rows))
    for step, decisions in zip(steps, draw.decisions, strict=True):
        if _moves(step) and step.paired is not None and decisions is not None:
            move, sizes = step.paired.place(decisions[rows], sizes)
            placement = placement.then(move)
    return placement.sign, placement.shift, sizes
