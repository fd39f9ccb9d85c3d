from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

settings.register_profile("whole", deadline=None)
settings.register_profile("quick", max_examples=20, deadline=None)
settings.load_profile("whole")


def pytest_collection_finish() -> None:
    """What imports and collection have made stays to the end: whoever collects garbage (accelerate does for each
    training) need not look through half a million objects for it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    """No machine loses its power in the middle of a test, and what a killed process has written stays without it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda fd: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Small networks are slower on many threads, and two machines with other core counts should give one result."""
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests start
