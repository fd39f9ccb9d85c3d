"""The rung of the ladder that a tensor is stored with: what each does and takes, and which one is picked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from ..codecs import Ladder, Linear, RungMeasure, Task, choose, measure_rungs
from ..codecs.features import find_non_finite, way_out
from ..errors import CodecError, NonFiniteError
from .calibration_sample import CalibrationSample
from .channel_weights import channel_weights
from .unpadded import Unpadded

__all__ = ["check_finite", "pick", "rungs_of"]

FIRST = Linear(8)
"""What first tokens are stored with where they stand apart. One token kept exactly takes 9 to 18 % of all bytes more,
for a harm within the same tolerance (docs: Benchmarks, First tokens apart)."""


def rungs_of(
    number: int,
    sample: CalibrationSample,
    suffix: nn.Module,
    ladder: Ladder,
    tolerance: float,
    task: Task,
    *,
    first_tokens: bool = True,
) -> list[RungMeasure]:
    """Each rung's harm and bytes for one of the tensors that cross, the others exact.

    Bits are spent on the channels whose errors harm the outputs, where that takes fewer bytes than to spend them on all
    alike: seldom many, and in small networks not always. The first tokens of each sample stand apart where that takes
    fewer bytes still. A ladder of one rung is taken at its word.

    Args:
        first_tokens: whether that is tried.
    """
    spec, features, axis = sample.specs[number], sample.tensors[number], sample.channel_axis(number)

    def call_with(part: Tensor, start: int) -> Any:
        return sample.call_with(part, start, number)

    def measured(ladder: Ladder, above: int = -1) -> list[RungMeasure]:
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
            above=above,
        )
        return [_of_entries(rung, sample, number) for rung in found] if spec.ragged else found

    best = measured(ladder)
    if len(ladder) == 1:
        return best
    weights = None
    if any(rung.weighable for rung in ladder):
        weights = channel_weights(suffix, features, axis, call_with=call_with, task=task)
    if weights is not None:
        weighted = ladder.weighted(weights)
        best, ladder = min(((best, ladder), (measured(weighted), weighted)), key=lambda pair: _cost(pair[0], tolerance))
    apart = ladder.apart(sample.first_tokens(number), FIRST) if first_tokens else ladder
    if apart == ladder:
        return best
    # What is kept apart takes bytes, so that only a stronger rung can take fewer.
    chosen = choose(best, tolerance)
    return min(best, measured(apart, -1 if chosen is None else chosen.index), key=lambda rungs: _cost(rungs, tolerance))


def _of_entries(rung: RungMeasure, sample: CalibrationSample, number: int) -> RungMeasure:
    """The harm that was measured of padded features, and the bytes of a cache that holds none of the padding."""
    spec, codec = sample.specs[number], rung.codec.inner if isinstance(rung.codec, Unpadded) else rung.codec
    dense = spec.dense_nbytes / spec.samples
    if rung.refused is not None:
        return replace(rung, codec=codec, bytes_per_sample=dense)
    try:
        nbytes = sample.mean_bytes(number, codec)
    except CodecError as error:
        return replace(
            rung, codec=codec, harm=math.inf, bytes_per_sample=dense, within_tolerance=False, refused=str(error)
        )
    nbytes = rung.bytes_per_sample if nbytes is None else nbytes
    return replace(rung, codec=codec, bytes_per_sample=nbytes, ratio=dense / nbytes)


def _cost(rungs: Sequence[RungMeasure], tolerance: float) -> tuple[float, float]:
    """The bytes of a sample within the tolerance; where there are none within it, the least harm."""
    chosen = choose(rungs, tolerance)
    if chosen is not None:
        return chosen.bytes_per_sample, 0.0
    return math.inf, min((rung.harm for rung in rungs), default=math.inf)


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
