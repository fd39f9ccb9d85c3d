"""Criteria that watch the model decide as their definitions say, on gradients and features made for it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from constructed import CUTS, Given, answers, state
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hoarfrost.errors import PolicyError
from hoarfrost.policies import CKA, SVCCA, AutoFreeze, Egeria
from hoarfrost.policies.autofreeze import first_active
from hoarfrost.policies.egeria import settled, slope, smoothed


def test_autofreeze_trains_from_the_first_part_that_changes_as_much_as_the_median() -> None:
    # eta: 0.1, 0.3, 0.5, 0.2; their median is 0.25
    assert first_active([10, 10, 10, 10], [9, 13, 5, 12], 0, 50) == 1
    # Of the active three 0.3, 0.5, 0.2 the median is 0.3.
    assert first_active([10, 10, 10, 10], [0, 13, 5, 12], 1, 50) == 1
    assert first_active([10, 10, 10, 10], [9, 13, 5, 12], 0, 100) == 2
    assert first_active([0, 0], [0, 0], 0, 50) == 0


def test_autofreeze_skips_the_first_interval_and_takes_the_second_as_baseline() -> None:
    norms = [[1, 1, 1, 1], [10, 10, 10, 10], [9, 9, 5, 12], [9, 9, 4, 1]]
    depths = answers(AutoFreeze(intervals=5), epochs=10, cuts=CUTS, observer=Given(norms=norms))
    assert depths == [0, 0, 0, 0, 0, 0, 2 + 1, 2 + 1, 2 + 2, 2 + 2]


def test_autofreezes_interval_is_a_tenth_of_the_epochs_and_one_at_least() -> None:
    assert [AutoFreeze().gradient_epochs(epochs) for epochs in (3, 10, 30)] == [1, 1, 3]


@settings(deadline=None)  # torch's first quantile is slow
@given(st.lists(st.lists(st.floats(0, 1e3), min_size=4, max_size=4), min_size=9, max_size=9))
def test_autofreeze_only_goes_deeper_and_stays_within_bounds(norms: list[list[float]]) -> None:
    depths = answers(AutoFreeze(), cuts=CUTS, observer=Given(norms=norms))
    assert depths == sorted(depths)
    assert set(depths) <= {0, 2, 3, 4}


def features(seed: int) -> Tensor:
    return torch.randn(16, 4, 2, 2, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("policy", [CKA(), SVCCA()], ids=["cka", "svcca"])
def test_parts_freeze_from_the_front_as_their_features_stop_moving(policy: Any) -> None:
    still, moving = features(0), [features(seed) for seed in range(1, 9)]
    told = Given(
        features=[
            (still, moving[0], still),
            (still, moving[1], still),  # the third is still too, but the second in front of it is not
            (still, moving[1], moving[2]),
            (still, moving[1], moving[3]),
        ]
    )
    assert answers(policy, epochs=4, cuts=CUTS, observer=told) == [0, 2, 3, 3]


def test_snapshots_are_as_far_apart_as_asked() -> None:
    told = Given(features=[(features(0),) * 3, (features(0),) * 3])
    assert answers(CKA(every=2, after=1), epochs=5, cuts=CUTS, observer=told) == [0, 0, 0, 4, 4]


def test_plasticity_is_smoothed_by_a_moving_mean() -> None:
    assert smoothed([4, 2, 6, 1], 2) == [4, 3, 4, 3.5]


def test_slope_is_the_least_squares_one() -> None:
    assert slope([1.0, 3.0, 5.0]) == pytest.approx(2.0)
    assert slope([0.0, 0.0, 3.0, 1.0]) == pytest.approx(0.6)


def test_plasticity_has_settled_after_a_window_of_small_slopes() -> None:
    falling = [8.0, 6.0, 4.0, 2.0]
    flat = [2.0] * 4
    assert not settled(falling, 2, 0.2)
    assert not settled([*falling, *flat[:2]], 2, 0.2)
    assert settled([*falling, *flat[:3]], 2, 0.2)


def distant(amount: float) -> Tensor:
    """Features that differ from `distant(0)` the more the larger `amount` is."""
    base, other = torch.eye(16), torch.roll(torch.eye(16), 1, 0)
    return base + amount * other


def test_egeria_freezes_the_foremost_settled_part_and_thaws_when_the_rate_drops_tenfold() -> None:
    amounts = [0.0, 0.8, 0.6, 0.4, 0.2, 0.2, 0.2, 0.2]
    asked = [distant(0.0), *map(distant, amounts[1:])]
    told = Given(features=[(given,) * 3 for given in asked], lr=0.1)
    policy = Egeria(window=2, refresh=100)
    depths = [policy(state(epoch, 12, CUTS, told)) for epoch in range(8)]
    assert depths == [0, 0, 0, 0, 0, 0, 0, 2]
    assert told.references == 1
    told.lr = 0.0101
    told._features = iter([(distant(0.2),) * 3] * 3)
    assert policy(state(8, 12, CUTS, told)) == 2
    told.lr = 0.01
    assert policy(state(9, 12, CUTS, told)) == 0
    assert Egeria(thaw_at=None).thaws


def test_egerias_reference_is_made_anew() -> None:
    told = Given(features=[(features(0),) * 3] * 20)
    answers(Egeria(window=5, refresh=2), epochs=6, cuts=CUTS, observer=told)
    assert told.references == 3


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: AutoFreeze(intervals=0), "intervals is at least 1"),
        (lambda: CKA(threshold=2), "threshold is from 0 to 1"),
        (lambda: SVCCA(every=0), "every at least 1"),
        (lambda: Egeria(window=1), "window is at least 2"),
        (lambda: Egeria(thaw_at=1.0), "thaw_at is between 0 and 1"),
    ],
)
def test_what_makes_no_sense_is_refused(make: Any, text: str) -> None:
    with pytest.raises(PolicyError, match=text):
        make()


def test_a_state_without_a_model_says_so() -> None:
    with pytest.raises(PolicyError, match="made without a model"):
        _ = state(0).lr
