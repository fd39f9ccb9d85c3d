"""The cache's twin in memory: the same interface and the same codec, without disk. The tests' oracle."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

from ..codecs import Packed
from ..errors import ArgumentError, BudgetError, CorruptChunkError, StaleCacheError
from .encoding import Chunk, Damage, TargetForm, encode_features, prepare_ids, prepare_targets
from .fingerprint import Fingerprint
from .spec import CacheSpec

__all__ = ["MemoryCache", "MemoryWriter"]

_Stored = tuple[tuple[int, ...], bytes, bytes, int]
"""Sample ids, targets, features, edition."""


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
        self, chunk: int, view: int, sample_ids: Sequence[int] | Tensor, targets: Tensor, features: Tensor
    ) -> int:
        """As `CacheWriter.append`; the budget counts encoded features and targets."""
        self.spec.check_record(chunk, view)
        if self._closed:
            raise ArgumentError("the writer is closed: it was committed, aborted or left")
        if (chunk, view) in self._records:
            raise ArgumentError(f"chunk {chunk}, view {view} is written already; skip what writer.done holds")
        ids = prepare_ids(self.spec, chunk, sample_ids)
        form, target_bytes = prepare_targets(self.spec, chunk, targets, self._form)
        payload = encode_features(self.spec, chunk, view, ids, features)
        for other in range(self.spec.views):
            twin = self._records.get((chunk, other))
            if twin is not None and twin[:2] != (ids, target_bytes):
                raise ArgumentError(f"chunk {chunk} has other sample ids or targets under view {other}")
        needed = self.nbytes + len(payload) + len(target_bytes)
        if self.budget_bytes is not None and needed > self.budget_bytes:
            raise BudgetError(f"the cache needs {needed:,} bytes, beyond the budget of {self.budget_bytes:,} bytes")
        self._form = form
        self._records[chunk, view] = (ids, target_bytes, payload, 0)
        return len(payload)

    def packed(self, chunk: int, view: int) -> Packed:
        """As `CacheWriter.packed`."""
        shape, axis = self.spec.physical_shape(chunk, view), self.spec.codec_axis
        return self.spec.codec_of(view).unpack(self._records[chunk, view][2], shape, self.spec.dtype, axis)

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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class MemoryCache:
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

    def check(self, fingerprint: Fingerprint) -> None:
        """What `Cache.open` does with a fingerprint; raises `StaleCacheError`."""
        difference = fingerprint.explain(self.fingerprint)
        if difference:
            raise StaleCacheError(f"{difference}: the cache in memory was made from something else")

    @property
    def whole(self) -> bool:
        """As `Cache.whole`."""
        return self._whole

    @property
    def nbytes(self) -> int:
        return _nbytes(self._records)

    @property
    def dense_nbytes(self) -> int:
        return sum(self.spec.dense_nbytes_of(*place) for place in self._records)

    def read(self, chunk: int, view: int) -> Chunk:
        """As `Cache.read`."""
        self.spec.check_record(chunk, view)
        if (chunk, view) not in self._records:
            raise CorruptChunkError(f"chunk {chunk}, view {view} in memory: the cache was dropped")
        ids, target_bytes, payload, edition = self._records[chunk, view]
        shape = self.spec.physical_shape(chunk, view)
        packed = self.spec.codec_of(view).unpack(payload, shape, self.spec.dtype, self.spec.codec_axis)
        return Chunk(torch.tensor(ids, dtype=torch.int64), self._form.parse(target_bytes), packed, self.spec, edition)

    def sample_ids(self, chunk: int) -> Tensor:
        """As `Cache.sample_ids`."""
        return self.read(chunk, 0).sample_ids

    def heal(
        self,
        chunk: int,
        view: int,
        features: Tensor,
        *,
        targets: Tensor | None = None,
        sample_ids: Sequence[int] | Tensor | None = None,
    ) -> Chunk:
        """As `Cache.heal`."""
        self.spec.check_record(chunk, view)
        ids, target_bytes, _, edition = self._records[chunk, view]
        if sample_ids is not None and prepare_ids(self.spec, chunk, sample_ids) != ids:
            raise ArgumentError(f"chunk {chunk} was built with other sample ids than those given to heal it")
        if targets is not None and prepare_targets(self.spec, chunk, targets, self._form)[1] != target_bytes:
            raise ArgumentError(f"chunk {chunk} was built with other targets than those given to heal it")
        payload = encode_features(self.spec, chunk, view, ids, features)
        self._records[chunk, view] = (ids, target_bytes, payload, edition)
        self._rewritten += 1
        return self.read(chunk, view)

    def renew(
        self,
        chunk: int,
        view: int,
        edition: int,
        features: Tensor,
        *,
        targets: Tensor,
        sample_ids: Sequence[int] | Tensor,
        budget_bytes: int | None = None,
    ) -> Chunk:
        """As `Cache.renew`; the budget counts encoded features and targets."""
        self.spec.check_record(chunk, view)
        ids = prepare_ids(self.spec, chunk, sample_ids)
        target_bytes = prepare_targets(self.spec, chunk, targets, self._form)[1]
        for other in range(self.spec.views):
            twin = self._records.get((chunk, other))
            if twin is not None and twin[:2] != (ids, target_bytes):
                raise ArgumentError(f"chunk {chunk} has other sample ids or targets under view {other}")
        record = (ids, target_bytes, encode_features(self.spec, chunk, view, ids, features), edition)
        after = {**self._records, (chunk, view): record}
        if budget_bytes is not None and _nbytes(after) > budget_bytes:
            raise BudgetError(f"the cache needs {_nbytes(after):,} bytes, beyond the budget of {budget_bytes:,} bytes")
        self._records = after
        self._rewritten += 1
        return self.read(chunk, view)

    def edition(self, chunk: int, view: int) -> int | None:
        """As `Cache.edition`."""
        return self._records[chunk, view][3] if (chunk, view) in self._records else None

    def written(self) -> tuple[int, ...]:
        """As `Cache.written`."""
        return (self._rewritten,)

    def verify(self) -> list[Damage]:
        return []

    def drop(self) -> None:
        self._records = {}


def _nbytes(records: dict[tuple[int, int], _Stored]) -> int:
    """Targets are counted once for each chunk, as they are stored on disk."""
    targets = {chunk: len(target_bytes) for (chunk, _), (_, target_bytes, _, _) in records.items()}
    return sum(targets.values()) + sum(len(payload) for _, _, payload, _ in records.values())
