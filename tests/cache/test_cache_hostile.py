"""A cache's files from a stranger: refused or left alone by name, with nothing allocated that they merely declare."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from cache_cases import FINGERPRINT, OTHER, assert_equal, disk, make_ragged, make_spec, memory, places, row, same

from hoarfrost.cache import Cache, CacheSpec, list_caches, prune
from hoarfrost.cache.fingerprint import canonical_json
from hoarfrost.cache.journal import Record, write_line
from hoarfrost.codecs import Exact, Shared
from hoarfrost.codecs.frame import squeeze
from hoarfrost.errors import CacheDirectoryError, CacheError, CorruptChunkError


def reseal(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes a manifest, and gives it the sha256 that fits."""
    body = json.loads((path / "manifest.json").read_text())
    change(body)
    del body["sha256"]
    body["sha256"] = hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    (path / "manifest.json").write_text(json.dumps(body))


def lines(cache: Cache, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes each line of the journal, and gives it the checksum that fits."""
    found = []
    for line in (cache.path / "journal.jsonl").read_bytes().split(b"\n"):
        if line:
            fields = json.loads(line)
            del fields["line_crc32"]
            change(fields)
            body = canonical_json(fields)[:-1]
            found.append(body + b',"line_crc32":"%08x"}' % zlib.crc32(body))
    (cache.path / "journal.jsonl").write_bytes(b"\n".join(found))


# One cache's files beside another's.


@pytest.mark.parametrize("name", ["features.bin", "targets.bin"])
def test_data_of_another_cache_are_refused_by_name(name: str, tmp_path: Path) -> None:
    # The same features and targets: every checksum fits.
    cache, other = disk(tmp_path / "one"), disk(tmp_path / "other")
    shutil.copy(other.path / name, cache.path / name)
    with pytest.raises(CorruptChunkError, match=rf"{name}: another cache's: it begins with the id [0-9a-f]+"):
        cache.read(0, 0)
    for chunk, view in places(cache.spec):
        _, _, ids, targets, features = row(cache.spec, chunk, view)
        cache.heal(chunk, view, features, targets=targets, sample_ids=ids)
    assert_equal(cache, memory())


def test_the_journal_of_another_cache_is_refused_by_name(tmp_path: Path) -> None:
    cache, other = disk(tmp_path / "one"), disk(tmp_path / "other")
    shutil.copy(other.path / "journal.jsonl", cache.path / "journal.jsonl")
    with pytest.raises(CorruptChunkError, match="missing from the journal, which is that of the cache with the id"):
        Cache.open(cache.path).read(0, 0)


def test_a_whole_cache_in_an_open_ones_place_is_gone_on_with(tmp_path: Path) -> None:
    cache = disk(tmp_path / "one")
    shutil.rmtree(cache.path)
    shutil.copytree(disk(tmp_path / "other").path, cache.path)
    assert_equal(cache, memory())
    cache.heal(0, 0, row(cache.spec, 0, 0)[4])
    assert Cache.open(cache.path).verify() == []


def test_a_cache_of_the_version_before_is_listed_as_outdated(tmp_path: Path) -> None:
    path = disk(tmp_path).path
    reseal(path, lambda body: body.update(version=2))
    assert [info.state for info in list_caches(tmp_path)] == ["outdated"]
    assert_equal(disk(tmp_path), memory())


# What files say of themselves.

HUGE: dict[str, Callable[[dict[str, Any]], object]] = {
    "samples": lambda body: (body["spec"].update(samples=10**18), body["totals"].update(records=10**18 // 2)),
    "a chunk": lambda body: body["spec"].update(samples=10**18, chunk_size=10**17),
    "a shape": lambda body: body["spec"].update(shape=[3, 1 << 40, 1 << 40]),
    "a negative shape": lambda body: body["spec"].update(shape=[3, -5, -5]),
    "a float": lambda body: body["spec"].update(samples=10.0),
    "text": lambda body: body["spec"].update(shape="355"),
    "no codec": lambda body: body["spec"].update(codec="linear"),
    "an unknown codec": lambda body: body["spec"].update(codec={"name": "os.system"}),
    "no view": lambda body: body["spec"].update(stored=[]),
    "a view of nothing": lambda body: body["spec"].update(stored=[None]),
    "gains without an end": lambda body: body["spec"]["stored"][1].update(gains=[1e400, 1]),
    "a long gain": lambda body: body["spec"]["stored"][1].update(gains=[10**400, 1]),
    "targets": lambda body: body["targets"].update(shape=[1 << 80]),
    "quantised targets": lambda body: body["targets"].update(dtype="quint8"),
    "targets of no dtype": lambda body: body["targets"].update(dtype=7),
    "no targets": lambda body: body.update(targets=[]),
    "totals": lambda body: body.update(totals=[6]),
    "an id": lambda body: body.update(id="../../etc"),
    "a fingerprint": lambda body: body.update(fingerprint=[[1, 2, 3]]),
    "a digest": lambda body: body.update(digest="0" * 64),
    "NaN": lambda body: body["fingerprint"].update(weights=float("nan")),
    "nested": lambda body: body.update(totals=json.loads("[" * 200 + "]" * 200)),
}


@pytest.mark.parametrize("change", HUGE.values(), ids=HUGE)
def test_a_manifest_is_not_believed(change: Callable[[dict[str, Any]], object], tmp_path: Path) -> None:
    path = disk(tmp_path).path
    reseal(path, change)
    with pytest.raises(CacheError, match=r"manifest\.json"):
        Cache.open(path)
    assert len(list_caches(tmp_path)) == 1


def test_json_without_an_end_is_refused(tmp_path: Path) -> None:
    path = disk(tmp_path).path
    (path / "manifest.json").write_text("[" * 10**6)
    with pytest.raises(CorruptChunkError, match="damaged or no manifest"):
        Cache.open(path)
    with (path / "manifest.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(CacheDirectoryError, match="bytes long, where"):
        Cache.open(path)
    assert [info.state for info in list_caches(tmp_path)] == ["damaged"]


LINES: dict[str, dict[str, Any]] = {
    "bytes": {"nbytes": 1 << 60},
    "bytes beyond any": {"nbytes": 1 << 80},
    "an offset": {"offset": (1 << 62) - 1},
    "a negative offset": {"offset": -8},
    "text": {"offset": "8"},
    "NaN": {"nbytes": float("nan")},
    "a truth": {"chunk": True},
    "no ids": {"sample_ids": []},
    "ids of text": {"sample_ids": ["1", "2", "3", "4"]},
    "ids beyond any": {"sample_ids": [1 << 70] * 4},
    "lengths": {"lengths": [1 << 61] * 4},
    "a field": {"__class__": "Record"},
    "another chunk": {"chunk": 1 << 61},
}


@pytest.mark.parametrize("spec", [make_spec(), make_ragged(samples=10)], ids=["of one shape", "of differing lengths"])
@pytest.mark.parametrize("change", LINES.values(), ids=LINES)
def test_a_line_of_the_journal_is_not_believed(change: dict[str, Any], spec: CacheSpec, tmp_path: Path) -> None:
    cache = disk(tmp_path, spec)

    def changed(fields: dict[str, Any]) -> None:
        fields.update(change)

    if any(value != value for value in change.values()):
        (cache.path / "journal.jsonl").write_bytes(b'{"nbytes":NaN,"line_crc32":"%08x"}' % zlib.crc32(b'{"nbytes":NaN'))
    else:
        lines(cache, changed)
    again = Cache.open(cache.path)
    with pytest.raises(CorruptChunkError, match=r"chunk 0, view 0 in .*(journal|features)"):
        again.read(0, 0)
    again.heal(0, 0, *row(spec, 0, 0)[4:5], targets=row(spec, 0, 0)[3], sample_ids=row(spec, 0, 0)[2], **_lengths(spec))
    assert same(again.read(0, 0), memory(spec).read(0, 0))


def _lengths(spec: CacheSpec) -> dict[str, Any]:
    return {"lengths": row(spec, 0, 0)[5]} if spec.ragged else {}


def test_a_nested_line_of_the_journal_is_no_line(tmp_path: Path) -> None:
    cache = disk(tmp_path)
    body = b'{"chunk":' + b"[" * 10**5 + b"]" * 10**5
    line = body + b',"line_crc32":"%08x"}\n' % zlib.crc32(body)
    with (cache.path / "journal.jsonl").open("ab") as file:
        file.write(line)
    assert Cache.open(cache.path).verify() == []


def planted(cache: Cache, payload: bytes, lengths: tuple[int, ...] | None = None) -> Cache:
    """The cache with these bytes as its first record, all checksums right."""
    known = cache._journal.records[0, 0]
    file = cache.path / "features.bin"
    offset = file.stat().st_size
    with file.open("ab") as data:
        data.write(payload)
    record = Record(
        *(0, 0, offset, len(payload), zlib.crc32(payload), known.targets_crc32, known.sample_ids),
        lengths=lengths or known.lengths,
        cache=known.cache,
    )
    with (cache.path / "journal.jsonl").open("ab") as journal:
        journal.write(write_line(record))
    return Cache.open(cache.path)


def frame_of(size: int) -> bytes:
    """A zstd frame whose header declares `size` bytes, and that ends there."""
    return b"\x28\xb5\x2f\xfd\xe0" + size.to_bytes(8, "little") + b"\x01\x00\x00"


def test_a_frame_that_declares_more_than_its_bytes_make_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    spec = CacheSpec(4, 4, (1 << 28,), torch.float32, 1, False, Exact())
    cache = disk(tmp_path, CacheSpec(4, 4, (1,), torch.float32, 1, False, Exact()))
    reseal(cache.path, lambda body: body.update(spec=spec.to_config()))
    with pytest.raises(CorruptChunkError, match=r"chunk 0, view 0 .* 16 bytes .* can hold"):
        planted(Cache.open(cache.path), frame_of(1 << 32)).read(0, 0)


def test_a_shape_beyond_a_record_is_refused(tmp_path: Path) -> None:
    # Constant channels take no bytes: no frame tells how many values there are.
    path = disk(tmp_path, make_spec(codec=Shared(4), view_channels=(None,))).path
    reseal(path, lambda body: body["spec"].update(shape=[3, 1 << 20, 1 << 20]))
    with pytest.raises(CorruptChunkError, match=r"13,194,139,533,312 values; a record holds at most"):
        Cache.open(path)


def test_a_line_of_lengths_beyond_the_whole_is_no_line(tmp_path: Path) -> None:
    cache = planted(disk(tmp_path, make_ragged(Shared(4))), squeeze(bytes(19)), (1 << 31, 0, 0, 0))
    assert same(cache.read(0, 0), memory(cache.spec).read(0, 0))


# What lies in the place of a file.


def pipe(path: Path, _: Path) -> None:
    os.mkfifo(path)


def link(path: Path, target: Path) -> None:
    path.symlink_to(target)


def directory(path: Path, _: Path) -> None:
    path.mkdir()


def device(path: Path, _: Path) -> None:
    path.symlink_to("/dev/zero")


KINDS = pytest.mark.parametrize("put", [pipe, link, directory, device])


@KINDS
@pytest.mark.parametrize("name", ["manifest.json", "journal.jsonl", "features.bin", "targets.bin"])
def test_what_is_no_regular_file_is_refused(put: Callable[[Path, Path], None], name: str, tmp_path: Path) -> None:
    cache = disk(tmp_path / "caches")
    mine = tmp_path / "mine"
    mine.write_bytes((cache.path / name).read_bytes())
    before = mine.read_bytes()
    (cache.path / name).unlink()
    put(cache.path / name, mine)
    with pytest.raises(CacheError, match=r"not a regular file|missing from the journal"):
        Cache.open(cache.path).read(0, 0)
    with pytest.raises(CacheError):
        Cache.open(cache.path).heal(0, 0, row(cache.spec, 0, 0)[4])
    assert prune(tmp_path / "caches") == []
    with pytest.raises(CacheDirectoryError, match=f"{name}' *, which is none of a cache's files"):
        cache.drop()
    assert mine.read_bytes() == before


@KINDS
@pytest.mark.parametrize("name", ["building.json", "journal.jsonl", "features.bin", "targets.bin"])
def test_a_build_goes_through_no_link(put: Callable[[Path, Path], None], name: str, tmp_path: Path) -> None:
    root, mine = tmp_path / "caches", tmp_path / "mine"
    with Cache.create(root, FINGERPRINT, make_spec()) as writer:
        writer.append(*row(writer.spec, 0, 0))
        path = writer.path
    mine.write_bytes((path / name).read_bytes() + b"precious")
    before = mine.read_bytes()
    (path / name).unlink()
    put(path / name, mine)
    with pytest.raises(CacheDirectoryError):
        Cache.create(root, FINGERPRINT, make_spec())
    assert mine.read_bytes() == before


@pytest.mark.parametrize("name", ["manifest.json.tmp", "journal.jsonl.tmp", ".pid"])
def test_nothing_is_written_through_a_planted_link(name: str, tmp_path: Path) -> None:
    root, mine = tmp_path / "caches", tmp_path / "mine"
    mine.write_text("precious")
    with Cache.create(root, FINGERPRINT, make_spec()) as writer:
        for place in places(writer.spec)[:2]:
            writer.append(*row(writer.spec, *place))
        path = writer.path
    planted_at = root / f".{FINGERPRINT.key}{name}" if name.startswith(".") else path / name
    planted_at.unlink(missing_ok=True)
    planted_at.symlink_to(mine)
    assert_equal(disk(root), memory())
    assert mine.read_text() == "precious"


def test_a_lock_is_not_taken_through_a_link(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("precious")
    (tmp_path / f".{FINGERPRINT.key}.lock").symlink_to(mine)
    with pytest.raises(CacheDirectoryError, match="it is a symbolic link, not a regular file"):
        Cache.create(tmp_path, FINGERPRINT, make_spec())
    assert mine.read_text() == "precious"


# What is removed.


def test_prune_leaves_what_it_cannot_prove_to_be_its_own(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "caches", tmp_path / "elsewhere"
    theirs = disk(elsewhere)
    disk(root, fingerprint=OTHER)
    (root / "0123456789abcdef").mkdir()
    for name in ("manifest.json", "features.bin"):
        (root / "0123456789abcdef" / name).write_text("not a cache's")
    (root / "fedcba9876543210").symlink_to(theirs.path)
    (root / "discard-fedcba9876543210").symlink_to(theirs.path)
    (root / "building-00000000ffffffff").mkdir()
    (root / "building-00000000ffffffff" / "targets.bin").write_text("not a cache's")
    assert [path.name for path in prune(root)] == [OTHER.key]
    with Cache.create(root, FINGERPRINT, make_spec()):
        pass
    assert theirs.verify() == []
    kept = {path.name for path in root.iterdir() if not path.name.startswith(".")}
    assert kept == {
        *("0123456789abcdef", "fedcba9876543210", "discard-fedcba9876543210", "building-00000000ffffffff"),
        f"building-{FINGERPRINT.key}",
    }


def test_a_damaged_cache_is_proved_by_its_journal(tmp_path: Path) -> None:
    path = disk(tmp_path).path
    (path / "manifest.json").write_bytes(b"torn")
    assert prune(tmp_path) == [path]


@pytest.mark.parametrize("gone", [1, 2, 3, 4])
def test_what_a_removal_left_in_the_middle_is_still_ours(gone: int, tmp_path: Path) -> None:
    cache = disk(tmp_path)
    left = tmp_path / f"discard-{cache.path.name}"
    cache.path.rename(left)
    for name in ("features.bin", "targets.bin", "journal.jsonl", "manifest.json")[:gone]:
        (left / name).unlink()
    assert prune(tmp_path) == [left]
    assert not left.exists()


# The journal stays short.


def test_a_journal_of_many_renewals_is_written_anew(tmp_path: Path) -> None:
    cache = disk(tmp_path)
    reader = Cache.open(cache.path)
    once = (cache.path / "journal.jsonl").stat().st_size
    longest = 0
    for edition in range(1, 450):
        features, targets, ids = row(cache.spec, 0, 0, seed=edition)[4], *row(cache.spec, 0, 0)[3:1:-1]
        cache.renew(0, 0, edition, features, targets=targets, sample_ids=ids)
        longest = max(longest, (cache.path / "journal.jsonl").stat().st_size)
    assert (1 << 16) < longest < (1 << 16) + 1000
    assert (cache.path / "journal.jsonl").stat().st_size < longest - once
    for known in (cache, reader, Cache.open(cache.path)):
        assert known.read(0, 0).edition in (449, 0)
        assert same(known.read(1, 1), memory().read(1, 1))
    assert reader.read(0, 0).edition == Cache.open(cache.path).read(0, 0).edition == 449
    assert Cache.open(cache.path).verify() == []
