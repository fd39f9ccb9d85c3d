"""A codec of padded features that stores no padding: what is measured of samples of differing lengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..codecs import Codec, Packed

__all__ = ["Unpadded"]


@dataclass(frozen=True)
class Unpadded(Codec):
    """Stores the entries [m, ...] of features [n, L, ...] that are not all zeros, as padding is, by another codec.

    For calibration alone: caches hold entries, and know whose they are. Which entries there are goes in front of the
    bytes, a bit each.
    """

    inner: Codec
    name = "unpadded"

    def encode(self, features: Tensor, channel_axis: int = 1) -> bytes:
        """As `Codec.encode`."""
        entries = features.flatten(0, 1)
        there = entries.flatten(1).ne(0).any(1)
        there[0] |= not there.any()  # no codec takes nothing
        codec = self._codec(there, len(features))
        return np.packbits(there.numpy(force=True)).tobytes() + codec.encode(entries[there], channel_axis - 1)

    def unpack(self, payload: bytes, shape: Sequence[int], dtype: torch.dtype, channel_axis: int = 1) -> Packed:
        """As `Codec.unpack`; floats."""
        count = shape[0] * shape[1]
        there = torch.from_numpy(np.unpackbits(np.frombuffer(payload, np.uint8, -(-count // 8)), count=count)).bool()
        entries = torch.zeros(count, *shape[2:], dtype=dtype)
        stored, codec = (int(there.sum()), *shape[2:]), self._codec(there, shape[0])
        entries[there] = codec.decode(payload[-(-count // 8) :], stored, dtype, channel_axis - 1)
        return Packed(entries.view(*shape), None, None, dtype, channel_axis)

    def error_bound(self, features: Tensor, channel_axis: int = 1) -> Tensor:
        """As `Codec.error_bound`."""
        return self.inner.error_bound(features.flatten(0, 1), channel_axis - 1)

    def _codec(self, there: Tensor, samples: int) -> Codec:
        """The other codec, told how many entries each of the samples has."""
        return self.inner.for_lengths(there.view(samples, -1).sum(1).tolist())
