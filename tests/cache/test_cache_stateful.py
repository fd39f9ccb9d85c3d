"""Any sequence of operations on a cache gives what the twin in memory gives."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from cache_cases import FINGERPRINT, OTHER, make_spec, places, row, same
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hoarfrost.cache import Cache, MemoryCache
from hoarfrost.errors import CacheError, CorruptChunkError

SPEC = make_spec(samples=6)
PLACES = st.sampled_from(places(SPEC))


class Twins(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.broken: set[tuple[int, int]] = set()
        self.begin()

    def begin(self) -> None:
        self.writer: Any = Cache.create(self.root, FINGERPRINT, SPEC)
        self.twin: Any = MemoryCache.create(None, FINGERPRINT, SPEC)
        self.cache: Cache | None = None
        self.oracle: MemoryCache | None = None

    def teardown(self) -> None:
        self.writer.close()
        shutil.rmtree(self.root)

    @precondition(lambda self: self.cache is None)
    @rule(place=PLACES)
    def append(self, place: tuple[int, int]) -> None:
        if place not in self.twin.done:
            assert self.writer.append(*row(SPEC, *place)) == self.twin.append(*row(SPEC, *place))

    @precondition(lambda self: self.cache is None)
    @rule(tear=st.booleans())
    def crash_and_resume(self, tear: bool) -> None:
        self.writer.close()
        if tear:
            with (self.writer.path / "features.bin").open("ab") as data:
                data.write(b"half a rec")
            with (self.writer.path / "journal.jsonl").open("ab") as journal:
                journal.write(b'{"chunk":1,"vi')
        self.writer = Cache.create(self.root, FINGERPRINT, SPEC)

    @precondition(lambda self: self.cache is None)
    @rule()
    def build_another(self) -> None:
        Cache.create(self.root, OTHER, SPEC).abort()

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
        features = row(SPEC, *place, seed)[4]
        self.cache.heal(*place, features)
        self.oracle.heal(*place, features)
        self.broken.discard(place)

    @precondition(lambda self: self.cache is not None)
    @rule(place=PLACES, edition=st.integers(0, 3))
    def renew(self, place: tuple[int, int], edition: int) -> None:
        assert self.cache is not None
        assert self.oracle is not None
        _, _, ids, targets, features = row(SPEC, *place, edition)
        for cache in (self.cache, self.oracle):
            cache.renew(*place, edition, features, targets=targets, sample_ids=ids)
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


TestTwins = Twins.TestCase
TestTwins.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)
