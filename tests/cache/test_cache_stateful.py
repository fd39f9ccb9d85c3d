"""Any sequence of operations on a cache gives what the twin in memory gives."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from cache_cases import FINGERPRINT, OTHER, make_ragged, make_spec, places, row, same
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hoarfrost.cache import Cache, MemoryCache
from hoarfrost.errors import CacheError, CorruptChunkError

SPEC = make_spec(samples=6)
RAGGED = make_ragged(samples=6)
PLACES = st.sampled_from(places(SPEC))


class Twins(RuleBasedStateMachine):
    spec = SPEC

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.broken: set[tuple[int, int]] = set()
        self.begin()

    def begin(self) -> None:
        self.writer: Any = Cache.create(self.root, FINGERPRINT, self.spec)
        self.twin: Any = MemoryCache.create(None, FINGERPRINT, self.spec)
        self.cache: Cache | None = None
        self.oracle: MemoryCache | None = None

    def teardown(self) -> None:
        self.writer.close()
        shutil.rmtree(self.root)

    @precondition(lambda self: self.cache is None)
    @rule(place=PLACES)
    def append(self, place: tuple[int, int]) -> None:
        if place not in self.twin.done:
            record = row(self.spec, *place)
            assert self.writer.append(*record) == self.twin.append(*record)

    @precondition(lambda self: self.cache is None)
    @rule(tear=st.booleans())
    def crash_and_resume(self, tear: bool) -> None:
        self.writer.close()
        if tear:
            with (self.writer.path / "features.bin").open("ab") as data:
                data.write(b"half a rec")
            with (self.writer.path / "journal.jsonl").open("ab") as journal:
                journal.write(b'{"chunk":1,"vi')
        self.writer = Cache.create(self.root, FINGERPRINT, self.spec)

    @precondition(lambda self: self.cache is None)
    @rule()
    def build_another(self) -> None:
        Cache.create(self.root, OTHER, self.spec).abort()

    @precondition(lambda self: self.cache is None)
    @rule()
    def finish(self) -> None:
        for place in places(SPEC):
            self.append(place)
        self.cache, self.oracle = self.writer.commit(), self.twin.commit()

    @precondition(lambda self: self.cache is not None)
    @rule()
    def reopen(self) -> None:
        self.cache = Cache.open(self.root, FINGERPRINT)

    @precondition(lambda self: self.cache is not None)
    @rule(place=PLACES)
    def damage(self, place: tuple[int, int]) -> None:
        assert self.cache is not None
        if place in self.broken:
            return
        record = self.cache._journal.records[place]
        path = self.cache.path / "features.bin"
        data = bytearray(path.read_bytes())
        data[record.offset + record.nbytes // 2] ^= 16
        path.write_bytes(data)
        self.broken.add(place)

    @precondition(lambda self: self.cache is not None)
    @rule(place=PLACES, seed=st.integers(0, 2))
    def heal(self, place: tuple[int, int], seed: int) -> None:
        assert self.cache is not None
        assert self.oracle is not None
        features = row(self.spec, *place, seed)[4]
        self.cache.heal(*place, features)
        self.oracle.heal(*place, features)
        self.broken.discard(place)

    @precondition(lambda self: self.cache is not None)
    @rule(place=PLACES, edition=st.integers(0, 3))
    def renew(self, place: tuple[int, int], edition: int) -> None:
        assert self.cache is not None
        assert self.oracle is not None
        _, _, ids, targets, features, *lengths = row(self.spec, *place, edition)
        told = {"targets": targets, "sample_ids": ids, "lengths": lengths[0] if lengths else None}
        for cache in (self.cache, self.oracle):
            cache.renew(*place, edition, features, **told)
        self.broken.discard(place)

    @precondition(lambda self: self.cache is not None)
    @rule()
    def drop(self) -> None:
        assert self.cache is not None
        self.cache.drop()
        self.broken = set()
        self.begin()

    @invariant()
    def both_agree(self) -> None:
        assert self.writer.done == self.twin.done
        if self.cache is None or self.oracle is None:
            try:
                Cache.open(self.root, FINGERPRINT)
            except CacheError:
                return
            raise AssertionError("a cache is visible before it was committed")
        for place in places(SPEC):
            try:
                chunk = self.cache.read(*place)
            except CorruptChunkError:
                assert place in self.broken
                continue
            assert place not in self.broken
            assert same(chunk, self.oracle.read(*place))
            assert chunk.edition == self.oracle.read(*place).edition


class RaggedTwins(Twins):
    """Of samples that differ in length."""

    spec = RAGGED


TestTwins, TestRaggedTwins = Twins.TestCase, RaggedTwins.TestCase
for case in (TestTwins, TestRaggedTwins):
    case.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)
