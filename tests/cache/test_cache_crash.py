"""Processes that are killed, and processes that write at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cache_cases import FINGERPRINT, assert_equal, fill, make_spec, memory, row

from hoarfrost.cache import Cache
from hoarfrost.errors import CacheBusyError, CacheDirectoryError

SAMPLES = 1500
WRITE = f"""
import sys
import torch
torch.set_num_threads(1)
from cache_cases import FINGERPRINT, make_spec, places, row
from hoarfrost.cache import Cache
spec = make_spec(samples={SAMPLES})
writer = Cache.create(sys.argv[1], FINGERPRINT, spec)
print("begun", flush=True)
for place in places(spec):
    if place not in writer.done:
        writer.append(*row(spec, *place))
        print(place, flush=True)
    if sys.argv[2] == "wait":
        sys.stdin.read()
"""


def start(root: Path, mode: str) -> subprocess.Popen[str]:
    here = str(Path(__file__).parent)
    path = os.pathsep.join([here, *filter(None, sys.path)])
    return subprocess.Popen(
        [sys.executable, "-c", WRITE, str(root), mode],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_killed_writer_is_resumed_and_gives_the_same_cache(tmp_path: Path) -> None:
    process = start(tmp_path, "run")
    assert process.stdout is not None
    for _ in range(60):
        assert process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with pytest.raises(CacheDirectoryError, match="no committed cache"):
        Cache.open(tmp_path)
    spec = make_spec(samples=SAMPLES)
    writer = Cache.create(tmp_path, FINGERPRINT, spec)
    assert 50 <= len(writer.done) < len(spec.records)
    assert_equal(fill(writer), memory(spec))


def test_a_writer_in_another_process_is_named_and_its_death_unlocks(tmp_path: Path) -> None:
    process = start(tmp_path, "wait")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.readline()
    try:
        with pytest.raises(CacheBusyError, match=f"process {process.pid} is writing to the cache .* in {tmp_path}"):
            Cache.create(tmp_path, FINGERPRINT, make_spec(samples=SAMPLES))
    finally:
        process.kill()
        process.communicate()
    writer = Cache.create(tmp_path, FINGERPRINT, make_spec(samples=SAMPLES))
    assert writer.done == {(0, 0)}
    writer.append(*row(writer.spec, 0, 1))
    writer.abort()
