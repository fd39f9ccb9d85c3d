"""A record is healed, or drawn anew in bounded room; a cache may be recorded bit by bit."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from cache_cases import FINGERPRINT, assert_equal, damage, disk, make_spec, memory, places, row, same

from hoarfrost.cache import Cache, MemoryCache
from hoarfrost.cache.locking import CacheLock
from hoarfrost.codecs import Exact
from hoarfrost.errors import ArgumentError, BudgetError, CacheBusyError, CacheDirectoryError, CorruptChunkError


@pytest.mark.parametrize("kind", ["missing", "truncated", "checksum"])
def test_healing_brings_every_record_back_for_good(kind: str, tmp_path: Path) -> None:
    cache = disk(tmp_path)
    damage(cache, "features.bin", kind)
    for chunk, view in places(cache.spec):
        cache.heal(chunk, view, row(cache.spec, chunk, view)[4])
    for healed in (cache, Cache.open(tmp_path, FINGERPRINT)):
        assert healed.verify() == []
        assert_equal(healed, memory())


@pytest.mark.parametrize("kind", ["missing", "truncated", "checksum"])
def test_healing_targets_needs_them(kind: str, tmp_path: Path) -> None:
    cache = disk(tmp_path)
    damage(cache, "targets.bin", kind)
    _, _, ids, targets, features = row(cache.spec, 2, 0)
    with pytest.raises(CorruptChunkError, match=r"the targets of chunk 2 .* are damaged: give them too"):
        cache.heal(2, 0, features)
    with pytest.raises(ArgumentError, match="chunk 2 was built with other targets"):
        cache.heal(2, 0, features, targets=targets + 1)
    with pytest.raises(ArgumentError, match="chunk 2 was built with other sample ids"):
        cache.heal(2, 0, features, targets=targets, sample_ids=ids[::-1])
    cache.heal(2, 0, features, targets=targets, sample_ids=ids)
    oracle = memory()
    for view in (0, 1):
        assert same(Cache.open(tmp_path).read(2, view), oracle.read(2, view))


def test_healing_without_a_journal_needs_the_ids(tmp_path: Path) -> None:
    cache = disk(tmp_path)
    (cache.path / "journal.jsonl").unlink()
    again = Cache.open(tmp_path)
    with pytest.raises(CorruptChunkError, match="lost the sample ids of chunk 0: give sample_ids and targets too"):
        again.heal(0, 0, row(cache.spec, 0, 0)[4])
    for chunk, view in places(cache.spec):
        _, _, ids, targets, features = row(cache.spec, chunk, view)
        again.heal(chunk, view, features, targets=targets, sample_ids=ids)
    assert_equal(Cache.open(tmp_path), memory())


def test_a_journal_deleted_under_an_open_cache_is_written_again(tmp_path: Path) -> None:
    cache = disk(tmp_path)
    (cache.path / "journal.jsonl").unlink()
    assert cache.verify() == []
    cache.heal(0, 0, row(cache.spec, 0, 0)[4])
    assert_equal(Cache.open(tmp_path), memory())


def test_a_heal_is_seen_by_caches_that_were_open_before(tmp_path: Path) -> None:
    cache = disk(tmp_path)
    other = Cache.open(tmp_path)
    damage(cache, "features.bin", "checksum")
    cache.heal(1, 0, row(cache.spec, 1, 0)[4])
    assert same(other.read(1, 0), memory().read(1, 0))


@pytest.mark.parametrize("failing", range(4))
def test_a_crash_while_healing_leaves_the_old_state_or_the_new(
    failing: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_spec(codec=Exact())
    cache = disk(tmp_path, spec)
    old, new = cache.read(1, 0).features(), row(spec, 1, 0, seed=5)[4]
    steps = 0
    honest_write, honest_sync = os.pwrite, os.fsync

    class Crash(BaseException):
        pass

    def step() -> bool:
        nonlocal steps
        steps += 1
        return steps == failing + 1

    def pwrite(fd: int, data: Any, offset: int) -> int:
        if step():
            honest_write(fd, bytes(data)[: len(data) // 2], offset)
            raise Crash
        return honest_write(fd, data, offset)

    def fsync(fd: int) -> None:
        if step():
            raise Crash
        honest_sync(fd)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", pwrite)
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(Crash):
            cache.heal(1, 0, new)
    again = Cache.open(tmp_path)
    found = again.read(1, 0).features()
    assert torch.equal(found, new if failing == 3 else old)
    assert again.verify() == []
    again.heal(1, 0, new)
    assert torch.equal(Cache.open(tmp_path).read(1, 0).features(), new)


def test_healing_waits_for_a_lock_and_names_its_holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = disk(tmp_path)
    monkeypatch.setattr("hoarfrost.cache.cache.HEAL_WAIT_SECONDS", 0.05)
    with CacheLock(tmp_path, FINGERPRINT.key), pytest.raises(CacheBusyError, match=f"process {os.getpid()}"):
        cache.heal(0, 0, row(cache.spec, 0, 0)[4])


def test_features_of_another_shape_do_not_heal(tmp_path: Path) -> None:
    cache = disk(tmp_path)
    with pytest.raises(ArgumentError, match="takes features of shape"):
        cache.heal(0, 0, torch.zeros(4, 3, 5, 6))
    assert_equal(cache, memory())


def renew(
    cache: Cache | MemoryCache, chunk: int, view: int, edition: int, seed: int, budget: int | None = None
) -> None:
    _, _, ids, targets, features = row(cache.spec, chunk, view, seed)
    cache.renew(chunk, view, edition, features, targets=targets, sample_ids=ids, budget_bytes=budget)


def test_a_renewed_record_tells_its_edition_and_holds_the_new_features(tmp_path: Path) -> None:
    cache, oracle = disk(tmp_path), memory()
    assert [cache.edition(*place) for place in places(cache.spec)] == [0] * len(places(cache.spec))
    for twin in (cache, oracle):
        renew(twin, 1, 0, 3, seed=7)
    for opened in (cache, Cache.open(tmp_path)):
        assert (opened.edition(1, 0), opened.read(1, 0).edition) == (3, 3)
        assert opened.edition(1, 1) == 0
        assert same(opened.read(1, 0), oracle.read(1, 0))
        assert opened.verify() == []
    assert not same(cache.read(1, 0), disk(tmp_path / "other").read(1, 0))


def test_healing_keeps_the_edition(tmp_path: Path) -> None:
    cache = disk(tmp_path)
    renew(cache, 0, 1, 2, seed=1)
    cache.heal(0, 1, row(cache.spec, 0, 1, 1)[4])
    assert Cache.open(tmp_path).edition(0, 1) == 2


def test_renewing_again_and_again_takes_the_room_of_earlier_renditions(tmp_path: Path) -> None:
    spec = make_spec(samples=160, view_channels=(None, None), codec=Exact())
    cache, rng = disk(tmp_path, spec), random.Random(0)
    features = cache.path / "features.bin"
    before = features.stat().st_size
    for edition in range(1, 8):
        order = places(cache.spec)
        rng.shuffle(order)
        for place in order:
            renew(cache, *place, edition, seed=edition)
    assert features.stat().st_size < 1.25 * before
    assert cache.verify() == []
    oracle = memory(spec)
    for place in places(cache.spec):
        renew(oracle, *place, 7, seed=7)
    assert_equal(Cache.open(tmp_path), oracle)


def test_a_reader_that_was_open_before_finds_the_new_rendition(tmp_path: Path) -> None:
    cache = disk(tmp_path, make_spec(codec=Exact()))
    other = Cache.open(tmp_path)
    for edition in (1, 2, 3):
        for place in places(cache.spec):
            renew(cache, *place, edition, seed=edition)
    for place in places(cache.spec):
        found = other.read(*place)
        assert found.edition in (0, 1, 2, 3)
        expected = row(cache.spec, *place, found.edition)[4]
        assert torch.equal(found.features(), expected)


def test_a_lost_line_falls_back_to_an_older_rendition_or_to_an_error_never_to_other_bytes(tmp_path: Path) -> None:
    cache = disk(tmp_path, make_spec(codec=Exact()))
    for edition in (1, 2):
        for place in places(cache.spec):
            renew(cache, *place, edition, seed=edition)
    journal = cache.path / "journal.jsonl"
    lines = journal.read_bytes().split(b"\n")
    for lost in range(len(lines)):
        journal.write_bytes(b"\n".join(line for n, line in enumerate(lines) if n != lost))
        again = Cache.open(tmp_path)
        for place in places(cache.spec):
            try:
                found = again.read(*place)
            except CorruptChunkError:
                continue
            assert torch.equal(found.features(), row(cache.spec, *place, found.edition)[4])


def test_a_budget_is_not_passed_and_the_old_record_stays(tmp_path: Path) -> None:
    cache, oracle = disk(tmp_path), memory()
    for twin in (cache, oracle):
        with pytest.raises(BudgetError):
            renew(twin, 0, 0, 1, seed=1, budget=10)
    assert cache.edition(0, 0) == 0
    assert_equal(Cache.open(tmp_path), oracle)


def test_other_targets_or_ids_are_refused(tmp_path: Path) -> None:
    for twin in (disk(tmp_path), memory()):
        _, _, ids, targets, features = row(twin.spec, 0, 0)
        with pytest.raises(ArgumentError, match="other"):
            twin.renew(0, 0, 1, features, targets=targets + 1, sample_ids=ids)
        with pytest.raises(ArgumentError, match="other"):
            twin.renew(0, 0, 1, features, targets=targets, sample_ids=ids[::-1])


def test_a_cache_may_be_committed_with_some_of_its_records_and_recorded_further(tmp_path: Path) -> None:
    spec = make_spec()
    first, *rest = places(spec)
    caches = []
    for writer in (Cache.create(tmp_path, FINGERPRINT, spec), MemoryCache.create(None, FINGERPRINT, spec)):
        writer.append(*row(spec, *first))
        with pytest.raises(ArgumentError, match="records are missing"):
            writer.commit()
        caches.append(writer.commit(whole=False))
    for cache in caches:
        assert not cache.whole
        assert cache.dense_nbytes == spec.dense_nbytes_of(*first) == 4 * 4 * 75
        assert [cache.edition(*place) for place in places(spec)] == [0] + [None] * len(rest)
        assert cache.verify() == []
        with pytest.raises(CorruptChunkError):
            cache.read(*rest[0])
        for place in rest:
            renew(cache, *place, 0, seed=0)
    disk_cache, oracle = caches
    assert disk_cache.dense_nbytes == oracle.dense_nbytes == spec.dense_nbytes
    assert_equal(Cache.open(tmp_path), oracle)
    (disk_cache.path / "features.bin").write_bytes(b"")
    assert len(disk_cache.verify()) == len(places(spec))


def test_nothing_at_all_cannot_be_committed(tmp_path: Path) -> None:
    for writer in (
        Cache.create(tmp_path, FINGERPRINT, make_spec()),
        MemoryCache.create(None, FINGERPRINT, make_spec()),
    ):
        with pytest.raises(ArgumentError, match="records are missing"):
            writer.commit(whole=False)


def test_a_whole_cache_says_so(tmp_path: Path) -> None:
    assert disk(tmp_path).whole
    assert memory().whole


def test_a_vanished_directory_is_named(tmp_path: Path) -> None:
    cache = disk(tmp_path)
    cache.drop()
    with pytest.raises(CacheDirectoryError, match="has vanished"):
        renew(cache, 0, 0, 1, seed=1)
