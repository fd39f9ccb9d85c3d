"""Items on their way from a worker process."""

from __future__ import annotations

import io
import pickle
from typing import Any

import torch
from torch import Tensor

__all__ = ["Parcel"]


class Parcel:
    """Items as bytes. Sent as they are, each tensor would hold a piece of shared memory, and an open file, as long as
    it is kept: some thousand samples use up what a process may open."""

    def __init__(self, items: list[Any]) -> None:
        buffer = io.BytesIO()
        _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(items)
        self._packed = buffer.getvalue()

    def opened(self) -> list[Any]:
        """The items."""
        items: list[Any] = pickle.loads(self._packed)
        return items


def _shown(value: Any, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    return torch.full((), value, dtype=dtype).expand(shape)


class _Pickler(pickle.Pickler):
    """Plain tensors by way of numpy: quick, and of a view no more than what it shows."""

    def reducer_override(self, thing: Any) -> Any:
        if type(thing) is not Tensor or thing.requires_grad or thing.is_conj() or thing.is_neg():
            return NotImplemented
        if thing.dim() and thing.numel() and not any(thing.stride()):  # one number, shown everywhere
            return _shown, (thing[(0,) * thing.dim()].item(), thing.dtype, tuple(thing.shape))
        try:
            return torch.from_numpy, (thing.numpy(),)
        except (TypeError, RuntimeError):  # a kind that numpy lacks: bfloat16, sparse
            return NotImplemented
