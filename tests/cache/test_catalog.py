from __future__ import annotations

from pathlib import Path

import pytest
from cache_cases import FINGERPRINT, OTHER, disk, make_spec, row

from hoarfrost.cache import Cache, Fingerprint, list_caches, prune
from hoarfrost.errors import CacheDirectoryError

THIRD = Fingerprint({"cut": "layer3"})


def test_caches_are_listed_with_their_state(tmp_path: Path) -> None:
    ready = disk(tmp_path)
    damaged = disk(tmp_path, fingerprint=OTHER)
    (damaged.path / "manifest.json").write_bytes(b"{}")
    (tmp_path / "photos").mkdir()
    with Cache.create(tmp_path, THIRD, make_spec()) as writer:
        writer.append(*row(writer.spec, 0, 0))
        listed = {info.key: info for info in list_caches(tmp_path)}
    assert {key: info.state for key, info in listed.items()} == {
        FINGERPRINT.key: "ready",
        OTHER.key: "damaged",
        THIRD.key: "building",
    }
    first = listed[FINGERPRINT.key]
    assert first.path == ready.path
    assert first.nbytes == ready.nbytes
    assert first.manifest is not None
    assert first.manifest.spec == ready.spec
    assert listed[OTHER.key].manifest is None


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CacheDirectoryError, match=r"listing failed in the cache directory .*nowhere"):
        list_caches(tmp_path / "nowhere")


@pytest.mark.parametrize("keep", [FINGERPRINT, FINGERPRINT.digest, FINGERPRINT.key], ids=["it", "digest", "key"])
def test_prune_keeps_what_it_is_told_and_what_is_not_ours(keep: Fingerprint | str, tmp_path: Path) -> None:
    disk(tmp_path)
    removed = disk(tmp_path, fingerprint=OTHER).path
    mixed = disk(tmp_path, fingerprint=Fingerprint({"cut": "layer4"})).path
    (mixed / "notes.txt").write_text("mine")
    (tmp_path / "photos").mkdir()
    with Cache.create(tmp_path, THIRD, make_spec()) as writer:
        assert prune(tmp_path, [keep]) == [removed]
        assert writer.path.exists()
    assert prune(tmp_path, [keep]) == [writer.path]
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == sorted([FINGERPRINT.key, mixed.name, "photos"])


def test_prune_removes_what_a_crash_left_half_dropped(tmp_path: Path) -> None:
    cache = disk(tmp_path)
    left = tmp_path / f"discard-{cache.path.name}"
    cache.path.rename(left)
    assert prune(tmp_path) == [left]


def test_drop_removes_the_cache_and_nothing_else(tmp_path: Path) -> None:
    cache, other = disk(tmp_path), disk(tmp_path, fingerprint=OTHER)
    cache.drop()
    cache.drop()
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == [OTHER.key]
    with pytest.raises(CacheDirectoryError, match="has vanished"):
        cache.read(0, 0)
    assert other.verify() == []
