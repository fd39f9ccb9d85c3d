"""Wall seconds, measured on this machine: of a piece of work, and of a run's epochs and builds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

__all__ = ["Clock", "seconds_a_chunk", "seconds_of"]


def seconds_of(work: Callable[[], object], repeats: int = 3, device: torch.device | None = None) -> float:
    """Median wall seconds of `work` over `repeats` calls, after one call that is not counted."""
    work()
    measured = []
    for _ in range(repeats):
        _wait_for(device)
        began = time.perf_counter()
        work()
        _wait_for(device)
        measured.append(time.perf_counter() - began)
    return statistics.median(measured)


def seconds_a_chunk(measured: Sequence[float]) -> float:
    """The median of measured passes; the first also warms up, and counts only where it is alone."""
    return statistics.median(measured[1:] or measured)


def _wait_for(device: torch.device | None) -> None:
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass
class Clock:
    """Wall seconds of a run's epochs and builds, and what freezing has saved so far.

    Saved is what the frozen epochs would have cost at the median speed of the epochs in front of the first freeze,
    less what they did cost, builds included. Without an epoch on images there is nothing to compare with: None.
    """

    live: list[float] = field(default_factory=list)
    frozen: list[float] = field(default_factory=list)
    builds: list[float] = field(default_factory=list)
    epoch_seconds: float | None = None

    @contextmanager
    def training(self, live: bool) -> Iterator[None]:
        """Times one epoch; an epoch that is broken off does not count, nor what is built within it."""
        self.epoch_seconds = None
        built, began = sum(self.builds), time.perf_counter()
        yield
        self.epoch_seconds = time.perf_counter() - began - (sum(self.builds) - built)
        (self.live if live else self.frozen).append(self.epoch_seconds)

    @contextmanager
    def building(self) -> Iterator[None]:
        """Times what a freeze costs: dividing, calibration, the build of a cache."""
        began = time.perf_counter()
        yield
        self.builds.append(time.perf_counter() - began)

    @property
    def total_seconds(self) -> float:
        """Seconds of all epochs and builds."""
        return sum(self.live) + sum(self.frozen) + sum(self.builds)

    def saved_seconds(self) -> float | None:
        """Seconds saved so far, or None if no epoch ran on images."""
        if not self.live:
            return None
        return statistics.median(self.live) * len(self.frozen) - sum(self.frozen) - sum(self.builds)

    def state_dict(self) -> dict[str, Any]:
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.live, self.frozen, self.builds = (list(state[name]) for name in ("live", "frozen", "builds"))
        self.epoch_seconds = state["epoch_seconds"]
