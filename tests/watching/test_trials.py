"""What a trial says of a freeze."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hoarfrost.costs import Clock
from hoarfrost.cuts import find_cuts
from hoarfrost.samples import TrainingData, UserLoader
from hoarfrost.settings import Settings, from_flat
from hoarfrost.watching import Measurements, Trial
from hoarfrost.watching.training_loss import training_loss

SIXTEEN = from_flat(Settings, {"batch_size": 16})


def test_a_trial_is_lost_where_less_is_learned_in_the_time() -> None:
    def learned(free: float, frozen: float, error: float = 0.01) -> Trial:
        return Trial(8, 1.0, 1.0 - free, 1.0 - frozen, error)

    assert not learned(0.4, 0.2).hurts(0.5)
    assert learned(0.4, 0.1).hurts(0.5)
    assert not learned(0.4, 0.1).hurts(0.25)
    assert not learned(0.4, 0.1, error=0.06).hurts(0.5)
    assert learned(0.4, -0.1).hurts(0.1)
    assert learned(-0.2, -0.1).hurts(0.5)
    assert not learned(-0.2, 0.0).hurts(0.5)


class Images(torch.utils.data.Dataset[Any]):
    """A bright spot each; what it is asked for of them is the target."""

    def __init__(self, targets: Tensor) -> None:
        made = torch.Generator().manual_seed(0)
        self.images = torch.randn(len(targets), 1, 8, 8, generator=made)
        self.images[:, 0, 2, 3] += 3 * targets.reshape(len(targets), -1)[:, 0]
        self.targets = targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index], self.targets[index]


class LosesByItself(nn.Module):
    """Gives its own loss, of what it makes of the images again."""

    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU())
        self.back = nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        again = self.back(self.front(images))
        return {"loss": (again.mean((1, 2, 3)) - 1).square().mean(), "again": again}


def net(outputs: int) -> nn.Module:
    front = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU())
    return nn.Sequential(OrderedDict(front=front, flat=nn.Flatten(), back=nn.Linear(256, outputs)))


def found(model: nn.Module, targets: Tensor, loss: Any = "auto") -> Trial | None:
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    data = TrainingData.of(UserLoader.of(Images(targets), 16, None, 0), None, SIXTEEN, torch.device("cpu"), model)
    cuts = find_cuts(model, data.example)
    bench = Measurements(model, cuts, data, optimizer, loss, views=1, history=list, clock=Clock())
    return bench.trial(1, 4)


DRAWN = torch.rand(128, 3, generator=torch.Generator().manual_seed(1))
LOSSES: dict[str, tuple[Tensor, Any, Callable[..., Tensor]]] = {
    "classes": ((3 * DRAWN[:, 0]).long(), "auto", F.cross_entropy),
    "regression": (DRAWN, "auto", F.mse_loss),
    "labels": ((DRAWN > 0.5).float(), "auto", F.binary_cross_entropy_with_logits),
    "criterion": (DRAWN, nn.SmoothL1Loss(), F.smooth_l1_loss),
    "of a batch": (DRAWN, lambda given, beside: (given - beside).norm(), lambda given, beside: (given - beside).norm()),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_trial_takes_the_loss_of_the_training(name: str) -> None:
    targets, told, loss = LOSSES[name]
    torch.manual_seed(0)
    model = net(3)
    seen = found(model, targets, told)
    assert seen is not None
    order = TrainingData.of(UserLoader.of(Images(targets), 16, None, 0), None, SIXTEEN, torch.device("cpu"), model)
    held = [*order.live(0)][4:8]
    with torch.no_grad():
        expected = torch.stack([loss(model(images), beside) for images, beside in held]).mean()
    assert seen.before == pytest.approx(expected.item(), rel=1e-5)
    assert seen.free < seen.before
    assert seen.error > 0


def test_a_model_with_its_own_loss_is_tried_on_that() -> None:
    torch.manual_seed(0)
    seen = found(LosesByItself(), torch.zeros(128, dtype=torch.long))
    assert seen is not None
    assert seen.free < seen.before


def test_there_is_no_trial_where_there_is_no_loss() -> None:
    assert found(net(3), DRAWN[:, :2]) is None


def test_tokens_have_their_classes_last() -> None:
    scores, states = (
        torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(0)),
        torch.arange(24).reshape(4, 6) % 5,
    )
    loss = training_loss("auto", scores, states)
    assert loss is not None
    each = F.cross_entropy(scores.flatten(0, 1), states.flatten(), reduction="none").reshape(4, 6).mean(1)
    torch.testing.assert_close(loss.each(scores, states), each)
    torch.testing.assert_close(loss.batch(scores, states), each.mean())
