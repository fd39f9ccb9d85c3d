"""A deeper cut's features from those stored of a shallower one: only the newly frozen layers run."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..augment import Draw
from ..cache import Cache, CacheSpec, StoredView, assembled
from ..codecs import RungMeasure, Task, divergence
from ..costs import seconds_a_chunk
from ..cuts import Between, Cut, Prefix, Suffix, between
from ..errors import CutError
from ..samples import Deriver, OnDevice, PrefixSource, TrainingData
from ..threads import thread_pool
from .channels import stored_and_back
from .fingerprint import Origin

__all__ = ["EarlierFeatures", "FromFeatures", "MeasuredFeatures", "from_features"]


@dataclass(frozen=True)
class EarlierFeatures:
    """The stored features of a shallower cut.

    Attributes:
        event: the epoch before which their renditions were drawn.
        deriver: as in `CacheSource`.
    """

    prefix: Prefix
    cache: Cache
    data: TrainingData
    event: int
    deriver: Deriver | None

    @property
    def cut(self) -> Cut:
        return self.prefix.cut

    def features(self, chunk: int, view: int) -> tuple[Tensor, Tensor]:
        """One view of a chunk as epochs see it, [n, ...], and targets [n, ...].

        Raises:
            CorruptChunkError, CacheDirectoryError: it cannot be read.
        """
        record, spec = self.cache.read(chunk, view), self.cache.spec
        stored, features = spec.stored[view], spec.dense(record.packed)
        if stored.alone or self.deriver is None:
            return features, record.targets
        base = spec.dense(self.cache.read(chunk, 0).packed)
        derived = self.deriver.derive(base, chunk, self.draw(0), self.draw(view))
        return assembled(stored, spec.channel_axis, features, derived), record.targets

    def draw(self, view: int) -> Draw:
        """The renditions that a view shows."""
        return self.data.renditions.view(self.event, view)

    def stream(self, chunks: Sequence[int], view: int) -> Iterator[tuple[Tensor, Tensor]]:
        """`features` of chunk after chunk, one read ahead."""
        with thread_pool(1, "hoarfrost-read") as reading:
            ahead = [reading.submit(self.features, chunk, view) for chunk in chunks[:1]]
            for chunk in [*chunks[1:], None]:
                now = ahead.pop() if ahead else None
                if chunk is not None:
                    ahead.append(reading.submit(self.features, chunk, view))
                if now is not None:
                    yield now.result()


@dataclass(frozen=True)
class FromFeatures:
    """What a deeper cut's cache is built from where that is an earlier one.

    Attributes:
        source: runs the newly frozen layers.
        between: these layers.
    """

    earlier: EarlierFeatures
    source: PrefixSource
    between: Between

    @classmethod
    def of(cls, earlier: EarlierFeatures, source: PrefixSource) -> FromFeatures:
        """With the layers between the earlier cut and that of `source`, which runs a deeper prefix on images.

        Raises:
            CutError: these layers cannot be run alone.
        """
        deep = source.prefix
        if not isinstance(deep, Prefix):
            raise CutError("only a prefix of the model itself has layers behind an earlier cut")
        example = earlier.data.images(source.order.members(0)[:8], earlier.draw(0))
        layers = between(earlier.prefix, deep, example)
        return cls(earlier, replace(source, prefix=layers, on_device=OnDevice(source.on_device.device)), layers)

    @property
    def origin(self) -> Origin:
        return Origin(self.earlier.cache.fingerprint.digest, self.earlier.event)


@dataclass(frozen=True)
class MeasuredFeatures:
    """What building from earlier features does.

    Attributes:
        origin: whose features they are.
        rung: what it is stored with: the strongest that keeps to twice the tolerance with what the earlier codec did.
        harm: divergence of the suffix's outputs on such features from those on exact ones.
        harm_stored: the same after this cache's own rung.
        view_seconds: to read and compute one view of all samples, before it is encoded and written.
    """

    cut: str
    origin: Origin
    rung: RungMeasure
    harm: float
    harm_stored: float
    view_seconds: float

    def to_record(self) -> dict[str, Any]:
        """For the freeze record."""
        return {"cut": self.cut, "kl": self.harm, "kl_stored": self.harm_stored}


def from_features(
    earlier: EarlierFeatures,
    source: PrefixSource,
    suffix: Suffix,
    spec: CacheSpec,
    rungs: Sequence[RungMeasure],
    tolerance: float,
    chunks: int,
    task: Task | None = None,
) -> MeasuredFeatures | str:
    """What building from the earlier features does, measured on `chunks` chunks of each view; or why not, in words.

    Args:
        source: of the deeper prefix, on images: what is exact.
        spec: what is to be stored.
        rungs: of the ladder, gentle to strong, up to the one that does no harm to exact features.
        tolerance: for each of the two codecs that such features have been through.
        task: by which the suffix's outputs are judged.
    """
    deep = source.prefix
    if source.samples.lengths is not None:
        return "inputs differ in length"
    if not isinstance(deep, Prefix) or earlier.cut.others or deep.cut.others:
        return "more than one tensor crosses a cut"
    if earlier.data.samples.form.further:
        return "the model is called several times for each sample"
    if spec.views > earlier.cache.spec.views:
        return f"{spec.views} views are asked for, {earlier.cache.spec.views} are stored of {earlier.cut.label!r}"
    if not earlier.cache.whole:
        return f"the features of {earlier.cut.label!r} are stored as epochs show them"
    draws = [earlier.draw(view) for view in range(spec.views)]
    try:
        layers = FromFeatures.of(earlier, source)
    except CutError as error:
        return str(error)
    device, through = source.on_device.device, layers.source
    places = [(chunk, view) for view in range(spec.views) for chunk in range(chunks)]
    exact = torch.cat([source.features(chunk, draws[view])[0] for chunk, view in places])
    parts, seconds = [], []
    for chunk, view in places:
        began = time.perf_counter()
        with layers.between.hooks_apart():
            parts.append(through.run(earlier.features(chunk, view)[0])[0])
        seconds.append(time.perf_counter() - began)
    built, view_seconds = torch.cat(parts), source.order.chunks * seconds_a_chunk(seconds)
    harm = divergence(suffix, exact, built, device, task)
    least = harm
    for rung in reversed(rungs):
        decoded, _ = stored_and_back(StoredView(), built, built, replace(spec, codec=rung.codec))
        least = divergence(suffix, exact, decoded, device, task)
        if least <= 2 * tolerance:
            return MeasuredFeatures(earlier.cut.label, layers.origin, rung, harm, least, view_seconds)
    return (
        f"what the codec of {earlier.cut.label!r} has done would become a harm of {least:.2g} with the gentlest rung, "
        f"beyond twice the tolerance of {tolerance:g}"
    )
