"""Two stages freeze at the points of the authors' code."""

from __future__ import annotations

from dataclasses import replace

import pytest
from constructed import CUTS, answers, state

from hoarfrost.errors import NoCutError, PolicyError
from hoarfrost.policies import Stages, resolve_policy
from hoarfrost.policies.policy import announced_change

SIZED = tuple(replace(cut, shape=(4, side, side)) for cut, side in zip(CUTS, (8, 8, 4, 2), strict=True))


def test_of_160_epochs_the_first_stage_freezes_before_30_and_the_second_before_60() -> None:
    found = answers(Stages(), 160, SIZED)
    assert [found.index(depth) for depth in (2, 3)] == [30, 60]
    assert set(found) == {0, 2, 3}


def test_points_are_shares_and_no_model_is_frozen_before_its_first_epoch() -> None:
    assert answers(resolve_policy("stages:first=0.4,second=0.8"), 5, SIZED) == [0, 0, 2, 2, 3]
    assert answers(Stages(0, 0), 3, SIZED) == [0, 3, 3]


def test_it_says_beforehand_when_it_goes_deeper() -> None:
    assert [announced_change(Stages(), state(epoch, 160, SIZED)) for epoch in (0, 30, 60)] == [30, 60, None]


def test_what_is_missing_is_told() -> None:
    with pytest.raises(PolicyError, match="first is a share from 0 to 1, not 2"):
        Stages(first=2)
    with pytest.raises(PolicyError, match="needs to know the number of epochs"):
        Stages().prepare(SIZED, None)
    with pytest.raises(NoCutError, match="no place where it can be divided"):
        Stages().prepare((), 10)
