"""Damage is seen and named; it never becomes silent wrong data."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from cache_cases import FINGERPRINT, assert_equal, damage, disk, make_ragged, make_spec, memory, places, row, same

from hoarfrost.cache import Cache, CacheSpec
from hoarfrost.errors import CacheError, CorruptChunkError

FILES = ["features.bin", "targets.bin", "journal.jsonl", "manifest.json"]


SPECS = [make_spec(), make_ragged(samples=10)]
BOTH = pytest.mark.parametrize("spec", SPECS, ids=["of one shape", "of differing lengths"])


def check_honest(root: Path, spec: CacheSpec | None = None) -> int:
    """Every record is right or refused; the number of those that are right."""
    oracle = memory(spec)
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


@BOTH
@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_never_silent(name: str, spec: CacheSpec, tmp_path: Path) -> None:
    path = disk(tmp_path, spec).path / name
    whole = path.read_bytes()
    for bit in random.Random(0).sample(range(len(whole) * 8), 40):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        # A bit lies in one record, in one chunk's targets (two records), or in the page that speaks for all.
        assert check_honest(tmp_path, spec) < 6
    path.write_bytes(whole)
    assert check_honest(tmp_path, spec) == 6


@BOTH
@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_never_silent(name: str, spec: CacheSpec, tmp_path: Path) -> None:
    path = disk(tmp_path, spec).path / name
    whole = path.read_bytes()
    for length in [0, 1, len(whole) // 3, len(whole) // 2, len(whole) - 3]:
        path.write_bytes(whole[:length])
        assert check_honest(tmp_path, spec) < 6
    path.unlink()
    assert check_honest(tmp_path, spec) == 0


@pytest.mark.parametrize("name", FILES[:2])
def test_a_file_of_zeros_is_never_silent(name: str, tmp_path: Path) -> None:
    path = disk(tmp_path).path / name
    path.write_bytes(bytes(path.stat().st_size))
    assert check_honest(tmp_path) == 0


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
