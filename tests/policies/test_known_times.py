"""Policies that look at nothing but the epoch give the depths of their definitions."""

from __future__ import annotations

import math
from typing import Any

import pytest
from constructed import CUTS, NINE, answers, state
from hypothesis import given
from hypothesis import strategies as st

from hoarfrost.errors import NoCutError, PolicyError
from hoarfrost.policies import (
    CKA,
    Annealed,
    AutoFreeze,
    Boosted,
    FreezeOut,
    Geometric,
    Linear,
    Never,
    Periodic,
    Schedule,
    SingleShot,
    SingleShotThenResume,
)
from hoarfrost.policies.policy import announced_change, may_thaw


def test_never_stays_at_nothing() -> None:
    assert Never()(state(19, epochs=20)) == 0


def test_linear_freezes_two_tenths_more_of_ten_parts_in_each_of_ten_epochs_behind_the_middle() -> None:
    assert answers(Linear()) == [0, 0, 0, 0, 0, 0, 2, 4, 6, 8]


def test_linear_with_a_level_stops_there() -> None:
    assert answers(Linear(start=0.0, level=0.5)) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_geometric_freezes_a_third_of_the_rest_each_time() -> None:
    wanted = [min(9, math.ceil(10 * (1 - (2 / 3) ** epoch) - 1e-9)) for epoch in range(10)]
    assert wanted[:5] == [0, 4, 6, 8, 9]
    assert answers(Geometric()) == wanted
    assert answers(Geometric(after=2))[:5] == [0, 0, 0, 4, 6]


def test_a_part_ends_at_a_recommended_cut() -> None:
    assert set(answers(Linear(start=0.0), cuts=CUTS)) == {0, 2, 3, 4}


def test_single_shot_freezes_once() -> None:
    assert answers(SingleShot(at=0.3, share=0.7), cuts=CUTS) == [0] * 3 + [3] * 7


def test_single_shot_then_resume_thaws_and_slows_down() -> None:
    policy = SingleShotThenResume(at=0.3, share=0.7, resume=0.8, slowed=0.1)
    assert answers(policy, cuts=CUTS) == [0] * 3 + [3] * 5 + [0] * 2
    assert policy.rate(0, 4, 0.79, 0.5, 1.0) == 0.5
    assert policy.rate(0, 4, 0.8, 0.5, 1.0) == pytest.approx(0.05)


def test_single_shot_then_resume_resumes_in_short_runs_too() -> None:
    assert answers(SingleShotThenResume(), epochs=4, cuts=CUTS) == [0, 0, 3, 0]


def test_periodic_freezes_the_second_half_of_each_period() -> None:
    assert answers(Periodic(periods=2, frozen=0.4, share=0.3), cuts=CUTS) == [0, 0, 0, 2, 2] * 2


@pytest.mark.parametrize(("scale", "power"), [("linear", 1), ("squared", 2), ("cubic", 3)])
def test_freezeout_stops_each_part_at_its_share(scale: str, power: int) -> None:
    policy = FreezeOut(scale=scale, t0=0.5)
    assert [policy.stops(segment, 5) for segment in range(5)] == pytest.approx(
        [0.5**power, 0.625**power, 0.75**power, 0.875**power, 1.0]
    )


def test_freezeouts_published_defaults() -> None:
    assert FreezeOut().stops(0, 10) == pytest.approx(0.512)
    depths = answers(FreezeOut())
    stops = [(0.8 + 0.2 * segment / 9) ** 3 for segment in range(9)]
    assert depths == [sum(stop <= epoch / 10 for stop in stops) for epoch in range(10)]
    assert depths[5] == 0 < depths[6]


def test_freezeouts_rates_fall_along_a_cosine_to_zero() -> None:
    policy = FreezeOut(scale="linear", t0=0.5)
    assert policy.rate(0, 2, 0.0, 9.0, 0.1) == pytest.approx(0.2)
    assert policy.rate(0, 2, 0.25, 9.0, 0.1) == pytest.approx(0.1)
    assert policy.rate(0, 2, 0.125, 9.0, 0.1) == pytest.approx(0.1 * (1 + math.sqrt(0.5)))
    assert policy.rate(0, 2, 0.5, 9.0, 0.1) == 0.0
    assert FreezeOut(scale="linear", t0=0.5, scaled=False).rate(0, 2, 0.25, 9.0, 0.1) == pytest.approx(0.05)


@pytest.mark.parametrize("segment", range(4))
def test_scaled_parts_travel_the_same_distance(segment: int) -> None:
    policy, steps = FreezeOut(), 4000
    travelled = sum(policy.rate(segment, 4, step / steps, 1.0, 1.0) for step in range(steps)) / steps
    assert travelled == pytest.approx(0.5, abs=1e-3)


def test_annealed_parts_fall_to_zero_where_they_freeze() -> None:
    policy = Annealed(Schedule({4: "layer1", 8: "layer2"}))
    assert answers(policy, cuts=CUTS) == [0] * 4 + [2] * 4 + [3] * 2
    assert [policy.rate(0, 4, done, 2.0, 9.0) for done in (0.0, 0.2, 0.4)] == pytest.approx([2.0, 1.0, 0.0])
    assert [policy.rate(1, 4, done, 2.0, 9.0) for done in (0.0, 0.4, 0.8)] == pytest.approx([2.0, 1.0, 0.0])
    assert [policy.rate(segment, 4, 0.9, 2.0, 9.0) for segment in (2, 3)] == [2.0, 2.0]


