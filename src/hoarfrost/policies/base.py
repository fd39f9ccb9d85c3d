"""What a policy is asked, and what it may answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ..cuts import Cut
from ..errors import PolicyError

__all__ = ["Policy", "TrainState", "announced_change", "checked_depth", "prepared", "resolve_policy"]


@dataclass(frozen=True)
class TrainState:
    """What a policy sees when it is asked, before `epoch` begins.

    Depth 0 means that nothing is frozen; depth d, that everything in front of `cuts[d - 1]` is.
    """

    epoch: int
    """The epoch that is about to begin, from 0."""
    epochs: int | None
    """How many there will be, if that is known."""
    depth: int
    """The depth that is frozen now."""
    cuts: tuple[Cut, ...]
    """All cuts of the model, from the front."""
    metrics: tuple[Mapping[str, float], ...] = ()
    """What the loop handed to `end_epoch`, one mapping a finished epoch."""


@runtime_checkable
class Policy(Protocol):
    """A pure function from the state of training to the depth that should be frozen.

    A plain function fits. A policy may also have `prepare(cuts, epochs)`, called once so that it can refuse
    a bad request before the training starts, and `next_change(state) -> int | None`, the next epoch at
    which it already knows that it will go deeper: the cost model asks for it. One with memory of its own
    has `state_dict` and `load_state_dict`.
    """

    def __call__(self, state: TrainState, /) -> int: ...


def checked_depth(policy: Policy, state: TrainState, before: int | None = None) -> int:
    """The depth that `policy` asks for.

    Args:
        before: what it asked for last, where more is frozen than that for another reason; None: `state.depth`.

    Raises:
        PolicyError: the answer is no whole number, thaws, or goes past the last cut.
    """
    answer = policy(state)
    asked = f"the policy {describe(policy)} asked before epoch {state.epoch} for depth {answer!r}"
    if isinstance(answer, bool) or not isinstance(answer, int) or answer < 0:
        raise PolicyError(f"{asked}: a depth is a whole number from 0 to {len(state.cuts)}")
    if answer > len(state.cuts):
        raise PolicyError(
            f"{asked}, past the last cut: the model has {len(state.cuts)} cuts, "
            f"the last is {state.cuts[-1].label!r} (depth {len(state.cuts)})"
        )
    least = state.depth if before is None else before
    if answer < least:
        raise PolicyError(
            f"{asked}, but depth {least} is frozen already and this release does not thaw: "
            "a policy's depth may stay or rise"
        )
    return answer


def prepared(policy: Policy, cuts: tuple[Cut, ...], epochs: int | None) -> Policy:
    """Let the policy check its request against the model, if it wants to."""
    prepare = getattr(policy, "prepare", None)
    if prepare is not None:
        prepare(cuts, epochs)
    return policy


def announced_change(policy: Policy, state: TrainState) -> int | None:
    """The next epoch at which the policy already knows that it will go deeper."""
    ask: Callable[[TrainState], int | None] | None = getattr(policy, "next_change", None)
    return None if ask is None else ask(state)


def describe(policy: Policy) -> str:
    """A short name for messages and records."""
    return getattr(policy, "__name__", None) or repr(policy)


def resolve_policy(policy: str | Policy | Mapping[int, str | int]) -> Policy:
    """A policy from its name, from a mapping of epochs to cuts, or as it is.

    Raises:
        PolicyError: the name is unknown or the object cannot be called.
    """
    from .never import Never
    from .schedule import Schedule

    named: dict[str, Callable[[], Policy]] = {"schedule": Schedule, "none": Never}
    if isinstance(policy, str):
        if policy not in named:
            raise PolicyError(f"there is no policy {policy!r}: known are {', '.join(sorted(named))}")
        return named[policy]()
    if isinstance(policy, Mapping):
        return Schedule(policy)
    if not callable(policy):
        raise PolicyError(
            f"a policy is a name, a mapping from epochs to cuts, or a function TrainState -> depth, not {policy!r}"
        )
    return policy
