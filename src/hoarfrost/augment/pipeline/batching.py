"""Images as a list of the objects the data set gave, or as one tensor that remembers what they were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import functional

from ...errors import DataError, ImageShapeError

__all__ = ["Batch", "as_tensor", "check_alike", "image_size", "kind_of", "stack", "to_tensor", "unstack"]

# Modes whose pixels are plain uint8 channels; palettes, bitmaps and wide modes go one by one.
_PIL_MODES = ("L", "RGB", "RGBA", "CMYK")


@dataclass(frozen=True, eq=False)
class Batch:
    """[B, C, H, W] (or any equal shapes, stacked), and what a user's transform would hold at this point.

    Attributes:
        tensor: the values.
        kind: "pil", "numpy", "tensor" or "image" (torchvision's tv_tensors.Image).
        mode: the PIL mode, "HW" or "HWC" for numpy, else empty.
    """

    tensor: Tensor
    kind: str
    mode: str = ""

    def with_tensor(self, tensor: Tensor) -> Batch:
        return Batch(tensor, self.kind, self.mode)


def kind_of(item: Any) -> str:
    """The kind of one image, as `Batch.kind`; "other" for what is no image."""
    if isinstance(item, Image.Image):
        return "pil"
    if isinstance(item, tv_tensors.Image):
        return "image"
    if isinstance(item, Tensor):
        return "tensor" if type(item) in (Tensor, torch.nn.Parameter) else "other"
    return "numpy" if isinstance(item, np.ndarray) else "other"


def stack(items: Sequence[Any]) -> Batch | None:
    """The items as one batch, bit for bit; None where they differ in type, mode or size."""
    if not items:
        return None
    first, kind = items[0], kind_of(items[0])
    if any(type(item) is not type(first) for item in items):
        return None
    if kind == "pil":
        if first.mode not in _PIL_MODES or any(i.mode != first.mode or i.size != first.size for i in items):
            return None
        pixels = torch.from_numpy(np.stack([np.asarray(item) for item in items]))
        return Batch(pixels[:, None] if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2), kind, first.mode)
    if kind in ("tensor", "image"):
        if any(item.shape != first.shape or item.dtype != first.dtype for item in items):
            return None
        stacked = torch.stack([item.as_subclass(Tensor) for item in items])
        return Batch(stacked, kind)
    if kind == "numpy":
        if not _is_image(first) or any(i.shape != first.shape or i.dtype != first.dtype for i in items):
            return None
        pixels = torch.from_numpy(np.stack(items))
        if first.ndim == 2:
            return Batch(pixels[:, None], kind, "HW")
        return Batch(pixels.permute(0, 3, 1, 2), kind, "HWC")
    return None


def unstack(batch: Batch | Sequence[Any]) -> list[Any]:
    """The single images, of the type that the user's own transform would hold here."""
    if not isinstance(batch, Batch):
        return list(batch)
    if batch.kind == "tensor":
        return list(batch.tensor.unbind())
    if batch.kind == "image":
        return [tv_tensors.Image(image) for image in batch.tensor.unbind()]
    grey = batch.mode in ("L", "HW")
    arrays = (batch.tensor[:, 0] if grey else batch.tensor.permute(0, 2, 3, 1)).contiguous().numpy()
    if batch.kind == "numpy":
        return list(arrays)
    height, width = batch.tensor.shape[2:]
    return [Image.frombytes(batch.mode, (width, height), array.tobytes()) for array in arrays]


def to_tensor(batch: Batch) -> Batch:
    """What torchvision's ToTensor makes of PIL images and arrays, for the whole batch at once."""
    pixels = batch.tensor.contiguous()
    if pixels.dtype == torch.uint8:
        pixels = pixels.to(torch.get_default_dtype()).div_(255)
    return Batch(pixels, "tensor")


def as_tensor(held: Batch | Sequence[Any], ids: Sequence[int]) -> Tensor:
    """[B, ...] from what the last step gave; PIL images and arrays become floats as by ToTensor.

    Raises:
        DataError: something that is no image and no tensor.
        ImageShapeError: sizes or channels that differ.
    """
    batch = held if isinstance(held, Batch) else stack(held)
    if batch is not None:
        return batch.tensor if batch.kind in ("tensor", "image") else to_tensor(batch).tensor
    single = [_tensor(item, sample) for item, sample in zip(unstack(held), ids, strict=True)]
    check_alike(single, ids)
    return torch.stack(single)


def check_alike(tensors: Sequence[Tensor], ids: Sequence[int]) -> None:
    """Raise unless all tensors can be stacked without a change; the error names two samples.

    Raises:
        ImageShapeError: shapes that differ.
        DataError: dtypes that differ.
    """
    for tensor, sample in zip(tensors, ids, strict=True):
        if tensor.shape != tensors[0].shape:
            raise _differing(tensors[0].shape, ids[0], tensor.shape, sample)
        if tensor.dtype != tensors[0].dtype:
            raise DataError(
                f"render: sample {ids[0]} is {tensors[0].dtype} and sample {sample} is {tensor.dtype} "
                "after the transform; add v2.ToDtype(torch.float32, scale=True)"
            )


def image_size(item: Any) -> tuple[int, int]:
    """(height, width) of one raw image.

    Raises:
        DataError: neither a PIL image, nor a tensor [..., H, W], nor an array [H, W] or [H, W, C].
    """
    kind = kind_of(item)
    if kind == "pil":
        return (item.height, item.width)
    if kind in ("tensor", "image") and item.ndim >= 2:
        return (int(item.shape[-2]), int(item.shape[-1]))
    if kind == "numpy" and _is_image(item):
        return (int(item.shape[0]), int(item.shape[1]))
    raise DataError(
        f"image_size: {_what(item)} is not an image; expected PIL, a tensor [C, H, W] or an array [H, W, C]"
    )


def _tensor(item: Any, sample: int) -> Tensor:
    kind = kind_of(item)
    if kind == "pil" or (kind == "numpy" and _is_image(item)):
        pixels: Tensor = functional.to_tensor(item)
        return pixels
    if isinstance(item, Tensor):
        return item.as_subclass(Tensor)
    if kind == "numpy":
        return torch.as_tensor(item)
    raise DataError(
        f"render: sample {sample} is {_what(item)} after the transform; it must be one image or tensor. "
        "If the data set gives several things for a sample, hand over the image alone"
    )


def _is_image(array: np.ndarray[Any, Any]) -> bool:
    grey = array.ndim == 2 and array.dtype == np.uint8
    return grey or (array.ndim == 3 and array.shape[2] in (1, 3, 4))


def _differing(one: torch.Size, one_id: int, other: torch.Size, other_id: int) -> ImageShapeError:
    if len(one) == len(other) == 3 and one[1:] == other[1:]:
        remedy = f"convert all images to the same {one[0]} channels, with v2.RGB() or Grayscale({one[0]})"
    else:
        remedy = (
            "add Resize((height, width)) or RandomResizedCrop(size) to the transform; where boxes or masks go with the "
            "image, resize both in the data set"
        )
    return ImageShapeError(
        f"render: images of a batch must have one size, but sample {one_id} is {_shape(one)} and "
        f"sample {other_id} is {_shape(other)} after the transform; {remedy}"
    )


def _shape(shape: torch.Size) -> str:
    if len(shape) == 3:
        return f"{shape[1]}x{shape[2]} with {shape[0]} channel{'s' if shape[0] != 1 else ''}"
    return f"of shape {list(shape)}"


def _what(item: Any) -> str:
    shape = getattr(item, "shape", None)
    return f"a {type(item).__name__}" + (f" of shape {list(shape)}" if shape is not None else "")
