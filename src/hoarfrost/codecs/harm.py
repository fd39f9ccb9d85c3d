"""How much a codec harms what the suffix makes of the features, and the rung that follows from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import ArgumentError, CodecError
from .base import Codec
from .evaluating import evaluating
from .features import check_features
from .ladder import Ladder
from .outputs import output_of
from .task import Task
from .task_choice import task_by_shape

__all__ = ["TOLERANCE", "RungMeasure", "choose", "divergence", "measure_rungs"]

# In nats. At a mean KL divergence of 1e-3 training was unharmed in our measurements (docs: MEASURED, 4 and 3
# bits).
TOLERANCE = 1e-3

# Of a longer ladder only the rungs are tried that a bisection needs.
EVERY = 8


@dataclass(frozen=True)
class RungMeasure:
    """What one rung of a ladder does to a sample of features.

    `harm`: how far the suffix's outputs on decoded features are from those on exact ones, as `Task.divergence` says it
    in nats; infinite where the codec refused the features, and then `refused` says why. `ratio` is against float32.
    """

    index: int
    codec: Codec
    harm: float
    bytes_per_sample: float
    ratio: float
    within_tolerance: bool
    refused: str | None = None


def measure_rungs(
    suffix: Callable[[Tensor], Any],
    features: Tensor,
    ladder: Ladder,
    channel_axis: int = 1,
    tolerance: float = TOLERANCE,
    *,
    chunk_size: int = 64,
    channels_last: bool = False,
    call_with: Callable[[Tensor, int], Any] = lambda part, start: part,
    task: Task | None = None,
    above: int = -1,
) -> list[RungMeasure]:
    """What the rungs cost and harm on `features` (`[N, ...]`, a calibration sample), gentle to strong.

    Of a ladder of more than eight rungs a bisection tries those that lead to the strongest within `tolerance`, and the
    last one: harm rises from rung to rung.

    `suffix` is any callable from features to outputs: a tensor, or a mapping, tuple or object whose
    `logits` or first tensor counts. Modules are run in eval mode without gradients, and their flags
    restored. Features are encoded in chunks of `chunk_size` as the cache does, since the range of a channel
    is that of its chunk; with `channels_last` in that physical order. `call_with(part, start)` makes what the
    suffix is called with of a part that begins at row `start`, where it takes more than these features.
    `task` says how outputs are judged; None: as class scores where they are `[N, K]` with `K > 1`, else as values.
    Rungs up to number `above` are not tried.

    Raises:
        ArgumentError: the suffix gives no tensor, or outputs that are not finite on the exact features.
        NonFiniteError: as `Codec.encode`.
    """
    features = check_features(features, channel_axis)
    parts = torch.split(features, chunk_size)
    starts = range(0, len(features), chunk_size)
    dense_bytes = features[0].numel() * 4
    judged = task or _task_by_outputs(suffix, parts, starts, call_with)
    with evaluating(suffix, gradients=judged.gradients):
        exact = [_observed(judged, suffix, *rows, call_with) for rows in zip(parts, starts, strict=True)]
        if not all(bool(output.isfinite().all()) for output in exact):
            raise ArgumentError("the suffix's outputs on the exact features are not finite: harm cannot be measured")

        def measure(index: int) -> RungMeasure:
            codec, size, outputs = ladder[index], 0, []
            try:
                for part, start in zip(parts, starts, strict=True):
                    nbytes, decoded = _there_and_back(codec, part, channel_axis, channels_last)
                    size += nbytes
                    outputs.append(_observed(judged, suffix, decoded, start, call_with))
            except CodecError as error:
                return RungMeasure(index, codec, float("inf"), dense_bytes, 1.0, False, str(error))
            harm, per_sample = _harm(judged, exact, outputs), size / len(features)
            return RungMeasure(index, codec, harm, per_sample, dense_bytes / per_sample, harm <= tolerance)

        if len(ladder) <= EVERY:
            return [measure(index) for index in range(above + 1, len(ladder))]
        return _bisected(measure, above, len(ladder))


def _bisected(measure: Callable[[int], RungMeasure], above: int, count: int) -> list[RungMeasure]:
    """The rungs tried on the way to the strongest within the tolerance, and the last one; gentle to strong."""
    if above >= count - 1:
        return []
    tried = [measure(count - 1)]
    within, beyond = above, count - 1
    while beyond - within > 1 and not tried[0].within_tolerance:
        tried.append(measure((within + beyond) // 2))
        if tried[-1].within_tolerance or tried[-1].refused is not None:
            within = tried[-1].index
        else:
            beyond = tried[-1].index
    return sorted(tried, key=lambda rung: rung.index)


def choose(measures: Sequence[RungMeasure], tolerance: float = TOLERANCE, floor: int = 0) -> RungMeasure | None:
    """The strongest rung with `harm <= tolerance`, or None where no rung keeps to it.

    `floor` is the rung of the cut before: compression rises with frozen depth (Yang et al. 2025, progressive
    compression), so a rung below it is taken only where none at or above it keeps to the tolerance. The
    tolerance wins over the floor.
    """
    kept = [m for m in measures if m.harm <= tolerance]
    risen = [m for m in kept if m.index >= floor]
    return max(risen or kept, key=lambda m: m.index, default=None)


def divergence(
    suffix: Callable[[Tensor], Any],
    exact: Tensor,
    shown: Tensor,
    device: torch.device | None = None,
    task: Task | None = None,
    *,
    batch_size: int = 64,
) -> float:
    """How far the suffix's outputs on `shown` are from those on `exact` (`[N, ...]`): as `RungMeasure.harm`."""
    starts = range(0, len(exact), batch_size)

    def placed(part: Tensor, start: int) -> Tensor:
        return part.to(device)

    judged = task or _task_by_outputs(suffix, torch.split(exact, batch_size), starts, placed)
    with evaluating(suffix, gradients=judged.gradients):
        observed = [
            [
                _observed(judged, suffix, *rows, placed)
                for rows in zip(torch.split(parts, batch_size), starts, strict=True)
            ]
            for parts in (exact, shown)
        ]
    return _harm(judged, *observed)


