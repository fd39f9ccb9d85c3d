from __future__ import annotations

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Small networks are slower on many threads, and two machines with other core counts should give one result."""
    torch.set_num_threads(1)
