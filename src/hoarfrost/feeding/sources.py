"""What the features of a division are read from: its caches, or its prefix where nothing is stored."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from ..cache import Cache, CacheSpec
from ..samples import PrefixSource, Together, TrainingData
from ..storing import Held, Storage, StoredFeatures, event_of, origin_of, way_of
from .cache_source import CacheSource
from .chunks_in_memory import ChunksInMemory

__all__ = ["Sources", "sources_of"]

Sources = tuple[tuple[PrefixSource | CacheSource, CacheSpec], ...]
"""One for each tensor that crosses the cut, of each call of the model."""


def sources_of(
    held: Held, storage: Storage, data: TrainingData, memory_budget: int, say: Callable[[dict[str, Any]], None]
) -> Sources:
    """Each with the layout of what it gives.

    Args:
        memory_budget: bytes of what was read that may stay in memory, for all of them.
        say: called with each record (`heal`).
    """
    together = Together(len(held.specs)) if len(held.specs) > 1 else None
    prefixes = [
        replace(data.source(held.division.prefix, spec), tensor=number, together=together)
        for number, spec in enumerate(held.specs)
    ]

    def cached(stored: StoredFeatures, prefix: PrefixSource) -> CacheSource:
        cache = stored.cache

        def healed(chunk: int, view: int, reason: str) -> None:
            same_bits = origin_of(cache) is None
            say({"event": "heal", "chunk": chunk, "view": view, "reason": reason, "same_bits": same_bits})

        deriver = storage.deriver(held.division.cut, way_of(cache), prefix)
        return CacheSource(
            stored=stored,
            order=data.order,
            views=held.views,
            event=event_of(held.division, cache),
            renditions=data.renditions,
            deriver=deriver and replace(deriver, call=prefix.call),
            healer=prefix,
            on_heal=healed,
            resident=kept(cache),
            alone=nullcontext() if storage.check is None else storage.check.alone,
        )

    def kept(cache: Cache) -> ChunksInMemory:
        """What of a cache stays in memory: as floats where they all fit and go to no other device."""
        share = memory_budget // len(storage.caches)
        return ChunksInMemory(share, floats=data.on_device.device.type == "cpu" and cache.spec.dense_nbytes <= share)

    read = [cached(stored, prefix) for stored, prefix in zip(storage.features, prefixes, strict=False)]
    return tuple(zip(read or prefixes, held.specs, strict=True))
