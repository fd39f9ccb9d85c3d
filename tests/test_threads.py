"""Threads that compute, in processes that were forked."""

from __future__ import annotations

import os
import threading

import pytest
import torch

from hoarfrost.threads import thread_pool

FORKS = 60
"""Without what is tested one fork of seven fails."""


@pytest.mark.slow
def test_threads_of_a_forked_process_all_find_torchs_own() -> None:
    torch.set_num_threads(torch.get_num_threads())
    torch.ones(1 << 16).mul_(2)
    ends = []
    for _ in range(FORKS):
        child = os.fork()
        if child == 0:
            together = threading.Barrier(4)

            def compute(together: threading.Barrier = together) -> None:
                together.wait(30)
                torch.empty(1 << 16).fill_(1).mul_(2)

            try:
                with thread_pool(4, "test") as pool:
                    for future in [pool.submit(compute) for _ in range(4)]:
                        future.result(30)
            except BaseException:
                os._exit(1)
            os._exit(0)
        ends.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    assert ends == [0] * FORKS
