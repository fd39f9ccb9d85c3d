"""What to store of a further view: which channels, at how many bits, themselves or their difference to derived ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..cache import CacheSpec, StoredView, assembled, to_store
from ..codecs import Codec, FirstTokens, Linear, Shared
from ..settings import Selection, Views

__all__ = ["Choice", "at_bits", "choose_stored", "coarser_codec", "is_coarser", "stored_and_back"]

WHOLE_FROM = 0.75
"""A view of which more than this share is sensitive is stored whole: deriving the rest would save too little."""

SHARES = (0.5, 0.25, 0.125, 0.0)
"""Of the channels of a further view, tried one after the other: each is a pass of the suffix over the sample."""

BITS = (7, 6, 5, 4, 3, 2)
"""What a budget may choose among for further views, below the base view's own."""


@dataclass(frozen=True)
class Choice:
    """What is stored of a further view.

    Attributes:
        bytes_per_sample: of its records, encoded; measured on the calibration sample.
        harm: divergence of the suffix's outputs from those on the exact view, where it was measured.
        why: that many channels, in one line, where their number was measured; or "".
    """

    stored: StoredView
    bytes_per_sample: float
    harm: float | None = None
    why: str = ""


def choose_stored(
    exact: Tensor,
    derived: Tensor,
    spec: CacheSpec,
    sensitivity: Tensor,
    views: Views,
    samples: int,
    tolerance: float,
    diverge: Callable[[Tensor], float],
) -> Choice:
    """The channels that `views` asks for, or as few as do no harm; under a byte budget what harms the outputs least.

    Where nothing was asked for, ever smaller shares of the channels are tried, the most sensitive ones exact and the
    others derived, for as long as the outputs diverge by no more than the tolerance: what is derived may harm as much
    as what is coded may.

    With a budget, for each number of bits, with and without differences, the channels are taken in the order of their
    sensitivity per byte until the budget is used up; of these candidates the one is chosen whose outputs diverge least.

    Args:
        exact: [n, ...], a calibration sample of a further view.
        derived: the same, derived from the decoded base view.
        spec: of the base view.
        samples: of the whole data set; the budget is for all of them.
        tolerance: divergence of the outputs that is allowed.
        diverge: features of the view -> how far the suffix's outputs are from those on the exact ones.
    """
    codec = coarser_codec(views, spec.codec) or spec.codec
    if views.channels.budget_bytes is None:
        if views.channels.measured:
            channels, why = _fewest(exact, derived, spec.channel_axis, sensitivity, tolerance, diverge)
        else:
            channels, why = views.channels.choose(sensitivity), ""
        gains = _Coded(exact, derived, spec, codec).gains if views.residual else None
        stored = _stored(channels, gains, sensitivity, spec, codec)
        return Choice(stored, stored_and_back(stored, exact, derived, spec)[1] / len(exact), why=why)
    tried = [at_bits(bits, spec.codec) for bits in BITS] if views.bits is None else []
    coarser = [candidate for candidate in tried if is_coarser(candidate, spec.codec)]
    choices = []
    for candidate in (codec, *coarser):
        coded = _Coded(exact, derived, spec, candidate)
        for gains, sizes in ((None, coded.plain_bytes), (coded.gains, coded.bytes)):
            channels = views.channels.choose(sensitivity, sizes * samples)
            stored = _stored(channels, gains, sensitivity, spec, candidate)
            shown, size = stored_and_back(stored, exact, derived, spec)
            choices.append((diverge(shown), Choice(stored, size / len(exact))))
    budget = views.channels.budget_bytes
    within = [pair for pair in choices if pair[1].bytes_per_sample * samples <= budget]
    # Where not even one channel fits, the least is stored: a view with nothing of its own would be no record at all.
    by_bytes = min(choices, key=lambda pair: pair[1].bytes_per_sample)
    harm, choice = min(within, key=lambda pair: pair[0]) if within else by_bytes
    return replace(choice, harm=harm)


def coarser_codec(views: Views, base: Codec) -> Codec | None:
    """The codec that was asked for further views; None where it is none, or not coarser than the base view's."""
    asked = None if views.bits is None else at_bits(views.bits, base)
    return asked if asked is not None and is_coarser(asked, base) else None


def stored_and_back(stored: StoredView, exact: Tensor, derived: Tensor, spec: CacheSpec) -> tuple[Tensor, int]:
    """A view's features [n, ...] as they come back from the cache, and the bytes of their records."""
    codec, axis = stored.codec_beside(spec.codec), spec.codec_axis
    parts, size = [], 0
    for start in range(0, len(exact), spec.chunk_size):
        rows = slice(start, start + spec.chunk_size)
        record = spec.physical(to_store(stored, spec.channel_axis, exact[rows], derived[rows]))
        payload = codec.encode(record, axis)
        size += len(payload)
        decoded = spec.logical(codec.decode(payload, tuple(record.shape), record.dtype, axis))
        parts.append(assembled(stored, spec.channel_axis, decoded, derived[rows].clone()))
    return torch.cat(parts), size