def test_annealing_may_begin_late() -> None:
    policy = Annealed(Schedule({4: "layer1"}), over=0.5)
    policy.prepare(CUTS, 10)
    assert [policy.rate(0, 4, done, 2.0, 9.0) for done in (0.1, 0.2, 0.3, 0.4)] == pytest.approx([2.0, 2.0, 1.0, 0.0])


def test_a_boosted_rate_begins_with_the_first_freeze_and_ends_with_the_training() -> None:
    policy = Boosted(Schedule({4: "layer1", 8: "layer2"}), factor=2.0)
    policy.prepare(CUTS, 10)
    assert [policy(state(epoch, cuts=CUTS)) for epoch in range(4)] == [0] * 4
    assert policy.rate(3, 4, 0.3, 2.0, 9.0) == 2.0
    assert [policy(state(epoch, cuts=CUTS)) for epoch in range(4, 9)] == [2] * 4 + [3]
    rates = [policy.rate(3, 4, done, 2.0, 9.0) for done in (0.4, 0.7, 1.0)]
    assert rates == pytest.approx([4.0, 3.0, 2.0])
    again = Boosted(Schedule({4: "layer1", 8: "layer2"}), factor=2.0)
    again.load_state_dict(policy.state_dict())
    assert again.rate(3, 4, 0.7, 2.0, 9.0) == pytest.approx(3.0)
    assert policy.next_change(state(5, cuts=CUTS)) == 8


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Boosted(Periodic()), r"between epochs, not Periodic\("),
        (lambda: Boosted(AutoFreeze()), r"between epochs, not AutoFreeze\("),
        (lambda: Boosted(CKA(every_steps=5)), r"between epochs, not CKA\("),
        (lambda: Boosted(factor=0.5), "factor is at least 1"),
        (lambda: Annealed(AutoFreeze()), "needs a policy that knows its times; AutoFreeze"),
        (lambda: Annealed(Periodic()), r"never thaws and sets no rates, not Periodic\("),
        (lambda: Annealed(FreezeOut()), r"never thaws and sets no rates, not FreezeOut\("),
        (lambda: Annealed(over=0), "over must be above 0"),
        (lambda: Linear(start=1.0), r"start must be in \[0, 1\)"),
        (lambda: Geometric(alpha=1.0), "alpha must be between 0 and 1"),
        (lambda: SingleShot(at=1.5), "at is a share from 0 to 1, not 1.5"),
        (lambda: SingleShotThenResume(at=0.9, resume=0.5), r"resume \(0.5\) lies before at \(0.9\)"),
        (lambda: Periodic(periods=0), "periods is a whole number of at least 1"),
        (lambda: FreezeOut(scale="quartic"), "scale must be one of linear, squared, cubic"),
        (lambda: FreezeOut(t0=0.0), "t0 must be above 0"),
    ],
)
def test_what_makes_no_sense_is_refused(make: Any, text: str) -> None:
    with pytest.raises(PolicyError, match=text):
        make()


@pytest.mark.parametrize(
    "policy",
    [Linear(), SingleShot(), SingleShotThenResume(), Periodic(), FreezeOut(), Annealed(), Boosted(), AutoFreeze()],
)
def test_the_number_of_epochs_is_asked_for(policy: Any) -> None:
    with pytest.raises(PolicyError, match="needs to know the number of epochs"):
        policy.prepare(CUTS, None)


@pytest.mark.parametrize("policy", [SingleShot(), SingleShotThenResume(), Periodic()])
def test_a_share_of_a_model_without_cuts_is_refused(policy: Any) -> None:
    with pytest.raises(NoCutError, match="no place where it can be divided"):
        policy.prepare((), 10)


shares = st.floats(0, 0.95)
policies = st.one_of(
    st.builds(Linear, shares, shares),
    st.builds(Geometric, st.floats(0.05, 0.9), st.integers(0, 5)),
    st.builds(SingleShot, shares, shares),
    st.builds(lambda at, share: SingleShotThenResume(at, share, max(at, 0.9)), shares, shares),
    st.builds(Periodic, st.integers(1, 6), shares, shares),
    st.builds(FreezeOut, st.sampled_from(["linear", "squared", "cubic"]), st.floats(0.05, 1.0)),
)


@given(policies, st.integers(1, 40), st.sampled_from([CUTS, NINE, CUTS[:2]]))
def test_depths_are_within_bounds_and_rise_unless_the_method_thaws(policy: Any, epochs: int, cuts: Any) -> None:
    depths = answers(policy, epochs, cuts)
    assert all(0 <= depth <= len(cuts) for depth in depths)
    if not may_thaw(policy):
        assert depths == sorted(depths)


@given(policies, st.integers(1, 30), st.data())
def test_the_announced_change_is_the_next_epoch_with_another_depth(policy: Any, epochs: int, data: Any) -> None:
    depths = answers(policy, epochs, NINE)
    epoch = data.draw(st.integers(0, epochs - 1))
    wanted = next((later for later in range(epoch, epochs) if depths[later] != depths[epoch]), None)
    assert announced_change(policy, state(epoch, epochs)) == wanted
