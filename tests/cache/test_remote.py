"""Caches at a URL: published whole or not at all, copied, and fetched record by record."""

from __future__ import annotations

import builtins
import os
import pickle
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from cache_cases import FINGERPRINT, OTHER, assert_equal, disk, make_ragged, make_spec, memory, places, row, same

from hoarfrost.cache import Cache, CacheSpec, MemoryCache, RemoteCaches, remote_lease
from hoarfrost.errors import ArgumentError, BudgetError, CorruptChunkError, RemoteCacheError
from shared.flaky_files import URL, FlakyFiles, failing, flaky

__all__ = ["flaky"]

KEY = FINGERPRINT.key


def copy(remote: RemoteCaches, root: Path) -> Cache:
    """A copy of what was published, nothing of its features fetched."""
    root.mkdir(exist_ok=True)
    assert remote.take(root, KEY)
    cache = Cache.open(root / KEY)
    cache.fetch_from(remote)
    return cache


def readable(cache: Cache, oracle: MemoryCache) -> list[tuple[int, int]]:
    """The records that can be read, each held against what was written."""
    found = []
    for place in places(cache.spec):
        try:
            assert same(cache.read(*place), oracle.read(*place))
        except CorruptChunkError:
            continue
        found.append(place)
    return found


def settled(done: Any) -> None:
    """Wait for what a thread does."""
    until = time.monotonic() + 20
    while not done():
        assert time.monotonic() < until
        time.sleep(0.005)


@pytest.mark.parametrize("spec", [make_spec(), make_ragged()], ids=["one shape", "lengths"])
@pytest.mark.parametrize("kind", ["memory", "file"])
def test_what_is_read_of_a_copy_is_what_was_written(tmp_path: Path, kind: str, spec: CacheSpec) -> None:
    url = f"file://{tmp_path}/far" if kind == "file" else f"memory://{tmp_path}"
    built = disk(tmp_path / "near", spec)
    assert built.publish(RemoteCaches(url))
    assert_equal(copy(RemoteCaches(url), tmp_path / "copy"), memory(spec))
    assert Cache.open(tmp_path / "copy" / KEY).verify() == []  # all of it is here by now


def test_a_copy_is_whole_but_for_its_features(tmp_path: Path, flaky: type[FlakyFiles]) -> None:
    remote = RemoteCaches(URL)
    disk(tmp_path / "near").publish(remote)
    cache = copy(remote, tmp_path / "copy")
    assert [cache.sample_ids(chunk).tolist() for chunk in range(cache.spec.chunks)] == [
        list(row(cache.spec, chunk, 0)[2]) for chunk in range(cache.spec.chunks)
    ]
    assert "cat_ranges" not in [name for name, _ in flaky.asked]
    alone = Cache.open(tmp_path / "copy" / KEY)  # by somebody who knows of no URL
    assert len(alone.verify()) == len(alone.spec.records)


def test_a_cache_that_is_published_half_is_none(tmp_path: Path, flaky: type[FlakyFiles]) -> None:
    remote = RemoteCaches(URL)
    built = disk(tmp_path / "near")
    (tmp_path / "copy").mkdir()
    for files in range(4):
        with failing("put_file", after=files), pytest.raises(RemoteCacheError, match="publishing a cache failed at"):
            built.publish(remote)
        assert not remote.holds(KEY)
        assert not remote.take(tmp_path / "copy", KEY)
        assert list((tmp_path / "copy").glob("*")) == []
    assert [found.state for found in remote.caches()] == ["unfinished"]
    assert built.publish(remote)
    assert [found.state for found in remote.caches()] == ["ready"]
    assert_equal(copy(remote, tmp_path / "copy"), memory())


