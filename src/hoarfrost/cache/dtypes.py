"""How a dtype is written to disk, and read again."""

from __future__ import annotations

import re

import torch

from ..errors import ArgumentError

__all__ = ["dtype_named", "name_of"]


_PLAIN = re.compile("bool|u?int(8|16|32|64)|b?float(16|32|64)|float8_[a-z0-9]+|complex(64|128)")


def name_of(dtype: torch.dtype) -> str:
    """`float32` for `torch.float32`: how a dtype is written to disk."""
    return str(dtype).removeprefix("torch.")


def dtype_named(name: str) -> torch.dtype:
    """The inverse of `name_of`; raises `ArgumentError` for what is no dtype of plain numbers."""
    dtype = getattr(torch, name, None) if isinstance(name, str) else None
    if not isinstance(dtype, torch.dtype) or not _PLAIN.fullmatch(name):
        raise ArgumentError(f"{name!r} is no dtype of torch that tensors are stored in")
    return dtype
