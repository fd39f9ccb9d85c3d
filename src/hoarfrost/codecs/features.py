"""What codecs ask of features before they take them: a float array, not empty, finite, with a channel
axis.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import CodecError, NonFiniteError

__all__ = [
    "FLOAT_DTYPES",
    "array_bytes",
    "channel_range",
    "check_features",
    "check_shape",
    "find_non_finite",
    "way_out",
]

FLOAT_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_BLOCK = 1 << 18


def check_shape(shape: Sequence[int], dtype: torch.dtype, channel_axis: int, *, any_dtype: bool = False) -> None:
    """Raises `CodecError` for what is not a batch of features with a channel axis behind the batch axis."""
    if dtype not in FLOAT_DTYPES and not any_dtype:
        raise CodecError(f"codecs take float16, bfloat16, float32 or float64 features, not {dtype}")
    if not 1 <= channel_axis < len(shape):
        raise CodecError(f"channel_axis {channel_axis} is no axis behind the batch axis of shape {tuple(shape)}")
    if 0 in shape:
        raise CodecError(f"features of shape {tuple(shape)} are empty")


def check_features(features: Tensor, channel_axis: int, *, any_dtype: bool = False) -> Tensor:
    """`features`, detached; raises `CodecError` as `check_shape` does."""
    check_shape(features.shape, features.dtype, channel_axis, any_dtype=any_dtype)
    return features.detach()


def channel_range(features: Tensor, channel_axis: int) -> tuple[Tensor, Tensor]:
    """The least and the largest value of each channel: `[C]` and `[C]`, in the features' dtype.

    Raises:
        NonFiniteError: NaN or infinity anywhere; both show in the extremes, so that no pass of its own is
            needed.
    """
    dims = [axis for axis in range(features.ndim) if axis != channel_axis]
    # Part by part, so that the second look at a part still finds it in the processor's cache.
    rows = max(1, _BLOCK // max(1, features[0].numel())) if features.device.type == "cpu" else len(features)
    parts = [features[start : start + rows] for start in range(0, len(features), rows)]
    extremes = [torch.stack([part.amin(dims), part.amax(dims)]) for part in parts]
    low, high = torch.stack([low for low, _ in extremes]).amin(0), torch.stack([high for _, high in extremes]).amax(0)
    if not bool((low.isfinite() & high.isfinite()).all()):
        row, channel, value = find_non_finite(features, channel_axis) or (0, 0, float("nan"))
        raise NonFiniteError(
            f"features must be finite: sample row {row}, channel {channel} holds {value}; {way_out(features)}"
        )
    return low, high


def find_non_finite(features: Tensor, channel_axis: int) -> tuple[int, int, float] | None:
    """Row, channel and value of the first NaN or infinity, or None."""
    places = (~features.isfinite()).nonzero()
    if not len(places):
        return None
    first = places[0].tolist()
    return first[0], first[channel_axis], float(features[tuple(first)])


def way_out(features: Tensor) -> str:
    """What to do about features that are not finite."""
    if features.dtype == torch.float16:
        return "float16 ends at 65504, and the front goes beyond, it seems: bf16 reaches as far as float32"
    return "lower the learning rate or the loss scale, or look for a division by zero in front of the cut"


def array_bytes(values: Tensor) -> memoryview:
    """The raw bytes of a tensor in C order, whatever its device, dtype or strides."""
    flat = values.detach().cpu().contiguous().reshape(-1)
    array: NDArray[np.uint8] = flat.view(torch.uint8).numpy()
    return array.data
