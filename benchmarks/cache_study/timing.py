"""Seconds of the processor and of the clock, and how their ratios are told."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

__all__ = ["Seconds", "summary", "timed", "told"]

Seconds = tuple[float, float]
"""Of the processor (all threads of the process) and of the clock."""


def timed(work: Callable[[], object]) -> Seconds:
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.process_time() - processor, time.perf_counter() - wall


def summary(ratios: list[float]) -> dict[str, float]:
    return {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}


def told(found: dict[str, float]) -> str:
    return f"{found['median']:.2f} ({found['min']:.2f}–{found['max']:.2f})"
