"""How much a codec harms what the suffix makes of the features, and the rung that follows from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import ArgumentError, CodecError
from .base import Codec
from .evaluating import evaluating
from .features import check_features
from .ladder import Ladder

__all__ = ["TOLERANCE", "RungMeasure", "choose", "divergence", "measure_rungs", "output_of"]

# Mean KL divergence in nats. At 1e-3 training was unharmed in our measurements (docs: MEASURED, 4 and 3
# bits).
TOLERANCE = 1e-3

# Of a longer ladder only the rungs are tried that a bisection needs.
EVERY = 8


@dataclass(frozen=True)
class RungMeasure:
    """What one rung of a ladder does to a sample of features.

    `harm`: mean KL divergence (nats) of the suffix's softmax outputs from exact to decoded features where
    these are `[N, K]` with `K > 1`, else the relative error of the outputs; infinite where the codec
    refused the features, and then `refused` says why. `ratio` is against float32.
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
) -> list[RungMeasure]:
    """What the rungs cost and harm on `features` (`[N, ...]`, a calibration sample), gentle to strong.

    Of a ladder of more than eight rungs a bisection tries those that lead to the strongest within `tolerance`, and the
    last one: harm rises from rung to rung.

    `suffix` is any callable from features to outputs: a tensor, or a mapping, tuple or object whose
    `logits` or first tensor counts. Modules are run in eval mode without gradients, and their flags
    restored. Features are encoded in chunks of `chunk_size` as the cache does, since the range of a channel
    is that of its chunk; with `channels_last` in that physical order. `call_with(part, start)` makes what the
    suffix is called with of a part that begins at row `start`, where it takes more than these features.

    Raises:
        ArgumentError: the suffix gives no tensor, or outputs that are not finite on the exact features.
        NonFiniteError: as `Codec.encode`.
    """
    features = check_features(features, channel_axis)
    parts = torch.split(features, chunk_size)
    starts = range(0, len(features), chunk_size)
    dense_bytes = features[0].numel() * 4
    with evaluating(suffix):
        exact = [output_of(suffix(call_with(part, start))) for part, start in zip(parts, starts, strict=True)]
        if not all(bool(output.isfinite().all()) for output in exact):
            raise ArgumentError("the suffix's outputs on the exact features are not finite: harm cannot be measured")

        def measure(index: int) -> RungMeasure:
            codec, size, outputs = ladder[index], 0, []
            try:
                for part, start in zip(parts, starts, strict=True):
                    nbytes, decoded = _there_and_back(codec, part, channel_axis, channels_last)
                    size += nbytes
                    outputs.append(output_of(suffix(call_with(decoded, start))))
            except CodecError as error:
                return RungMeasure(index, codec, float("inf"), dense_bytes, 1.0, False, str(error))
            harm, per_sample = _divergence(torch.cat(exact), torch.cat(outputs)), size / len(features)
            return RungMeasure(index, codec, harm, per_sample, dense_bytes / per_sample, harm <= tolerance)

        if len(ladder) <= EVERY:
            return [measure(index) for index in range(len(ladder))]
        return _bisected(measure, len(ladder))


def _bisected(measure: Callable[[int], RungMeasure], count: int) -> list[RungMeasure]:
    """The rungs tried on the way to the strongest within the tolerance, and the last one; gentle to strong."""
    tried = [measure(count - 1)]
    within, beyond = -1, count - 1
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
    *,
    batch_size: int = 64,
) -> float:
    """How far the suffix's outputs on `shown` are from those on `exact` (`[N, ...]`): as `RungMeasure.harm`."""
    with evaluating(suffix):
        outputs = [
            torch.cat([output_of(suffix(part.to(device))) for part in torch.split(features, batch_size)])
            for features in (exact, shown)
        ]
    return _divergence(*outputs)


def _there_and_back(codec: Codec, part: Tensor, channel_axis: int, channels_last: bool) -> tuple[int, Tensor]:
    if not channels_last:
        payload = codec.encode(part, channel_axis)
        return len(payload), codec.decode(payload, part.shape, part.dtype, channel_axis).to(part.device)
    physical = part.movedim(channel_axis, -1)
    payload = codec.encode(physical, physical.ndim - 1)
    decoded = codec.decode(payload, physical.shape, part.dtype, physical.ndim - 1)
    return len(payload), decoded.movedim(-1, channel_axis).to(part.device)


def _divergence(exact: Tensor, decoded: Tensor) -> float:
    exact, decoded = exact.double(), decoded.double()
    if exact.ndim == 2 and exact.shape[1] > 1:
        log_p, log_q = exact.log_softmax(1), decoded.log_softmax(1)
        harm = float((log_p.exp() * (log_p - log_q)).sum(1).mean())
    else:
        harm = float((decoded - exact).norm() / exact.norm().clamp(min=torch.finfo(torch.float64).tiny))
    # Rounding can bring the divergence of equal outputs a hair below zero; NaN must not pass as harmless.
    return max(harm, 0.0) if harm == harm else float("inf")


def output_of(output: Any) -> Tensor:
    """The tensor by which a suffix's output is judged."""
    logits = getattr(output, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    if isinstance(output, Mapping):
        output = output["logits"] if "logits" in output else next(iter(output.values()), None)
    while isinstance(output, tuple | list) and output:
        output = output[0]
    if not isinstance(output, Tensor):
        raise ArgumentError(f"the suffix gives {type(output).__name__}, which holds no tensor to measure harm on")
    return output
