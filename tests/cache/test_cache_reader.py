from __future__ import annotations

import json
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cache_cases import assert_equal, disk, make_spec, memory, places, row, same

from hoarfrost.errors import ArgumentError, CacheDirectoryError


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
    assert totals["feature_bytes"] == (cache.path / "features.bin").stat().st_size - 8


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
