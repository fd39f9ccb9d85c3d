"""What a policy may have is read with what holds for one that does not."""

from __future__ import annotations

from constructed import state

from hoarfrost import Schedule, TrainState
from hoarfrost.policies.policy import announced_change, describe


def deepest(state: TrainState) -> int:
    return len(state.cuts)


def test_a_function_announces_no_change() -> None:
    assert announced_change(deepest, state(0)) is None


def test_a_policy_is_described_by_its_name() -> None:
    assert describe(deepest) == "deepest"
    assert describe(Schedule({1: 2})) == "Schedule({1: 2})"
