"""What is said of a cut before anything is frozen, against laws and against what a freeze then does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torchvision.transforms import v2

from hoarfrost import CutSensitivity, Freezer, Linear, Selection, Views, examine_sensitivity
from hoarfrost.errors import ArgumentError, HoarfrostError, NonFiniteError, UnknownCutError
from shared.images import NORMALISE, PLAIN, RANDOM, images
from shared.nets import resnet
from shared.runs import Trace as Run
from shared.runs import sgd, train_epoch

FLIP, CROP, RESIZE = v2.RandomHorizontalFlip(), v2.RandomCrop(28, padding=4), v2.Resize((28, 28))


def transform(*steps: Any) -> v2.Compose:
    return v2.Compose([*steps, *NORMALISE])


def examine(model: nn.Module | None = None, steps: Any = RANDOM, n: int = 40, **options: Any) -> list[CutSensitivity]:
    asked: dict[str, Any] = {"cuts": ["layer1"], "samples": 20, **options}
    return examine_sensitivity(model if model is not None else resnet(), images(n, steps), **asked)


def symmetric(model: nn.Module) -> nn.Module:
    """All kernels are their own mirror image."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
                module.weight.copy_((module.weight + module.weight.flip(3)) / 2)
    return model


def test_a_model_of_symmetric_kernels_is_sensitive_to_the_crop_and_not_to_the_flip() -> None:
    (found,) = examine(symmetric(resnet()))
    assert found.sensitivity is not None
    assert found.steps.keys() == {"RandomHorizontalFlip", "RandomCrop"}
    assert float(found.steps["RandomHorizontalFlip"].max()) < 1e-5
    assert float(found.steps["RandomCrop"].min()) > 1e-3
    assert float(found.sensitivity.min()) > 1e-3


def test_random_steps_without_a_form_on_features_are_measured_alone_too() -> None:
    (found,) = examine(symmetric(resnet()), transform(FLIP, v2.ColorJitter(brightness=0.9)))
    assert float(found.steps["RandomHorizontalFlip"].max()) < 1e-5
    assert float(found.steps["ColorJitter"].max()) > 1e-3


def test_the_only_random_step_makes_up_the_whole() -> None:
    (found,) = examine(steps=transform(CROP))
    assert found.sensitivity is not None
    assert list(found.steps) == ["RandomCrop"]
    assert torch.equal(found.steps["RandomCrop"], found.sensitivity)


def test_steps_of_one_name_are_told_apart() -> None:
    (found,) = examine(steps=transform(CROP, FLIP, v2.RandomCrop(28, padding=1)))
    assert list(found.steps) == ["RandomCrop", "RandomHorizontalFlip", "RandomCrop#2"]
    assert float(found.steps["RandomCrop"].mean()) > float(found.steps["RandomCrop#2"].mean())


def test_a_crop_that_makes_images_smaller_stays_where_another_step_is_alone() -> None:
    (found,) = examine(steps=transform(v2.RandomCrop(20), FLIP))
    assert found.cut.shape == (4, 20, 20)
    assert all(float(values.max()) > 0 for values in found.steps.values())


def test_a_further_view_stores_the_most_sensitive_channels() -> None:
    (found,) = examine(cuts=["layer2"], shares=(0, 0.1, 0.25, 0.5, 0.75, 0.8, 1.0), samples=130, n=130)
    assert found.sensitivity is not None
    ranked = found.sensitivity.argsort(descending=True).tolist()
    counts = [len(stored.channels) for stored in found.further]
    assert counts == [1, 1, 2, 4, 6, 6, 8]
    for stored in found.further:
        assert stored.channels == tuple(sorted(ranked[: len(stored.channels)]))
    sizes = [stored.bytes_per_sample for stored in found.further]
    assert sizes == sorted(sizes)
    assert sizes[-1] == pytest.approx(found.base_bytes)


def test_a_freeze_then_stores_what_was_said() -> None:
    model, data = resnet(), images(64, RANDOM)
    optimizer = sgd(model)
    views = Views(2, Selection(share=0.25))
    options: dict[str, Any] = {"policy": {1: "layer1"}, "mode": "cache", "views": views, "optimizer": optimizer}
    options["settle"] = "last"
    with Freezer(model, data, batch_size=16, epochs=9, **options) as freezer:
        train_epoch(freezer, optimizer, 0, Run([], [], {}, []))
        freezer.decide(store=True)
        record = next(record for record in freezer.history if record["event"] == "freeze")
    (found,) = examine_sensitivity(model, data, cuts=["layer1"], samples=64, shares=(0.25,))
    (stored,) = found.further
    assert record["stored_channels"] == list(stored.channels)
    chosen = next(rung for rung in record["rungs"] if rung["chosen"])
    assert chosen["codec"] == str(found.rung.codec)
    assert chosen["bytes_per_sample"] == pytest.approx(found.base_bytes, rel=0.05)
    features = record["predicted_bytes"] - record["target_bytes"] - 2 * record["journal_bytes"]
    assert features / 64 == pytest.approx(found.base_bytes + stored.bytes_per_sample, rel=0.05)


def test_the_ladder_and_its_tolerance_are_followed() -> None:
    (gentle,) = examine(tolerance=1e-9, ladder=(8, 2))
    (strong,) = examine(tolerance=10.0, ladder=(8, 2))
    assert (gentle.rung.codec, strong.rung.codec) == (Linear(8), Linear(2))
    assert strong.base_bytes < gentle.base_bytes
    assert gentle.sensitivity is not None
    assert strong.sensitivity is not None
    assert torch.equal(gentle.sensitivity, strong.sensitivity)


