"""A model that is measured in eval is as it was before."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hoarfrost.codecs import evaluating


def half_asleep() -> nn.Sequential:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5)).train()
    model[1].eval()
    return model


def test_each_module_has_its_own_flag_back() -> None:
    model = half_asleep()
    mean = model.get_buffer("0.running_mean").clone()
    with evaluating(model):
        assert not any(module.training for module in model.modules())
        output = model(torch.randn(4, 3))
    assert [module.training for module in model.modules()] == [True, True, False]
    assert torch.equal(mean, model.get_buffer("0.running_mean"))
    assert not output.requires_grad


def test_flags_and_gradients_are_back_after_an_error() -> None:
    model = half_asleep()
    with pytest.raises(RuntimeError), evaluating(model):
        model(torch.randn(4, 5))
    assert [module.training for module in model.modules()] == [True, True, False]
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("outside", [False, True], ids=["inside no_grad", "outside"])
@pytest.mark.parametrize("gradients", [False, True], ids=["without", "with"])
def test_gradients_are_recorded_where_they_are_asked_for(gradients: bool, outside: bool) -> None:
    model = half_asleep()
    with torch.set_grad_enabled(outside):
        with evaluating(model, gradients=gradients):
            assert model(torch.randn(4, 3)).requires_grad == gradients
        assert torch.is_grad_enabled() == outside
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_function_is_taken_as_it_is() -> None:
    with evaluating(torch.relu):
        assert not torch.is_grad_enabled()


def test_a_train_of_a_modules_own_is_not_called() -> None:
    class Merging(nn.Linear):
        """Does in eval what it cannot undo."""

        def train(self, mode: bool = True) -> Merging:
            if not mode:
                raise AssertionError
            return super().train(mode)

    with evaluating(merging := Merging(2, 2)):
        assert not merging.training
    assert merging.training
