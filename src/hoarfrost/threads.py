"""Threads that compute beside the loop's."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import torch

__all__ = ["thread_pool", "torch_ready"]

_ready_in: int | None = None


def thread_pool(threads: int, name: str) -> ThreadPoolExecutor:
    """So many threads that may compute with torch."""
    torch_ready()
    return ThreadPoolExecutor(threads, name)


def torch_ready() -> None:
    """To be called before a thread that computes begins, by who begins it.

    In a process that was forked torch makes its own threads anew as soon as a thread asks for their number. Of two that
    ask at once one finds none: "Invalid thread pool!" (torch 2.14; 35 of 300 forked processes with four threads each).
    So one asks alone, before there are more.
    """
    global _ready_in
    if _ready_in != os.getpid():
        first = threading.Thread(target=torch.get_num_threads, name="hoarfrost-first")
        first.start()
        first.join()
        _ready_in = os.getpid()
