"""What deterministic and image-only steps do to the pixel grid, as far as it can be known beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torchvision.transforms as v1
import torchvision.transforms.v2 as v2
from torch import Tensor
from torchvision.transforms import _presets

from ..geometry.placement import Placement, as_sizes
from . import albumentations_calls, from_timm
from .steps import Step

__all__ = ["advance", "first_paired", "frame_sizes"]


def first_paired(steps: Sequence[Step]) -> int:
    """Position of the first step by which renditions come to lie differently; behind all, where there is none."""
    return next((position for position, step in enumerate(steps) if step.paired is not None), len(steps))


def frame_sizes(steps: Sequence[Step], sizes: Tensor) -> Tensor:
    """Sizes [n, 2] in front of that step of images of the sizes [n, 2]."""
    placement = Placement.identity(len(sizes))
    for step in steps[: first_paired(steps)]:
        placement, sizes = advance(step.transform, placement, sizes)
    return sizes


def advance(transform: Any, placement: Placement, sizes: Tensor) -> tuple[Placement, Tensor]:
    """The placement and the images' sizes [n, 2] behind a step that is not paired.

    CenterCrop and Pad move the grid exactly; Resize scales it. A kind of RandomResizedCrop that is not ours is taken as
    a resize, since its window is not known; all other steps are taken to leave the grid where it is.
    """
    if albumentations_calls.is_albumentations(transform):
        if albumentations_calls.is_deterministic(transform):
            return albumentations_calls.advance(transform, placement, sizes)
        return placement, sizes
    timm_moved = from_timm.advance(transform, placement, sizes)
    if timm_moved is not None:
        return timm_moved
    timm_window = from_timm.centre_size(transform)
    if timm_window is not None:
        return _centre(placement, sizes, timm_window)
    if isinstance(transform, (v1.CenterCrop, v2.CenterCrop)):
        return _centre(placement, sizes, _pair(transform.size))
    if isinstance(transform, (v1.Pad, v2.Pad)):
        return _pad(placement, sizes, transform.padding)
    if isinstance(transform, (v1.Resize, v2.Resize)):
        after = _resized(sizes, transform.size, transform.max_size)
        return placement.rescaled(sizes, after), after
    if isinstance(transform, (v1.RandomResizedCrop, v2.RandomResizedCrop)):
        after = as_sizes(_pair(transform.size), len(sizes))
        return placement.rescaled(sizes, after), after
    if isinstance(transform, _presets.ImageClassification):
        after = _resized(sizes, transform.resize_size, None)
        return _centre(placement.rescaled(sizes, after), after, _pair(transform.crop_size))
    return placement, sizes


def _pair(size: Any) -> tuple[int, int]:
    if isinstance(size, int):
        return (size, size)
    return (int(size[0]), int(size[-1]))


def _centre(placement: Placement, sizes: Tensor, window: tuple[int, int]) -> tuple[Placement, Tensor]:
    room = sizes - torch.tensor(window)
    cropped = (room.double() / 2).round().to(torch.int64)
    padded = -((-room).div(2, rounding_mode="floor"))
    shift = torch.where(room >= 0, cropped, padded)
    return placement.then(Placement.shifted(shift)), as_sizes(window, len(sizes))


def _pad(placement: Placement, sizes: Tensor, padding: Any) -> tuple[Placement, Tensor]:
    pads = [padding] if isinstance(padding, int) else [int(pad) for pad in padding]
    left, top, right, bottom = pads * (4 // len(pads))
    shift = torch.tensor([-top, -left]).expand(sizes.shape)
    step = Placement.shifted(shift)
    return placement.then(step), sizes + torch.tensor([top + bottom, left + right])


def _resized(sizes: Tensor, size: Any, max_size: int | None) -> Tensor:
    """torchvision's rule: one number is the shorter side; the longer keeps the ratio, cut to an integer."""
    if size is not None and not isinstance(size, int) and len(size) == 2:
        return as_sizes((int(size[0]), int(size[1])), len(sizes))
    short, long = sizes.amin(1).double(), sizes.amax(1).double()
    if size is None:
        new_long = torch.full_like(long, float(max_size or 1))
        new_short = (new_long * short / long).floor()
    else:
        new_short = torch.full_like(short, float(size if isinstance(size, int) else size[0]))
        new_long = (new_short * long / short).floor()
        if max_size is not None:
            over = new_long > max_size
            new_short = torch.where(over, (max_size * new_short / new_long).floor(), new_short)
            new_long = new_long.clamp(max=max_size)
    tall = (sizes[:, 0] >= sizes[:, 1])[:, None]
    ordered = torch.stack([new_short, new_long], 1)
    return torch.where(tall, ordered.flip(1), ordered).to(torch.int64)
