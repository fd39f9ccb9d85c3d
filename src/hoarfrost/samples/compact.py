"""What is kept of samples in memory, in few bytes: exact."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors

from .places import leaves_below, mapped

__all__ = ["compacted", "is_packed", "nbytes_of", "opened"]

_LARGE = 1 << 10
"""Bytes from which whole numbers are worth packing: masks, mostly."""


class _Packed:
    """Whole numbers, deflated."""

    def __init__(self, tensor: Tensor, payload: bytes) -> None:
        self.payload = payload
        self.dtype, self.shape, self.is_mask = tensor.dtype, tuple(tensor.shape), isinstance(tensor, tv_tensors.Mask)

    def opened(self) -> Tensor:
        plain = torch.frombuffer(bytearray(zlib.decompress(self.payload)), dtype=self.dtype).reshape(self.shape)
        return tv_tensors.Mask(plain) if self.is_mask else plain


def compacted(item: Any) -> Any:
    """An item in few bytes: masks and other large whole numbers packed, and no part of a larger tensor kept alive."""
    return mapped(_compact, item)


def opened(item: Any) -> Any:
    """The item as it was."""
    return mapped(lambda leaf: leaf.opened() if isinstance(leaf, _Packed) else leaf, item)


def is_packed(item: Any) -> bool:
    """Whether `opened` has anything to do."""
    return any(isinstance(leaf, _Packed) for _, leaf in leaves_below(item))


def nbytes_of(item: Any) -> int:
    """Bytes of what a compacted item holds beside numbers and texts."""
    return sum(_nbytes(leaf) for _, leaf in leaves_below(item))


def _compact(leaf: Any) -> Any:
    if _is_one_number(leaf):
        return leaf
    if isinstance(leaf, np.ndarray):
        return leaf.copy() if leaf.base is not None else leaf
    if not isinstance(leaf, Tensor) or leaf.layout != torch.strided:
        return leaf
    whole = not leaf.is_floating_point() and not leaf.is_complex() and leaf.device.type == "cpu"
    if whole and leaf.nbytes >= _LARGE and type(leaf) in (Tensor, tv_tensors.Mask):
        plain = leaf.as_subclass(Tensor).contiguous()
        payload = zlib.compress(plain.view(-1).view(torch.uint8).numpy().tobytes(), 1)
        if len(payload) < leaf.nbytes // 2:
            return _Packed(leaf, payload)
    if leaf.untyped_storage().nbytes() > leaf.nbytes:
        return leaf.clone()
    return leaf


def _is_one_number(leaf: Any) -> bool:
    """Whether it shows one number everywhere, as what stands in for an input does."""
    if isinstance(leaf, Tensor):
        return leaf.layout == torch.strided and leaf.dim() > 0 and not any(leaf.stride())
    return isinstance(leaf, np.ndarray) and leaf.ndim > 0 and not any(leaf.strides)


def _nbytes(leaf: Any) -> int:
    if _is_one_number(leaf):
        return 0
    if isinstance(leaf, _Packed):
        return len(leaf.payload)
    return int(leaf.nbytes) if isinstance(leaf, Tensor | np.ndarray) else 0
