"""An answer that can be followed is, and another one is refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from constructed import CUTS, state

from hoarfrost import TrainState
from hoarfrost.errors import PolicyError
from hoarfrost.policies.asking import checked_depth


def answers(value: Any) -> Any:
    def policy(state: TrainState) -> Any:
        return value

    return policy


@pytest.mark.parametrize(
    ("answer", "depth", "text"),
    [
        (5, 0, r"the policy policy asked before epoch 3 for depth 5, past the last cut: the model has 4 cuts, "
         r"the last is 'layer3' \(depth 4\)"),
        (1, 2, "depth 2 is frozen already, and only a policy with the attribute thaws = True goes back"),
        (-1, 0, "a depth is a whole number from 0 to 4"),
        (1.0, 0, "a depth is a whole number from 0 to 4"),
        (True, 0, "a depth is a whole number from 0 to 4"),
        (None, 0, "for depth None: a depth is a whole number"),
    ],
    ids=["past the end", "thaws", "negative", "float", "bool", "none"],
)  # fmt: skip
def test_an_answer_that_cannot_be_followed_is_refused(answer: Any, depth: int, text: str) -> None:
    with pytest.raises(PolicyError, match=text):
        checked_depth(answers(answer), state(3, cuts=CUTS, depth=depth))


@pytest.mark.parametrize("depth", range(5))
def test_a_depth_may_stay_or_rise_to_the_last_cut(depth: int) -> None:
    assert [checked_depth(answers(answer), state(3, cuts=CUTS, depth=depth)) for answer in range(depth, 5)] == [
        *range(depth, 5)
    ]