def _fewest(
    exact: Tensor,
    derived: Tensor,
    axis: int,
    sensitivity: Tensor,
    tolerance: float,
    diverge: Callable[[Tensor], float],
) -> tuple[Tensor, str]:
    """The least of the shares with which the outputs stay within the tolerance, and why it is that one."""
    count, allowed = len(sensitivity), f"where {tolerance:.2g} is the tolerance"
    kept, why = torch.arange(count), ""
    for share in SHARES:
        channels = _one_at_least(Selection(share=share).choose(sensitivity), sensitivity)
        if len(channels) == len(kept):
            continue  # of few channels two shares are the same, and one pass tells
        shown = derived.index_copy(axis, channels, exact.index_select(axis, channels).to(derived.dtype))
        harm = diverge(shown)
        told = f"{count - len(channels)} of {count} channels derived make the outputs diverge by {harm:.2g}, {allowed}"
        if not harm <= tolerance:
            return kept, why or f"all channels are stored: {told}"
        kept, why = channels, told
    return kept, why


def _one_at_least(channels: Tensor, sensitivity: Tensor) -> Tensor:
    """A view with nothing of its own would be no record at all; the most sensitive channel stands for it."""
    return channels if len(channels) else sensitivity.argmax()[None]


def _stored(channels: Tensor, gains: Tensor | None, sensitivity: Tensor, spec: CacheSpec, codec: Codec) -> StoredView:
    channels = _one_at_least(channels, sensitivity)
    whole = len(channels) > WHOLE_FROM * len(sensitivity) or len(channels) == len(sensitivity)
    kept = None if whole else tuple(channels.tolist())
    if gains is not None:
        gains = gains if whole else gains[channels]
    return StoredView(
        kept,
        None if codec == spec.codec else codec,
        None if gains is None or not bool(gains.any()) else tuple(gains.tolist()),
    )


class _Coded:
    """Each channel encoded alone: its bytes a sample plain, and with the gain that costs least.

    The gain is the least-squares one, or none: whichever is cheaper when the bytes are corrected for the error that
    remains, at half a bit a value for each doubling of its energy.
    """

    def __init__(self, exact: Tensor, derived: Tensor, spec: CacheSpec, codec: Codec) -> None:
        rows = exact[: spec.chunk_size]
        e, d = (spec.physical(features[: len(rows)]).movedim(spec.codec_axis, 0) for features in (rows, derived))
        gains = (_dot(e, d) / _dot(d, d).clamp(min=1e-30)).clamp(0, 1)
        differences = [channel - gain * other for channel, gain, other in zip(e, gains, d, strict=True)]
        plain, less = _coded(list(e), codec), _coded(differences, codec)
        values = e[0].numel()
        use = torch.tensor(
            [_cost(*one, values) > _cost(*other, values) for one, other in zip(plain, less, strict=True)]
        )
        self.plain_bytes = torch.tensor([float(size) for size, _ in plain]) / len(rows)
        self.gains = torch.where(use, gains, torch.zeros_like(gains)).float()
        self.bytes = torch.where(use, torch.tensor([float(size) for size, _ in less]) / len(rows), self.plain_bytes)


def _coded(channels: Sequence[Tensor], codec: Codec) -> list[tuple[int, float]]:
    """Bytes of each channel's values when it is encoded alone, and the mean square of the error that remains."""
    codec = codec.rest if isinstance(codec, FirstTokens) else codec
    spans = [float(channel.max() - channel.min()) for channel in channels]
    each = codec.each(spans) if isinstance(codec, Shared) else [codec] * len(spans)
    found = []
    for channel, alone in zip(channels, each, strict=True):
        column = channel.reshape(-1, 1).contiguous()
        payload = alone.encode(column, 1)
        decoded = alone.decode(payload, tuple(column.shape), column.dtype, 1)
        found.append((len(payload), float((decoded - column).double().square().mean())))
    return found


def _cost(size: int, error: float, values: int) -> float:
    """Bits, at the rate at which more bits would bring the error down."""
    return 8 * size + 0.5 * values * math.log2(max(error, 1e-30))


def _dot(one: Tensor, other: Tensor) -> Tensor:
    return (one.double() * other.double()).flatten(1).sum(1)


def at_bits(bits: int, base: Codec) -> Codec:
    """The codec of so many bits for a view beside one of codec `base`, of the same kind where that has one."""
    if isinstance(base, FirstTokens):
        return replace(base, rest=at_bits(bits, base.rest))
    return replace(base, levels=1 << bits) if isinstance(base, Shared) else Linear(bits)


def is_coarser(candidate: Codec, than: Codec) -> bool:
    """Whether a codec of levels has fewer than another; than any codec without levels it has."""
    levels = _levels(candidate)
    return levels is not None and levels < (_levels(than) or math.inf)


def _levels(codec: Codec) -> int | None:
    if isinstance(codec, FirstTokens):
        return _levels(codec.rest)
    if isinstance(codec, Linear):
        return 1 << codec.bits
    return codec.levels if isinstance(codec, Shared) else None