def _task_by_outputs(
    suffix: Callable[[Any], Any],
    parts: Sequence[Tensor],
    starts: Sequence[int],
    call_with: Callable[[Tensor, int], Any],
) -> Task:
    with evaluating(suffix):
        outputs = [output_of(suffix(call_with(*rows))) for rows in zip(parts, starts, strict=True)]
    return task_by_shape(torch.cat(outputs))


def _there_and_back(codec: Codec, part: Tensor, channel_axis: int, channels_last: bool) -> tuple[int, Tensor]:
    if not channels_last:
        payload = codec.encode(part, channel_axis)
        return len(payload), codec.decode(payload, part.shape, part.dtype, channel_axis).to(part.device)
    physical = part.movedim(channel_axis, -1)
    payload = codec.encode(physical, physical.ndim - 1)
    decoded = codec.decode(payload, physical.shape, part.dtype, physical.ndim - 1)
    return len(payload), decoded.movedim(-1, channel_axis).to(part.device)


def _observed(
    task: Task, suffix: Callable[[Any], Any], part: Tensor, start: int, call_with: Callable[[Tensor, int], Any]
) -> Tensor:
    """What a task keeps of the suffix's outputs on the features of some rows."""
    rows = slice(start, start + len(part))
    if not task.gradients:
        return task.observe(suffix(call_with(part, start)), part, rows)
    leaf = part.detach().clone().requires_grad_()
    # A suffix may write into its input, which no leaf allows.
    return task.observe(suffix(call_with(leaf.clone(), start)), leaf, rows)


def _harm(task: Task, exact: Sequence[Tensor], shown: Sequence[Tensor]) -> float:
    """Rounding can bring the divergence of equal outputs a hair below zero; NaN must not pass as harmless."""
    harm = task.divergence(exact, shown)
    return max(harm, 0.0) if harm == harm else float("inf")
