"""Segments hold all parameters, between the cuts that criteria look at."""

from __future__ import annotations

import pytest
import torch

from hoarfrost import find_cuts
from hoarfrost.cuts import candidate_cuts, candidate_depths
from hoarfrost.watching import segments_of
from shared.nets import in_place, resnet, vit

IMAGES = torch.randn(6, 1, 28, 28, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("make", [resnet, vit, in_place], ids=["cnn", "vit", "in place"])
def test_every_parameter_is_in_one_segment(make: type) -> None:
    model = make()
    cuts = find_cuts(model, IMAGES)
    segments = segments_of(model, cuts, IMAGES)
    names = [name for segment in segments for name in segment.names]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    assert [segment.depth for segment in segments] == [*candidate_depths(cuts)[1:], None]
    assert all(cut.recommended for cut in candidate_cuts(cuts))
