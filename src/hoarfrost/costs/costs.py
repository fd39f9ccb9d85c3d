"""What a way of going on costs: seconds measured on this machine, FLOPs counted, and the choice that follows."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["Clock", "Decision", "decide", "seconds_a_chunk", "seconds_of", "sum_of", "training_flops"]


SHOWN = 3
"""Epochs that see a view, at least, for it to be worth its pass of the prefix."""


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


def training_flops(module: nn.Module, inputs: Any, samples: int) -> int:
    """FLOPs of one training step on `inputs` of so many samples, forward and backward, per sample.

    Counted by torch's FlopCounterMode over the operations that run: buffers, gradients and random state of `module`
    are put back.
    """
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    gradients = {name: p.grad for name, p in module.named_parameters()}
    counter = FlopCounterMode(display=False)
    try:
        # Set aside, not only remembered: backward would add to them in place.
        for parameter in module.parameters():
            parameter.grad = None
        with torch.random.fork_rng(_cuda_devices(inputs)), counter, torch.enable_grad():
            torch.autograd.backward(sum_of(module(inputs)))
    finally:
        with torch.no_grad():
            for name, buffer in module.named_buffers():
                buffer.copy_(buffers[name])
        for name, parameter in module.named_parameters():
            parameter.grad = gradients[name]
    return int(counter.get_total_flops()) // samples


def _cuda_devices(inputs: Any) -> list[int]:
    tensors = [inputs] if isinstance(inputs, Tensor) else [item for item in inputs if isinstance(item, Tensor)]
    return sorted({t.device.index for t in tensors if t.is_cuda and t.device.index is not None})


def sum_of(output: object) -> Tensor:
    """Something to call backward on, from whatever a model returns."""
    if isinstance(output, Tensor):
        return output.float().sum()
    items = output.values() if isinstance(output, dict) else output
    floats = [item for item in items if isinstance(item, Tensor) and item.is_floating_point()]  # type: ignore[attr-defined]
    return torch.stack([item.float().sum() for item in floats]).sum()


@dataclass(frozen=True)
class Decision:
    """How to go on behind a freeze.

    Attributes:
        choice: "cache" or "recompute".
        views: how many views to store (0 when recomputing).
        reason: one line for people, with the measured seconds.
        break_even: epochs from which on storing is cheaper; None if it never is.
    """

    choice: str
    views: int
    reason: str
    break_even: float | None


def decide(
    *,
    epochs_left: int | None,
    views: int,
    recompute_seconds: float,
    read_seconds: float,
    view_seconds: float,
    refresh_every: int | None = None,
    mode: str = "auto",
) -> Decision:
    """Read or recompute: the cheaper over the epochs for which this depth will last.

    Storing costs `views * view_seconds` once and `read_seconds` in each epoch, and what is drawn anew; recomputing
    costs `recompute_seconds` in each. Fewer views are stored when fewer epochs are left: left to choose, each view that
    is stored will be seen three times or more.

    Args:
        epochs_left: epochs at this depth; None if unknown, then storing is taken if it ever pays.
        views: the views asked for.
        recompute_seconds, read_seconds: in front of the suffix, for one epoch.
        view_seconds: to compute, encode and write one view of all samples.
        refresh_every: epochs after which each view is computed anew; None if it never is.
        mode: "auto", or "cache" where the user forces it.
    """

    def epoch_seconds(count: int) -> float:
        # A view is computed anew when it is shown, hence at most once for each time that it is shown.
        renewed = 0.0 if refresh_every is None else min(1.0, count / refresh_every)
        return read_seconds + renewed * view_seconds

    def pays_after(count: int) -> float:
        gain = recompute_seconds - epoch_seconds(count)
        return count * view_seconds / gain if gain > 0 else math.inf

    views = max(1, views if epochs_left is None else min(views, epochs_left))
    if mode == "auto" and epochs_left is not None:
        # One view keeps nearly all of the benefit of several (docs: views): a second one has to be seen, too.
        views = max(1, min(views, epochs_left // SHOWN))
        views = next((count for count in range(views, 0, -1) if pays_after(count) < epochs_left), views)
    break_even = pays_after(views)
    reading = "read" if refresh_every is None else "read and refresh"
    measured = f"an epoch costs {epoch_seconds(views):.2f} s to {reading}, {recompute_seconds:.2f} s to recompute"
    build = f"{views} view{'s cost' if views > 1 else ' costs'} {views * view_seconds:.1f} s to store"
    known = break_even if math.isfinite(break_even) else None
    if mode == "cache":
        return Decision("cache", views, f"stored, as asked: {measured}; {build}", known)
    if known is None:
        return Decision("recompute", 0, f"recomputed: {measured}", None)
    left = "an unknown number of epochs" if epochs_left is None else f"{epochs_left} epoch{'s' * (epochs_left != 1)}"
    tail = f"{measured}; {build}, even after {break_even:.1f} epochs, {left} to go at this depth"
    if epochs_left is not None and epochs_left <= break_even:
        return Decision("recompute", 0, f"recomputed: {tail}", known)
    return Decision("cache", views, f"stored: {tail}", known)


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
