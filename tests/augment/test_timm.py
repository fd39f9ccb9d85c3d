"""timm's `create_transform`: each step is known, and gives timm's own bits."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional

from hoarfrost.augment import Grid, Pipeline, derive

data = pytest.importorskip("timm.data")
timms = pytest.importorskip("timm.data.transforms")

N = 8
TRAINING: dict[str, dict[str, Any]] = {
    "default": {},
    "random interpolation": {"interpolation": "random", "vflip": 0.5, "color_jitter": None},
    "rand": {"auto_augment": "rand-m9-mstd0.5-inc1"},
    "original": {"auto_augment": "original"},
    "augmix": {"auto_augment": "augmix-m3-w2"},
    "rkrr": {"train_crop_mode": "rkrr", "interpolation": "random"},
    "rkrc": {"train_crop_mode": "rkrc", "color_jitter_prob": 0.5, "grayscale_prob": 0.5, "gaussian_blur_prob": 0.5},
    "erasing": {"re_prob": 0.7},
    "erasing several": {"re_prob": 0.7, "re_count": 3},
    "erasing with noise": {"re_prob": 0.7, "re_mode": "pixel"},
    "prefetched": {"use_prefetcher": True},
}
EVALUATION: dict[str, dict[str, Any]] = {
    "centre": {},
    "squash": {"crop_mode": "squash", "crop_border_pixels": 3},
    "border": {"crop_mode": "border"},
    "not square": {"input_size": (3, 40, 56)},
    "prefetched": {"use_prefetcher": True},
    "no augmentation": {"is_training": True, "no_aug": True},
}


def pictures(n: int = N) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    sizes = [(int(rng.integers(40, 90)), int(rng.integers(40, 90))) for _ in range(n)]
    return [Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]


def tensor_of(item: Any) -> torch.Tensor:
    return functional.to_tensor(item) if isinstance(item, Image.Image) else torch.as_tensor(item)


@pytest.mark.parametrize("name", TRAINING)
def test_nothing_of_it_is_an_unknown_callable(name: str) -> None:
    pipeline = Pipeline.from_transform(data.create_transform(48, is_training=True, **TRAINING[name]))
    assert not any("do not know" in line for line in pipeline.describe())
    assert pipeline.steps[0].kind == "paired"
    draws = [pipeline.draw(N, seed) for seed in (0, 1)]
    one, other = (pipeline.render(pictures(), range(N), draw) for draw in draws)
    assert one.shape == (N, 3, 48, 48)
    assert not torch.equal(one, other)
    random.seed(7)
    assert torch.equal(one[[5, 2]], pipeline.render([pictures()[i] for i in (5, 2)], [5, 2], draws[0]))


@pytest.mark.parametrize("name", EVALUATION)
def test_evaluation_decides_nothing_and_has_timms_bits(name: str) -> None:
    transform = data.create_transform(**{"input_size": 48, **EVALUATION[name]})
    pipeline = Pipeline.from_transform(transform)
    assert not pipeline.is_random
    expected = torch.stack([tensor_of(transform(item)) for item in pictures()])
    assert torch.equal(pipeline.render(pictures(), range(N), pipeline.draw(N, 0)), expected)


@pytest.mark.parametrize("name", ["rand", "original", "augmix", "erasing several", "erasing with noise"])
def test_what_is_not_paired_is_timms_own_under_the_seed(name: str) -> None:
    transform = data.create_transform(48, is_training=True, **TRAINING[name])
    pipeline = Pipeline.from_transform(transform)
    position = max(i for i, step in enumerate(pipeline.steps) if step.kind == "image-only")
    step, draw = pipeline.steps[position], pipeline.draw(1, 3)
    image: Any = pictures()[0]
    for before in range(position):
        (image,) = pipeline.run_step(before, (image,), 0, draw)
    decisions = draw.decisions[position]
    assert decisions is not None
    seed = int(decisions[0, 0])
    (got,) = pipeline.run_step(position, (image.clone() if isinstance(image, torch.Tensor) else image,), 0, draw)
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    expected = step.transform(image)
    assert torch.equal(tensor_of(got), tensor_of(expected))


@pytest.mark.parametrize("interpolation", ["random", "bicubic"])
@pytest.mark.parametrize("kind", ["pil", "tensor"])
def test_the_resized_crop_is_timms_crop_and_resize(interpolation: str, kind: str) -> None:
    own = timms.RandomResizedCropAndInterpolation((24, 20), interpolation=interpolation)
    paired = Pipeline.from_transform(own).steps[0].paired
    assert paired is not None
    params, modes = paired.sample(40, torch.Generator().manual_seed(0)), set()
    for item, row in zip(pictures(40), params, strict=True):
        image: Any = item if kind == "pil" else functional.pil_to_tensor(item)
        corner, extent = paired.windows(row[None], torch.tensor([[item.height, item.width]]))  # type: ignore[attr-defined]
        window = [*corner[0].tolist(), *extent[0].tolist()]
        candidates = own.interpolation if isinstance(own.interpolation, tuple) else (own.interpolation,)
        expected = [tensor_of(functional.resized_crop(image, *window, own.size, mode)) for mode in candidates]
        got = tensor_of(paired.on_item(image, row))
        modes |= {i for i, each in enumerate(expected) if torch.equal(got, each)}
        assert any(torch.equal(got, each) for each in expected)
    assert len(modes) == len(candidates)


@pytest.mark.parametrize("mode", ["constant", "reflect"])
def test_crop_or_pad_is_timms(mode: str) -> None:
    own = timms.RandomCropOrPad((50, 60), fill=7, padding_mode=mode)
    paired = Pipeline.from_transform(own).steps[0].paired
    assert paired is not None
    for item, row in zip(pictures(), paired.sample(N, torch.Generator().manual_seed(1)), strict=True):
        top, left = paired.offsets(row[None], torch.tensor([[item.height, item.width]]))[0].tolist()  # type: ignore[attr-defined]
        expected = timms.crop_or_pad(item, top, left, 50, 60, fill=7, padding_mode=mode)
        assert np.array_equal(paired.on_item(item, row), expected)


def test_padding_alone_leaves_larger_images() -> None:
    pipeline = Pipeline.from_transform(timms.RandomPad((50, 60), fill=3))
    draw = pipeline.draw(N, 0)
    for i, item in enumerate(pictures()):
        (got,) = pipeline.run_step(0, (item,), i, draw)
        (placement,) = (pipeline.placement(draw, [i], (item.height, item.width)),)
        top, left = (-placement.shift[0]).tolist()
        assert got.size == (max(item.width, 60), max(item.height, 50))
        assert np.array_equal(np.asarray(got)[top : top + item.height, left : left + item.width], item)


def test_resizing_by_ratio_is_timms_with_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    own = timms.ResizeKeepRatio(
        32, 0.3, "random", random_scale_prob=0.5, random_scale_area=True, random_aspect_prob=0.5
    )
    paired = Pipeline.from_transform(own).steps[0].paired
    assert paired is not None
    for item, row in zip(pictures(), paired.sample(N, torch.Generator().manual_seed(0)), strict=True):
        scaled, scale, reshaped, shape, chosen = row.tolist()
        first = iter((scaled, reshaped))
        kept = [number for number, p in ((scale, scaled < 0.5), (shape, reshaped < 0.5)) if p]
        numbers = iter(kept)
        monkeypatch.setattr(timms.random, "random", lambda first=first: next(first))
        monkeypatch.setattr(timms.random, "uniform", lambda low, high, n=numbers: low + (high - low) * next(n))
        monkeypatch.setattr(timms.random, "choice", lambda each, at=chosen: each[int(at * len(each))])
        assert np.array_equal(paired.on_item(item, row), own(item))


def test_derived_views_are_the_other_ones_where_pixels_are_known() -> None:
    transform = data.create_transform(
        16, is_training=True, scale=(1.0, 1.0), ratio=(1.0, 1.0), color_jitter=None, hflip=0.5, vflip=0.5
    )
    pipeline = Pipeline.from_transform(transform)
    assert pipeline.is_derivable
    items = [Image.fromarray(np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8)) for i in range(N)]
    draws = [pipeline.draw(N, seed) for seed in (0, 1)]
    base, other = (pipeline.render(items, range(N), draw) for draw in draws)
    places = [pipeline.placement(draw, range(N), (16, 16)) for draw in draws]
    assert torch.equal(derive(base, *places, Grid((16, 16), (16, 16))), other)


def test_configurations_are_json_and_differ() -> None:
    made = [data.create_transform(48, is_training=True, **kwargs) for kwargs in TRAINING.values()]
    made += [data.create_transform(48, is_training=True, scale=(0.5, 1.0)), data.create_transform(48)]
    texts = [json.dumps(Pipeline.from_transform(transform).to_config()) for transform in made]
    assert len(set(texts)) == len(texts)
    assert texts[:1] == [json.dumps(Pipeline.from_transform(data.create_transform(48, is_training=True)).to_config())]
