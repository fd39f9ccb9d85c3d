"""A user's transform, taken apart into steps, each with the way it can be handled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torchvision.transforms as v1
import torchvision.transforms.v2 as v2

from ...errors import ArgumentError
from ..transforms.mixing import is_mixing
from ..transforms.own_states import find_states
from ..transforms.paired import Paired
from . import from_timm, from_torchvision
from .albumentations_calls import call_on_image, is_albumentations
from .deterministic import Deterministic, is_deterministic

__all__ = ["Step", "split"]

_UNKNOWN = "a function that we do not know"

# Random transforms that move pixels, or may hold others that do.
_MOVING: tuple[type, ...] = (
    *(v1.RandAugment, v1.AutoAugment, v1.TrivialAugmentWide, v1.AugMix, v1.ElasticTransform),
    *(v1.RandomApply, v1.RandomChoice, v1.RandomOrder),
    *(v2.RandAugment, v2.AutoAugment, v2.TrivialAugmentWide, v2.AugMix, v2.ElasticTransform),
    *(v2.RandomApply, v2.RandomChoice, v2.RandomOrder, v2.RandomZoomOut, v2.RandomIoUCrop),
    *(v2.ScaleJitter, v2.RandomShortestSize, v2.RandomResize),
)
# Those that are image-only for what they are set to.
_WARPING: tuple[type, ...] = (
    *(v1.RandomCrop, v1.RandomResizedCrop, v1.RandomRotation, v1.RandomAffine, v1.RandomPerspective),
    *(v2.RandomCrop, v2.RandomResizedCrop, v2.RandomRotation, v2.RandomAffine, v2.RandomPerspective),
)


@dataclass(frozen=True, eq=False)
class Step:
    """One step of a transform.

    Attributes:
        name: the user's own name for it, such as "RandomCrop".
        kind: "paired" (has a form on features), "image-only" (random, has none) or "deterministic".
        reason: why it is of that kind, for `Pipeline.describe`.
        transform: the user's own object.
        paired: our form of it, for "paired" only.
    """

    name: str
    kind: str
    reason: str
    transform: Any
    paired: Paired | None = None

    def call(self, item: Any) -> Any:
        """The user's own transform on one image, in the way that its library is called."""
        return call_on_image(self.transform, item) if is_albumentations(self.transform) else self.transform(item)

    @property
    def moves_unseen(self) -> bool:
        """Whether it may move pixels in a way that no placement tells."""
        if self.kind != "image-only":
            return False
        return not _is_torchvisions(self.transform) or isinstance(self.transform, (*_MOVING, *_WARPING))

    @property
    def is_unknown(self) -> bool:
        """Whether it is a function of the user's own, of which nothing is declared."""
        return self.reason.startswith(_UNKNOWN)

    @property
    def is_declared(self) -> bool:
        """Whether it is one that the user declares to be free of randomness."""
        return isinstance(self.transform, Deterministic)

    @property
    def is_random(self) -> bool:
        return self.paired.is_random if self.paired is not None else self.kind == "image-only"


def split(transform: Any) -> list[Step]:
    """The steps of a transform, in order; torchvision's Compose (v1 or v2) and nn.Sequential are opened.

    Raises:
        ArgumentError: something that cannot be called.
    """
    return [_step(part) for part in _parts(transform)]


def _parts(transform: Any) -> Iterator[Any]:
    if transform is None:
        return
    # Exact types only: a subclass may do anything around its parts.
    if type(transform) in (v1.Compose, v2.Compose):
        for part in transform.transforms:
            yield from _parts(part)
    elif type(transform) is torch.nn.Sequential:
        for part in transform:
            yield from _parts(part)
    elif _mixes(transform):
        raise ArgumentError(
            f"{type(transform).__name__} mixes the samples of a batch, and has no place among the transforms of single "
            "ones: hand it over as Freezer(..., mix=v2.MixUp(...))"
        )
    elif callable(transform):
        yield transform
    else:
        raise ArgumentError(
            "Pipeline.from_transform: expected a torchvision transform, a callable or None, got "
            f"{type(transform).__name__} {transform!r}"
        )


def _mixes(transform: Any) -> bool:
    parts = getattr(transform, "transforms", None)
    return is_mixing(transform) or (isinstance(parts, (list, tuple, torch.nn.ModuleList)) and any(map(_mixes, parts)))


def _step(transform: Any) -> Step:
    name = getattr(transform, "__name__", type(transform).__name__)
    paired = from_timm.adopt(transform) or from_torchvision.adopt(transform)
    if isinstance(paired, str):
        return Step(name, "image-only", paired, transform)
    if paired is not None:
        return Step(name, "paired", "has a form on images and one on features", transform, paired)
    if is_deterministic(transform):
        return Step(name, "deterministic", "the same for every rendition of an image", transform)
    return Step(name, "image-only", _reason(transform), transform)


def _reason(transform: Any) -> str:
    """Why a transform is image-only."""
    if _is_torchvisions(transform) or from_timm.timm_name(transform) is not None:
        reason = "random, without a form on features; run on images under a seed of each sample"
        if isinstance(transform, _MOVING) or from_timm.is_moving(transform):
            reason += "; it moves pixels too, which derived features do not follow"
        return reason
    if is_albumentations(transform):
        return "albumentations, without a form on features; its generators are seeded for each sample"
    if type(transform).__module__.split(".")[0] == "kornia":
        return "kornia, without a form on features; run on images under a seed of each sample"
    own = " and its own" if find_states(transform) else ""
    return f"{_UNKNOWN}: rendered anew each time, the global{own} random states seeded for each sample"


def _is_torchvisions(transform: Any) -> bool:
    return type(transform).__module__.startswith("torchvision.transforms") and not isinstance(
        transform, (v1.Lambda, v2.Lambda)
    )
