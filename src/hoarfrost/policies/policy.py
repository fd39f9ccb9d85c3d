"""What a policy is asked, and what it may answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from ..cuts import Cut
from ..errors import PolicyError, UnwatchedError
from ..watching import Measurements, Observer, Segment, Summary

__all__ = [
    "Policy",
    "TrainState",
    "announced_change",
    "checked_depth",
    "describe",
    "interval",
    "is_due",
    "known_change",
    "known_epochs",
    "may_thaw",
    "observer_for",
    "prepared",
    "resolve_policy",
]


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


@runtime_checkable
class Policy(Protocol):
    """A function from the state of training to the depth that should be frozen. It is asked once before each epoch.

    A plain function fits. A policy may also have

    - `every_steps: int`, to be asked also within epochs, behind each so many steps of the training. What it freezes
      then is recomputed until the epoch ends;
    - `prepare(cuts, epochs)`, called once so that it can refuse a bad request before the training starts;
    - `next_change(state) -> int | None`, the next epoch at which it already knows that it will ask for another depth:
      the cost model wants to know how long a cache will last;
    - `thaws = True`, if its depth may become smaller: then all trains again and the cache is dropped;
    - `gradient_epochs(epochs) -> int`, if it reads `TrainState.gradient_norms`: the epochs over which they are summed;
    - `rate(segment, segments, done, lr, began) -> float`, if segments have learning rates of their own: asked before
      each step with the share of the training that is done, the loop's own rate, and the one it began with;
    - `why: str`, one line on what it answered last, for the records; "" where there is nothing to say;
    - `state_dict()` and `load_state_dict(state)`, if it remembers anything: plain values and tensors.
    """

    def __call__(self, state: TrainState, /) -> int: ...


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


def interval(policy: Policy) -> int | None:
    """Steps of the training from one question to the next; None: it is asked between epochs only.

    Raises:
        PolicyError: `every_steps` is no whole number of at least 1.
    """
    every = getattr(policy, "every_steps", None)
    if every is not None and (isinstance(every, bool) or not isinstance(every, int) or every < 1):
        raise PolicyError(f"{describe(policy)}: every_steps is a whole number of at least 1, or None, not {every!r}")
    return every


def is_due(policy: Policy, state: TrainState) -> bool:
    """Whether an interval of a policy ends now: with the epoch, or where it has `every_steps` after so many."""
    every = interval(policy)
    return state.within == 0 if every is None else state.step % every == 0


def may_thaw(policy: Policy) -> bool:
    """Whether the policy says that its depth may become smaller."""
    return bool(getattr(policy, "thaws", False))


def prepared(policy: Policy, cuts: tuple[Cut, ...], epochs: int | None) -> Policy:
    """Let the policy check its request against the model, if it wants to."""
    prepare = getattr(policy, "prepare", None)
    if prepare is not None:
        prepare(cuts, epochs)
    return policy


def observer_for(
    policy: Policy,
    model: nn.Module,
    cuts: tuple[Cut, ...],
    example: Tensor,
    probe: Callable[[], Tensor],
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


def announced_change(policy: Policy, state: TrainState) -> int | None:
    """The next epoch at which the policy already knows that it will ask for another depth."""
    ask: Callable[[TrainState], int | None] | None = getattr(policy, "next_change", None)
    return None if ask is None else ask(state)


def known_change(policy: Policy, state: TrainState) -> int | None:
    """The next change of a policy that looks at nothing but the epoch: `next_change` for such policies."""
    now = policy(state)
    later = range(state.epoch + 1, state.epochs or 0)
    return next((epoch for epoch in later if policy(replace(state, epoch=epoch)) != now), None)


def known_epochs(policy: Policy, epochs: int | None) -> int:
    """The number of epochs, for a policy that cannot do without.

    Raises:
        PolicyError: it is not known.
    """
    if epochs is None:
        raise PolicyError(f"{describe(policy)} needs to know the number of epochs: give Freezer(..., epochs=...)")
    return epochs


def describe(policy: Policy) -> str:
    """A short name for messages and records."""
    return getattr(policy, "__name__", None) or repr(policy)


def resolve_policy(policy: str | Policy | Mapping[int, str | int]) -> Policy:
    """A policy from its name and settings (see `names.named`), from a mapping of epochs to cuts, or as it is.

    Raises:
        PolicyError: the name is unknown or the object cannot be called.
    """
    from .names import named
    from .schedule import Schedule

    if isinstance(policy, str):
        return named(policy)
    if isinstance(policy, Mapping):
        return Schedule(policy)
    if not callable(policy):
        raise PolicyError(
            f"a policy is a name, a mapping from epochs to cuts, or a function TrainState -> depth, not {policy!r}"
        )
    return policy
