"""Transforms with a random state of their own, and other libraries': seeded, put back, or refused."""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.functional import to_tensor

from hoarfrost.augment import Pipeline, check_repeatable
from hoarfrost.errors import ArgumentError, UnstableTransformError

N = 6
MODULE_WIDE = np.random.default_rng(3)


class Holder:
    def __init__(self, state: Any) -> None:
        self.state = state

    def number(self) -> float:
        if isinstance(self.state, torch.Generator):
            return float(torch.rand(1, generator=self.state))
        return float(self.state.random())


class Brighter:
    """Holds the state itself, or something that holds it."""

    def __init__(self, held: Any) -> None:
        self.held = held

    def __call__(self, image: Any) -> Any:
        holder = self.held[0] if isinstance(self.held, list) else self.held
        return v2.functional.adjust_brightness(image, 0.5 + holder.number())


def closure(state: Any) -> Callable[[Any], Any]:
    return lambda image: v2.functional.adjust_brightness(image, 0.5 + state.random())


def from_module(image: Any) -> Any:
    return v2.functional.adjust_brightness(image, 0.5 + MODULE_WIDE.random())


def from_argument(state: Any, image: Any) -> Any:
    return closure(state)(image)


HOLDING = {
    "numpy generator": lambda: Brighter(Holder(np.random.default_rng(0))),
    "philox": lambda: Brighter(Holder(np.random.Generator(np.random.Philox(1)))),
    "numpy's old state": lambda: Brighter(Holder(np.random.RandomState(0))),
    "python": lambda: Brighter(Holder(random.Random(0))),
    "torch": lambda: Brighter([Holder(torch.Generator().manual_seed(0))]),
    "closure": lambda: closure(np.random.default_rng(0)),
    "module": lambda: from_module,
    "partial": lambda: functools.partial(from_argument, random.Random(1)),
    "inside torchvision": lambda: v2.RandomApply([v2.Lambda(closure(random.Random(2)))], p=0.9),
}


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(40, 130, (24, 24, 3), dtype=np.uint8)) for _ in range(N)]


@pytest.mark.parametrize("name", HOLDING)
def test_a_state_of_its_own_is_seeded_and_put_back(name: str) -> None:
    transform, untouched = HOLDING[name](), HOLDING[name]()
    pipeline = Pipeline.from_transform(transform)
    draws = [pipeline.draw(N, seed) for seed in (0, 1)]
    one, other = (pipeline.render(pictures(), range(N), draw) for draw in draws)
    assert not torch.equal(one, other)
    assert torch.equal(pipeline.render(pictures()[3:], range(3, N), draws[0]), one[3:])
    check_repeatable(pipeline, pictures()[:3], range(3), draws[0])
    assert pipeline.describe()[0].endswith("; it drew random numbers when it was tried")
    torch.manual_seed(0)
    seen = transform(pictures()[0])
    if untouched is not transform:
        torch.manual_seed(0)
        assert seen == untouched(pictures()[0]), "rendering left the state where it was"


@pytest.mark.parametrize("name", HOLDING)
def test_the_configuration_does_not_follow_the_state(name: str) -> None:
    transform = HOLDING[name]()
    before = json.dumps(Pipeline.from_transform(transform).to_config())
    for _ in range(3):
        transform(pictures()[0])
    assert json.dumps(Pipeline.from_transform(transform).to_config()) == before


class Counting:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, image: Any) -> Any:
        self.calls += 1
        return v2.functional.adjust_brightness(image, 1 / self.calls)


@pytest.mark.parametrize(
    "hidden", [Counting(), Brighter(Holder(random.SystemRandom()))], ids=["counts its calls", "the system's randomness"]
)
def test_what_cannot_be_seeded_is_refused_by_its_name(hidden: Any) -> None:
    pipeline = Pipeline.from_transform(v2.Compose([v2.RandomHorizontalFlip(), hidden, v2.ToImage()]))
    with pytest.raises(
        UnstableTransformError,
        match=rf"step 1 of the transform, {type(hidden).__name__}, gave two images for sample [45] under one draw",
    ):
        check_repeatable(pipeline, pictures()[:2], [4, 5], pipeline.draw(N, 0))


def test_a_function_that_draws_nothing_is_said_to() -> None:
    pipeline = Pipeline.from_transform(v2.Compose([lambda image: image, v2.ColorJitter(0.3)]))
    assert "when it was tried" not in "".join(pipeline.describe())
    check_repeatable(pipeline, pictures()[:2], [0, 1], pipeline.draw(N, 0))
    assert [line.split("; ")[-1].partition(" (")[0] for line in pipeline.describe()] == [
        "it drew none when it was tried",
        "it drew random numbers when it was tried",
    ]


def test_what_writes_on_its_input_does_not_reach_the_items() -> None:
    items = [torch.zeros(3, 4, 4)]
    pipeline = Pipeline.from_transform(lambda image: image.add_(torch.rand(1)))
    check_repeatable(pipeline, items, [0], pipeline.draw(1, 0))
    assert not items[0].any()


