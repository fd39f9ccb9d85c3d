"""Averages of a model's weights that a user keeps, behind a freeze."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from hoarfrost import find_cuts
from hoarfrost.freezing import Front

DECAY = 0.5


def of_torch(model: nn.Module) -> tuple[nn.Module, Callable[[nn.Module], Any]]:
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(DECAY))
    average.update_parameters(model)  # the first one copies
    return average.module, average.update_parameters


def of_timm(model: nn.Module) -> tuple[nn.Module, Callable[[nn.Module], Any]]:
    average = pytest.importorskip("timm.utils").ModelEmaV3(model, decay=DECAY)
    return average.module, average.update


@pytest.mark.parametrize("make", [of_torch, of_timm], ids=["torch", "timm"])
def test_the_front_of_an_average_converges_to_the_frozen_one(make: Any) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    x = torch.randn(6, 4)
    average, update = make(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)  # as training would
    cuts = find_cuts(model, x)
    front = Front(model, cuts, x, settle="last")
    prefix = front.freeze(len(cuts), 0, None).prefix
    for count in range(1, 5):
        update(model)
        left = (average[0].weight - model[0].weight).abs().max().item()
        assert left == pytest.approx(DECAY**count, rel=1e-3)
    for _ in range(40):
        update(model)
    with torch.no_grad():
        features = average.eval()[:3](x)
        torch.testing.assert_close(features, prefix(x))
        for name in (*prefix.parameter_names, *prefix.buffer_names):
            average.state_dict()[name].copy_(model.state_dict()[name])
        assert torch.equal(average[:3](x), prefix(x))
