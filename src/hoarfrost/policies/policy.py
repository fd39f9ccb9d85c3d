"""What a policy is, and the parts that it may have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from ..cuts import Cut
from ..errors import PolicyError
from .state import TrainState

__all__ = ["Policy", "announced_change", "describe", "interval", "is_due", "may_thaw", "prepared"]


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


def describe(policy: Policy) -> str:
    """A short name for messages and records."""
    return getattr(policy, "__name__", None) or repr(policy)


def prepared(policy: Policy, cuts: tuple[Cut, ...], epochs: int | None) -> Policy:
    """Let the policy check its request against the model, if it wants to."""
    prepare = getattr(policy, "prepare", None)
    if prepare is not None:
        prepare(cuts, epochs)
    return policy


def may_thaw(policy: Policy) -> bool:
    """Whether the policy says that its depth may become smaller."""
    return bool(getattr(policy, "thaws", False))


def announced_change(policy: Policy, state: TrainState) -> int | None:
    """The next epoch at which the policy already knows that it will ask for another depth."""
    ask: Callable[[TrainState], int | None] | None = getattr(policy, "next_change", None)
    return None if ask is None else ask(state)


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
