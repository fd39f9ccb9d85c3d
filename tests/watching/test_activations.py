"""Features that are seen are right, and seeing them changes nothing."""

from __future__ import annotations

import copy

import pytest
import torch

from hoarfrost import divide, find_cuts
from hoarfrost.watching.activations import features_at
from hoarfrost.watching.copies import quantised
from shared.nets import in_place, resnet, vit

IMAGES = torch.randn(6, 1, 28, 28, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("make", [resnet, vit, in_place], ids=["cnn", "vit", "in place"])
def test_features_are_those_of_the_prefix_and_nothing_moves(make: type) -> None:
    model = make()
    cuts = find_cuts(model, IMAGES)
    model.train()
    list(model.modules())[-1].training = False
    before, flags = copy.deepcopy(model.state_dict()), [module.training for module in model.modules()]
    torch.manual_seed(3)
    chance = torch.get_rng_state()
    found = features_at(model, cuts, IMAGES)
    assert torch.equal(chance, torch.get_rng_state())
    assert flags == [module.training for module in model.modules()]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    for cut, features in zip(cuts, found, strict=True):
        prefix, _ = divide(model, cut, IMAGES)
        torch.testing.assert_close(features, prefix.eval()(IMAGES), rtol=1e-5, atol=1e-6)


def test_the_quantised_reference_is_near_the_model_and_leaves_it_alone() -> None:
    model = vit()
    cuts = find_cuts(model, IMAGES)
    exact, coarse = features_at(model, cuts, IMAGES), features_at(quantised(model), cuts, IMAGES)
    assert not torch.equal(exact[-1], coarse[-1])
    assert torch.nn.functional.cosine_similarity(exact[-1].flatten(), coarse[-1].flatten(), dim=0) > 0.98
    assert all(type(module) is not torch.ao.nn.quantized.dynamic.Linear for module in model.modules())
