"""A model that is called as ever: behind a freeze with what `batches` gave, at any time with its inputs."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from hoarfrost import Freezer
from hoarfrost.errors import ArgumentError, InvalidCutError
from shared.grids import grid
from shared.images import PLAIN, images
from shared.nets import in_place, resnet, vit
from shared.runs import sgd

EPOCHS = 4
MODELS: dict[str, tuple[Any, dict[int, str]]] = {
    "resnet": (resnet, {1: "layer1", 3: "layer2"}),
    "in place": (in_place, {1: "features.4", 2: "features.8"}),
    "vit": (vit, {2: "encoder.layers.encoder_layer_1"}),
}


def trained(
    make: Any, policy: dict[int, str], how: str, **options: Any
) -> tuple[dict[str, Tensor], list[Any], list[Tensor]]:
    model = make()
    optimizer = sgd(model)
    told: dict[str, Any] = {"policy": policy, "mode": "cache", "ladder": "exact", "views": 1, **options}
    sources, evaluated, whole = [], [], torch.stack([image for image, _ in images(8, PLAIN)])
    freezer = Freezer(
        model, images(60, PLAIN), batch_size=20, epochs=EPOCHS, optimizer=optimizer, route=how == "constructor", **told
    )
    if how == "method":
        freezer.route()
    with freezer:
        for epoch in range(EPOCHS):
            model.train()
            torch.manual_seed(epoch)
            for inputs, targets in freezer.batches(epoch):
                output = freezer(inputs) if how == "freezer" else model(inputs)
                F.cross_entropy(output, targets).backward()
                optimizer.step()
                optimizer.zero_grad()
            sources.append(freezer.source)
            model.eval()
            with torch.no_grad():
                evaluated.append(model(whole))
            freezer.end_epoch()
    return copy.deepcopy(model.state_dict()), sources, evaluated


@grid(name=MODELS.keys(), mode=["cache", "recompute"], how=["constructor", "method"])
def test_the_model_is_the_freezer_to_the_bit(name: str, mode: str, how: str) -> None:
    make, policy = MODELS[name]
    weights, sources, evaluated = trained(make, policy, "freezer", mode=mode)
    again, routed, outputs = trained(make, policy, how, mode=mode)
    assert routed == sources
    assert mode in sources
    assert all(torch.equal(a, b) for a, b in zip(weights.values(), again.values(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(evaluated, outputs, strict=True))


def test_hooks_of_the_model_run_once_a_call() -> None:
    model, seen = resnet(), []
    model.register_forward_pre_hook(lambda *_: seen.append("before"))
    model.register_forward_hook(lambda *_: seen.append("after"))
    with Freezer(model, images(40, PLAIN), batch_size=20, epochs=2, policy={0: "layer1"}, route=True) as freezer:
        inputs, _ = next(iter(freezer.batches(0)))
        seen.clear()
        model(inputs)
        assert seen == ["before", "after"]
        model.forward(inputs)
        assert seen == ["before", "after"] * 2  # the suffix is the model, called


def test_copies_and_saved_models_are_not_routed() -> None:
    model = resnet()
    with Freezer(model, images(40, PLAIN), batch_size=20, epochs=2, policy={0: "layer1"}, route=True) as freezer:
        inputs, _ = next(iter(freezer.batches(0)))
        twin = copy.deepcopy(model)
        model(inputs)
        with pytest.raises(RuntimeError):
            twin(inputs)
    assert not {"forward", "_call_impl"} & set(model.__dict__)


def test_features_that_look_like_inputs_are_refused() -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(192, 2))
    data = TensorDataset(torch.rand(40, 3, 8, 8), torch.randint(0, 2, (40,)))
    with pytest.raises(
        InvalidCutError, match=r"cut '0': features are \[3, 8, 8\] a sample, and so are the model's inputs"
    ):
        next(iter(Freezer(model, data, batch_size=20, epochs=2, policy={0: "0"}, route=True).batches(0)))
    freezer = Freezer(model, data, batch_size=20, epochs=2, policy={0: "0"}, mode="recompute")
    next(iter(freezer.batches(0)))
    with pytest.raises(InvalidCutError, match="cannot tell them apart"):
        freezer.route()


def test_a_second_freezer_takes_the_firsts_place() -> None:
    model = resnet()
    data = images(40, PLAIN)
    first = Freezer(model, data, batch_size=20, epochs=4, policy={0: "layer1"}, route=True)
    features, _ = next(iter(first.batches(0)))
    second = Freezer(model, data, batch_size=20, epochs=4, policy={1: "layer2"}, optimizer=sgd(model))
    assert all(p.requires_grad for p in model.parameters())
    with pytest.raises(RuntimeError):
        model(features)
    with pytest.raises(ArgumentError, match="another Freezer has been made for this model since"):
        next(iter(first.batches(1)))
    for epoch in range(2):
        for inputs, _ in second.batches(epoch):
            second(inputs)
        second.end_epoch()
    assert second.cut is not None
    assert second.cut.label == "layer2"
    first.close()
    assert second.depth
    second.close()


class Asked(nn.Module):
    """Takes more than images: one flag with a default, and whatever else it is called with."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.layer, self.head = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, 2), nn.Linear(4, 5)

    def forward(self, images: Tensor, scale: float = 1.0, **more: Any) -> Tensor:
        logits: Tensor = self.head(self.layer(self.stem(images).relu()).relu().mean((2, 3)))
        return logits * scale / more.get("items", 1)


