"""A schedule freezes at its points, and an even one finds them."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from constructed import CUTS, state
from hypothesis import given
from hypothesis import strategies as st

from hoarfrost import Schedule
from hoarfrost.errors import NoCutError, PolicyError, UnknownCutError
from hoarfrost.policies.policy import announced_change


def test_a_schedule_freezes_up_to_its_cut_before_its_epoch() -> None:
    schedule = Schedule({10: "layer2", 5: "layer1"})
    assert [schedule(state(epoch, cuts=CUTS)) for epoch in (0, 4, 5, 9, 10, 19)] == [0, 0, 2, 2, 3, 3]


def test_epoch_zero_freezes_from_the_start() -> None:
    assert Schedule({0: "stem"})(state(0, cuts=CUTS)) == 1


def test_a_point_behind_the_last_epoch_is_said() -> None:
    with pytest.warns(UserWarning, match="counted from 0, so that with 3 nothing is frozen before epoch 3"):
        Schedule({0: 1, 3: 2}).prepare(CUTS, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Schedule({0: 1, 2: 2}).prepare(CUTS, 3)
        Schedule({0: 1, 3: 2}).prepare(CUTS, None)


def test_a_point_can_be_a_depth() -> None:
    assert Schedule({3: 4})(state(3, cuts=CUTS)) == 4


def test_the_even_schedule_takes_the_recommended_cuts_nearest_to_its_shares(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hoarfrost.policies.schedule.EVEN_POINTS", ((0.25, 1 / 3), (0.4, 2 / 3)))
    assert Schedule().depths(CUTS, 20) == {5: 2, 8: 3}


@given(st.integers(1, 200))
def test_the_even_schedule_leaves_the_first_epoch_and_only_goes_deeper(epochs: int) -> None:
    depths = Schedule().depths(CUTS, epochs)
    assert all(0 < epoch < epochs for epoch in depths)
    assert [*depths.values()] == sorted(depths.values())


@given(st.dictionaries(st.integers(0, 40), st.integers(0, 4), max_size=5), st.integers(0, 40))
def test_the_next_change_is_the_next_epoch_at_which_the_answer_rises(points: dict[int, int], epoch: int) -> None:
    rising = dict(zip(sorted(points), sorted(points.values()), strict=True))
    schedule = Schedule(rising)
    now = schedule(state(epoch, cuts=CUTS))
    wanted = next((later for later in range(epoch + 1, 42) if schedule(state(later, cuts=CUTS)) > now), None)
    assert announced_change(schedule, state(epoch, cuts=CUTS)) == wanted


@pytest.mark.parametrize(
    ("points", "error", "text"),
    [
        ({5: "layer9"}, UnknownCutError, "layer9.*layer1"),
        ({5: "layer2", 9: "layer1"}, PolicyError, r"asks to thaw: 'layer2' \(depth 3\) is frozen before epoch 5, and "
         r"'layer1' \(depth 2\) lies in front of it"),
        ({5: 9}, PolicyError, "depth 9 does not exist: the model has 4 cuts"),
        ({5: 1.5}, PolicyError, "a schedule names a cut, or a depth as a whole number, not 1.5"),
        ({5: None}, PolicyError, "not None"),
    ],
    ids=["unknown", "thaws", "past the end", "half a depth", "nothing"],
)  # fmt: skip
def test_points_that_the_model_does_not_have_are_refused_beforehand(
    points: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        Schedule(points).prepare(CUTS, 20)


@pytest.mark.parametrize("epoch", [-1, 1.5, "5", True], ids=str)
def test_what_is_no_epoch_is_refused(epoch: Any) -> None:
    with pytest.raises(PolicyError, match=r"a schedule maps epochs, counted from 0, to cuts; .* is no epoch"):
        Schedule({epoch: "layer1"})


def test_the_even_schedule_needs_the_number_of_epochs() -> None:
    with pytest.raises(PolicyError, match="an even schedule needs to know the number of epochs"):
        Schedule().prepare(CUTS, None)


def test_the_even_schedule_of_a_model_without_cuts_is_refused() -> None:
    with pytest.raises(NoCutError, match="no place where it can be divided"):
        Schedule().prepare((), 20)


def test_schedules_compare_by_their_points() -> None:
    assert Schedule({1: "a", 2: "b"}) == Schedule({2: "b", 1: "a"})
    assert hash(Schedule({1: "a"})) == hash(Schedule({1: "a"}))
    assert Schedule({1: "a"}) != Schedule()
    assert repr(Schedule({1: "a"})) == "Schedule({1: 'a'})"
