"""The transforms that are known to decide nothing at random, and how to run them on a whole batch."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torchvision.transforms as v1
import torchvision.transforms.functional as v1_functional
import torchvision.transforms.v2 as v2
import torchvision.transforms.v2.functional as v2_functional
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import _presets

from . import albumentations_calls, from_timm
from .batching import Batch, to_tensor

__all__ = ["Deterministic", "batched_form", "deterministic", "is_deterministic"]


class Deterministic:
    """A callable that its user declares to be free of randomness; see `deterministic`."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *items: Any, **named: Any) -> Any:
        return self.function(*items, **named)


def deterministic(function: Callable[..., Any]) -> Deterministic:
    """Declare that a function always gives the same result for the same image.

    Unknown callables (a Lambda, a function of one's own) may be random, so they are run under a seed of each
    sample and count as random. `transforms.Compose([ToTensor(), deterministic(lambda x: x.flatten())])` says
    otherwise.
    """
    return Deterministic(function)


_TYPES: tuple[type, ...] = (
    *(
        v1.ToTensor,
        v1.PILToTensor,
        v1.ToPILImage,
        v1.ConvertImageDtype,
        v1.Normalize,
        v1.Resize,
        v1.CenterCrop,
    ),
    *(v1.Pad, v1.Grayscale, v1.LinearTransformation, v1.FiveCrop, v1.TenCrop),
    *(
        v2.ToTensor,
        v2.PILToTensor,
        v2.ToPILImage,
        v2.ToImage,
        v2.ToDtype,
        v2.ConvertImageDtype,
        v2.ToPureTensor,
    ),
    *(
        v2.Normalize,
        v2.Resize,
        v2.CenterCrop,
        v2.Pad,
        v2.Grayscale,
        v2.RGB,
        v2.Identity,
        v2.LinearTransformation,
        v2.SanitizeBoundingBoxes,
        v2.ClampBoundingBoxes,
        v2.ConvertBoundingBoxFormat,
    ),
    *(v2.FiveCrop, v2.TenCrop, torch.nn.Identity, _presets.ImageClassification, Deterministic),
)
_FUNCTIONS: tuple[Callable[..., Any], ...] = (
    *(v1_functional.to_tensor, v1_functional.pil_to_tensor, v1_functional.to_pil_image),
    *(
        v1_functional.convert_image_dtype,
        v1_functional.normalize,
        v1_functional.resize,
        v1_functional.center_crop,
    ),
    *(v1_functional.pad, v1_functional.to_grayscale, v1_functional.rgb_to_grayscale, v1_functional.hflip),
    *(v1_functional.vflip, v2_functional.to_image, v2_functional.to_dtype, v2_functional.normalize),
    *(v2_functional.resize, v2_functional.center_crop, v2_functional.pad, v2_functional.horizontal_flip),
    *(v2_functional.vertical_flip, torch.from_numpy, torch.as_tensor, np.asarray, np.array),
)
# Transforms that treat every pixel alone or only move pixels: a batch gives the bits of its single images.
# Resizing and mixing channels is left out, since vectorised kernels may round their remainders differently.
_PIXELWISE: tuple[type, ...] = (
    *(v1.ConvertImageDtype, v1.Normalize, v1.CenterCrop),
    *(v2.ConvertImageDtype, v2.ToDtype, v2.Normalize, v2.CenterCrop, v2.ToPureTensor),
)
_TENSORS = ("tensor", "image")

Batched = Callable[[Batch], Batch]


def is_deterministic(transform: object) -> bool:
    """Whether a transform is of a type, or a function, that is known to be free of randomness."""
    if isinstance(transform, functools.partial):
        return is_deterministic(transform.func) and transform.func not in _TYPES
    if from_timm.is_deterministic(transform):
        return True
    if albumentations_calls.is_albumentations(transform):
        return albumentations_calls.is_deterministic(transform)
    return type(transform) in _TYPES or any(transform is function for function in _FUNCTIONS)


def batched_form(transform: Any, kind: str) -> Batched | None:
    """How a transform runs on a batch of this kind, with the bits of single images; None: one by one."""
    exact = type(transform)
    if exact in (torch.nn.Identity, v2.Identity):
        return lambda batch: batch
    timms = from_timm.timm_name(transform)
    if timms in ("MaybeToTensor", "MaybePILToTensor") and kind in _TENSORS:
        return lambda batch: batch
    if timms == "MaybePILToTensor":
        return (lambda batch: Batch(batch.tensor, "tensor")) if kind == "pil" else None
    if timms == "MaybeToTensor" or exact in (v1.ToTensor, v2.ToTensor) or transform is v1_functional.to_tensor:
        return to_tensor if kind in ("pil", "numpy") else None
    if exact in (v1.PILToTensor, v2.PILToTensor) or transform is v1_functional.pil_to_tensor:
        return (lambda batch: Batch(batch.tensor, "tensor")) if kind == "pil" else None
    if exact is v2.ToImage or transform is v2_functional.to_image:
        return lambda batch: Batch(batch.tensor, "image")
    if exact in _PIXELWISE and (kind in _TENSORS or (kind == "pil" and exact in (v1.CenterCrop, v2.CenterCrop))):
        return functools.partial(_run, transform)
    return None


def _run(transform: Callable[[Any], Any], batch: Batch) -> Batch:
    # CenterCrop is run on the pixels of PIL images too: on these, both its forms copy or fill with 0.
    given = tv_tensors.Image(batch.tensor) if batch.kind == "image" else batch.tensor
    result: Tensor = transform(given)
    if batch.kind == "pil":
        return batch.with_tensor(result)
    return Batch(result.as_subclass(Tensor), "image" if isinstance(result, tv_tensors.Image) else "tensor")
