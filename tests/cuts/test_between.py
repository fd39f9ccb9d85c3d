from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import nn

from hoarfrost.cuts import Prefix, between, divide, find_cuts
from hoarfrost.errors import InvalidCutError
from shared.nets import in_place, resnet, vit

X = torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def prefixes(model: nn.Module) -> list[Prefix]:
    return [divide(model, cut, X, verify=False)[0].eval() for cut in find_cuts(model, X)]


@pytest.mark.parametrize("make", [resnet, in_place, vit], ids=["resnet", "in place", "vit"])
def test_the_layers_between_two_cuts_lead_from_one_to_the_other(make: Callable[[], nn.Module]) -> None:
    found = prefixes(make())
    pairs = [*pairwise(found), (found[0], found[-1])]
    other = torch.randn(7, 1, 28, 28)
    for shallow, deep in pairs:
        layers = between(shallow, deep, X)
        with torch.no_grad():
            features = shallow(other)
            kept = features.clone()
            for _ in range(2):
                assert torch.equal(layers(features), deep(other))
            assert torch.equal(features, kept)


def test_the_layers_between_are_the_models_own_and_leave_it_whole() -> None:
    model = resnet().eval()
    with torch.no_grad():
        before = model(X)
    found = prefixes(model)
    layers = between(found[1], found[-1], X)
    assert {id(p) for p in layers.parameters()} <= {id(p) for p in model.parameters()}
    with torch.no_grad():
        assert torch.equal(model(X), before)
    assert "up to" in repr(layers)


def test_prefixes_of_two_models_are_refused() -> None:
    one, other = prefixes(resnet())[0], prefixes(resnet(1))[-1]
    with pytest.raises(InvalidCutError, match="the prefixes belong to two models"):
        between(one, other, X)


def test_layers_that_do_something_else_alone_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    shallow, *_, deep = prefixes(resnet())
    monkeypatch.setattr(Prefix, "forward", lambda self, x: torch.zeros(3, *self.cut.shape) + (self is deep))
    with pytest.raises(InvalidCutError, match="run alone, the layers give other features than inside the model"):
        between(shallow, deep, X)
