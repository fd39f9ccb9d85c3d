"""What timm's `create_transform` is made of: known by name, so that timm need not be there."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..geometry.placement import Placement
from ..transforms.crop_or_pad import CropOrPad
from ..transforms.erasing import Erasing
from ..transforms.paired import Paired
from ..transforms.ratio_resizes import RatioResize
from ..transforms.resized_crops import ResizedCrop

__all__ = ["adopt", "advance", "centre_size", "is_deterministic", "is_moving", "moves_grid", "timm_name"]

_MODULES = (
    "timm.data.transforms",
    "timm.data.random_erasing",
    "timm.data.auto_augment",
    "timm.data.naflex_transforms",
)
_DETERMINISTIC = frozenset(
    {"CenterCropOrPad", "CenterCropToSequence", "MaybePILToTensor", "MaybeToTensor", "Patchify", "ToNumpy", "ToTensor"}
    | {"TrimBorder"}
)
_MOVING = frozenset(
    {"AugMixAugment", "AugmentOp", "AutoAugment", "RandAugment", "RandomCropToSequence"}
    | {"RandomResizedCropToSequence", "ResizeKeepRatioToSequence"}
)
_AS_IMAGES = "run on images under a seed of each sample"


def timm_name(transform: Any) -> str | None:
    """The name of one of timm's own transforms; None for all others, its subclasses among them."""
    kind = type(transform)
    return kind.__name__ if kind.__module__ in _MODULES else None


def adopt(transform: Any) -> Paired | str | None:
    """As `from_torchvision.adopt`: our form, why there is none, or None for what has none or decides nothing."""
    name = timm_name(transform)
    if name == "RandomResizedCropAndInterpolation":
        return ResizedCrop(
            transform.size,
            transform.scale,
            transform.ratio,
            _interpolation(transform),
            version="v1",
        )
    if name == "ResizeKeepRatio":
        resize = _ratio_resize(transform)
        return resize if resize.is_random else None
    if name == "RandomCropOrPad":
        return CropOrPad(_pair(transform.size), _fill(transform.fill), transform.padding_mode)
    if name == "RandomPad":
        return CropOrPad(_pair(transform.input_size), _fill(transform.fill), crop=False)
    return _erasing(transform) if name == "RandomErasing" else None


def is_deterministic(transform: Any) -> bool:
    """Whether it is one of timm's that decide nothing at random."""
    name = timm_name(transform)
    if name == "ResizeKeepRatio":
        return not _ratio_resize(transform).is_random
    if name == "ResizeToSequence":
        return not isinstance(transform.interpolation, (tuple, list))
    return name in _DETERMINISTIC


def is_moving(transform: Any) -> bool:
    """Whether it is one of timm's image-only transforms that move pixels."""
    return timm_name(transform) in _MOVING


def moves_grid(transform: Any) -> bool:
    """Whether it is a deterministic one that moves the grid: see `advance` and `centre_size`."""
    return timm_name(transform) in ("CenterCropOrPad", "CenterCropToSequence", "ResizeKeepRatio", "TrimBorder")


def advance(transform: Any, placement: Placement, sizes: Tensor) -> tuple[Placement, Tensor] | None:
    """As `step_placement.advance`, for those of timm's deterministic transforms that move the grid; else None."""
    name = timm_name(transform)
    if name == "ResizeKeepRatio":
        resize = _ratio_resize(transform)
        move, after = resize.place(resize.still(len(sizes)), sizes)
        return placement.then(move), after
    if name == "TrimBorder":
        border = int(transform.border_size)
        # Its own rule: both are limited by the height.
        corner = sizes[:, :1].clamp(max=border).expand(-1, 2)
        return placement.then(Placement.shifted(corner)), (sizes - 2 * border).clamp(min=0)
    return None


def centre_size(transform: Any) -> tuple[int, int] | None:
    """The window of a CenterCropOrPad, which lies as torchvision's CenterCrop does; else None."""
    return _pair(transform.size) if timm_name(transform) == "CenterCropOrPad" else None


def _ratio_resize(transform: Any) -> RatioResize:
    return RatioResize(
        _pair(transform.size),
        transform.longest,
        _interpolation(transform),
        transform.random_scale_prob,
        tuple(transform.random_scale_range),
        transform.random_scale_area,
        transform.random_aspect_prob,
        tuple(transform.random_aspect_range),
    )


def _erasing(transform: Any) -> Paired | str:
    if transform.rand_color or transform.per_pixel:
        return f"it writes noise of its own; {_AS_IMAGES}"
    if transform.max_count > 1:
        return f"it erases several rectangles; {_AS_IMAGES}"
    low, high = (math.exp(end) for end in transform.log_aspect_ratio)
    return Erasing(float(transform.probability), (transform.min_area, transform.max_area), (low, high), 0.0)


def _interpolation(transform: Any) -> Any:
    given = transform.interpolation
    return tuple(given) if isinstance(given, (tuple, list)) else given


def _pair(size: Any) -> tuple[int, int]:
    sides = [size] if isinstance(size, int) else torch.as_tensor(size).tolist()
    return (int(sides[0]), int(sides[-1]))


def _fill(fill: Any) -> Any:
    return tuple(fill) if isinstance(fill, (tuple, list)) else fill
