"""The cache's twin in memory: the same interface and the same codec, without disk. The tests' oracle."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..codecs import Packed
from ..errors import ArgumentError, BudgetError, CorruptChunkError, StaleCacheError
from .chunk import Chunk, Damage
from .encoding import TargetForm, encode_features, prepare_ids, prepare_lengths, prepare_targets, unpack_features
from .fingerprint import Fingerprint
from .replacement import Replaceable, Replacement
from .spec import CacheSpec

__all__ = ["MemoryCache", "MemoryWriter"]


class _Stored(NamedTuple):
    sample_ids: tuple[int, ...]
    targets: bytes
    payload: bytes
    edition: int
    lengths: tuple[int, ...] | None = None
    frames: tuple[int, ...] | None = None


class MemoryWriter:
    """A `MemoryCache` that is being filled; see `CacheWriter`. Nothing outlives it, so there is nothing
    to resume.
    """

    def __init__(self, fingerprint: Fingerprint, spec: CacheSpec, budget_bytes: int | None) -> None:
        self.fingerprint = fingerprint
        self.spec = spec
        self.budget_bytes = budget_bytes
        self._form: TargetForm | None = None
        self._records: dict[tuple[int, int], _Stored] = {}
        self._closed = False

    @property
    def done(self) -> set[tuple[int, int]]:
        return set(self._records)

    @property
    def nbytes(self) -> int:
        """Bytes of features and targets so far."""
        return _nbytes(self._records)

    def append(
        self,
        chunk: int,
        view: int,
        sample_ids: Sequence[int] | Tensor,
        targets: Tensor,
        features: Tensor,
        lengths: Sequence[int] | Tensor | None = None,
        digests: str | None = None,
        frames: Sequence[int] | None = None,
    ) -> int:
        """As `CacheWriter.append`; the budget counts encoded features and targets."""
        self.spec.check_record(chunk, view)
        if self._closed:
            raise ArgumentError("the writer is closed: it was committed, aborted or left")
        if (chunk, view) in self._records:
            raise ArgumentError(f"chunk {chunk}, view {view} is written already; skip what writer.done holds")
        ids = prepare_ids(self.spec, chunk, sample_ids)
        form, target_bytes = prepare_targets(self.spec, chunk, targets, self._form)
        sizes = prepare_lengths(self.spec, chunk, lengths)
        payload = encode_features(self.spec, chunk, view, ids, features, sizes)
        for other in range(self.spec.views):
            twin = self._records.get((chunk, other))
            if twin is not None and (*twin[:2], twin.lengths) != (ids, target_bytes, sizes):
                raise ArgumentError(f"chunk {chunk} has other sample ids, lengths or targets under view {other}")
        needed = self.nbytes + len(payload) + len(target_bytes)
        if self.budget_bytes is not None and needed > self.budget_bytes:
            raise BudgetError(f"the cache needs {needed:,} bytes, beyond the budget of {self.budget_bytes:,} bytes")
        self._form = form
        self._records[chunk, view] = _Stored(
            ids, target_bytes, payload, 0, sizes, None if frames is None else tuple(frames)
        )
        return len(payload)

    def packed(self, chunk: int, view: int) -> Packed:
        """As `CacheWriter.packed`."""
        stored = self._records[chunk, view]
        return unpack_features(self.spec, chunk, view, stored.payload, stored.lengths)

    def commit(self, *, whole: bool = True) -> MemoryCache:
        """As `CacheWriter.commit`."""
        missing = sorted(self.spec.records - self.done)
        if (missing and whole) or self._closed or self._form is None:
            raise ArgumentError(f"{len(missing)} of {len(self.spec.records)} records are missing, or it is closed")
        self._closed = True
        return MemoryCache(self.fingerprint, self.spec, self._form, self._records)

    def abort(self) -> None:
        self._records = {}
        self._closed = True

    def close(self) -> None:
        self._closed = True

    def __enter__(self) -> MemoryWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class MemoryCache(Replaceable):
    """As `Cache`, with its records in memory. Features pass through the codec, so that both give the same
    bits.
    """

    path: Path | None = None

    def __init__(
        self,
        fingerprint: Fingerprint,
        spec: CacheSpec,
        form: TargetForm,
        records: dict[tuple[int, int], _Stored],
    ) -> None:
        self.fingerprint = fingerprint
        self.spec = spec
        self._form = form
        self._records = records
        self._whole = set(records) == spec.records
        self._rewritten = 0

    @staticmethod
    def create(
        directory: str | os.PathLike[str] | None,
        fingerprint: Fingerprint,
        spec: CacheSpec,
        *,
        budget_bytes: int | None = None,
    ) -> MemoryWriter:
        """As `Cache.create`; `directory` is not looked at."""
        return MemoryWriter(fingerprint, spec, budget_bytes)

    def frames(self, chunk: int) -> tuple[int, ...] | None:
        """As `Cache.frames`."""
        views = (self._records.get((chunk, view)) for view in range(self.spec.views))
        return next((stored.frames for stored in views if stored is not None and stored.frames), None)

    def check(self, fingerprint: Fingerprint) -> None:
        """What `Cache.open` does with a fingerprint; raises `StaleCacheError`."""
        difference = fingerprint.explain(self.fingerprint)
        if difference:
            raise StaleCacheError(f"{difference}: the cache in memory was made from something else")

    def hold(self) -> MemoryCache:
        """As `Cache.hold`; nobody else can remove it."""
        return self

    def release(self) -> None:
        """As `Cache.release`."""

    @property
    def whole(self) -> bool:
        """As `Cache.whole`."""
        return self._whole

    @property
    def fetches(self) -> bool:
        """As `Cache.fetches`: nothing is missing here."""
        return False

    @property
    def unfetched(self) -> None:
        """As `Cache.unfetched`."""

    @property
    def nbytes(self) -> int:
        return _nbytes(self._records)

    @property
    def dense_nbytes(self) -> int:
        return sum(self.spec.dense_nbytes_of(*place, stored.lengths) for place, stored in self._records.items())

    def read(self, chunk: int, view: int) -> Chunk:
        """As `Cache.read`."""
        self.spec.check_record(chunk, view)
        if (chunk, view) not in self._records:
            raise CorruptChunkError(f"chunk {chunk}, view {view} in memory: the cache was dropped")
        stored = self._records[chunk, view]
        ids, targets = torch.tensor(stored.sample_ids, dtype=torch.int64), self._form.parse(stored.targets)
        packed = unpack_features(self.spec, chunk, view, stored.payload, stored.lengths)
        lengths = None if stored.lengths is None else torch.tensor(stored.lengths, dtype=torch.int64)
        return Chunk(ids, targets, packed, self.spec, stored.edition, lengths)

    def sample_ids(self, chunk: int) -> Tensor:
        """As `Cache.sample_ids`."""
        return self.read(chunk, 0).sample_ids

    def _replace(self, new: Replacement) -> Chunk:
        """The budget counts encoded features and targets."""
        spec, chunk, view = self.spec, new.chunk, new.view
        spec.check_record(chunk, view)
        twins = [self._records[chunk, v] for v in range(spec.views) if (chunk, v) in self._records]
        if not twins and (new.sample_ids is None or new.targets is None):
            raise CorruptChunkError(f"chunk {chunk} in memory is lost: give sample_ids and targets too")
        ids = twins[0].sample_ids if new.sample_ids is None else prepare_ids(spec, chunk, new.sample_ids)
        if twins and ids != twins[0].sample_ids:
            raise ArgumentError(f"chunk {chunk} was built with other sample ids than those given to heal it")
        targets = twins[0].targets if new.targets is None else prepare_targets(spec, chunk, new.targets, self._form)[1]
        if twins and targets != twins[0].targets:
            raise ArgumentError(f"chunk {chunk} was built with other targets than those given to heal it")
        kept = self.edition(chunk, view) or 0
        edition = kept if new.edition is None else new.edition
        known = twins[0].lengths if twins and new.lengths is None else new.lengths
        lengths = prepare_lengths(spec, chunk, known)
        if twins and lengths != twins[0].lengths:
            raise ArgumentError(f"chunk {chunk} was built with other lengths than those given to heal it")
        stored = _Stored(ids, targets, encode_features(spec, chunk, view, ids, new.features, lengths), edition, lengths)
        after = {**self._records, (chunk, view): stored}
        if new.budget_bytes is not None and _nbytes(after) > new.budget_bytes:
            raise BudgetError(
                f"the cache needs {_nbytes(after):,} bytes, beyond the budget of {new.budget_bytes:,} bytes"
            )
        self._records = after
        self._rewritten += 1
        return self.read(chunk, view)

    def edition(self, chunk: int, view: int) -> int | None:
        """As `Cache.edition`."""
        return self._records[chunk, view].edition if (chunk, view) in self._records else None

    def written(self) -> tuple[int, ...]:
        """As `Cache.written`."""
        return (self._rewritten,)

    def verify(self) -> list[Damage]:
        return []

    def drop(self) -> None:
        self._records = {}


def _nbytes(records: dict[tuple[int, int], _Stored]) -> int:
    """Targets are counted once for each chunk, as they are stored on disk."""
    targets = {chunk: len(stored.targets) for (chunk, _), stored in records.items()}
    return sum(targets.values()) + sum(len(stored.payload) for stored in records.values())
