"""albumentations' transforms: called with keywords, on arrays [H, W, C]; known by name, so it need not be there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...errors import ArgumentError
from ..geometry.placement import Placement, as_sizes

__all__ = ["advance", "call_on_image", "call_on_sample", "is_albumentations", "is_deterministic", "names_of"]

_DETERMINISTIC = frozenset({"CenterCrop", "FromFloat", "NoOp", "Normalize", "Resize", "ToFloat", "ToTensorV2"})


def is_albumentations(transform: Any) -> bool:
    """Whether it is called as albumentations calls; a subclass of the user's own is called alike."""
    return any(kind.__module__.split(".")[0] == "albumentations" for kind in type(transform).__mro__)


def is_deterministic(transform: Any) -> bool:
    """Whether it is known to decide nothing: one of a few, always applied, or a Compose of such."""
    kind = type(transform)
    if not kind.__module__.startswith("albumentations.") or transform.p < 1:
        return False
    if kind.__name__ == "Compose":
        return all(is_deterministic(part) for part in transform.transforms)
    return kind.__name__ in _DETERMINISTIC and not getattr(transform, "pad_if_needed", False)


def advance(transform: Any, placement: Placement, sizes: Tensor) -> tuple[Placement, Tensor]:
    """As `step_placement.advance`, for what `is_deterministic` knows."""
    name = type(transform).__name__
    if name == "Compose":
        for part in transform.transforms:
            placement, sizes = advance(part, placement, sizes)
    elif name in ("CenterCrop", "Resize"):
        after = as_sizes((int(transform.height), int(transform.width)), len(sizes))
        if name == "Resize":
            return placement.rescaled(sizes, after), after
        corner = torch.div(sizes - after, 2, rounding_mode="floor")
        return placement.then(Placement.shifted(corner)), after
    return placement, sizes


def call_on_image(transform: Any, item: Any) -> Any:
    """What it makes of one image: PIL or an array; an array, or what ToTensorV2 makes of it, comes back.

    Raises:
        ArgumentError: a tensor.
    """
    return transform(image=_array(transform, item))["image"]


def call_on_sample(transform: Any, item: Any, other: Any) -> tuple[Any, Any]:
    """The same for an image and what goes with it, by the names that the transform has for it (mask, bboxes, ...).

    Raises:
        ArgumentError: a tensor for an image.
    """
    known = names_of(transform)
    named = {key: value for key, value in other.items() if key in known} if isinstance(other, Mapping) else {}
    arrays = {key: np.array(value) if isinstance(value, Image.Image) else value for key, value in named.items()}
    result = transform(image=_array(transform, item), **arrays)
    moved = {**other, **{key: result[key] for key in named}} if isinstance(other, Mapping) else other
    return result["image"], moved


def names_of(transform: Any) -> frozenset[str]:
    """The keywords that it knows."""
    known = {*getattr(transform, "available_keys", ()), *getattr(transform, "additional_targets", ())}
    fields = [getattr(processor.params, "label_fields", None) for processor in transform_processors(transform)]
    return frozenset(known | {name for names in fields for name in names or ()})


def transform_processors(transform: Any) -> list[Any]:
    """What a Compose has for boxes and keypoints."""
    return list(getattr(transform, "processors", {}).values())


def _array(transform: Any, item: Any) -> Any:
    if isinstance(item, Image.Image):
        return np.array(item)
    if isinstance(item, np.ndarray):
        return item.copy()
    raise ArgumentError(
        f"{type(transform).__name__} of albumentations cannot take a {type(item).__name__}: it works on PIL images and "
        "arrays [H, W, C]; put it in front of what makes tensors"
    )
