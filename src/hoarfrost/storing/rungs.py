"""The rung of the ladder that a tensor is stored with: what each does and takes, and which one is picked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from ..cache import CacheSpec
from ..codecs import Ladder, RungMeasure, Task, choose, measure_rungs
from ..codecs.features import find_non_finite, way_out
from ..errors import CodecError, NonFiniteError
from .calibration_sample import CalibrationSample
from .channel_weights import channel_weights
from .unpadded import Unpadded

__all__ = ["check_finite", "pick", "rungs_of"]


def rungs_of(
    number: int, sample: CalibrationSample, suffix: nn.Module, ladder: Ladder, tolerance: float, task: Task
) -> list[RungMeasure]:
    """Each rung's harm and bytes for one of the tensors that cross, the others exact.

    Bits are spent on the channels whose errors harm the outputs, where that takes fewer bytes than to spend them on all
    alike: seldom many, and in small networks not always. A ladder of one rung is taken at its word.
    """
    spec, features, axis = sample.specs[number], sample.tensors[number], sample.channel_axis(number)

    def call_with(part: Tensor, start: int) -> Any:
        return sample.call_with(part, start, number)

    def measured(ladder: Ladder) -> list[RungMeasure]:
        tried = Ladder([Unpadded(rung) for rung in ladder]) if spec.ragged else ladder
        found = measure_rungs(
            suffix,
            features,
            tried,
            channel_axis=axis,
            tolerance=tolerance,
            chunk_size=spec.chunk_size,
            channels_last=spec.channels_last,
            call_with=call_with,
            task=task,
        )
        return [_of_entries(rung, spec, sample.share[1]) for rung in found] if spec.ragged else found

    alike = measured(ladder)
    if len(ladder) == 1 or not any(rung.weighable for rung in ladder):
        return alike
    weights = channel_weights(suffix, features, axis, call_with=call_with, task=task)
    if weights is None:
        return alike
    return min(alike, measured(ladder.weighted(weights)), key=lambda rungs: _least_bytes(rungs, tolerance))


def _of_entries(rung: RungMeasure, spec: CacheSpec, share: float) -> RungMeasure:
    """What was measured of padded features, of a cache that holds none of the padding, for all samples."""
    codec = rung.codec.inner if isinstance(rung.codec, Unpadded) else rung.codec
    dense, nbytes = spec.dense_nbytes / spec.samples, rung.bytes_per_sample * share
    if rung.refused is not None:
        return replace(rung, codec=codec, bytes_per_sample=dense)
    return replace(rung, codec=codec, bytes_per_sample=nbytes, ratio=dense / nbytes)


def _least_bytes(rungs: Sequence[RungMeasure], tolerance: float) -> float:
    """Of a sample within the tolerance."""
    chosen = choose(rungs, tolerance)
    return math.inf if chosen is None else chosen.bytes_per_sample


def pick(rungs: Sequence[RungMeasure], tolerance: float, floor: int) -> RungMeasure:
    """The strongest rung that keeps to the tolerance; a ladder of one rung is taken at its word.

    Where no rung of a longer ladder does, the gentlest is taken that was not refused.

    Raises:
        CodecError: every rung refused the features.
    """
    chosen = rungs[0] if len(rungs) == 1 else choose(rungs, tolerance, floor)
    if chosen is None:
        chosen = min(rungs, key=lambda rung: (rung.harm, rung.index))
    if chosen.refused is not None:
        raise CodecError(f"no rung of the ladder takes these features: {chosen.refused}")
    return chosen


def check_finite(features: Tensor, channel_axis: int, ids: Tensor, label: str) -> None:
    """Raise NonFiniteError for the first NaN or infinity in `features` [n, ...] of a cut, whose samples are `ids`."""
    place = find_non_finite(features, channel_axis)
    if place is not None:
        row, channel, value = place
        raise NonFiniteError(
            f"features must be finite: sample {int(ids[row])}, channel {channel} holds {value} at cut {label!r}; "
            f"{way_out(features)}"
        )
