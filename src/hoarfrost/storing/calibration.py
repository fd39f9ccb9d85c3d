"""Before a cache is built: what to store of each view, at which rung, at what cost, measured on a few chunks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..cache import CacheSpec, StoredView
from ..codecs import Codec, Exact, Ladder, RungMeasure, choose, divergence, measure_rungs
from ..codecs.features import find_non_finite
from ..costs.clock import seconds_a_chunk, seconds_of
from ..costs.decision import Decision, decide
from ..cuts import Crossing, Cut
from ..errors import CodecError, NonFiniteError
from ..samples.dataset import Frame, Samples
from ..samples.derivation import WAYS, Deriver, Way, grid_of
from ..samples.order import Order
from ..samples.prefix_source import PrefixSource
from ..samples.renditions import Renditions
from ..settings import Views
from .channel_weights import channel_weights
from .channels import Choice, choose_stored, coarser_codec, is_coarser, stored_and_back
from .sensitivity import channel_distance, channel_harm

__all__ = ["Calibration", "calibrate"]

SAMPLE_BYTES = 256 * 2**20
"""Memory for the calibration sample's features: a sixteenth of the chunks, at most four, at least one."""


@dataclass(frozen=True)
class Beside:
    """Another tensor that crosses the cut: what its cache will hold, and its bytes; integers have no rung."""

    spec: CacheSpec
    rung: RungMeasure | None
    bytes_per_sample: float
    rungs: tuple[RungMeasure, ...] = ()

    def at(self, views: int, index: int) -> Beside:
        """With so many views, at rung `index` (or the next one that was tried) or its own, whichever is stronger."""
        spec = replace(self.spec, stored=self.spec.stored[:views])
        rung = next((rung for rung in self.rungs if rung.index >= index and rung.refused is None), self.rung)
        if self.rung is None or rung is None or rung.index <= self.rung.index:
            return replace(self, spec=spec)
        return replace(self, spec=replace(spec, codec=rung.codec), rung=rung, bytes_per_sample=rung.bytes_per_sample)


@dataclass(frozen=True)
class Calibration:
    """What was measured and chosen for one freeze.

    Attributes:
        spec: what the cache will hold (its `stored` says how many views, and what of each).
        beside: likewise for the other tensors that cross the cut.
        further: what each further view stores.
        decision: read or recompute, with the reason.
        rungs: harm and bytes of every rung that was tried; none where the user asked to recompute.
        rung: the chosen one.
        sensitivity: [C] of the channels, or None where no view can be derived.
        way: how features are derived, the best of those measured.
        view_bytes: of the first view, of all that crosses.
        predicted_bytes: of all views.
        prefix_seconds, read_seconds, write_seconds: of one epoch, in front of the suffix, and of one view of all
            samples; reading and writing are not measured where the user asked to recompute.
        chunks: that were measured on.
    """

    spec: CacheSpec
    beside: tuple[Beside, ...]
    further: Choice
    decision: Decision
    rungs: tuple[RungMeasure, ...]
    rung: RungMeasure | None
    sensitivity: Tensor | None
    way: Way
    view_bytes: int
    predicted_bytes: int
    prefix_seconds: float
    read_seconds: float | None
    write_seconds: float | None
    chunks: int = 1

    @property
    def codec(self) -> Codec:
        return self.spec.codec

    @property
    def stronger(self) -> tuple[RungMeasure, ...]:
        """The chosen rung, and those above it that take the features."""
        chosen = self.rung
        if chosen is None:
            return ()
        return tuple(rung for rung in self.rungs if rung.index >= chosen.index and rung.refused is None)

    def at(self, views: int, rung: RungMeasure) -> Calibration:
        """The same with fewer views or at another rung, and the bytes that the sample predicts for it."""
        if self.rung is None:
            raise RuntimeError("what is recomputed has no rung")
        further, now = self.further, rung.bytes_per_sample
        if further.stored.codec is None:
            further = replace(further, bytes_per_sample=further.bytes_per_sample * now / self.rung.bytes_per_sample)
        elif not is_coarser(further.stored.codec, rung.codec):
            further = replace(further, stored=replace(further.stored, codec=None))
        if rung is not self.rung:
            further = replace(further, harm=None)  # it was measured at the other rung
        beside = tuple(other.at(views, rung.index) for other in self.beside)
        others, samples = sum(other.bytes_per_sample for other in beside), self.spec.samples
        stored = (StoredView(), *[further.stored] * (views - 1))
        return replace(
            self,
            spec=replace(self.spec, codec=rung.codec, stored=stored),
            beside=beside,
            further=further,
            rung=rung,
            view_bytes=round((now + others) * samples),
            predicted_bytes=round((now + further.bytes_per_sample * (views - 1) + others * views) * samples),
        )

    def built_in(self, seconds: float, epochs_left: int | None, mode: str) -> Calibration:
        """The same views decided anew, where computing one of all samples takes `seconds`, not a pass of the prefix."""
        if self.read_seconds is None or self.write_seconds is None:
            raise RuntimeError("what is recomputed as asked has no price of reading")
        decision = decide(
            epochs_left=epochs_left,
            views=self.spec.views,
            recompute_seconds=self.prefix_seconds,
            read_seconds=self.read_seconds,
            view_seconds=seconds + self.write_seconds,
            mode=mode,
        )
        return replace(self, decision=decision)