@pytest.mark.parametrize("metric", ["cosine", "relative", "energy", "harm"])
def test_every_metric_is_finite_and_not_negative(metric: str) -> None:
    (found,) = examine(metric=metric)
    for values in (found.sensitivity, *found.steps.values()):
        assert values is not None
        assert values.shape == (4,)
        assert bool((values.isfinite() & (values >= 0)).all())


@pytest.mark.parametrize(
    ("model", "cut", "steps", "reason"),
    [
        (resnet, "pool", RANDOM, "only features on a grid of the image can be moved, and there they are 'vector'"),
        (resnet, "layer1", transform(v2.ColorJitter(0.5)), "no step of the transform has a form on features"),
    ],
    ids=["vectors", "no geometry"],
)
def test_where_nothing_can_be_derived_the_reason_is_given(model: Any, cut: str, steps: Any, reason: str) -> None:
    (found,) = examine(model(), steps, cuts=[cut], shares=(0.1, 1.0))
    assert found.sensitivity is None
    assert found.border is None
    assert found.steps == {}
    assert reason in (found.reason or "")
    assert [len(stored.channels) for stored in found.further] == [found.cut.shape[found.cut.channel_axis - 1]] * 2
    assert {stored.bytes_per_sample for stored in found.further} == {found.base_bytes}


@pytest.mark.parametrize("steps", [[RESIZE, FLIP], [FLIP, RESIZE]], ids=["in front", "behind"])
def test_the_size_of_raw_images_does_not_count(steps: list[Any]) -> None:
    data: Any = [(torch.rand(1, 28 + n % 3, 40 - n % 2), n % 2) for n in range(20)]
    asked: dict[str, Any] = {"transform": v2.Compose(steps), "cuts": ["layer1"], "samples": 20}
    (found,) = examine_sensitivity(symmetric(resnet()), data, **asked)
    assert found.reason is None
    assert found.sensitivity is not None
    assert float(found.sensitivity.max()) < 1e-5


def test_a_step_that_changes_sizes_unseen_is_named_with_the_way_out() -> None:
    def processed(image: torch.Tensor) -> torch.Tensor:
        return nn.functional.interpolate(image[None], (28, 28))[0]

    data: Any = [(torch.rand(1, 28 + n % 3, 40), n % 2) for n in range(20)]
    (found,) = examine_sensitivity(resnet(), data, transform=v2.Compose([FLIP, processed]), cuts=["layer1"], samples=20)
    assert found.sensitivity is None
    reason = str(found.reason)
    assert "processed makes 28x28 of an image of 28x40, and where its pixels come from is not known" in reason
    assert "put Resize or CenterCrop of torchvision in its place" in reason


def test_nothing_of_the_model_or_the_data_is_touched() -> None:
    model = resnet().train()
    model.get_submodule("layer2").eval()
    next(model.parameters()).requires_grad_(False)
    data = images(30, RANDOM)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    flags = [module.training for module in model.modules()]
    trained = [parameter.requires_grad for parameter in model.parameters()]
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]
    state = torch.get_rng_state()
    examine_sensitivity(model, data, metric="harm", samples=10)
    assert [module.training for module in model.modules()] == flags
    assert [parameter.requires_grad for parameter in model.parameters()] == trained
    assert [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()] == hooks
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert data.transform is RANDOM


def test_the_data_get_their_transform_back_after_an_error_too() -> None:
    data = images(30, RANDOM)
    with pytest.raises(UnknownCutError, match="near it: layer1"):
        examine_sensitivity(resnet(), data, cuts=["layr1"])
    assert data.transform is RANDOM


def test_the_same_seed_gives_the_same_numbers() -> None:
    (one,), (again,), (other,) = examine(seed=3), examine(seed=3), examine(seed=4)
    assert one.plain() == again.plain()
    assert one.plain() != other.plain()


def test_cuts_come_from_the_front_to_the_back_and_once() -> None:
    seen: list[tuple[int, int]] = []
    found = examine(cuts=["layer3", "layer1", "layer3"], samples=4, on_cut=lambda *at: seen.append(at))
    assert [cut.cut.label for cut in found] == ["layer1", "layer3"]
    assert seen == [(0, 2), (1, 2)]
    assert [cut.cut.label for cut in examine(cuts=None, samples=4)] == ["layer1", "layer2", "layer3"]


def test_more_images_than_there_are_are_all_of_them() -> None:
    assert examine(n=10, samples=10)[0].plain() == examine(n=10, samples=500)[0].plain()


def test_features_that_are_not_finite_name_the_sample_in_the_data_set() -> None:
    data = [(torch.rand(1, 28, 28), 0) for _ in range(90)]
    data[77][0][0, 3, 3] = float("nan")
    with pytest.raises(NonFiniteError, match="sample 77, channel 0"):
        examine_sensitivity(resnet(), data, transform=FLIP, cuts=["layer1"], samples=90)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"steps": PLAIN},
            r"draws nothing at random \(ToImage, ToDtype, Normalize\).*the transform that you train with",
        ),
        ({"steps": None}, r"draws nothing at random \(no step at all\)"),
        ({"samples": 1}, "samples must be a whole number of at least 2, not 1"),
        ({"metric": "taste"}, "'harm', not 'taste'"),
        ({"shares": (0.5, 1.5)}, "share must be from 0 to 1, got 1.5"),
        ({"ladder": "rope"}, "unknown ladder 'rope'"),
        ({"model": "resnet"}, "model must be a torch.nn.Module, not str"),
    ],
    ids=["deterministic", "no transform", "samples", "metric", "share", "ladder", "model"],
)
def test_what_cannot_be_measured_is_one_sentence(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(HoarfrostError, match=sentence) as refused:
        examine(**options)
    assert isinstance(refused.value, ArgumentError)
