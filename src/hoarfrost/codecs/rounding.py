"""Features rounded to a narrower float: what the two 16 bit codecs share."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from ..errors import CodecError
from .features import array_bytes, channel_range, check_features, check_shape
from .frame import squeeze, unsqueeze
from .packed import Packed

__all__ = ["encode_as", "rounding_bound", "unpack_as"]


def encode_as(stored: torch.dtype, features: Tensor, channel_axis: int) -> bytes:
    """`features` as `stored` in a frame.

    Raises:
        CodecError: a value would come back as infinity; names the channel.
        NonFiniteError: as `channel_range`.
    """
    features = check_features(features, channel_axis)
    extremes = torch.stack(channel_range(features, channel_axis))
    # Rounding is monotone: if the extremes come back finite, so does all between. The way back counts too,
    # since bfloat16 rounds the largest float16 up to what float16 cannot hold.
    returned = extremes.to(stored).to(features.dtype)
    if not bool(returned.isfinite().all()):
        side, channel = (~returned.isfinite()).nonzero()[0].tolist()
        limit = min(torch.finfo(stored).max, torch.finfo(features.dtype).max)
        raise CodecError(
            f"channel {channel} holds {float(extremes[side, channel]):.6g}, which {stored} cannot give back as "
            f"{features.dtype} (limit about {limit:.6g}); use Linear(8) or Exact()"
        )
    return squeeze(array_bytes(features.to(stored)))


def unpack_as(
    stored: torch.dtype, payload: bytes, shape: Sequence[int], dtype: torch.dtype, channel_axis: int
) -> Packed:
    check_shape(shape, dtype, channel_axis)
    body = unsqueeze(payload, prod(shape) * stored.itemsize)
    return Packed(torch.frombuffer(body, dtype=stored).view(*shape), None, None, dtype, channel_axis)


def rounding_bound(stored: torch.dtype, features: Tensor, channel_axis: int) -> Tensor:
    """`[C]`: half a step of `stored`, and half a step of the features' dtype on the way back where it is
    coarser.
    """
    features = check_features(features, channel_axis)
    low, high = channel_range(features, channel_axis)
    largest = torch.maximum(low.abs(), high.abs()).double().cpu()
    bound = torch.zeros_like(largest)
    if features.dtype == stored:
        return bound
    # Whole steps relative to the value, not halves: torch rounds float64 twice on its way to 16 bits.
    for dtype in (stored, features.dtype):
        info = torch.finfo(dtype)
        bound += largest * info.eps + info.smallest_normal * info.eps
    return bound
