"""Damage is seen, named and healed; it never becomes silent wrong data."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from cache_cases import FINGERPRINT, assert_equal, disk, make_spec, memory, places, row, same

from hoarfrost.cache import Cache
from hoarfrost.cache.locking import CacheLock
from hoarfrost.codecs import Exact
from hoarfrost.errors import ArgumentError, CacheBusyError, CacheError, CorruptChunkError

FILES = ["features.bin", "targets.bin", "journal.jsonl", "manifest.json"]


def check_honest(root: Path) -> int:
    """Every record is right or refused; the number of those that are right."""
    oracle = memory()
    try:
        cache = Cache.open(root, FINGERPRINT)
    except CacheError:
        return 0
    right = 0
    for place in places(oracle.spec):
        try:
            chunk = cache.read(*place)
        except CorruptChunkError:
            continue
        assert same(chunk, oracle.read(*place)), place
        right += 1
    return right


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_never_silent(name: str, tmp_path: Path) -> None:
    path = disk(tmp_path).path / name
    whole = path.read_bytes()
    for bit in random.Random(0).sample(range(len(whole) * 8), 40):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        # A bit lies in one record, in one chunk's targets (two records), or in the page that speaks for all.
        assert check_honest(tmp_path) < 6
    path.write_bytes(whole)
    assert check_honest(tmp_path) == 6


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_never_silent(name: str, tmp_path: Path) -> None:
    path = disk(tmp_path).path / name
    whole = path.read_bytes()
    for length in [0, 1, len(whole) // 3, len(whole) // 2, len(whole) - 3]:
        path.write_bytes(whole[:length])
        assert check_honest(tmp_path) < 6
    path.unlink()
    assert check_honest(tmp_path) == 0


@pytest.mark.parametrize("name", FILES[:2])
def test_a_file_of_zeros_is_never_silent(name: str, tmp_path: Path) -> None:
    path = disk(tmp_path).path / name
    path.write_bytes(bytes(path.stat().st_size))
    assert check_honest(tmp_path) == 0


def damage(cache: Cache, name: str, kind: str) -> None:
    path = cache.path / name
    if kind == "missing":
        path.unlink()
    elif kind == "truncated":
        path.write_bytes(path.read_bytes()[:10])
    else:
        path.write_bytes(bytes(b ^ 1 for b in path.read_bytes()))


@pytest.mark.parametrize("kind", ["missing", "truncated", "checksum"])
@pytest.mark.parametrize("name", ["features.bin", "targets.bin"])
def test_the_error_names_chunk_view_path_and_reason(name: str, kind: str, tmp_path: Path) -> None:
    cache = disk(tmp_path)
    damage(cache, name, kind)
    with pytest.raises(CorruptChunkError, match=f"chunk 1, view 1 in {cache.path / name}: {kind}"):
        cache.read(1, 1)
    damages = cache.verify()
    assert [(d.chunk, d.view) for d in damages] == places(cache.spec)
    assert all(kind in d.reason and d.path == cache.path for d in damages)


def test_a_lost_line_of_the_journal_is_a_missing_record(tmp_path: Path) -> None:
    cache = disk(tmp_path)
    journal = cache.path / "journal.jsonl"
    lines = journal.read_bytes().split(b"\n")
    journal.write_bytes(b"\n".join([lines[0], lines[1][:20], *lines[2:]]))
    again = Cache.open(tmp_path)
    assert [(d.chunk, d.view) for d in again.verify()] == [(0, 1)]
    with pytest.raises(CorruptChunkError, match=r"chunk 0, view 1 in .*journal.jsonl: missing from the journal"):
        again.read(0, 1)
    again.heal(0, 1, row(cache.spec, 0, 1)[4])
    assert_equal(again, memory())


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