def test_a_manifest_that_arrived_half_is_none(tmp_path: Path, flaky: type[FlakyFiles]) -> None:
    remote = RemoteCaches(URL)
    disk(tmp_path / "near").publish(remote)
    (path,) = [path for path in flaky.store if path.endswith("manifest.json")]
    whole = flaky().cat_file(path)
    flaky().pipe_file(path, whole[: len(whole) // 2])
    assert not remote.holds(KEY)
    assert [found.state for found in remote.caches()] == ["damaged"]


def test_what_is_finished_is_never_written_over(tmp_path: Path, flaky: type[FlakyFiles]) -> None:
    remote = RemoteCaches(URL)
    disk(tmp_path / "one").publish(remote)
    before = {path: file.getvalue() for path, file in flaky.store.items()}
    assert not disk(tmp_path / "other").publish(remote)
    assert {path: file.getvalue() for path, file in flaky.store.items()} == before


def test_two_that_publish_at_once_leave_two_whole_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = RemoteCaches(f"memory://{tmp_path}")
    monkeypatch.setattr(RemoteCaches, "holds", lambda *_: False)  # each looked before the other was done
    one, other = disk(tmp_path / "one"), disk(tmp_path / "other")
    assert one.publish(remote)
    assert other.publish(remote)
    assert [found.state for found in remote.caches()] == ["ready", "ready"]
    assert_equal(copy(remote, tmp_path / "copy"), memory())


@pytest.mark.parametrize("name", ["features.bin", "targets.bin", "journal.jsonl"])
def test_a_cache_that_is_damaged_here_is_not_published(tmp_path: Path, name: str) -> None:
    built = disk(tmp_path / "near")
    path = built.path / name
    data = bytearray(path.read_bytes())
    data[-30] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptChunkError):
        built.publish(RemoteCaches(f"memory://{tmp_path}"))
    assert not RemoteCaches(f"memory://{tmp_path}").holds(KEY)


def test_a_copy_of_which_not_all_was_fetched_is_not_published(tmp_path: Path) -> None:
    disk(tmp_path / "near").publish(RemoteCaches(f"memory://{tmp_path}/one"))
    cache = copy(RemoteCaches(f"memory://{tmp_path}/one"), tmp_path / "copy")
    cache.read(0, 0)
    with pytest.raises(CorruptChunkError, match="checksum"):
        cache.publish(RemoteCaches(f"memory://{tmp_path}/other"))


@pytest.mark.parametrize(
    ("damage", "left"),
    [(lambda data, at: data[: at + 3], 3), (lambda data, at: data[:at] + b"!" + data[at + 1 :], 5)],
    ids=["cut short", "altered"],
)
def test_records_that_are_damaged_at_the_url_are_named_and_the_others_come(
    tmp_path: Path, flaky: type[FlakyFiles], damage: Any, left: int
) -> None:
    remote = RemoteCaches(URL)
    built = disk(tmp_path / "near")
    built.publish(remote)
    (path,) = [path for path in flaky.store if path.endswith("features.bin")]
    offset = sorted(record.offset for record in built._journal.records.values())[left]
    flaky().pipe_file(path, damage(flaky().cat_file(path), offset))
    cache = copy(remote, tmp_path / "copy")
    assert len(readable(cache, memory())) == left
    assert cache.unfetched is None


def test_where_the_features_are_gone_nothing_more_is_asked_for(tmp_path: Path, flaky: type[FlakyFiles]) -> None:
    remote = RemoteCaches(URL)
    disk(tmp_path / "near").publish(remote)
    cache = copy(remote, tmp_path / "copy")
    cache.read(0, 0)
    flaky().rm_file(next(path for path in flaky.store if path.endswith("features.bin")))
    flaky.asked.clear()
    assert readable(cache, memory()) == [(0, 0)]
    assert [name for name, _ in flaky.asked].count("cat_ranges") == 1
    assert "FileNotFoundError" in str(cache.unfetched)
    cache.expect([])  # the next epoch tries again
    assert cache.unfetched is None


def test_while_the_network_is_down_records_are_damaged_and_later_they_come(
    tmp_path: Path, flaky: type[FlakyFiles]
) -> None:
    remote = RemoteCaches(URL)
    disk(tmp_path / "near").publish(remote)
    cache = copy(remote, tmp_path / "copy")
    with failing():
        assert readable(cache, memory()) == []
        with pytest.raises(RemoteCacheError, match=r"looking for a cache failed at flaky.*the network is down"):
            remote.holds(KEY)
    assert "the network is down" in str(cache.unfetched)
    cache.expect([])
    assert_equal(cache, memory())


def test_what_is_expected_comes_in_that_order_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = RemoteCaches(f"memory://{tmp_path}")
    disk(tmp_path / "near", make_spec(samples=48)).publish(remote)
    cache = copy(remote, tmp_path / "copy")
    asked: list[tuple[int, int]] = []
    records = remote.records
    monkeypatch.setattr(remote, "records", lambda key, some: asked.extend(r.place for r in some) or records(key, some))
    order = [(chunk, view) for chunk in torch.randperm(12).tolist() for view in (1, 0)]
    cache.read(*order[7])
    cache.expect(order)
    settled(lambda: Cache.open(tmp_path / "copy" / KEY).verify() == [])
    assert asked == [order[7], *order[:7], *order[8:]]
    assert_equal(Cache.open(tmp_path / "copy" / KEY), memory(make_spec(samples=48)))


def test_a_record_that_a_killed_process_wrote_half_is_fetched_by_who_reads_it(tmp_path: Path) -> None:
    remote = RemoteCaches(f"memory://{tmp_path}")
    built = disk(tmp_path / "near")
    built.publish(remote)
    cache = copy(remote, tmp_path / "copy")
    record = cache._journal.records[1, 0]
    with (cache.path / "features.bin").open("r+b") as file:
        file.seek(record.offset)
        file.write((built.path / "features.bin").read_bytes()[record.offset :][: record.nbytes // 2])
    assert readable(Cache.open(cache.path), memory()) == []
    assert_equal(cache, memory())


def test_a_record_that_is_drawn_anew_meanwhile_is_not_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its room may be another's by now."""
    remote = RemoteCaches(f"memory://{tmp_path}")
    disk(tmp_path / "near").publish(remote)
    cache, other = copy(remote, tmp_path / "copy"), Cache.open(tmp_path / "copy" / KEY)
    records = remote.records

    def slow(key: str, some: Any) -> Any:
        found = records(key, some)
        for place in places(other.spec):
            other.renew(*place, 1, row(other.spec, *place, seed=5)[4])
        return found

    monkeypatch.setattr(remote, "records", slow)
    assert cache.read(1, 0).edition == 1
    oracle = memory()
    for place in places(oracle.spec):
        oracle.renew(*place, 1, row(oracle.spec, *place, seed=5)[4])
    assert_equal(other, oracle)
    assert not cache.publish(RemoteCaches(f"memory://{tmp_path}/other"))  # others begin with first renditions


def test_a_copy_that_was_broken_off_is_begun_again(tmp_path: Path, flaky: type[FlakyFiles]) -> None:
    remote = RemoteCaches(URL)
    disk(tmp_path / "near").publish(remote)
    root = tmp_path / "copy"
    root.mkdir()
    with failing("get_file", after=1), pytest.raises(RemoteCacheError, match="fetching a cache failed"):
        remote.take(root, KEY)
    assert not list(root.glob("[!.]*"))
    left = root / f"building-{KEY}"  # by a process that was killed
    left.mkdir()
    (left / "features.bin").write_bytes(bytes.fromhex("00" * 8))
    (left / "journal.jsonl").write_bytes((tmp_path / "near" / KEY / "journal.jsonl").read_bytes())
    assert_equal(copy(remote, root), memory())
    assert not left.exists()


def test_a_cache_of_another_key_is_not_taken(tmp_path: Path, flaky: type[FlakyFiles]) -> None:
    """Wherever it lies: the manifest says what it was made from."""
    remote = RemoteCaches(URL)
    disk(tmp_path / "near").publish(remote)
    files = flaky()
    for path in list(flaky.store):
        files.cp_file(path, path.replace(KEY, OTHER.key))
    assert not remote.holds(OTHER.key)
    assert not remote.take(tmp_path, OTHER.key)


def test_a_cache_in_another_process_fetches_nothing(tmp_path: Path) -> None:
    remote = RemoteCaches(f"memory://{tmp_path}")
    disk(tmp_path / "near").publish(remote)
    cache = copy(remote, tmp_path / "copy")
    sent = pickle.loads(pickle.dumps(cache))
    assert cache.fetches
    assert not sent.fetches
    cache.release()
    assert not cache.fetches


def test_prune_removes_what_is_proved_to_be_a_cache(tmp_path: Path) -> None:
    far = tmp_path / "far"
    remote = RemoteCaches(f"file://{far}")
    disk(tmp_path / "near").publish(remote)
    disk(tmp_path / "near", fingerprint=OTHER).publish(remote)
    (ours,) = (far / KEY).glob("*")
    foreign = far / KEY / ("f" * 16)
    foreign.mkdir()
    (foreign / "features.bin").write_bytes(b"somebody's")
    half = far / OTHER.key / ("a" * 16)
    half.mkdir()
    (half / "features.bin").write_bytes(bytes.fromhex("a" * 16) + b"features")
    (far / "notes.txt").write_text("mine")
    os.utime(foreign / "features.bin", (1, 1))

    assert remote.prune(abandoned_only=True) == []  # it may be on its way
    os.utime(half / "features.bin", (1, 1))
    assert remote.prune(abandoned_only=True) == [str(half)]
    (ours / "mine.txt").write_text("mine")
    assert remote.prune([OTHER.key]) == []
    (ours / "mine.txt").unlink()
    assert remote.prune([OTHER.key]) == [str(ours)]
    assert remote.holds(OTHER.key)
    assert sorted(path.name for path in far.rglob("*.*") if path.is_file()) == [
        *("features.bin", "features.bin", "journal.jsonl", "manifest.json", "notes.txt", "targets.bin")
    ]
    assert [found.state for found in remote.caches()] == ["unfinished", "ready"]


@pytest.mark.parametrize("name", ["features.bin", "targets.bin", "journal.jsonl"])
def test_what_has_lost_a_file_is_published_again(tmp_path: Path, flaky: type[FlakyFiles], name: str) -> None:
    """By the next one that builds it, and by the one that has it still, over the broken one."""
    remote = RemoteCaches(URL)
    built = disk(tmp_path / "near")
    built.publish(remote)
    flaky().rm_file(next(path for path in flaky.store if path.endswith(name)))
    assert [found.state for found in remote.caches()] == ["damaged"]
    assert not remote.holds(KEY)
    assert not remote.take(tmp_path, KEY)
    assert disk(tmp_path / "other").publish(remote)
    assert sorted(found.state for found in remote.caches()) == ["damaged", "ready"]
    reads = copy(remote, tmp_path / "copy")
    assert_equal(reads, memory())
    reads.release()
    assert len(remote.prune()) == 2
    built.publish(remote)
    flaky().rm_file(next(path for path in flaky.store if path.endswith(name)))
    assert built.publish(remote)
    assert [found.state for found in remote.caches()] == ["ready"]


def test_what_is_cut_short_is_published_again_and_read_while_it_is_all_there_is(
    tmp_path: Path, flaky: type[FlakyFiles]
) -> None:
    remote = RemoteCaches(URL)
    disk(tmp_path / "near").publish(remote)
    path = next(path for path in flaky.store if path.endswith("features.bin"))
    flaky().pipe_file(path, flaky().cat_file(path)[:-1])
    assert len(readable(copy(remote, tmp_path / "copy"), memory())) == 5
    assert disk(tmp_path / "other").publish(remote)
    assert_equal(copy(remote, tmp_path / "another"), memory())


def test_of_a_build_that_is_removed_once_it_was_seen_another_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flaky: type[FlakyFiles]
) -> None:
    remote = RemoteCaches(URL)
    with monkeypatch.context() as patch:
        patch.setattr(RemoteCaches, "holds", lambda *_: False)
        for name in ("one", "other"):
            disk(tmp_path / name).publish(remote)
    copied, going = remote._copied, 1

    def late(folder: str, *rest: Any) -> None:
        nonlocal going
        if going:
            going -= 1
            flaky().rm(folder, recursive=True)
        copied(folder, *rest)

    monkeypatch.setattr(remote, "_copied", late)
    assert_equal(copy(remote, tmp_path / "copy"), memory())
    going = 1
    (tmp_path / "nothing").mkdir()
    with pytest.raises(RemoteCacheError, match="fetching a cache failed"):
        remote.take(tmp_path / "nothing", KEY)
    assert list((tmp_path / "nothing").glob("[!.]*")) == []


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_what_somebody_fetches_is_not_pruned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    remote = RemoteCaches(f"file://{tmp_path}/far" if kind == "file" else f"memory://{tmp_path}")
    disk(tmp_path / "near").publish(remote)
    reads = copy(remote, tmp_path / "copy")
    reads.read(0, 0)
    another = copy(remote, tmp_path / "another")
    another.read(0, 0)
    assert remote.prune() == []
    reads.release()
    assert remote.prune() == []
    assert_equal(another, memory())
    monkeypatch.setattr(remote_lease, "LEASE_SECONDS", -1.0)  # it was killed, and long ago
    assert len(remote.prune()) == 1
    assert remote._files.find(remote._root) == []


def test_who_has_nothing_to_fetch_says_nothing_at_the_url(tmp_path: Path, flaky: type[FlakyFiles]) -> None:
    remote = RemoteCaches(URL)
    built = disk(tmp_path / "near")
    built.publish(remote)
    before = sorted(flaky.store)
    built.fetch_from(remote)
    built.expect(places(built.spec))
    assert_equal(built, memory())
    assert sorted(flaky.store) == before


def on_disk(root: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in root.rglob("*") if path.is_file())


def test_what_this_disk_has_no_room_for_passes_through(tmp_path: Path, flaky: type[FlakyFiles]) -> None:
    """Each time anew, in whatever order, ahead of who reads it and not."""
    remote, spec = RemoteCaches(URL), make_spec(samples=2000)
    disk(tmp_path / "near", spec).publish(remote)
    root = tmp_path / "copy"
    root.mkdir()
    remote.take(root, KEY)
    room = on_disk(root) + 100_000
    cache = Cache.open(root / KEY).hold()
    cache.fetch_from(remote, room)
    order = [(chunk, view) for chunk in torch.randperm(spec.chunks).tolist() for view in (1, 0)]
    oracle = memory(spec)
    for _ in range(2):
        flaky.asked.clear()
        cache.expect(order)
        assert all(same(cache.read(*place), oracle.read(*place)) for place in order)
        assert "cat_ranges" in [name for name, _ in flaky.asked]
        assert on_disk(root) <= room
        assert cache.unfetched is None
    assert 0 < len(spec.records) - len(Cache.open(root / KEY).verify()) < len(spec.records)
    assert_equal(cache, oracle)
    missing = Cache.open(root / KEY).verify()[0]
    with pytest.raises(BudgetError, match="the local_budget has not left"):
        cache.heal(missing.chunk, missing.view, row(spec, missing.chunk, missing.view)[4])


def test_caches_that_nobody_reads_make_room(tmp_path: Path) -> None:
    remote, root = RemoteCaches(f"memory://{tmp_path}"), tmp_path / "local"
    fingerprints = [replace(FINGERPRINT, fields={**FINGERPRINT.fields, "seed": n}) for n in range(5)]
    own, old, recent, read, wanted = (disk(root, fingerprint=fingerprint) for fingerprint in fingerprints)
    for cache in (old, recent, read, wanted):
        cache.publish(remote)
    for age, cache in enumerate((recent, old, own)):  # that one is nowhere else
        os.utime(cache.path, (1000 - age, 1000 - age))
    read.hold()
    wanted.drop()
    remote.take(root, wanted.path.name)
    cache = Cache.open(wanted.path).hold()
    cache.fetch_from(remote, on_disk(root) + 3000)
    cache.expect([])
    cache.read(0, 0)
    assert {path.name for path in root.glob("[!.]*")} == {c.path.name for c in (own, recent, read, wanted)}
    cache.release()
    cache.hold().fetch_from(remote, 1)
    cache.expect([])
    cache.read(1, 0)
    assert {path.name for path in root.glob("[!.]*")} == {c.path.name for c in (own, read, wanted)}


def test_without_fsspec_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == "fsspec":
            raise ImportError("No module named 'fsspec'")
        return found(name, *rest)

    monkeypatch.delitem(sys.modules, "fsspec")
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ArgumentError, match=r"'memory://here' is a URL, .* pip install 'hoarfrost\[remote\]'"):
        RemoteCaches("memory://here")


def test_a_url_of_no_known_file_system_is_refused() -> None:
    with pytest.raises(ArgumentError, match="caches cannot be kept at 'nosuch://here': Protocol not known: nosuch"):
        RemoteCaches("nosuch://here")
