from __future__ import annotations

from pathlib import Path

import pytest
from cache_cases import FINGERPRINT, OTHER, assert_equal, disk, make_spec, memory

from hoarfrost.cache import Cache, Fingerprint, find_alike
from hoarfrost.errors import CacheDirectoryError, StaleCacheError


def test_a_cache_opens_by_its_own_path_or_by_its_fingerprint(tmp_path: Path) -> None:
    path = disk(tmp_path).path
    for cache in (
        Cache.open(tmp_path),
        Cache.open(path),
        Cache.open(str(tmp_path), FINGERPRINT),
        Cache.open(path, FINGERPRINT),
    ):
        assert cache.path == path
        assert_equal(cache, memory())


def test_several_caches_are_told_apart(tmp_path: Path) -> None:
    disk(tmp_path)
    disk(tmp_path, make_spec(samples=3), OTHER)
    assert Cache.open(tmp_path, OTHER).spec.samples == 3
    assert Cache.open(tmp_path, FINGERPRINT).spec.samples == 10
    with pytest.raises(CacheDirectoryError, match=f"holds 2 caches .*{OTHER.key}"):
        Cache.open(tmp_path)


def test_a_stale_cache_names_the_field_that_differs(tmp_path: Path) -> None:
    path = disk(tmp_path).path
    text = '\'weights\' is "89abcdef" here, but "0123abcd" in the cache: .* was made from something else'
    for place in (tmp_path, path):
        with pytest.raises(StaleCacheError, match=text):
            Cache.open(place, OTHER)


def test_of_several_stale_caches_the_nearest_is_compared(tmp_path: Path) -> None:
    disk(tmp_path, fingerprint=Fingerprint({"a": 1, "b": 1, "c": 1}))
    disk(tmp_path, fingerprint=Fingerprint({"a": 2, "b": 2, "c": 2}))
    with pytest.raises(StaleCacheError, match="'c' is 3 here, but 2 in the cache"):
        Cache.open(tmp_path, Fingerprint({"a": 2, "b": 2, "c": 3}))


def test_another_version_of_the_format_is_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("hoarfrost.cache.manifest.VERSION", 1)
        path = disk(tmp_path).path
    with pytest.raises(StaleCacheError, match=f"'version' of the format is 4 here, but 1 in {path}"):
        Cache.open(tmp_path, FINGERPRINT)


def test_where_there_is_no_cache(tmp_path: Path) -> None:
    with pytest.raises(CacheDirectoryError, match="there is no committed cache in"):
        Cache.open(tmp_path)
    with pytest.raises(CacheDirectoryError, match=r"opening failed .*No such file"):
        Cache.open(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheDirectoryError, match=r"opening failed .*Not a directory"):
        Cache.open(tmp_path / "file")


def test_whatever_lies_beside_a_cache_is_no_concern_of_a_search(tmp_path: Path) -> None:
    path = disk(tmp_path).path
    (tmp_path / ("0" * 16) / "manifest.json").mkdir(parents=True)
    (tmp_path / ("1" * 16)).mkdir()
    (tmp_path / ("1" * 16) / "manifest.json").symlink_to(path / "manifest.json")
    assert [found for found, _ in find_alike(tmp_path, FINGERPRINT, ())] == [path]
