"""Before a cache is built: what to store of each view, at which rung, at what cost, measured on a few chunks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from torch import Tensor, nn

from ..cache import CacheSpec, StoredView
from ..codecs import Codec, Exact, RungMeasure, Task, divergence
from ..costs import Decision, automatic_views, decide, passes_of, seconds_of
from ..cuts import Suffix
from ..freezing import Division
from ..samples import TrainingData, Way
from ..settings import Storing, Views
from .calibration_sample import CalibrationSample, Extent
from .channels import Choice, choose_stored, coarser_codec, is_coarser, stored_and_back
from .further_view import FurtherView, why_not_derived
from .rungs import check_finite, pick, rungs_of

__all__ = ["Beside", "Calibration", "calibrate"]

SAMPLES = 256
"""That are measured on at most, in four chunks at least."""


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
        predicted_bytes: of all views, with targets and journals; the files that say what a cache is are not counted.
        prefix_seconds, read_seconds, write_seconds: of one epoch, in front of the suffix, and of one view of all
            samples; reading and writing are not measured where the user asked to recompute.
        chunks: that were measured on.
        task: by which harm was measured; None where the user asked to recompute.
        drawn: whether it was with a drawn head, see `CalibrationSample.judged`.
        extents: of what crosses at each call of the model; all are stored alike, bytes and seconds are of all.
        target_bytes, journal_bytes: of all samples, the latter for one view.
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
    task: Task | None = None
    drawn: bool = False
    extents: tuple[tuple[Extent, ...], ...] = ()
    target_bytes: int = 0
    journal_bytes: int = 0

    @property
    def specs(self) -> tuple[CacheSpec, ...]:
        """Of all caches: for each call of the model one for each tensor that crosses the cut."""
        specs = (self.spec, *(other.spec for other in self.beside))
        pairs = (pair for extents in self.extents for pair in zip(specs, extents, strict=True))
        return tuple(replace(spec, shape=shape, total_length=total) for spec, (shape, total) in pairs) or specs

    @property
    def loads(self) -> tuple[float, ...]:
        """How many values cross at each call, by how many at the first."""
        return _loads(self.extents, self.spec.samples)

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
        # Each has a rung of its own, unless there is room for stronger ones only.
        beside = tuple(other.at(views, 0 if rung is self.rung else rung.index) for other in self.beside)
        others, samples = sum(other.bytes_per_sample for other in beside), self.spec.samples * sum(self.loads)
        stored = (StoredView(), *[further.stored] * (views - 1))
        return replace(
            self,
            spec=replace(self.spec, codec=rung.codec, stored=stored),
            beside=beside,
            further=further,
            rung=rung,
            view_bytes=round((now + others) * samples),
            predicted_bytes=round((now + further.bytes_per_sample * (views - 1) + others * views) * samples)
            + self.target_bytes
            + self.journal_bytes * views,
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
            least_views=self.spec.views,
        )
        return replace(self, decision=decision)


def calibrate(
    division: Division,
    data: TrainingData,
    storing: Storing,
    *,
    floor: int = 0,
    epochs_left: int | None = None,
    way: Way | None = None,
    first_tokens: bool = True,
    most_views: int | None = None,
) -> Calibration:
    """Measure on a sample of chunks, choose rung and channels, and decide between reading and recomputing.

    Args:
        floor: the rung of the previous, shallower cache: compression does not weaken as more layers freeze, unless
            the tolerance demands it.
        epochs_left: at this depth; None where that is not known.
        way: of deriving, where the features of this freeze were derived before; it is not chosen again.
        most_views: where their number is left to be told.
        first_tokens: whether to try what it takes to keep the first tokens of each sample apart.

    Raises:
        NonFiniteError: NaN or infinity in the features; names the sample and the channel.
        CodecError: no rung takes these features.
    """
    views, cut, order = storing.views, division.cut, data.order
    base = data.renditions.view(division.event, 0)
    # Plain freezing: nothing is measured that it does not need, so that it stays an honest rival.
    plain = storing.mode == "recompute"
    sample = CalibrationSample.take(
        *(data.source(division.prefix), cut, base, 1 if plain else max(4, SAMPLES // order.chunk_size)),
        spread=not plain,
    )
    if plain:
        return _unmeasured(sample)
    for number in sample.floating:
        check_finite(sample.tensors[number], sample.channel_axis(number), sample.ids, cut.label)
    # The tolerance is for all of them together.
    tolerance = storing.tolerance / len(sample.floating)
    suffix, task = sample.judged(division.suffix, storing.harm)
    measured = {
        n: rungs_of(n, sample, suffix, storing.rungs, tolerance, task, first_tokens=first_tokens)
        for n in sample.floating
    }
    picked = {number: pick(found, tolerance, floor) for number, found in measured.items()}
    rung = picked[0]

    wanted, least = _wanted(views, division, epochs_left, most_views) if data.samples.pipeline.is_random else (1, 1)
    spec = replace(sample.specs[0], codec=rung.codec)
    sensitivity = None
    further = Choice(StoredView(codec=coarser_codec(views, rung.codec)), rung.bytes_per_sample)
    if (wanted > 1 or views.derived) and why_not_derived(cut, data) is None:
        another = FurtherView(sample, division, data)
        way = way or another.way(views.border, sample.features, suffix, task)
        sensitivity = another.sensitivity(sample.features, way, suffix, views.metric, task, division.event)
        further = _further(another, sample, spec, sensitivity, way, suffix, storing, order.samples, tolerance, task)

    codecs = [picked[n].codec if n in picked else Exact() for n in range(len(sample.tensors))]
    coded = [
        _coded(*parts, sample.first_lengths(n))
        for n, parts in enumerate(zip(sample.first, sample.specs, codecs, strict=True))
    ]
    calls = sum(_loads(sample.extents, order.samples))
    all_chunks = calls * order.chunks * sample.share[0]
    write_seconds, read_seconds = (all_chunks * sum(column) for column in list(zip(*coded, strict=True))[:2])
    decision = decide(
        epochs_left=epochs_left,
        views=wanted,
        recompute_seconds=sample.prefix_seconds,
        read_seconds=read_seconds,
        view_seconds=sample.prefix_seconds + write_seconds,
        refresh_every=views.refresh_every,
        mode=storing.mode,
        least_views=least,
    )
    more = max(decision.views, 1) - 1
    beside = tuple(
        Beside(
            replace(sample.specs[number], codec=codecs[number], stored=(StoredView(),) * (1 + more)),
            picked.get(number),
            picked[number].bytes_per_sample
            if number in picked
            else sample.mean_bytes(number, codecs[number]) or coded[number][2] / order.size(0),
            tuple(measured.get(number, ())),
        )
        for number in range(1, len(sample.tensors))
    )
    others = sum(other.bytes_per_sample for other in beside)
    stored_bytes = rung.bytes_per_sample + further.bytes_per_sample * more + others * (1 + more)
    target_bytes, journal_bytes = (
        round(sample.target_bytes * order.samples),
        round(sample.journal_bytes * order.samples),
    )
    return Calibration(
        spec=replace(spec, stored=(StoredView(), *[further.stored] * more)),
        beside=beside,
        further=further,
        decision=decision,
        rungs=tuple(measured[0]),
        rung=rung,
        sensitivity=sensitivity,
        way=way or Way(),
        view_bytes=round((rung.bytes_per_sample + others) * order.samples * calls),
        predicted_bytes=round(stored_bytes * order.samples * calls) + target_bytes + journal_bytes * (1 + more),
        prefix_seconds=sample.prefix_seconds,
        read_seconds=read_seconds,
        write_seconds=write_seconds,
        chunks=sample.chunks,
        task=task,
        drawn=isinstance(suffix, Suffix) and suffix is not division.suffix,
        extents=sample.extents,
        target_bytes=target_bytes,
        journal_bytes=journal_bytes,
    )


def _wanted(views: Views, division: Division, epochs_left: int | None, most: int | None) -> tuple[int, int]:
    """How many views to store, and how many of them though few epochs see each."""
    if views.feature_space_only:
        return 1, 1
    if views.asked is not None:
        return views.asked, 1
    count, least = automatic_views(epochs_left, division.event, passes_of(division.cut))
    return (count, least) if most is None else (min(count, most), min(least, most))


def _loads(extents: Sequence[Sequence[Extent]], samples: int) -> tuple[float, ...]:
    values = [sum(prod(shape) * (total or samples) for shape, total in of_call) for of_call in extents] or [1]
    return tuple(number / values[0] for number in values)


def _unmeasured(sample: CalibrationSample) -> Calibration:
    """Of a freeze that is recomputed as asked."""
    return Calibration(
        spec=sample.specs[0],
        beside=tuple(Beside(spec, None, 0.0) for spec in sample.specs[1:]),
        further=Choice(StoredView(), 0.0),
        decision=Decision("recompute", 0, "recomputed, as asked", None),
        rungs=(),
        rung=None,
        sensitivity=None,
        way=Way(),
        view_bytes=0,
        predicted_bytes=0,
        prefix_seconds=sample.prefix_seconds,
        read_seconds=None,
        write_seconds=None,
        extents=sample.extents,
    )


def _further(
    another: FurtherView,
    sample: CalibrationSample,
    spec: CacheSpec,
    sensitivity: Tensor,
    way: Way,
    suffix: nn.Module,
    storing: Storing,
    samples: int,
    tolerance: float,
    task: Task,
) -> Choice:
    """What further views store, by what is derived for them from the base view as it will be stored."""
    decoded, _ = stored_and_back(StoredView(), sample.features, sample.features, spec)
    device = sample.source.on_device.device
    return choose_stored(
        another.exact,
        another.derived(decoded, way),
        spec,
        sensitivity,
        storing.views,
        samples,
        tolerance,
        lambda shown: divergence(suffix, another.exact, shown, device, task),
    )


def _coded(features: Tensor, spec: CacheSpec, codec: Codec, lengths: list[int] | None) -> tuple[float, float, int]:
    """Seconds to encode and to decode one chunk, and its bytes."""
    physical, codec = spec.physical(features), codec.for_lengths(lengths)
    payload = codec.encode(physical, spec.codec_axis)
    decode = seconds_of(lambda: codec.decode(payload, tuple(physical.shape), physical.dtype, spec.codec_axis))
    return seconds_of(lambda: codec.encode(physical, spec.codec_axis), 1), decode, len(payload)
