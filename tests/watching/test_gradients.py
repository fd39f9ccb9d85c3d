"""Gradients are summed as they come."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hoarfrost import find_cuts
from hoarfrost.watching import segments_of
from hoarfrost.watching.gradients import GradientSums
from shared.nets import resnet

IMAGES = torch.randn(6, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def test_gradients_are_summed_over_steps_and_passes() -> None:
    model = resnet().eval()
    segments = segments_of(model, find_cuts(model, IMAGES), IMAGES)
    sums = GradientSums(model)
    wanted = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for step in range(3):
        model.zero_grad()
        for half in IMAGES.split(3):  # collected before a step
            nn.functional.cross_entropy(model(half), torch.full((3,), step)).backward()
        for name, p in model.named_parameters():
            assert p.grad is not None
            wanted[name] += p.grad
    norms = [sum(wanted[name].abs().sum().item() for name in segment.names) for segment in segments]
    assert sums.norms(segments) == pytest.approx(norms, rel=1e-4)
    sums.restart()
    assert sums.norms(segments) == (0,) * len(segments)