# albumentations


def albumented(p: float = 0.5) -> Any:
    library = pytest.importorskip("albumentations")
    return library.Compose(
        [
            library.RandomCrop(16, 16),
            library.HorizontalFlip(p=p),
            library.OneOf([library.GaussNoise(p=1.0), library.Blur(p=1.0)], p=0.5),
            library.Normalize(),
        ]
    )


def test_albumentations_is_called_with_keywords_on_pictures_and_arrays() -> None:
    transform = albumented()
    pipeline = Pipeline.from_transform(transform)
    config, draws = json.dumps(pipeline.to_config()), [pipeline.draw(N, seed) for seed in (0, 1)]
    one, other = (pipeline.render(pictures(), range(N), draw) for draw in draws)
    assert one.shape == (N, 3, 16, 16)
    assert not torch.equal(one, other)
    arrays = [np.asarray(picture) for picture in pictures()]
    assert torch.equal(pipeline.render(arrays, range(N), draws[0]), one)
    check_repeatable(pipeline, pictures(), range(N), draws[0])
    assert json.dumps(pipeline.to_config()) == config
    assert json.dumps(Pipeline.from_transform(albumented(0.4)).to_config()) != config
    assert pipeline.describe()[0].startswith("Compose: image-only, albumentations")


def test_one_of_albumentations_has_the_bits_of_its_own_seed() -> None:
    library = pytest.importorskip("albumentations")
    transform = library.GaussNoise(p=0.7)
    pipeline = Pipeline.from_transform(transform)
    draw = pipeline.draw(N, 0)
    got = pipeline.render(pictures(), range(N), draw)
    assert draw.decisions[0] is not None
    for i, (picture, (seed,)) in enumerate(zip(pictures(), draw.decisions[0].tolist(), strict=True)):
        transform.set_random_seed(seed)
        expected = transform(image=np.array(picture))["image"]
        assert torch.equal(got[i], to_tensor(expected))


def test_albumentations_steps_are_independent_of_each_other() -> None:
    library = pytest.importorskip("albumentations")
    pipeline = Pipeline.from_transform(library.Compose([library.HorizontalFlip(p=0.5), library.VerticalFlip(p=0.5)]))
    picture = np.zeros((2, 2, 3), dtype=np.uint8)
    picture[0, 0] = 255
    shown = pipeline.render([picture] * 64, range(64), pipeline.draw(64, 0))
    assert len({tuple(image[0].flatten().tolist()) for image in shown}) == 4


def test_albumentations_inside_a_function_is_seeded() -> None:
    inner = albumented()
    pipeline = Pipeline.from_transform(lambda image: inner(image=np.array(image))["image"])
    check_repeatable(pipeline, pictures(), range(N), pipeline.draw(N, 0))


def test_albumentations_for_evaluation_decides_nothing() -> None:
    library = pytest.importorskip("albumentations")
    transform = library.Compose([library.Resize(20, 20), library.CenterCrop(16, 16), library.Normalize()])
    pipeline = Pipeline.from_transform(transform)
    assert not pipeline.is_random
    expected = [torch.from_numpy(transform(image=np.array(item))["image"]).permute(2, 0, 1) for item in pictures()]
    assert torch.equal(pipeline.render(pictures(), range(N), pipeline.draw(N, 0)), torch.stack(expected))


def test_albumentations_behind_tensors_is_named() -> None:
    pipeline = Pipeline.from_transform(v2.Compose([v2.ToImage(), albumented()]))
    with pytest.raises(ArgumentError, match=r"Compose of albumentations cannot take a .*; put it in front of"):
        pipeline.render(pictures(), range(N), pipeline.draw(N, 0))


# kornia


def test_kornia_is_seeded_and_described_alike() -> None:
    library = pytest.importorskip("kornia.augmentation")

    def made(p: float = 0.5) -> Any:
        return library.AugmentationSequential(
            library.RandomHorizontalFlip(p=p, keepdim=True),
            library.ColorJitter(0.2, 0.2, 0.2, 0.1, p=1.0, keepdim=True),
            data_keys=["input"],
            keepdim=True,
        )

    pipeline = Pipeline.from_transform(made())
    images = torch.rand(N, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    config, draws = json.dumps(pipeline.to_config()), [pipeline.draw(N, seed) for seed in (0, 1)]
    one, other = (pipeline.render(images, range(N), draw) for draw in draws)
    assert one.shape == images.shape
    assert not torch.equal(one, other)
    assert draws[0].decisions[0] is not None
    torch.manual_seed(int(draws[0].decisions[0][2, 0]))
    assert torch.equal(made()(images[2]), one[2])
    check_repeatable(pipeline, list(images), range(N), draws[0])
    assert json.dumps(pipeline.to_config()) == config
    assert json.dumps(Pipeline.from_transform(made(0.4)).to_config()) != config