def feature_spec(
    crossing: Crossing,
    features: Tensor,
    order: Order,
    codec: Codec,
    stored: tuple[StoredView, ...] = (StoredView(),),
) -> CacheSpec:
    """What a cache of such features holds; shape and memory format are those that the prefix really gives."""
    return CacheSpec(
        samples=order.samples,
        chunk_size=order.chunk_size,
        shape=tuple(features.shape[1:]),
        dtype=features.dtype,
        channel_axis=features.dim() - 1 if crossing.layout in ("tokens", "NHWC") else 1,
        channels_last=features.dim() == 4
        and crossing.layout == "NCHW"
        and not features.is_contiguous()
        and features.is_contiguous(memory_format=torch.channels_last),
        codec=codec,
        stored=stored,
    )


def calibrate(
    *,
    source: PrefixSource,
    suffix: nn.Module,
    cut: Cut,
    samples: Samples,
    order: Order,
    renditions: Renditions,
    event: int,
    views: Views,
    ladder: Ladder,
    floor: int,
    tolerance: float,
    epochs_left: int | None,
    mode: str,
    frame: Frame | None,
    way: Way | None = None,
) -> Calibration:
    """Measure on a sample of chunks, choose rung and channels, and decide between reading and recomputing.

    Args:
        event: the epoch that begins frozen; the stored views' random decisions belong to it.
        floor: the rung of the previous, shallower cache: compression does not weaken as more layers freeze, unless
            the tolerance demands it.
        way: of deriving, where the features of this freeze were derived before; it is not chosen again.
        tolerance: harm that a rung may do (see `hoarfrost.codecs.measure_rungs`).

    Raises:
        NonFiniteError: NaN or infinity in the features; names the sample and the channel.
        CodecError: no rung takes these features.
    """
    base = renditions.view(event, 0, base=views.base)
    began = time.perf_counter()
    crossings = cut.tensors
    firsts, _ = source.tensors(0, base)
    first = firsts[0]
    if mode == "recompute":
        # Plain freezing: nothing is measured that it does not need, so that it stays an honest rival.
        return Calibration(
            spec=feature_spec(crossings[0], first, order, Exact()),
            beside=tuple(
                Beside(feature_spec(crossing, tensor, order, Exact()), None, 0.0)
                for crossing, tensor in zip(crossings[1:], firsts[1:], strict=True)
            ),
            further=Choice(StoredView(), 0.0),
            decision=Decision("recompute", 0, "recomputed, as asked", None),
            rungs=(),
            rung=None,
            sensitivity=None,
            way=Way(),
            view_bytes=0,
            predicted_bytes=0,
            prefix_seconds=order.chunks * (time.perf_counter() - began),
            read_seconds=None,
            write_seconds=None,
        )
    chunk_seconds = [time.perf_counter() - began]
    room = SAMPLE_BYTES // max(1, sum(tensor.numel() * tensor.element_size() for tensor in firsts))
    probe = max(1, min(4, -(-order.chunks // 16), room))
    parts = [firsts]
    for chunk in range(1, probe):
        began = time.perf_counter()
        parts.append(source.tensors(chunk, base)[0])
        chunk_seconds.append(time.perf_counter() - began)
    sample = [torch.cat(column) for column in zip(*parts, strict=True)]
    features = sample[0]
    exact = [feature_spec(crossing, tensor, order, Exact()) for crossing, tensor in zip(crossings, sample, strict=True)]
    ids = torch.cat([order.members(chunk) for chunk in range(probe)])
    floating = [number for number, tensor in enumerate(sample) if tensor.is_floating_point()]
    for number in floating:
        check_finite(sample[number], exact[number], ids)

    measured = {
        # The tolerance is for all of them together.
        number: _rungs_of(number, sample, exact[number], suffix, ladder, tolerance / len(floating), source.device)
        for number in floating
    }
    rungs = measured[0]
    picked = {number: pick(found, tolerance / len(floating), floor) for number, found in measured.items()}
    rung = picked[0]
    codec = rung.codec

    wanted = views.count if samples.pipeline.is_random and not views.feature_space_only else 1
    base_spec = feature_spec(crossings[0], features, order, codec)
    sensitivity = None
    further = Choice(StoredView(codec=coarser_codec(views, codec)), rung.bytes_per_sample)
    if frame is not None and not cut.others and (wanted > 1 or views.derived) and derivable(cut, samples):
        another = _Another(features, source, cut, samples, order, renditions, event, views.base, frame)
        way = way or another.best(features, suffix, source.device)
        sensitivity = another.sensitivity(features, way, suffix, views.metric, source.device, event)
        decoded, _ = stored_and_back(StoredView(), features, features, base_spec)
        further = choose_stored(
            another.exact,
            another.derived(decoded, way),
            base_spec,
            sensitivity,
            views,
            order.samples,
            lambda shown: divergence(suffix, another.exact, shown, source.device),
        )

    prefix_seconds = order.chunks * seconds_a_chunk(chunk_seconds)
    codecs = [picked[number].codec if number in picked else Exact() for number in range(len(sample))]
    coded = [_seconds_to_code(*triple) for triple in zip(firsts, exact, codecs, strict=True)]
    write_seconds, read_seconds = (order.chunks * sum(column) for column in list(zip(*coded, strict=True))[:2])
    decision = decide(
        epochs_left=epochs_left,
        views=wanted,
        recompute_seconds=prefix_seconds,
        read_seconds=read_seconds,
        view_seconds=prefix_seconds + write_seconds,
        refresh_every=views.refresh_every,
        mode=mode,
    )
    more = max(decision.views, 1) - 1
    beside = tuple(
        Beside(
            feature_spec(crossings[number], sample[number], order, codecs[number], (StoredView(),) * (1 + more)),
            picked.get(number),
            picked[number].bytes_per_sample if number in picked else coded[number][2] / len(first),
            tuple(measured.get(number, ())),
        )
        for number in range(1, len(sample))
    )
    others = sum(other.bytes_per_sample for other in beside)
    return Calibration(
        spec=replace(base_spec, stored=(StoredView(), *[further.stored] * more)),
        beside=beside,
        further=further,
        decision=decision,
        rungs=tuple(rungs),
        rung=rung,
        sensitivity=sensitivity,
        way=way or Way(),
        view_bytes=round((rung.bytes_per_sample + others) * order.samples),
        predicted_bytes=round(
            (rung.bytes_per_sample + further.bytes_per_sample * more + others * (1 + more)) * order.samples
        ),
        prefix_seconds=prefix_seconds,
        read_seconds=read_seconds,
        write_seconds=write_seconds,
        chunks=probe,
    )


def _rungs_of(
    number: int,
    sample: Sequence[Tensor],
    spec: CacheSpec,
    suffix: nn.Module,
    ladder: Ladder,
    tolerance: float,
    device: torch.device,
) -> list[RungMeasure]:
    """Each rung's harm and bytes for one of the tensors that cross, the others exact.

    Bits are spent on the channels whose errors harm the outputs, where that takes fewer bytes than to spend them on all
    alike: seldom many, and in small networks not always. A ladder of one rung is taken at its word.
    """

    def call_with(part: Tensor, start: int) -> Any:
        rows = [part if n == number else t[start : start + len(part)] for n, t in enumerate(sample)]
        moved = tuple(row.to(device) for row in rows)
        return moved if len(moved) > 1 else moved[0]

    def measured(ladder: Ladder) -> list[RungMeasure]:
        return measure_rungs(
            suffix,
            sample[number],
            ladder,
            channel_axis=spec.channel_axis,
            tolerance=tolerance,
            chunk_size=spec.chunk_size,
            channels_last=spec.channels_last,
            call_with=call_with,
        )

    alike = measured(ladder)
    if len(ladder) == 1 or not any(rung.weighable for rung in ladder):
        return alike
    weights = channel_weights(suffix, sample[number], spec.channel_axis, call_with=call_with)
    if weights is None:
        return alike
    return min(alike, measured(ladder.weighted(weights)), key=lambda rungs: _least_bytes(rungs, tolerance))


def _least_bytes(rungs: Sequence[RungMeasure], tolerance: float) -> float:
    """Of a sample within the tolerance."""
    chosen = choose(rungs, tolerance)
    return math.inf if chosen is None else chosen.bytes_per_sample


def _seconds_to_code(features: Tensor, spec: CacheSpec, codec: Codec) -> tuple[float, float, int]:
    """Seconds to encode and to decode one chunk, and its bytes."""
    physical = spec.physical(features)
    payload = codec.encode(physical, spec.codec_axis)
    decode = seconds_of(lambda: codec.decode(payload, tuple(physical.shape), physical.dtype, spec.codec_axis))
    return seconds_of(lambda: codec.encode(physical, spec.codec_axis), 1), decode, len(payload)


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


def check_finite(features: Tensor, spec: CacheSpec, ids: Tensor) -> None:
    """Raise NonFiniteError for the first NaN or infinity in `features` [n, ...], whose samples are `ids` [n]."""
    place = find_non_finite(features, spec.channel_axis)
    if place is not None:
        row, channel, value = place
        raise NonFiniteError(
            f"features must be finite: sample {int(ids[row])}, channel {channel} holds {value}; "
            "lower the learning rate or the loss scale, or look for a division by zero in front of the cut"
        )


def derivable(cut: Cut, samples: Samples) -> bool:
    """Whether features of one view can be made from those of another: features on a grid, and geometry to follow."""
    on_a_grid = grid_of(cut, (1, 1)) is not None and not cut.others
    return on_a_grid and any(step.kind == "paired" for step in samples.pipeline.steps)


class _Another:
    """Another view of the calibration sample, exact, and what the base view gives for it.

    Args:
        features: of the base view, [n, ...], whole chunks from the first on.
    """

    def __init__(
        self,
        features: Tensor,
        source: PrefixSource,
        cut: Cut,
        samples: Samples,
        order: Order,
        renditions: Renditions,
        event: int,
        base: str,
        frame: Frame,
    ) -> None:
        self._draws = renditions.view(event, 0, base=base), renditions.view(event, 1)
        self._rows = [range(n, n + order.size(chunk)) for chunk, n in _begins(order, len(features))]
        self.exact = torch.cat([source.features(chunk, self._draws[1])[0] for chunk in range(len(self._rows))])
        blank = source.blank()
        made = {way: Deriver.of(cut, samples, order, frame, way, lambda: blank) for way in WAYS}
        self._derivers = {way: deriver for way, deriver in made.items() if deriver is not None}
        self._axis = cut.channel_axis

    def derived(self, base: Tensor, way: Way) -> Tensor:
        """From the base view's features, exact or decoded."""
        derive = self._derivers[way].derive
        return torch.cat([derive(base[rows.start : rows.stop], n, *self._draws) for n, rows in enumerate(self._rows)])

    def best(self, base: Tensor, suffix: Callable[[Any], Tensor], device: torch.device) -> Way:
        """The way whose features let the suffix's outputs diverge least from those on the exact ones.

        Not the one whose features are nearest: measured, blended cells are nearer and three times as harmful.
        """
        return min(self._derivers, key=lambda way: divergence(suffix, self.exact, self.derived(base, way), device))

    def sensitivity(
        self, base: Tensor, way: Way, suffix: nn.Module, metric: str, device: torch.device, seed: int
    ) -> Tensor:
        """How far each channel is from what the base view gives for it, [C]."""
        derived = self.derived(base, way)
        if metric == "harm":
            return channel_harm(suffix, self.exact.to(device), derived.to(device), self._axis, seed=seed)
        return channel_distance(self.exact, derived, metric, self._axis)


def _begins(order: Order, rows: int) -> Iterator[tuple[int, int]]:
    """(chunk, its first row) of the chunks in a calibration sample."""
    begin = 0
    for chunk in range(order.chunks):
        if begin + order.size(chunk) > rows:
            return
        yield chunk, begin
        begin += order.size(chunk)
