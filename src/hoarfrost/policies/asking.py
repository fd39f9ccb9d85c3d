"""Asking a policy through one training: when, with which state, and an answer that is checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..cuts import Cut, Example
from ..errors import PolicyError
from ..samples import TrainingData
from ..watching import PROBE, Measurements, Observer
from .policy import Policy, announced_change, describe, interval, may_thaw, prepared
from .state import TrainState

__all__ = ["Answer", "Asking", "checked_depth", "observer_for"]


@dataclass(frozen=True)
class Answer:
    """What a policy said.

    Attributes:
        depth: that should be frozen.
        before: what it asked for last. Where the disk budget asked for more than the policy did, more is frozen.
        why: one line on it, or "".
    """

    depth: int
    before: int
    why: str


class Asking:
    """Asks one policy, once for each epoch, or each so many steps; remembers what it was asked, and the metrics.

    Where several ranks train, that of the one that leads is asked, with its metrics and seconds; gradients are the
    mean over all.

    Args:
        data: that the model is trained on.
        epochs: how many there will be; None where that is not known.
        measurements: what can be measured of the training.

    Raises:
        PolicyError, UnknownCutError: the policy asks for what the model or the training does not have.
    """

    def __init__(
        self,
        policy: Policy,
        model: nn.Module,
        cuts: tuple[Cut, ...],
        data: TrainingData,
        optimizer: Any,
        epochs: int | None,
        measurements: Measurements,
    ) -> None:
        self.policy = prepared(policy, cuts, epochs)
        self._cuts, self._epochs, self._steps = cuts, epochs, data.steps
        self._measurements, self._ranks = measurements, data.ranks
        self._every_steps = interval(policy)
        self.observer: Observer = observer_for(
            policy, model, cuts, data.example, lambda: data.probe(PROBE), optimizer, epochs, self._steps
        )
        self.metrics: list[Mapping[str, float]] = []
        """What the loop handed to `end_epoch`, one mapping a finished epoch."""
        self._asked = -1, 0
        self._depth = 0
        self._overruled: int | None = None
        self._answer: Answer | None = None

    @property
    def name(self) -> str:
        """The policy's, for messages and records."""
        return describe(self.policy)

    @property
    def may_thaw(self) -> bool:
        """Whether the policy's depth may become smaller."""
        return may_thaw(self.policy)

    def due(self, epoch: int, step: int) -> bool:
        """Whether the policy wants to be asked within the epoch, behind so many steps of it."""
        every = self._every_steps
        return bool(every and step and (epoch * self._steps + step) % every == 0)

    def ask(self, epoch: int, step: int, depth: int) -> Answer | None:
        """Ask before `epoch`, or behind so many steps of it; None where it has been asked by then, or was overruled.

        What it answered last is told again until it is `done`: an interrupt may have come in between.

        Args:
            depth: that is frozen now.
        """
        if self._answer is not None:
            return self._answer
        if (epoch, step) <= self._asked:
            return None
        before = self._depth
        self._measurements.epoch = epoch
        if not self._ranks.alone:
            self.observer.reduce(self._ranks.mean)
        self._depth, why = self._ranks.lead("what the policy says", lambda: self._said(epoch, step, depth))
        self._asked = epoch, step
        self.observer.asked(epoch, step)
        if self._depth == self._overruled:
            return None
        if self._overruled is not None:
            self._overruled, before = None, 0
        self._answer = Answer(self._depth, before, why)
        return self._answer

    def _said(self, epoch: int, step: int, depth: int) -> tuple[int, str]:
        """The policy's answer, and why."""
        answer = checked_depth(self.policy, self._state(epoch, step, depth), self._depth)
        return answer, getattr(self.policy, "why", "")

    def done(self) -> None:
        """What the policy asked for holds."""
        self._answer = None

    def epochs_left(self, epoch: int, depth: int) -> int | None:
        """Epochs from `epoch` on for which a depth will last, as far as that is known."""
        change = announced_change(self.policy, self._state(epoch, 0, depth))
        until = change if change is not None else self._epochs
        return None if until is None else until - epoch

    def overrule(self) -> None:
        """Everything trains again, whatever the policy asked for last: it is heard once it asks for another depth."""
        self._overruled, self._answer = self._depth, None

    def close(self) -> None:
        """Stop watching the model."""
        self.observer.close()

    def _state(self, epoch: int, step: int, depth: int) -> TrainState:
        return TrainState(
            epoch,
            self._epochs,
            depth,
            self._cuts,
            tuple(self.metrics),
            may_thaw(self.policy),
            self.observer,
            step,
            self._measurements,
        )

    def state_dict(self) -> dict[str, Any]:
        """JSON, but for what the policy remembers: that may be tensors."""
        remembered = getattr(self.policy, "state_dict", None)
        return {
            "asked": list(self._asked),
            "policy_depth": self._depth,
            "overruled": self._overruled,
            "metrics": [dict(metrics) for metrics in self.metrics],
            "policy": remembered() if remembered is not None else None,
            "observer": self.observer.state_dict(),
            "wall": self._measurements.wall(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        epoch, step = state["asked"]
        self._asked = int(epoch), int(step)
        self._depth = int(state["policy_depth"])
        self._overruled, self._answer = state["overruled"], None
        self.metrics = list(state["metrics"])
        self._measurements.epoch = max(0, self._asked[0])
        self._measurements.before = float(state["wall"])
        if state["policy"] is not None:
            self.policy.load_state_dict(state["policy"])  # type: ignore[attr-defined]
        self.observer.load_state_dict(state["observer"])


def observer_for(
    policy: Policy,
    model: nn.Module,
    cuts: tuple[Cut, ...],
    example: Example,
    probe: Callable[[], Example],
    optimizer: Any,
    epochs: int | None,
    steps: int,
) -> Observer:
    """What watches `model` as far as the policy says that it wants to know.

    Raises:
        PolicyError: the policy sets learning rates, and the optimizer does not allow one for each segment.
    """
    every: Callable[[int | None], int] | None = getattr(policy, "gradient_epochs", None)
    return Observer(
        model,
        cuts,
        example,
        probe=probe,
        optimizer=optimizer,
        epochs=epochs,
        steps=steps,
        gradient_epochs=None if every is None else every(epochs),
        every_steps=interval(policy),
        rate=getattr(policy, "rate", None),
    )


def checked_depth(policy: Policy, state: TrainState, before: int | None = None) -> int:
    """The depth that `policy` asks for.

    Args:
        before: what it asked for last, where more is frozen than that for another reason; None: `state.depth`.

    Raises:
        PolicyError: the answer is no whole number, goes past the last cut, or thaws where the policy does not.
    """
    answer = policy(state)
    when = f"at step {state.within} of" if state.within else "before"
    asked = f"the policy {describe(policy)} asked {when} epoch {state.epoch} for depth {answer!r}"
    if isinstance(answer, bool) or not isinstance(answer, int) or answer < 0:
        raise PolicyError(f"{asked}: a depth is a whole number from 0 to {len(state.cuts)}")
    if answer > len(state.cuts):
        raise PolicyError(
            f"{asked}, past the last cut: the model has {len(state.cuts)} cuts, "
            f"the last is {state.cuts[-1].label!r} (depth {len(state.cuts)})"
        )
    least = state.depth if before is None else before
    if answer < least and not may_thaw(policy):
        raise PolicyError(
            f"{asked}, but depth {least} is frozen already, and only a policy with the attribute thaws = True goes "
            "back: otherwise a depth may stay or rise"
        )
    return answer
