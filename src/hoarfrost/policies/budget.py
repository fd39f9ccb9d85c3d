"""Freezing as late and as little as a promise allows."""

from __future__ import annotations

import re
import statistics
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..cuts import Cut, candidate_depths
from ..errors import PolicyError
from ..watching import Measurements, Prices, Trial
from .known_times import known_epochs
from .state import TrainState

__all__ = ["Budget"]

MARGIN = 0.97
"""Share of the promised time that is planned with."""

KEPT = 1.1
"""A promise is kept where no more than this many times the time is taken."""

SHARE = 0.01
"""Of all steps, so many has a trial; 4 at least, 32 at most."""

AGAIN = 10
"""A depth that would have hurt is tried again after this part of the epochs."""

WEIGHTS = 4096
"""Of a segment, so many weights are followed."""

ACCURACIES = "val_accuracy", "test_accuracy", "accuracy"
"""Metrics that tell how far the training is, the most trustworthy first."""


@dataclass(frozen=True)
class Plan:
    """Freeze all up to a depth before an epoch, and what is expected of it.

    Attributes:
        seconds: of the whole training.
        harm: what the frozen segments would still have learned, as a share of what all would have.
    """

    depth: int
    epoch: int
    seconds: float
    harm: float


@dataclass(repr=False)
class Budget:
    """Be so many times faster than full training, finish in a time, or lose at most so many points.

    Ours. Before each epoch the rest of the training is priced, from a few steps timed on a copy of the model at the
    beginning and from what the epochs since really took, with one more freeze at each depth and each later epoch. Of
    those that keep the promise the one is taken that leaves least unlearned: a segment counts by its parameters and
    by how far they have moved in the last epoch, relative to their size; what it would still learn, by the third power
    of the share of the epochs that are left (which fits the runs of benchmarks/policies.py). If that freeze is due, a
    trial goes before it: a copy of the model trains for a few steps with the front frozen and one without (their
    loss on images that these steps do not show). Where the frozen one learns less, by two standard errors, than the
    other would in the time, neither that depth nor a deeper one is frozen in this tenth of the training.

    With `points` alone time is no aim: all freezes whose expected loss in accuracy is within them, the accuracy that is
    still to be gained times the share that would be left unlearned, are done as soon as they are. That is an estimate;
    what a run of full training would have reached is not known. With both, points come first.

    Args:
        speedup: of training time, evaluation apart, against this training's own epochs on images. Default, where
            nothing is given: 1.5.
        seconds, minutes: from the making of the `Freezer` to the last epoch's end, evaluation included.
        points: of accuracy in percent, among the metrics that `end_epoch` gets as "val_accuracy", "test_accuracy" or
            "accuracy" (from 0 to 1).

    Attributes:
        why: one line on the last decision.

    Raises:
        PolicyError: two of speedup, seconds, minutes are given, or one is out of range.
    """

    speedup: float | None = None
    seconds: float | None = None
    minutes: float | None = None
    points: float | None = None
    why: str = field(default="", init=False, repr=False, compare=False)
    _prices: Prices | None = field(default=None, init=False, repr=False, compare=False)
    _weights: list[Tensor] = field(default_factory=list, init=False, repr=False, compare=False)
    _moves: list[float] = field(default_factory=list, init=False, repr=False, compare=False)
    _lost: float = field(default=0.0, init=False, repr=False, compare=False)
    _hurt: dict[int, int] = field(default_factory=dict, init=False, repr=False, compare=False)
    _once: float | None = field(default=None, init=False, repr=False, compare=False)
    _warned: bool = field(default=False, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        times = [value for value in (self.speedup, self.seconds, self.minutes) if value is not None]
        if len(times) > 1:
            raise PolicyError(f"{self!r}: give one of speedup, seconds and minutes")
        if not times and self.points is None:
            self.speedup = 1.5
        if self.speedup is not None and self.speedup < 1:
            raise PolicyError(f"{self!r}: speedup is at least 1, full training's own time")
        if any(value <= 0 for value in (self.seconds, self.minutes, self.points) if value is not None):
            raise PolicyError(f"{self!r}: seconds, minutes and points are above 0")

    def __repr__(self) -> str:
        given = {name: getattr(self, name) for name in ("speedup", "seconds", "minutes", "points")}
        return f"Budget({', '.join(f'{name}={value:g}' for name, value in given.items() if value is not None)})"

    @classmethod
    def told(cls, text: str) -> Budget:
        """From "2x", "90s", "30min", "1.5h", "0.3points", or two of them: "2x,0.5points".

        Raises:
            PolicyError: it is none of these.
        """
        units = {"x": ("speedup", 1.0), "s": ("seconds", 1.0), "min": ("minutes", 1.0), "h": ("minutes", 60.0)}
        units |= {"points": ("points", 1.0), "point": ("points", 1.0)}
        given: dict[str, Any] = {}
        for part in text.split(","):
            match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([a-z]+)\s*", part)
            if match is None or match[2] not in units:
                raise PolicyError(
                    f'a budget is told as "2x", "90s", "30min", "1.5h" or "0.3points", or two of them with a comma '
                    f"between, not {text!r}"
                )
            name, factor = units[match[2]]
            given[name] = float(match[1]) * factor
        return cls(**given)

    def prepare(self, cuts: tuple[Cut, ...], epochs: int | None) -> None:
        known_epochs(self, epochs)

    def __call__(self, state: TrainState, /) -> int:
        epochs, depths = known_epochs(self, state.epochs), candidate_depths(state.cuts)
        self._follow(state)
        if len(depths) < 2 or state.depth >= depths[-1]:
            self.why = ""
            return state.depth
        if self._prices is None:
            self._prices = state.bench.prices()
        plans, limit = self._plans(state, epochs), self._limit(state.bench, epochs)
        while True:
            hurting = [depth for depth, epoch in self._hurt.items() if state.epoch < epoch + max(1, epochs // AGAIN)]
            # What freezes more hurts more.
            least = min(hurting, default=len(state.cuts) + 1)
            chosen = self._choose([plan for plan in plans if plan.depth < least], limit, state)
            self._explain(chosen, limit, hurting, state)
            if chosen is None or chosen.depth == state.depth or chosen.epoch > state.epoch:
                return state.depth
            trial = state.bench.trial(chosen.depth, _trial_steps(state, epochs))
            if trial is None or not trial.hurts(self._prices.frozen(chosen.depth, 1)[1] / self._prices.full):
                self._lost += self._points_of(chosen, state, epochs)
                self.why = f"{self.why}{_tried(trial)}"
                return chosen.depth
            self._hurt[chosen.depth] = state.epoch

    def _follow(self, state: TrainState) -> None:
        """How much of each segment has moved since the last epoch: relative to its size, times its parameters."""
        now = [state.weights(number, WEIGHTS) for number in range(len(state.segments))]
        counts = [segment.parameters for segment in state.segments]
        before = self._weights or [torch.zeros_like(weights) for weights in now]
        pairs = zip(before, now, counts, strict=True)
        self._moves = [n * float((new - old).norm() / new.norm().clamp_min(1e-12)) for old, new, n in pairs]
        self._weights = now

    def _plans(self, state: TrainState, epochs: int) -> list[Plan]:
        """Nothing more, and one more freeze at each depth and epoch."""
        prices, left = self._prices, epochs - state.epoch
        assert prices is not None
        done = state.bench.epochs()
        live = [epoch.seconds for epoch in done if epoch.depth == 0]
        # What epochs really took, against what they were expected to take.
        factor = statistics.median(live) / prices.full if live else 1.0
        here = [epoch.seconds for epoch in done if epoch.depth == state.depth][-3:]
        expected = prices.full if state.depth == 0 else prices.frozen(state.depth, left, state.epoch)[1]
        now = statistics.median(here) if here else factor * expected
        spent, trial = state.bench.training(), 2 * prices.step * _trial_steps(state, epochs) / state.steps
        plans = [Plan(state.depth, state.epoch, spent + left * now, 0.0)]
        for depth in candidate_depths(state.cuts):
            if depth <= state.depth:
                continue
            share = self._unlearned(state, depth)
            for epoch in range(state.epoch, epochs):
                once, each = prices.frozen(depth, epochs - epoch, epoch)
                frozen = factor * (trial + once + (epochs - epoch) * each)
                seconds = spent + (epoch - state.epoch) * now + frozen
                plans.append(Plan(depth, epoch, seconds, share * ((epochs - epoch) / left) ** 3))
        return plans

    def _unlearned(self, state: TrainState, depth: int) -> float:
        """The share of all movement that belongs to what would freeze."""
        frozen = [segment.depth is not None and segment.depth <= depth for segment in state.segments]
        already = [segment.depth is not None and segment.depth <= state.depth for segment in state.segments]
        lost = sum(m for m, f, a in zip(self._moves, frozen, already, strict=True) if f and not a)
        total = sum(self._moves)
        return lost / total if total else 0.0

    def _limit(self, bench: Measurements, epochs: int) -> float | None:
        """Seconds that the training may take; None: any."""
        assert self._prices is not None
        if self.speedup is not None:
            live = [epoch.seconds for epoch in bench.epochs() if epoch.depth == 0]
            return epochs * (statistics.median(live) if live else self._prices.full) / self.speedup
        if self.seconds is None and self.minutes is None:
            return None
        allowed = self.seconds if self.seconds is not None else 60 * (self.minutes or 0.0)
        # What is neither training nor building: once, before the first epoch, and in each (evaluation, above all).
        beside, done = bench.wall() - bench.training(), len(bench.epochs())
        if self._once is None:
            self._once = beside
        return allowed - self._once - (beside - self._once) * (epochs / done if done else 1.0)

    def _choose(self, plans: Sequence[Plan], limit: float | None, state: TrainState) -> Plan | None:
        """The least harmful plan that keeps the promises; where none does, the quickest within the points."""
        epochs = known_epochs(self, state.epochs)
        if self.points is not None:
            plans = [plan for plan in plans if self._lost + self._points_of(plan, state, epochs) <= self.points]
        if limit is None:
            return min(plans, key=lambda plan: (plan.epoch, plan.seconds), default=None)
        kept = [plan for plan in plans if plan.seconds <= MARGIN * limit]
        if kept:
            return min(kept, key=lambda plan: (plan.harm, -plan.epoch, plan.seconds))
        return min(plans, key=lambda plan: plan.seconds, default=None)

    def _points_of(self, plan: Plan, state: TrainState, epochs: int) -> float:
        """Of accuracy, that a plan is expected to cost; 0 where points do not matter."""
        if self.points is None or plan.depth == state.depth:
            return 0.0
        seen = next((found for name in ACCURACIES if (found := _values(state, name))), [])
        if not seen:
            if state.epoch:
                raise PolicyError(
                    f"{self!r} needs to see the accuracy: freezer.end_epoch({{'val_accuracy': ...}}), from 0 to 1"
                )
            return float("inf")
        if len(seen) < 3:
            return float("inf")
        back = max(1, len(seen) // 4)
        gained = max(0.0, statistics.mean(seen[-back:]) - statistics.mean(seen[-2 * back : -back]))
        # As movement, gains fall to zero with the training: half of what they are now, over all epochs left.
        to_come = 100 * gained / back * (epochs - state.epoch) / 2
        return to_come * plan.harm

    def _told(self, plan: Plan, limit: float | None) -> str:
        if limit is None:
            return f"{plan.seconds:.1f} s expected in all"
        kept = "" if plan.seconds <= KEPT * limit else "; the promise cannot be kept"
        return f"{plan.seconds:.1f} s expected of {limit:.1f} s allowed{kept}"

    def _explain(self, chosen: Plan | None, limit: float | None, hurting: Sequence[int], state: TrainState) -> None:
        """Say why; and aloud, once, where a promise cannot be kept."""
        broken = limit is not None and (chosen is None or chosen.seconds > KEPT * limit)
        hurt = "".join(f"; {_label(state, depth)} would hurt now" for depth in hurting)
        told = "nothing may freeze" if chosen is None else self._told(chosen, limit)
        if chosen is None or chosen.depth == state.depth:
            # Where all is as it should be there is nothing to say.
            self.why = f"no freeze: {told}{hurt}" if broken or hurt or chosen is None else ""
        elif chosen.epoch > state.epoch:
            later = f"{_label(state, chosen.depth)} after {chosen.epoch} epoch{'s' * (chosen.epoch > 1)}"
            self.why = f"no freeze yet, {later} will do: {told}{hurt}"
        else:
            self.why = f"freezing up to {_label(state, chosen.depth)}: {told}{hurt}"
        if broken and not self._warned:
            self._warned = True
            warnings.warn(f"hoarfrost: {self!r} cannot be kept: {self.why}", stacklevel=3)

    def state_dict(self) -> dict[str, Any]:
        prices = None if self._prices is None else self._prices.to_config()
        return {
            "prices": prices,
            "weights": list(self._weights),
            "lost": self._lost,
            "hurt": [list(pair) for pair in self._hurt.items()],
            "once": self._once,
            "warned": self._warned,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._prices = None if state["prices"] is None else Prices.from_config(state["prices"])
        self._weights, self._lost, self._warned = list(state["weights"]), float(state["lost"]), bool(state["warned"])
        self._once = state["once"]
        self._hurt = {int(depth): int(epoch) for depth, epoch in state["hurt"]}


def _trial_steps(state: TrainState, epochs: int) -> int:
    return max(4, min(32, round(SHARE * epochs * state.steps)))


def _values(state: TrainState, name: str) -> list[float]:
    return [metrics[name] for metrics in state.metrics if name in metrics]


def _label(state: TrainState, depth: int) -> str:
    return repr(state.cuts[depth - 1].label)


def _tried(trial: Trial | None) -> str:
    if trial is None:
        return ""
    return f"; after {trial.steps} steps of trial the loss is {trial.frozen:.3f}, unfrozen {trial.free:.3f}"
