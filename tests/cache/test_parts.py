"""A cache that several build: each a part of its own, put together by one."""

from __future__ import annotations

from pathlib import Path

import pytest
from cache_cases import FINGERPRINT, OTHER, assert_equal, disk, make_ragged, make_spec, memory, places, row

from hoarfrost.cache import Cache, CacheSpec, begin_part, discard_parts, prune, take_parts
from hoarfrost.cache.files import building_path
from hoarfrost.errors import ArgumentError, BudgetError, CorruptChunkError

SPECS = {"two views": make_spec(), "ragged": make_ragged()}


def part(root: Path, spec: CacheSpec, number: int, chunks: set[int]) -> None:
    with begin_part(root, FINGERPRINT, spec, number, None) as writer:
        for chunk, view in places(spec):
            if chunk in chunks:
                writer.append(*row(spec, chunk, view))


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_parts_put_together_are_the_cache(spec: CacheSpec, tmp_path: Path) -> None:
    writer = Cache.create(tmp_path, FINGERPRINT, spec)
    for chunk, view in places(spec):
        if chunk == 0:
            writer.append(*row(spec, chunk, view))
    for number in range(1, spec.chunks):
        part(tmp_path, spec, number, {number})
    take_parts(writer)
    assert_equal(writer.commit(), memory(spec))
    assert not list((tmp_path / ".parts").glob("*"))


def test_what_a_part_lacks_is_still_missing(tmp_path: Path) -> None:
    spec = make_spec()
    writer = Cache.create(tmp_path, FINGERPRINT, spec)
    part(tmp_path, spec, 1, {0, 2})
    take_parts(writer)
    assert {chunk for chunk, _ in writer.done} == {0, 2}
    with pytest.raises(ArgumentError, match="are missing, the first is chunk 1"):
        writer.commit()
    writer.close()


def test_a_part_that_is_being_written_to_stays(tmp_path: Path) -> None:
    spec = make_spec()
    with Cache.create(tmp_path, FINGERPRINT, spec) as writer:
        with begin_part(tmp_path, FINGERPRINT, spec, 1, None) as busy:
            busy.append(*row(spec, 0, 0))
            take_parts(writer)
            assert not writer.done
        take_parts(writer)
        assert writer.done == {(0, 0)}


def test_a_damaged_record_is_not_taken_over(tmp_path: Path) -> None:
    """It counts as not written, as in any interrupted build."""
    spec = make_spec()
    part(tmp_path, spec, 1, {0, 1})
    features = building_path(tmp_path / ".parts" / f"{FINGERPRINT.key}-1", FINGERPRINT.key) / "features.bin"
    held = bytearray(features.read_bytes())
    held[-1] ^= 1
    features.write_bytes(held)
    with Cache.create(tmp_path, FINGERPRINT, spec) as writer:
        take_parts(writer)
        assert len(writer.done) == 3


def test_a_record_that_is_damaged_while_it_is_taken_over_is_named(tmp_path: Path) -> None:
    spec = make_spec()
    with (
        begin_part(tmp_path, FINGERPRINT, spec, 1, None) as other,
        Cache.create(tmp_path, FINGERPRINT, spec) as writer,
    ):
        other.append(*row(spec, 0, 0))
        features = other.path / "features.bin"
        held = bytearray(features.read_bytes())
        held[-1] ^= 1
        features.write_bytes(held)
        with pytest.raises(CorruptChunkError, match="chunk 0, view 0"):
            writer.adopt(other)
        assert not writer.done


def test_together_they_keep_to_the_budget(tmp_path: Path) -> None:
    spec = make_spec()
    budget = disk(tmp_path / "whole", spec).nbytes - 100
    part(tmp_path, spec, 1, {0, 1, 2})
    with Cache.create(tmp_path, FINGERPRINT, spec, budget_bytes=budget) as writer:
        with pytest.raises(BudgetError):
            take_parts(writer)
        assert writer.done
        assert writer.nbytes <= budget


def test_parts_of_a_cache_that_nobody_builds_are_removed(tmp_path: Path) -> None:
    spec = make_spec()
    part(tmp_path, spec, 1, {0})
    stranger = tmp_path / ".parts" / "notes-of-mine"
    stranger.mkdir()
    with Cache.create(tmp_path, FINGERPRINT, spec):
        discard_parts(tmp_path, OTHER.key)
        assert (tmp_path / ".parts" / f"{FINGERPRINT.key}-1").exists()
    discard_parts(tmp_path, OTHER.key)
    assert [path.name for path in (tmp_path / ".parts").iterdir()] == ["notes-of-mine"]


def test_prune_removes_parts_that_nobody_goes_on_with(tmp_path: Path) -> None:
    spec = make_spec()
    part(tmp_path, spec, 1, {0})
    part(tmp_path, spec, 2, {1})
    root = tmp_path / ".parts"
    assert prune(tmp_path, [FINGERPRINT], abandoned_only=True) == []
    with begin_part(tmp_path, FINGERPRINT, spec, 1, None):
        assert prune(tmp_path, abandoned_only=True) == [root / f"{FINGERPRINT.key}-2"]
    with Cache.create(tmp_path, OTHER, spec):  # of another build, which has nothing to do with it
        assert prune(tmp_path, abandoned_only=True) == [root / f"{FINGERPRINT.key}-1"]
    assert not root.exists()


def test_prune_leaves_parts_of_a_build_that_is_on(tmp_path: Path) -> None:
    spec = make_spec()
    with Cache.create(tmp_path, FINGERPRINT, spec):
        part(tmp_path, spec, 1, {0})
        assert prune(tmp_path) == []
        assert len(list((tmp_path / ".parts").iterdir())) == 1