def test_what_a_model_was_not_divided_with_is_refused_by_name_behind_a_cut() -> None:
    model = Asked()
    with Freezer(model, images(40, PLAIN), batch_size=20, epochs=2, policy={0: "stem"}, route=True) as freezer:
        inputs, _ = next(iter(freezer.batches(0)))
        expected = model(inputs)
        assert torch.equal(model(inputs, 1.0), expected)
        assert torch.equal(model(inputs, scale=1.0, items=None), expected)
        with pytest.raises(ArgumentError, match="'scale' was not among them, or another"):
            model(inputs, 2.0)
        for items in (4, torch.tensor(4)):
            with pytest.raises(ArgumentError, match="'items' was not among them"):
                freezer(inputs, items=items)
        whole = images(4, PLAIN)[0][0][None]
        assert torch.equal(model(whole, 2.0), model(whole) * 2)


class Sized(Asked):
    """Whose front goes by what is no number: sizes, a mapping, a dtype."""

    def forward(  # type: ignore[override]
        self,
        images: Tensor,
        size: tuple[int, int] = (9, 9),
        dtype: torch.dtype = torch.float32,
        options: dict[str, int] = {"items": 1},  # noqa: B006 (a user's)
        limit: float = math.nan,
        lengths: Any = None,
    ) -> Tensor:
        return super().forward(F.adaptive_avg_pool2d(images, size).to(dtype), **options)


def test_arguments_of_any_kind_are_held_against_their_defaults() -> None:
    model = Sized()
    with Freezer(model, images(40, PLAIN), batch_size=20, epochs=2, policy={0: "stem"}, route=True) as freezer:
        inputs, _ = next(iter(freezer.batches(0)))
        expected = model(inputs)
        usual = {"size": (9, 9), "dtype": torch.float32, "options": {"items": 1}, "limit": math.nan, "lengths": None}
        assert torch.equal(model(inputs, **usual), expected)
        others: list[tuple[str, Any]] = [
            ("size", (5, 5)),
            ("dtype", torch.float64),
            ("options", {"items": 4}),
            ("options", {"items": torch.ones(2)}),
            ("limit", 1.0),
            ("lengths", np.array([3, 4])),
        ]
        for name, value in others:
            with pytest.raises(ArgumentError, match=f"'{name}' was not among them, or another"):
                model(inputs, **{name: value})
