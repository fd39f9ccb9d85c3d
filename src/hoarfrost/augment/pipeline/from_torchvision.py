"""torchvision's transforms as paired augmentations, with all that the user set on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torchvision.transforms as v1
import torchvision.transforms.v2 as v2

from ..transforms.affine import Affine
from ..transforms.crops import PaddedCrop
from ..transforms.erasing import Erasing
from ..transforms.flips import HorizontalFlip, VerticalFlip
from ..transforms.functional import Version
from ..transforms.paired import Paired
from ..transforms.perspectives import Perspective
from ..transforms.resized_crops import ResizedCrop
from ..transforms.rotations import Rotation

__all__ = ["adopt"]

_AS_IMAGES = "run on images under a seed of each sample"
_FILLS_DIFFER = f"its fill differs between types; {_AS_IMAGES}"


def adopt(transform: Any) -> Paired | str | None:
    """Our form of a transform; why there is none, for one of a kind that has; or None for all others."""
    if isinstance(transform, Paired):
        return transform
    # Exact types only: a subclass may do anything.
    form = _FORMS.get(type(transform))
    if form is None:
        return None
    if isinstance(getattr(transform, "fill", None), dict):
        return _FILLS_DIFFER
    return form(transform)


def _crop(transform: Any) -> Paired | str:
    if transform.pad_if_needed and transform.padding_mode != "constant":
        return f"pads twice in a mode that is not constant; {_AS_IMAGES}"
    padding = transform.padding
    if type(transform) is v2.RandomCrop and padding is not None:
        left, right, top, bottom = padding
        padding = (left, top, right, bottom)
    if padding is not None and min([padding] if isinstance(padding, int) else padding) < 0:
        return f"its padding is negative; {_AS_IMAGES}"
    return PaddedCrop(
        transform.size, padding, transform.fill, transform.padding_mode, pad_if_needed=transform.pad_if_needed
    )


def _resized_crop(transform: Any) -> Paired:
    return ResizedCrop(
        transform.size,
        transform.scale,
        transform.ratio,
        transform.interpolation,
        transform.antialias,
        _version(transform),
    )


def _rotation(transform: Any) -> Paired | str:
    if transform.expand:
        return f"its output grows with the angle (expand=True); {_AS_IMAGES}"
    low, high = transform.degrees
    return Rotation((float(low), float(high)), _pair(transform.center), **_warp(transform))


def _affine(transform: Any) -> Paired:
    shear = [float(angle) for angle in transform.shear or (0.0, 0.0)]
    return Affine(
        _pair(transform.degrees) or (0.0, 0.0),
        _pair(transform.translate) or (0.0, 0.0),
        _pair(transform.scale) or (1.0, 1.0),
        (shear[0], shear[1]),
        (shear[2], shear[3]) if len(shear) == 4 else (0.0, 0.0),
        _pair(transform.center),
        **_warp(transform),
    )


def _perspective(transform: Any) -> Paired:
    return Perspective(transform.distortion_scale, transform.p, **_warp(transform))


def _erasing(transform: Any) -> Paired | str:
    value = transform.value
    if value is None or isinstance(value, str):
        return f"it writes noise of its own for each pixel; {_AS_IMAGES}"
    low, high = transform.scale
    flat, tall = transform.ratio
    given = float(value) if isinstance(value, (int, float)) else tuple(float(each) for each in value)
    return Erasing(float(transform.p), (float(low), float(high)), (float(flat), float(tall)), given)


def _warp(transform: Any) -> dict[str, Any]:
    fill = transform.fill
    return {
        "interpolation": transform.interpolation,
        "fill": tuple(fill) if isinstance(fill, (list, tuple)) else fill,
        "version": _version(transform),
    }


def _pair(values: Any) -> tuple[float, float] | None:
    return None if values is None else (float(values[0]), float(values[1]))


def _version(transform: Any) -> Version:
    return "v2" if isinstance(transform, v2.Transform) else "v1"


def _both(name: str, form: Callable[[Any], Paired | str]) -> dict[type, Callable[[Any], Paired | str]]:
    return {getattr(module, name): form for module in (v1, v2)}


_FORMS: dict[type, Callable[[Any], Paired | str]] = {
    **_both("RandomHorizontalFlip", lambda transform: HorizontalFlip(transform.p)),
    **_both("RandomVerticalFlip", lambda transform: VerticalFlip(transform.p)),
    **_both("RandomCrop", _crop),
    **_both("RandomResizedCrop", _resized_crop),
    **_both("RandomRotation", _rotation),
    **_both("RandomAffine", _affine),
    **_both("RandomPerspective", _perspective),
    **_both("RandomErasing", _erasing),
}
