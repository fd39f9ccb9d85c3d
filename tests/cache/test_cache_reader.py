from __future__ import annotations

import json
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cache_cases import FINGERPRINT, OTHER, assert_equal, disk, make_spec, memory, places, row, same

from hoarfrost.cache import Cache, Fingerprint
from hoarfrost.errors import ArgumentError, CacheDirectoryError, StaleCacheError


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
    with pytest.raises(StaleCacheError, match=f"'version' of the format is 2 here, but 1 in {path}"):
        Cache.open(tmp_path, FINGERPRINT)


def test_where_there_is_no_cache(tmp_path: Path) -> None:
    with pytest.raises(CacheDirectoryError, match="there is no committed cache in"):
        Cache.open(tmp_path)
    with pytest.raises(CacheDirectoryError, match=r"opening failed .*No such file"):
        Cache.open(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheDirectoryError, match=r"opening failed .*Not a directory"):
        Cache.open(tmp_path / "file")


def test_places_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    cache = disk(tmp_path)
    for place, text in [((3, 0), "no chunk 3"), ((-1, 0), "no chunk -1"), ((0, 2), "no view 2")]:
        with pytest.raises(ArgumentError, match=text):
            cache.read(*place)


def test_bytes_are_counted(tmp_path: Path) -> None:
    cache = disk(tmp_path)
    assert cache.nbytes == sum(p.stat().st_size for p in cache.path.iterdir())
    assert cache.dense_nbytes == make_spec().dense_nbytes
    totals = json.loads((cache.path / "manifest.json").read_text())["totals"]
    assert totals["records"] == 6
    assert totals["feature_bytes"] == (cache.path / "features.bin").stat().st_size


def test_sample_ids_are_known_without_reading(tmp_path: Path) -> None:
    cache, oracle = disk(tmp_path), memory()
    (cache.path / "features.bin").unlink()
    for chunk in range(cache.spec.chunks):
        assert cache.sample_ids(chunk).tolist() == oracle.sample_ids(chunk).tolist()


def test_many_threads_read_at_once(tmp_path: Path) -> None:
    spec = make_spec(samples=48, shape=(8, 16, 16))
    cache, oracle = disk(tmp_path, spec), memory(spec)
    expected = {place: oracle.read(*place) for place in places(spec)}
    with ThreadPoolExecutor(8) as pool:
        for place, chunk in zip(places(spec) * 4, pool.map(lambda p: cache.read(*p), places(spec) * 4), strict=True):
            assert same(chunk, expected[place])


def test_a_cache_can_be_pickled(tmp_path: Path) -> None:
    assert_equal(pickle.loads(pickle.dumps(disk(tmp_path))), memory())


def test_what_was_read_may_be_written_to(tmp_path: Path) -> None:
    cache = disk(tmp_path)
    chunk = cache.read(0, 0)
    chunk.packed.values.zero_()
    chunk.targets.zero_()
    assert_equal(cache, memory())


def test_drop_removes_the_cache_and_nothing_else(tmp_path: Path) -> None:
    cache, other = disk(tmp_path), disk(tmp_path, fingerprint=OTHER)
    cache.drop()
    cache.drop()
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == [OTHER.key]
    with pytest.raises(CacheDirectoryError, match="has vanished"):
        cache.read(0, 0)
    assert other.verify() == []


def test_a_vanished_directory_is_named(tmp_path: Path) -> None:
    cache = disk(tmp_path)
    shutil.rmtree(cache.path)
    text = f"the cache directory {cache.path} has vanished"
    with pytest.raises(CacheDirectoryError, match=text):
        cache.read(1, 0)
    with pytest.raises(CacheDirectoryError, match=text):
        cache.heal(*(row(cache.spec, 1, 0)[i] for i in (0, 1, 4)))
    with pytest.raises(CacheDirectoryError, match="measuring failed"):
        _ = cache.nbytes


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_reading_does_not_leak_files(tmp_path: Path) -> None:
    cache = disk(tmp_path)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        cache.verify()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
