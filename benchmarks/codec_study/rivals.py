"""ZFP and SZ3 as codecs: what other libraries for arrays of floats make of the same features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from hoarfrost.codecs import Codec, Packed


@dataclass(frozen=True)
class _Bounded(Codec):
    """An absolute error, given as a share of the chunk's standard deviation; float32, channel by channel."""

    share: float

    def encode(self, features: Tensor, channel_axis: int = 1) -> bytes:
        values = features.float().contiguous().numpy()
        tolerance = float(self.share * values.std())
        return self.squeeze(values.reshape(-1, *values.shape[-2:]) if values.ndim == 4 else values, tolerance)

    def unpack(self, payload: bytes, shape: Sequence[int], dtype: torch.dtype, channel_axis: int = 1) -> Packed:
        flat = (shape[0] * shape[1], *shape[2:]) if len(shape) == 4 else tuple(shape)
        values = torch.from_numpy(self.unsqueeze(payload, flat)).view(*shape)
        return Packed(values, None, None, dtype, channel_axis)

    def error_bound(self, features: Tensor, channel_axis: int = 1) -> Tensor:
        tolerance = self.share * float(features.float().numpy().std())
        return torch.full((features.shape[channel_axis],), tolerance, dtype=torch.float64)

    def squeeze(self, values: np.ndarray, tolerance: float) -> bytes:
        raise NotImplementedError

    def unsqueeze(self, payload: bytes, shape: tuple[int, ...]) -> np.ndarray:
        raise NotImplementedError


@dataclass(frozen=True)
class Zfp(_Bounded):
    """ZFP in its mode of fixed accuracy; blocks of 4 x 4 pixels of one channel."""

    name: ClassVar[str] = "zfp"

    def squeeze(self, values: np.ndarray, tolerance: float) -> bytes:
        import zfpy

        return bytes(zfpy.compress_numpy(values, tolerance=tolerance))

    def unsqueeze(self, payload: bytes, shape: tuple[int, ...]) -> np.ndarray:
        import zfpy

        return zfpy.decompress_numpy(payload)


@dataclass(frozen=True)
class Sz3(_Bounded):
    """SZ3 with an absolute error bound, without prediction: on these features its predictors lose."""

    name: ClassVar[str] = "sz3"

    def squeeze(self, values: np.ndarray, tolerance: float) -> bytes:
        from pysz import sz, szAlgorithm, szConfig, szErrorBoundMode

        config = szConfig()
        config.cmprAlgo = szAlgorithm.NOPRED
        config.errorBoundMode, config.absErrorBound = szErrorBoundMode.ABS, tolerance
        return bytes(sz.compress(values, config)[0])

    def unsqueeze(self, payload: bytes, shape: tuple[int, ...]) -> np.ndarray:
        from pysz import sz

        return sz.decompress(np.frombuffer(payload, np.uint8), np.float32, shape)[0]
