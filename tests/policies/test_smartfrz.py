"""SmartFRZ: what it tells of a history, what the predictor that ships makes of plain cases, and the policy."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from hoarfrost import TrainState
from hoarfrost.errors import PolicyError
from hoarfrost.policies import SmartFRZ
from hoarfrost.policies.predictor import FEATURES, HISTORY, Predictor, tokens, trained_predictor
from hoarfrost.policies.smartfrz import LEAST, WEIGHTS
from hoarfrost.watching import Segment

CUTS: Any = tuple(type("Cut", (), {"index": n, "label": f"layer{n}", "recommended": True})() for n in range(3))


def walk(steps: int, length: float, seed: int = 0, size: int = 256) -> Tensor:
    """Weights [S, P] of norm 1 that go on in one direction, with a little noise."""
    made = torch.Generator().manual_seed(seed)
    begin, way = torch.randn(2, size, generator=made)
    noise = 0.2 * length * torch.randn(steps, size, generator=made) / size**0.5
    return begin / begin.norm() + length * torch.arange(steps)[:, None] * way / way.norm() + noise


def test_tokens_are_what_they_are_said_to_be() -> None:
    weights = torch.tensor([[3.0, 4.0], [3.0, 5.0], [0.0, 5.0]])
    told = tokens(weights, 0.05)
    assert told.shape == (3, FEATURES)
    torch.testing.assert_close(told[:, 0].exp(), torch.tensor([10**0.5 / 5, 0.6, 0.0]), atol=1e-5, rtol=0)
    torch.testing.assert_close(told[:, 1].exp(), torch.tensor([0.0, 0.2, 0.6]), atol=1e-5, rtol=0)
    torch.testing.assert_close(told[:, 2], torch.tensor([0.0, 0.0, 1.0]))
    torch.testing.assert_close(told[:, 3] * HISTORY, torch.tensor([2.0, 1.0, 0.0]))
    torch.testing.assert_close(told[:, 4].exp(), torch.full((3,), 0.05))


def test_tokens_know_nothing_of_order_and_scale() -> None:
    weights = walk(12, 0.01)
    shuffled = 7 * weights[:, torch.randperm(weights.shape[1])]
    torch.testing.assert_close(tokens(shuffled, 0.05), tokens(weights, 0.05), atol=1e-3, rtol=1e-3)


def test_what_pads_a_history_is_not_heard() -> None:
    predictor = trained_predictor()
    history = tokens(walk(8, 0.01), 0.05)[None]
    alone = predictor(history, torch.ones(1, 8, dtype=torch.bool))
    for filling in (0.0, 1e3):
        padding = torch.full((1, HISTORY - 8, FEATURES), filling)
        known = torch.arange(HISTORY)[None] >= HISTORY - 8
        torch.testing.assert_close(predictor(torch.cat([padding, history], 1), known), alone)


def test_the_predictor_that_ships_tells_rest_from_motion() -> None:
    predictor = trained_predictor()
    still = [predictor.settled(walk(20, 1e-5, seed), 0.05) for seed in range(5)]
    moving = [predictor.settled(walk(20, 0.3, seed), 0.05) for seed in range(5)]
    assert min(still) > 0.5 > max(moving)
    assert sum(parameter.numel() for parameter in predictor.parameters()) < 10_000


def test_the_file_fits_a_predictor_and_gives_gradients_nowhere() -> None:
    predictor = trained_predictor()
    assert isinstance(predictor, Predictor)
    assert not predictor.training
    assert trained_predictor() is predictor
    assert not torch.equal(predictor.scale, torch.ones(FEATURES))


class Told:
    """An observer of three segments and the last, whose weights are given."""

    steps = 10

    def __init__(self, walks: list[Tensor]) -> None:
        self.walks, self.segments = walks, tuple(Segment(depth, (), 1) for depth in (1, 2, 3, None))
        self.asked = 0

    def weights(self, segment: int, most: int | None = None) -> Tensor:
        assert most == WEIGHTS
        return self.walks[segment][self.asked]


def decisions(policy: SmartFRZ, told: Told, epochs: range) -> list[int]:
    depths = []
    for epoch in epochs:
        told.asked = epoch
        depths.append(policy(TrainState(epoch, 20, depths[-1] if depths else 0, CUTS, observer=told)))  # type: ignore[arg-type]
    return depths


def test_segments_freeze_from_the_front_as_they_settle() -> None:
    still, moving = walk(20, 1e-5), walk(20, 0.3)
    later = torch.cat([walk(10, 0.3)[:10], walk(10, 1e-6)[:1] * torch.ones(10, 1)])
    depths = decisions(SmartFRZ(), Told([still, later, moving, moving]), range(20))
    assert depths[: LEAST - 1] == [0] * (LEAST - 1)
    assert depths[LEAST - 1] == 1
    assert max(depths) == 2
    assert depths == sorted(depths)
    assert decisions(SmartFRZ(), Told([moving, still, still, still]), range(20)) == [0] * 20


def test_a_resumed_policy_decides_alike() -> None:
    walks = [walk(20, 1e-5), walk(20, 0.05), walk(20, 0.3), walk(20, 0.3)]
    whole = decisions(SmartFRZ(), Told(walks), range(20))
    for stop in (3, 8, 15):
        first, again = SmartFRZ(), SmartFRZ()
        begun = decisions(first, Told(walks), range(stop))
        again.load_state_dict(copy.deepcopy(first.state_dict()))
        assert begun + decisions(again, Told(walks), range(stop, 20)) == whole


@pytest.mark.parametrize("threshold", [0.0, 1.0, 7.0])
def test_what_makes_no_sense_is_refused(threshold: float) -> None:
    with pytest.raises(PolicyError, match="threshold is between 0 and 1"):
        SmartFRZ(threshold=threshold)


def test_the_number_of_epochs_is_needed() -> None:
    with pytest.raises(PolicyError, match="needs to know the number of epochs"):
        SmartFRZ().prepare(CUTS, None)
