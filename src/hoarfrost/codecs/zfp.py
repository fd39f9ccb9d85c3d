"""The codec of zfp, by its own package.

The body of the frame is one stream of zfp, without its header.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, prod
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..errors import CodecError
from .base import Codec, register
from .bounded import Bounded
from .features import channel_range, check_features, check_shape
from .frame import squeeze, unsqueeze_parts
from .packed import Packed

__all__ = ["ZFP", "bounded_like"]

DIMENSIONS = 4
"""A stream has at most so many; the last ones of features with more are one."""

SLACK = 64
"""Bytes that a stream may have beside 40 bits a value of 32: more than zfp itself takes at most."""

USUAL_ERROR = 1 / 45
"""Root mean square of what is lost, by the tolerance's power of two, where the tolerance is small beside the features:
measured on noise, and the same at each of four tolerances (benchmarks/codecs.py)."""


@register
@dataclass(frozen=True)
class ZFP(Codec):
    """zfp in its mode of fixed accuracy (Lindstrom 2014), over blocks of 4 along each axis, the samples' too.

    `tolerance` is a bound, kept with room to spare: of each block zfp stores the bit planes of its transform down to
    the one `2 * (d + 1)` below the tolerance's power of two, d being the number of axes, so that of maps of a chunk
    (d = 4) a tolerance of 100 keeps planes from 1/16 up. What is lost then has a root mean square near a 45th of that
    power of two (1.4 for 100), or is all of the features where these are smaller than that.

    Needs the package `zfpy` (`pip install 'hoarfrost[compare]'`), to be written and to be read.

    Args:
        tolerance: largest absolute error, in the features' own unit.

    Raises:
        CodecError: `tolerance` is no number above 0; or, where bytes are made or read, the package is not there.
    """

    tolerance: float
    name: ClassVar[str] = "zfp"

    def __post_init__(self) -> None:
        told = self.tolerance
        if isinstance(told, bool) or not isinstance(told, int | float) or not isfinite(told) or told <= 0:
            raise CodecError(f"ZFP takes a tolerance above 0, in the features' own unit, not {str(told)[:40]}")
        object.__setattr__(self, "tolerance", float(told))

    @staticmethod
    def is_installed() -> bool:
        """Whether its package can be imported."""
        try:
            _package()
        except CodecError:
            return False
        return True

    def encode(self, features: Tensor, channel_axis: int = 1) -> bytes:
        features = check_features(features, channel_axis)
        channel_range(features, channel_axis)  # refuses what is not finite
        values = np.ascontiguousarray(features.to(_kind(features.dtype)).cpu().numpy())
        stream = _package().compress_numpy(
            values.reshape(_axes(values.shape)), tolerance=self.tolerance, write_header=False
        )
        return squeeze(stream)

    def unpack(self, payload: bytes, shape: Sequence[int], dtype: torch.dtype, channel_axis: int = 1) -> Packed:
        check_shape(shape, dtype, channel_axis)
        package, kind = _package(), _kind(dtype)
        most = prod(-(-side // 4) * 4 for side in _axes(shape)) * kind.itemsize * 5 // 4 + SLACK
        # zfp reads on until it has all values, whatever the stream is worth: what it may reach is ours.
        stream = bytes(unsqueeze_parts(payload, 1, most)).ljust(most, b"\0")
        try:
            code = package.type_double if kind == torch.float64 else package.type_float
            values = package._decompress(stream, code, _axes(shape), tolerance=self.tolerance)
        except (TypeError, ValueError) as error:
            raise CodecError(f"the stream of zfp of {len(stream)} bytes is damaged: {error}") from error
        found = torch.from_numpy(np.ascontiguousarray(values)).view(*shape)
        return Packed(found.to(dtype), None, None, dtype, channel_axis)

    def error_bound(self, features: Tensor, channel_axis: int = 1) -> Tensor:
        features = check_features(features, channel_axis)
        low, high = channel_range(features, channel_axis)
        largest = torch.maximum(low.abs(), high.abs()).double().cpu().max()
        eps = torch.finfo(torch.float32).eps if _kind(features.dtype) == torch.float32 else 2.0**-50
        rounding = largest * (64 * eps + torch.finfo(features.dtype).eps)
        return torch.full_like(low.double().cpu(), self.tolerance) + rounding


def bounded_like(zfp: ZFP) -> Bounded:
    """Our own linear codec with the same root mean square of what is lost, where the tolerance is small."""
    power = 2.0 ** math.floor(math.log2(zfp.tolerance))
    return Bounded(math.sqrt(3) * USUAL_ERROR * power)


def _package() -> Any:
    if "zarr" in sys.modules:
        # Both at once crash the interpreter (zfpy 1.0.1); an error can be borne.
        raise CodecError("ZFP cannot be used in a process that has imported zarr: its package crashes there")
    try:
        import zfpy
    except ImportError as error:
        raise CodecError(
            f"ZFP needs a package that is not installed ({error}): pip install 'hoarfrost[compare]'"
        ) from None
    return zfpy


def _kind(dtype: torch.dtype) -> torch.dtype:
    """What its streams hold of features of a dtype."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _axes(shape: Sequence[int]) -> tuple[int, ...]:
    return (*shape[: DIMENSIONS - 1], prod(shape[DIMENSIONS - 1 :])) if len(shape) > DIMENSIONS else tuple(shape)
