"""What a policy is asked: the state of the training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from ..cuts import Cut
from ..errors import UnwatchedError
from ..watching import Measurements, Observer, Segment, Summary

__all__ = ["TrainState"]


@dataclass(frozen=True)
class TrainState:
    """What a policy sees when it is asked, before `epoch` begins or, where it wants that, within it.

    Depth 0 means that nothing is frozen; depth d, that everything in front of `cuts[d - 1]` is.
    """

    epoch: int
    """The epoch that is about to begin, or runs, from 0."""
    epochs: int | None
    """How many there will be, if that is known."""
    depth: int
    """The depth that is frozen now."""
    cuts: tuple[Cut, ...]
    """All cuts of the model, from the front."""
    metrics: tuple[Mapping[str, float], ...] = ()
    """What the loop handed to `end_epoch`, one mapping a finished epoch."""
    may_thaw: bool = False
    """Whether the policy's answer may be smaller than what it asked for before."""
    observer: Observer | None = field(default=None, repr=False, compare=False)
    """What watches the model; ask through the properties below. They cost nothing until they are read."""
    within: int = 0
    """Steps of the epoch that are done."""
    measurements: Measurements | None = field(default=None, repr=False, compare=False)
    """What measures the training; see `bench`."""

    @property
    def step(self) -> int:
        """Steps of the training that are done; without an observer, of the epoch."""
        return self.within if self.observer is None else self.epoch * self.observer.steps + self.within

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return self._watched.steps

    @property
    def lr(self) -> float | None:
        """The loop's learning rate now: the largest of the optimizer's groups; None without an optimizer."""
        return self._watched.lr

    @property
    def losses(self) -> tuple[float, ...]:
        """The metric named "loss" of each finished epoch that has one."""
        return tuple(metrics["loss"] for metrics in self.metrics if "loss" in metrics)

    @property
    def segments(self) -> tuple[Segment, ...]:
        """What lies between neighbouring recommended cuts, front to back; the last one always trains."""
        return self._watched.segments

    @property
    def inert_depth(self) -> int:
        """The depth of the deepest cut in front of which there are parameters, and none has `requires_grad`; or 0."""
        return self._watched.inert_depth

    @property
    def nothing_trains(self) -> bool:
        """Whether no parameter of the model has `requires_grad`."""
        return self._watched.nothing_trains

    @property
    def gradient_norms(self) -> tuple[float, ...]:
        """L1 norm of each segment's gradient, summed over the policy's interval; needs `gradient_epochs`."""
        return self._watched.gradient_norms()

    @property
    def bench(self) -> Measurements:
        """What can be measured of the training itself: seconds spent, prices of depths, trials of freezes."""
        if self.measurements is None:
            raise UnwatchedError("this TrainState was made without a training: only a Freezer's can measure one")
        return self.measurements

    def weights(self, segment: int, most: int | None = None) -> Tensor:
        """A snapshot of a segment's parameters [P], float32 on the CPU.

        Args:
            most: of them, evenly spread, the same ones each time; None: all.
        """
        return self._watched.weights(segment, most)

    def activations(self, summary: Summary | None = None, *, reference: bool = False) -> tuple[Tensor, ...]:
        """Features [N, ...] of a fixed probe batch at each recommended cut, or what `summary(cut, features)` keeps.

        Args:
            reference: of the model as it is now with its linear layers quantised to 8 bits.
        """
        return self._watched.activations(summary, reference=reference)

    @property
    def _watched(self) -> Observer:
        if self.observer is None:
            raise UnwatchedError(
                "this TrainState was made without a model: only a Freezer's can tell of rates and features"
            )
        return self.observer
