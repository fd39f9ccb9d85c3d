"""Filling caches: one pass of the prefix, or of the newly frozen layers, for each view."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace

import torch
from torch import Tensor

from ..cache import Cache, CacheSpec, CacheWriter, to_store
from ..freezing import Division
from ..samples import Deriver, PrefixSource, TrainingData
from ..settings import Views
from ..threads import thread_pool
from .from_features import FromFeatures

__all__ = ["fill"]

WRITES_AHEAD = 4
"""Chunks for each thread that may wait to be encoded while the prefix computes the next; bounds a build's memory."""


def fill(
    writers: Mapping[int, CacheWriter[Cache]],
    division: Division,
    data: TrainingData,
    views: Views,
    specs: Sequence[CacheSpec],
    source: PrefixSource,
    deriver: Deriver | None,
    from_features: FromFeatures | None,
    share: Collection[int] | None = None,
) -> None:
    """Write what is not written yet; threads encode and write while the next chunk is computed.

    What is recorded while epochs show it begins with a single record, which says what the targets are.

    Args:
        writers: by the number of their tensor.
        from_features: how it is built from earlier features; None: from images.
        share: the chunks that are written; None: all.
    """
    event = division.event if from_features is None else from_features.origin.event
    count, chunks = (specs[0].views, data.order.chunks) if views.record == "ahead" else (1, 1)
    first = data.renditions.view(event, 0)
    threads = _writing_threads(data.on_device.device)
    with thread_pool(threads, "hoarfrost-write") as writing:
        pending: list[Future[int]] = []
        for view in range(count):
            draw = data.renditions.view(event, view)
            mine = [n for n in range(chunks) if share is None or n in share]
            todo = [n for n in mine if any((n, view) not in writer.done for writer in writers.values())]
            members = [data.order.members(chunk) for chunk in todo]
            given: Iterator[tuple[tuple[Tensor, ...], Tensor, str | None]]
            if from_features is None:
                told = zip(data.samples.stream_told(members, draw), members, strict=True)
                given = ((source.run_calls(calls, ids), targets, digests) for (calls, targets, digests), ids in told)
            else:
                layers, earlier = from_features.source, from_features.earlier
                read = zip(earlier.stream(todo, view), todo, strict=True)
                given = ((layers.run(x), targets, earlier.cache.digests(chunk)) for (x, targets), chunk in read)
            for chunk, ids, (tensors, targets, digests) in zip(todo, members, given, strict=True):
                for number, writer in writers.items():
                    if (chunk, view) in writer.done:
                        continue
                    stored, derived = specs[number].stored[view], None
                    call = number * len(data.samples.form.mains) // len(specs)
                    if stored.gains is not None and deriver is not None:
                        base = specs[number].dense(writer.packed(chunk, 0))
                        derived = replace(deriver, call=call).derive(base, chunk, first, draw)
                    features = to_store(stored, specs[number].channel_axis, tensors[number], derived)
                    if len(pending) >= WRITES_AHEAD * threads:
                        pending.pop(0).result()
                    lengths = source.lengths(ids, number)
                    row = (chunk, view, ids, targets, features, lengths, digests, data.samples.frames.told(ids, call))
                    pending.append(writing.submit(writer.append, *row))
            # A further view may be stored as its difference to the base view: that one is written by then.
            while pending:
                pending.pop(0).result()


def _writing_threads(device: torch.device) -> int:
    """Where the prefix runs on the CPU, one; elsewhere it is faster than one can encode, and half of the cores do."""
    return 1 if device.type == "cpu" else max(1, min(8, (os.cpu_count() or 2) // 2))
