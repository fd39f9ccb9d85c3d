"""Evenly spaced levels between each channel's least and largest value: what linear codecs share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import CodecError
from .features import channel_range, check_features
from .packed import along

__all__ = ["common_step", "in_float32", "quantise", "quantising_bound", "scratch", "step_of", "steps_of"]

_FLOAT = torch.finfo(torch.float32)
# Elements quantised at once: the scratch array then stays in cache.
_BLOCK = 1 << 19
# Quarters of an octave: 2 ** (-n / 4).
_QUARTERS = (1.0, 0.8408964152537145, 0.7071067811865476, 0.5946035575013605)
_THREAD = threading.local()


def in_float32(features: Tensor, channel_axis: int) -> tuple[Tensor, Tensor, Tensor]:
    """Features, least and largest value of each channel, all in float32."""
    features = check_features(features, channel_axis)
    if features.dtype == torch.float64:
        worst = torch.stack(channel_range(features, channel_axis)).abs().amax(0)
        if bool((worst > _FLOAT.max).any()):
            channel = int(worst.argmax())
            raise CodecError(
                f"channel {channel} holds {float(worst[channel]):.6g}, beyond float32 "
                f"({_FLOAT.max:.6g}), in which levels are scaled; use Exact()"
            )
    features = features.float()
    return features, *channel_range(features, channel_axis)


def step_of(low: Tensor, high: Tensor, top: int) -> Tensor:
    """`[C]` float32: the distance of two levels, where `top` is the highest.

    0 where a channel has one value, or a range too small to divide.
    """
    span = high.double() - low.double()
    step = span / top
    # top * step must not pass the largest float. A range wider than that keeps its lower part; error_bound
    # says so.
    step = step.clamp(max=_FLOAT.max * (1 - 2**-20) / top)
    near_overflow = low.double() + top * step > _FLOAT.max * (1 - 2**-20)
    step = torch.where(near_overflow, step * (1 - 2**-20), step).float()
    return _normal(step)


def common_step(
    low: Tensor, high: Tensor, levels: int, dtype: torch.dtype, finer: Sequence[int] = ()
) -> tuple[Tensor, Tensor, Tensor]:
    """What all channels' steps are made of, `[]` float32, their steps, and the highest level of each, `[C]` float32.

    The channel that needs the most levels has `levels` of them. The highest level may lie half a step above the
    channel's range, but not beyond `dtype`.

    Args:
        finer: as in `steps_of`.
    """
    limit = min(torch.finfo(dtype).max, _FLOAT.max) * (1 - 2**-20)
    span = high.double() - low.double()
    shares = torch.from_numpy(_shares(finer, len(low))).to(span)
    base = _normal(((span / shares).amax() / (levels - 1)).clamp(max=limit / (levels - 1)).float())
    step = torch.from_numpy(steps_of(float(base), finer, len(low))).to(low)
    tops = torch.where(step > 0, span / step.double(), 0.0).round().clamp(max=levels - 1)
    tops = torch.where(low.double() + tops * step > limit, (tops - 1).clamp(min=0), tops)
    return base, step, tops.float()


def steps_of(base: float, finer: Sequence[int], channels: int) -> NDArray[np.float32]:
    """`[C]`: the channels' steps, `base` for all of them, or `finer[c]` quarters of an octave finer.

    The same bits on every machine: no power is computed.
    """
    steps = (base * _shares(finer, channels)).astype("<f4")
    return np.where(steps < _FLOAT.smallest_normal, np.float32(0), steps)


def _shares(finer: Sequence[int], channels: int) -> NDArray[np.float64]:
    if not finer:
        return np.ones(channels)
    octaves, quarters = np.divmod(np.asarray(finer, np.int64), 4)
    shares: NDArray[np.float64] = np.ldexp(np.asarray(_QUARTERS)[quarters], -octaves)
    return shares


def _normal(step: Tensor) -> Tensor:
    """A subnormal step has lost its precision, and may be flushed to zero by the device that scales the levels."""
    return torch.where(step < _FLOAT.smallest_normal, torch.zeros_like(step), step)


def quantise(features: Tensor, low: Tensor, step: Tensor, top: int | Tensor, channel_axis: int) -> NDArray[np.uint8]:
    """The level of each value, one a byte, flat in C order."""
    limit = along(top + 0.5, features.ndim, channel_axis) if isinstance(top, Tensor) else top + 0.5
    low = along(low, features.ndim, channel_axis)
    steps_per_unit = along(torch.where(step > 0, 1 / step, torch.zeros_like(step)), features.ndim, channel_axis)
    if features.device.type != "cpu":
        nearest = (features - low).mul_(steps_per_unit).add_(0.5).clamp_(min=0).clamp_(max=limit)
        return nearest.to(torch.uint8).cpu().numpy().reshape(-1)
    levels: NDArray[np.uint8] = scratch("levels", features.numel(), torch.uint8).numpy().reshape(features.shape)
    rows = min(len(features), max(1, _BLOCK // features[0].numel()))
    block_scratch = scratch("block", rows * features[0].numel(), torch.float32).view(rows, *features.shape[1:])
    for start in range(0, len(features), rows):
        block = features[start : start + rows]
        nearest = torch.sub(block, low, out=block_scratch[: len(block)])
        nearest.mul_(steps_per_unit).add_(0.5).clamp_(min=0).clamp_(max=limit)
        # numpy turns floats into bytes five times faster than torch does; both cut towards zero.
        np.copyto(levels[start : start + rows], nearest.numpy(), casting="unsafe")
    return levels.reshape(-1)


def scratch(name: str, count: int, dtype: torch.dtype) -> Tensor:
    """`[count]` of a buffer that the thread keeps: fresh megabytes for each chunk cost as much as
    quantising them.
    """
    buffer: Tensor | None = getattr(_THREAD, name, None)
    if buffer is None or buffer.numel() < count:
        buffer = torch.empty(count, dtype=dtype)
        setattr(_THREAD, name, buffer)
    return buffer[:count]


def quantising_bound(
    features: Tensor, channel_axis: int, grid: Callable[[Tensor, Tensor], tuple[Tensor, int | Tensor]]
) -> Tensor:
    """`[C]` float64: the largest error of evenly spaced levels; `grid` gives step and highest level of a range."""
    original = check_features(features, channel_axis)
    exact_low, exact_high = (x.double().cpu() for x in channel_range(original, channel_axis))
    _, low32, high32 = in_float32(features, channel_axis)
    step, top = grid(low32, high32)
    scale = step.double().cpu()
    if isinstance(top, Tensor):
        top = top.cpu()
    low = low32.double().cpu()
    reach = low + top * scale
    half_step = scale / 2 * (1 + 8 * top * _FLOAT.eps)
    outside = (exact_high - reach).clamp(min=0) + (low - exact_low).clamp(min=0)
    largest = torch.stack([exact_low.abs(), exact_high.abs(), top * scale]).amax(0)
    info = torch.finfo(original.dtype)
    rounding = largest * (3 * _FLOAT.eps + info.eps) + info.smallest_normal * info.eps + _FLOAT.smallest_normal
    bound = half_step + outside + rounding
    return torch.where((exact_low == exact_high) & (low == exact_low), torch.zeros_like(bound), bound)
