"""Nobody removes a cache that another reads."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cache_cases import OTHER, disk

from hoarfrost.cache import Cache, catalog, prune
from hoarfrost.errors import CacheBusyError, CacheDirectoryError

READER = """
import sys, time
from hoarfrost.cache import Cache
cache = Cache.open(sys.argv[1]).hold()
print("reading", flush=True)
time.sleep(60)
"""


@pytest.fixture
def process(tmp_path: Path) -> subprocess.Popen[str]:
    """Another process that reads the cache in `tmp_path`."""
    disk(tmp_path)
    reading = subprocess.Popen([sys.executable, "-c", READER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert reading.stdout is not None
    assert reading.stdout.readline() == "reading\n"
    yield reading
    reading.kill()
    reading.wait()


def test_what_another_process_reads_stays_until_it_ends(tmp_path: Path, process: subprocess.Popen[str]) -> None:
    cache = Cache.open(tmp_path).hold()
    with pytest.raises(CacheBusyError, match=f"process {process.pid} on .* still read"):
        cache.drop()
    assert prune(tmp_path) == []
    assert cache.read(0, 0).packed is not None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    cache.drop()
    assert not cache.path.exists()
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".readers")]


def test_two_readers_of_one_process(tmp_path: Path) -> None:
    disk(tmp_path, fingerprint=OTHER)
    one, other = Cache.open(tmp_path).hold(), Cache.open(tmp_path).hold()
    with pytest.raises(CacheBusyError, match=f"process {os.getpid()} "):
        one.drop()
    assert other.path.exists()
    other.drop()
    assert not other.path.exists()


def test_a_lease_may_be_given_back_and_does_not_travel(tmp_path: Path) -> None:
    cache = disk(tmp_path)
    assert cache.hold() is cache.hold()
    sent = pickle.loads(pickle.dumps(cache))
    sent.release()  # not the other's
    with pytest.raises(CacheBusyError, match="still read"):
        Cache.open(tmp_path).drop()
    cache.release()
    cache.release()
    Cache.open(tmp_path).drop()


def test_what_was_removed_cannot_be_held(tmp_path: Path) -> None:
    cache = disk(tmp_path)
    Cache.open(tmp_path).drop()
    with pytest.raises(CacheDirectoryError, match="has been removed meanwhile"):
        cache.hold()
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".readers")]


def test_who_begins_to_read_while_it_is_being_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk(tmp_path)
    readers, begun = catalog.readers, []

    def begin_after_the_first_look(root: Path, key: str) -> list[str]:
        found = readers(root, key)
        if not begun:
            begun.append(Cache.open(tmp_path).hold())
        return found

    monkeypatch.setattr(catalog, "readers", begin_after_the_first_look)
    with pytest.raises(CacheBusyError, match="still read"):
        Cache.open(tmp_path).drop()
    assert begun[0].read(0, 0).packed is not None


def test_many_threads_take_and_give_back(tmp_path: Path) -> None:
    disk(tmp_path)
    missing: list[BaseException] = []

    def read() -> None:
        try:
            for _ in range(10):
                mine = Cache.open(tmp_path).hold()
                mine.read(0, 0)
                mine.release()
        except BaseException as error:
            missing.append(error)

    held = Cache.open(tmp_path).hold()
    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        with pytest.raises(CacheBusyError):
            Cache.open(tmp_path).drop()
    for thread in threads:
        thread.join()
    assert not missing
    held.release()


def test_a_place_that_cannot_be_written_needs_no_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = disk(tmp_path)

    def refuse(*args: object, **keywords: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert cache.hold().read(0, 0).packed is not None
