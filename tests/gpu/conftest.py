"""Tests of what happens on a CUDA device; where there is none they are skipped.

`HOARFROST_TEST_DEVICE=cpu` rehearses those that make sense there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

# Before the first product on the device: cuBLAS repeats its bits with this alone.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            if not torch.cuda.is_available() and "HOARFROST_TEST_DEVICE" not in os.environ:
                item.add_marker(pytest.mark.skip(reason="there is no CUDA device"))


@pytest.fixture
def device() -> torch.device:
    return torch.device(os.environ.get("HOARFROST_TEST_DEVICE", "cuda"))


@pytest.fixture(autouse=True)
def repeatable() -> Iterator[None]:
    """Kernels that repeat their bits, where torch has them."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(before[0], warn_only=before[1])
