"""Random transforms without a form on features: run on images, each sample under its own seed, and said to be so."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms as v1
from torchvision.transforms import v2

from hoarfrost.augment import Pipeline
from hoarfrost.errors import ArgumentError

N = 6


def both(name: str, *args: Any, **kwargs: Any) -> list[Any]:
    return [
        pytest.param(getattr(module, name)(*args, **kwargs), id=f"{version}.{name}")
        for version, module in (("v1", v1), ("v2", v2))
    ]


COLOURS = [
    *both("ColorJitter", 0.4, 0.4, 0.4, 0.1),
    *both("RandomGrayscale", 0.5),
    *both("GaussianBlur", 3),
    *both("RandomInvert", 0.5),
    *both("RandomPosterize", 3, p=0.5),
    *both("RandomSolarize", 128, p=0.5),
    *both("RandomAdjustSharpness", 2.0, p=0.5),
    *both("RandomAutocontrast", 0.5),
    *both("RandomEqualize", 0.5),
    pytest.param(v2.RandomPhotometricDistort(), id="v2.RandomPhotometricDistort"),
    pytest.param(v2.RandomChannelPermutation(), id="v2.RandomChannelPermutation"),
]
MOVING = [
    *both("RandAugment"),
    *both("AutoAugment"),
    *both("TrivialAugmentWide"),
    *both("AugMix"),
    *both("ElasticTransform", 40.0, sigma=2.0),
    *both("RandomApply", [v1.RandomRotation(30)], p=0.5),
    *both("RandomChoice", [v2.RandomRotation(30), v2.RandomHorizontalFlip()]),
    *both("RandomOrder", [v2.RandomRotation(30), v2.RandomHorizontalFlip()]),
    pytest.param(v2.Compose([v2.RandomZoomOut(), v2.Resize((24, 24))]), id="v2.RandomZoomOut"),
]


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(40, 130, (24, 24, 3), dtype=np.uint8)) for _ in range(N)]


@pytest.mark.parametrize("transform", [*COLOURS, *MOVING])
@pytest.mark.parametrize("kind", ["pil", "tensor"])
def test_each_sample_is_rendered_by_its_own_seed(transform: Any, kind: str) -> None:
    pipeline = Pipeline.from_transform(transform)
    items: list[Any] = pictures()
    items = [v2.functional.pil_to_tensor(item) for item in items] if kind == "tensor" else items
    draws = [pipeline.draw(N, seed) for seed in range(8)]
    torch.manual_seed(1)
    before = torch.get_rng_state()
    renditions = [pipeline.render(items, range(N), draw) for draw in draws]
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(pipeline.render([items[4], items[1]], [4, 1], draws[3]), renditions[3][[4, 1]])
    for sample in range(N):
        seen: list[Tensor] = []
        for rendition in renditions:
            if not any(torch.equal(rendition[sample], other) for other in seen):
                seen.append(rendition[sample])
        assert len(seen) > 1, "eight draws give more than one rendition"


@pytest.mark.parametrize("transform", COLOURS)
def test_a_change_of_colours_is_described(transform: Any) -> None:
    (line,) = Pipeline.from_transform(transform).describe()
    assert line == (
        f"{type(transform).__name__}: image-only, random, without a form on features; "
        "run on images under a seed of each sample"
    )


@pytest.mark.parametrize("transform", MOVING)
def test_what_moves_pixels_unseen_says_so(transform: Any) -> None:
    line = Pipeline.from_transform(transform).describe()[0]
    assert ": image-only, random, without a form on features" in line
    assert line.endswith("; it moves pixels too, which derived features do not follow")


@pytest.mark.parametrize("mix", [v2.MixUp(num_classes=3), v2.CutMix(num_classes=3)], ids=["mixup", "cutmix"])
@pytest.mark.parametrize(
    "within",
    [
        lambda mix: mix,
        lambda mix: v2.Compose([v2.ToImage(), v2.Compose([mix])]),
        lambda mix: v2.RandomApply([mix]),
        lambda mix: v1.RandomApply(torch.nn.ModuleList([mix])),
        lambda mix: v1.RandomChoice([v2.RandomHorizontalFlip(), mix]),
        lambda mix: v2.RandomOrder([v2.RandomChoice([mix])]),
    ],
    ids=["alone", "Compose", "v2.RandomApply", "v1.RandomApply", "v1.RandomChoice", "nested"],
)
def test_mixing_among_the_transforms_of_a_sample_is_told_where_it_belongs(mix: Any, within: Any) -> None:
    with pytest.raises(ArgumentError, match=r"hand it over as Freezer\(..., mix=v2.MixUp\(...\)\)"):
        Pipeline.from_transform(within(mix))


ALL = [
    v1.RandomResizedCrop(8),
    v2.RandomResizedCrop(8, antialias=False),
    v1.RandomRotation(9, v1.InterpolationMode.BILINEAR),
    v2.RandomAffine(9, (0.1, 0.2), (0.5, 2.0), 3, fill=[1, 2, 3]),
    v2.RandomPerspective(0.3),
    v2.RandomErasing(value=(1, 2, 3)),
    v1.RandomErasing(value="random"),
    v2.RandAugment(),
    v2.ColorJitter(0.3),
]


@pytest.mark.parametrize("transform", ALL, ids=repr)
def test_a_configuration_survives_json(transform: Any) -> None:
    config = Pipeline.from_transform(transform).to_config()
    assert json.loads(json.dumps(config)) == config
    assert json.dumps(config) == json.dumps(Pipeline.from_transform(transform).to_config())


def test_configurations_differ_where_the_transforms_do() -> None:
    assert len({json.dumps(Pipeline.from_transform(transform).to_config()) for transform in ALL}) == len(ALL)
