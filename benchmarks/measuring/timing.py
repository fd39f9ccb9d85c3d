"""Seconds of the processor and of the clock, and how their ratios are told."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

__all__ = ["Seconds", "quartiles", "summary", "timed", "told"]

Seconds = tuple[float, float]
"""Of the processor (all threads of the process) and of the clock."""


def timed(work: Callable[[], object]) -> Seconds:
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.process_time() - processor, time.perf_counter() - wall


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def quartiles(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles; of one value that alone."""
    low, median, high = statistics.quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3
    return {"median": median, "low": low, "high": high}


def told(found: dict[str, float]) -> str:
    return f"{found['median']:.2f} ({found['min']:.2f}–{found['max']:.2f})"
