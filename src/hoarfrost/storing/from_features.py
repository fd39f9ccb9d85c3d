"""A deeper cut's features from those stored of a shallower one: only the newly frozen layers run."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..cache import Cache, CacheSpec, StoredView, assembled
from ..codecs import RungMeasure, divergence
from ..costs.clock import seconds_a_chunk
from ..cuts import Cut, Prefix, Suffix, between
from ..errors import CutError
from ..samples.derivation import Deriver
from ..samples.order import Order
from ..samples.prefix_source import PrefixSource
from ..samples.renditions import Renditions
from .channels import stored_and_back

__all__ = ["Earlier", "Onward", "Origin", "origin_of"]


@dataclass(frozen=True)
class Origin:
    """Of a cache that was built from another one's features, not from images.

    Attributes:
        cache: the other's digest.
        event: the epoch before which the other's renditions were drawn; this one shows the same.
    """

    cache: str
    event: int


def origin_of(cache: Cache) -> Origin | None:
    """What a cache was built from; None for images."""
    built = cache.fingerprint.fields.get("built")
    return None if built is None else Origin(built["cache"], built["event"])


@dataclass(frozen=True)
class Earlier:
    """The stored features of a shallower cut.

    Attributes:
        event: the epoch before which their renditions were drawn.
        deriver: as in `CacheSource`.
    """

    prefix: Prefix
    cache: Cache
    order: Order
    renditions: Renditions
    event: int
    base: str
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
        draws = (self.renditions.view(self.event, number, base=self.base) for number in (0, view))
        return assembled(stored, spec.channel_axis, features, self.deriver.derive(base, chunk, *draws)), record.targets

    def stream(self, chunks: Sequence[int], view: int) -> Iterator[tuple[Tensor, Tensor]]:
        """`features` of chunk after chunk, one read ahead."""
        with ThreadPoolExecutor(1, "hoarfrost-read") as reading:
            ahead = [reading.submit(self.features, chunk, view) for chunk in chunks[:1]]
            for chunk in [*chunks[1:], None]:
                now = ahead.pop() if ahead else None
                if chunk is not None:
                    ahead.append(reading.submit(self.features, chunk, view))
                if now is not None:
                    yield now.result()


@dataclass(frozen=True)
class Onward:
    """How a deeper cut's cache is built from an earlier one.

    Attributes:
        source: runs the newly frozen layers.
        rung: what it is stored with: the strongest that keeps to twice the tolerance with what the earlier codec did.
        harm: divergence of the suffix's outputs on such features from those on exact ones.
        harm_stored: the same after this cache's own rung.
        view_seconds: to read and compute one view of all samples, before it is encoded and written.
    """

    earlier: Earlier
    source: PrefixSource
    rung: RungMeasure
    harm: float
    harm_stored: float
    view_seconds: float

    @property
    def origin(self) -> Origin:
        return Origin(self.earlier.cache.fingerprint.digest, self.earlier.event)

    def to_record(self) -> dict[str, Any]:
        """For the freeze record."""
        return {"cut": self.earlier.cut.label, "kl": self.harm, "kl_stored": self.harm_stored}

    @property
    def note(self) -> str:
        return (
            f"built from the stored features of {self.earlier.cut.label!r}, with a harm of {self.harm:.2g}, "
            f"{self.harm_stored:.2g} once stored"
        )


def onward(
    earlier: Earlier,
    source: PrefixSource,
    suffix: Suffix,
    spec: CacheSpec,
    rungs: Sequence[RungMeasure],
    tolerance: float,
    chunks: int,
) -> Onward | str:
    """How to build from the earlier features, measured on `chunks` chunks of each view; or why not, in words.

    Args:
        source: of the deeper prefix, on images: what is exact.
        spec: what is to be stored.
        rungs: of the ladder, gentle to strong, up to the one that does no harm to exact features.
        tolerance: for each of the two codecs that such features have been through.
    """
    deep = source.prefix
    if not isinstance(deep, Prefix) or earlier.cut.others or deep.cut.others:
        return "more than one tensor crosses a cut"
    if spec.views > earlier.cache.spec.views:
        return f"{spec.views} views are asked for, {earlier.cache.spec.views} are stored of {earlier.cut.label!r}"
    if not earlier.cache.whole:
        return f"the features of {earlier.cut.label!r} are stored as epochs show them"
    draws = [earlier.renditions.view(earlier.event, view, base=earlier.base) for view in range(spec.views)]
    example, _ = source.samples.images(source.order.members(0)[:8], draws[0])
    try:
        layers = between(earlier.prefix, deep, source.placed(example))
    except CutError as error:
        return str(error)
    through = replace(source, prefix=layers, channels_last=False)
    places = [(chunk, view) for view in range(spec.views) for chunk in range(chunks)]
    exact = torch.cat([source.features(chunk, draws[view])[0] for chunk, view in places])
    parts, seconds = [], []
    for chunk, view in places:
        began = time.perf_counter()
        parts.append(through.run(earlier.features(chunk, view)[0])[0])
        seconds.append(time.perf_counter() - began)
    built, view_seconds = torch.cat(parts), source.order.chunks * seconds_a_chunk(seconds)
    harm = divergence(suffix, exact, built, source.device)
    least = harm
    for rung in reversed(rungs):
        decoded, _ = stored_and_back(StoredView(), built, built, replace(spec, codec=rung.codec))
        least = divergence(suffix, exact, decoded, source.device)
        if least <= 2 * tolerance:
            return Onward(earlier, through, rung, harm, least, view_seconds)
    return (
        f"what the codec of {earlier.cut.label!r} has done would become a harm of {least:.2g} with the gentlest rung, "
        f"beyond twice the tolerance of {tolerance:g}"
    )
