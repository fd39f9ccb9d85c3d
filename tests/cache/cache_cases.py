"""Small caches for the tests, the same on every call and in every process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from hoarfrost.cache import Cache, CacheSpec, Chunk, Fingerprint, MemoryCache
from hoarfrost.codecs import Codec, Linear

FINGERPRINT = Fingerprint({"weights": "0123abcd", "cut": "layer1", "codec": {"name": "linear", "bits": 4}})
OTHER = Fingerprint({"weights": "89abcdef", "cut": "layer1", "codec": {"name": "linear", "bits": 4}})

Row = tuple[Any, ...]


def make_spec(
    samples: int = 10,
    chunk_size: int = 4,
    shape: tuple[int, ...] = (3, 5, 5),
    dtype: torch.dtype = torch.float32,
    channels_last: bool = False,
    codec: Codec | None = None,
    view_channels: tuple[tuple[int, ...] | None, ...] = (None, (2, 0)),
) -> CacheSpec:
    return CacheSpec(samples, chunk_size, shape, dtype, 1, channels_last, codec or Linear(4), view_channels)


def make_ragged(codec: Codec | None = None, samples: int = 6, chunk_size: int = 4) -> CacheSpec:
    """Samples that are 0 to 5 entries of 3 channels long."""
    total = sum(_length(sample) for sample in range(samples))
    channels = (None, (2, 0))
    return CacheSpec(samples, chunk_size, (3,), torch.float32, 1, False, codec or Linear(4), channels, total)


def _length(sample: int) -> int:
    return (7 * sample + 3) % 6


def row(spec: CacheSpec, chunk: int, view: int, seed: int = 0) -> Row:
    """The arguments of `append` for one record; lengths come last, where there are any."""
    generator = torch.Generator().manual_seed(1000 * seed + 10 * chunk + view)
    n = spec.rows(chunk)
    lengths = [_length(chunk * spec.chunk_size + i) for i in range(n)] if spec.ragged else None
    features = (
        torch.randn(n if lengths is None else sum(lengths), *spec.view_shape(view), generator=generator)
        .relu()
        .to(spec.dtype)
    )
    if spec.channels_last:
        features = features.contiguous(memory_format=torch.channels_last)
    # Samples are stored in an order of their own, as a loader's chunk order is.
    ids = [(7 * (chunk * spec.chunk_size + i) + 3) % 997 for i in range(n)]
    found = chunk, view, ids, torch.tensor(ids) % 10, features
    return found if lengths is None else (*found, lengths)


def places(spec: CacheSpec) -> list[tuple[int, int]]:
    return sorted(spec.records)


def fill(writer: Any, seed: int = 0) -> Any:
    """Appends every record that is not done, and commits."""
    for chunk, view in places(writer.spec):
        if (chunk, view) not in writer.done:
            writer.append(*row(writer.spec, chunk, view, seed))
    return writer.commit()


def disk(root: Path, spec: CacheSpec | None = None, fingerprint: Fingerprint = FINGERPRINT) -> Cache:
    cache = fill(Cache.create(root, fingerprint, spec or make_spec()))
    assert isinstance(cache, Cache)
    return cache


def memory(spec: CacheSpec | None = None, fingerprint: Fingerprint = FINGERPRINT) -> MemoryCache:
    cache = fill(MemoryCache.create(None, fingerprint, spec or make_spec()))
    assert isinstance(cache, MemoryCache)
    return cache


def same(left: Chunk, right: Chunk) -> bool:
    pairs = [
        (left.sample_ids, right.sample_ids),
        (left.targets, right.targets),
        (left.packed.values, right.packed.values),
        (left.features(), right.features()),
        *([(left.lengths, right.lengths)] if left.lengths is not None and right.lengths is not None else []),
    ]
    if (left.lengths is None) != (right.lengths is None):
        return False
    return all(a.dtype == b.dtype and a.stride() == b.stride() and torch.equal(a, b) for a, b in pairs)


def assert_equal(cache: Cache, oracle: MemoryCache) -> None:
    assert cache.spec == oracle.spec
    assert cache.fingerprint == oracle.fingerprint
    for place in places(cache.spec):
        assert same(cache.read(*place), oracle.read(*place)), place


def damage(cache: Cache, name: str, kind: str) -> None:
    """Makes one of the cache's files `missing` or `truncated`, or flips bits all over it (`checksum`)."""
    path = cache.path / name
    if kind == "missing":
        path.unlink()
    elif kind == "truncated":
        path.write_bytes(path.read_bytes()[:10])
    else:
        path.write_bytes(bytes(b ^ 1 for b in path.read_bytes()))
