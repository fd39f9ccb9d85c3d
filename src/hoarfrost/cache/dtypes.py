"""How a dtype is written to disk, and read again."""

from __future__ import annotations

import torch

from ..errors import ArgumentError

__all__ = ["dtype_named", "name_of"]


def name_of(dtype: torch.dtype) -> str:
    """`float32` for `torch.float32`: how a dtype is written to disk."""
    return str(dtype).removeprefix("torch.")


def dtype_named(name: str) -> torch.dtype:
    """The inverse of `name_of`; raises `ArgumentError` for what is no dtype."""
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise ArgumentError(f"{name!r} is no dtype of torch")
    return dtype
