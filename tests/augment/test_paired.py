"""Paired augmentations: torchvision's bits on images, and the law between images and features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as nn_functional
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import functional as v1
from torchvision.transforms import v2 as transforms
from torchvision.transforms.v2 import functional as v2

from hoarfrost.augment import Grid, HorizontalFlip, PaddedCrop, Paired, Pipeline, VerticalFlip, derive
from hoarfrost.errors import ArgumentError, ImageShapeError

PAIRED = [
    pytest.param(HorizontalFlip(0.5), id="horizontal"),
    pytest.param(VerticalFlip(0.3), id="vertical"),
    pytest.param(PaddedCrop(16, 4), id="crop"),
    pytest.param(PaddedCrop((12, 9), (1, 2, 3, 0)), id="uneven crop"),
]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("augmentation", PAIRED)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64], ids=str)
def test_a_batch_gives_the_bits_of_single_images(augmentation: Paired, dtype: torch.dtype) -> None:
    images = torch.randint(0, 256, (20, 3, 16, 16), generator=generator()).to(dtype)
    params = augmentation.sample(20, generator())
    singly = [augmentation.on_item(image, row) for image, row in zip(images, params, strict=True)]
    assert torch.equal(augmentation.on_images(images, params), torch.stack(singly))


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "symmetric"])
@pytest.mark.parametrize("padding", [4, (1, 2, 3, 0)], ids=["even", "uneven"])
def test_crop_is_torchvisions(mode: str, padding: int | tuple[int, ...]) -> None:
    images = torch.rand(12, 3, 11, 13, generator=generator())
    crop = PaddedCrop((9, 10), padding, fill=0.25, padding_mode=mode)
    params = crop.sample(12, generator())
    corners = crop.offsets(params, torch.tensor([[11, 13]]).expand(12, 2)).tolist()
    given = list(padding) if isinstance(padding, tuple) else padding
    expected = [
        v1.crop(v1.pad(image, given, 0.25, mode), top, left, 9, 10)
        for image, (top, left) in zip(images, corners, strict=True)
    ]
    assert torch.equal(crop.on_images(images, params), torch.stack(expected))


@pytest.mark.parametrize("fill", [7, 123.675, (1, 2.9, 255)], ids=["int", "float", "one a channel"])
def test_crop_of_pil_pixels_fills_as_pil_does(fill: float | tuple[float, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    crop = PaddedCrop(16, 4, fill=fill)
    params = crop.sample(8, generator())
    pixels = torch.from_numpy(array).permute(2, 0, 1).expand(8, 3, 16, 16)
    for got, row in zip(crop.on_images(pixels, params), params, strict=True):
        assert torch.equal(got, v2.pil_to_tensor(crop.on_item(Image.fromarray(array), row)))


def test_crop_offsets_reach_every_corner_evenly() -> None:
    crop = PaddedCrop(28, 4)
    offsets = crop.offsets(crop.sample(20_000, generator()), torch.tensor([[28, 28]]).expand(20_000, 2))
    counts = torch.bincount(offsets[:, 0] * 9 + offsets[:, 1], minlength=81)
    assert counts.shape == (81,)
    assert counts.min() > 170, "each of 81 offsets is expected 247 times, +-16"
    assert counts.max() < 330


def test_crop_pads_if_needed_as_torchvision() -> None:
    crop = PaddedCrop(20, 1, pad_if_needed=True)
    image = torch.rand(1, 3, 15, 30, generator=generator())
    params = crop.sample(1, generator())
    (corner,) = crop.offsets(params, torch.tensor([[15, 30]])).tolist()
    padded = v1.pad(v1.pad(image, 1), [0, 20 - 17])
    assert torch.equal(crop.on_images(image, params), v1.crop(padded, *corner, 20, 20))


@pytest.mark.parametrize("p", [0.0, 1.0], ids=["never", "always"])
def test_certain_flips_are_not_random(p: float) -> None:
    flip = HorizontalFlip(p)
    assert not flip.is_random
    assert flip.sample(50, generator()).unique().tolist() == [int(p)]


def test_flip_probability() -> None:
    assert HorizontalFlip(0.25).sample(20_000, generator()).double().mean() == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("augmentation", [p for p in PAIRED if p.id != "uneven crop"])
def test_for_the_identity_features_are_images(augmentation: Paired) -> None:
    images = torch.randn(20, 3, 16, 16, generator=generator())
    params = augmentation.sample(20, generator())
    grid = Grid((16, 16), (16, 16))
    assert torch.equal(augmentation.on_features(images, params, grid), augmentation.on_images(images, params))


@settings(max_examples=40, deadline=None)
@given(st.integers(5, 12), st.integers(5, 12), st.integers(1, 9), st.integers(0, 4), st.integers(0, 2**31 - 1))
def test_for_the_identity_any_crop_commutes(height: int, width: int, size: int, padding: int, seed: int) -> None:
    crop = PaddedCrop(min(size, height, width), padding)
    images = torch.randn(6, 2, height, width, generator=generator(seed))
    params = crop.sample(6, generator(seed))
    features = crop.on_features(images, params, Grid((height, width), (height, width)))
    assert torch.equal(features, crop.on_images(images, params))


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_for_a_convolution_crops_by_whole_strides_commute_inside(stride: int) -> None:
    images = torch.randn(30, 3, 32, 32, generator=generator(), dtype=torch.float64)
    kernel = torch.randn(5, 3, 3, 3, generator=generator(1), dtype=torch.float64)
    crop = PaddedCrop(32, 8)
    params = crop.sample(30, generator())
    shift = crop.place(params, torch.tensor([[32, 32]]).expand(30, 2))[0].shift
    aligned = (shift % stride == 0).all(1)
    assert aligned.any()
    images, params = images[aligned], params[aligned]

    def prefix(x: torch.Tensor) -> torch.Tensor:
        return nn_functional.conv2d(x, kernel, stride=stride, padding=1)

    derived = crop.on_features(prefix(images), params, Grid((32, 32), (32 // stride, 32 // stride)))
    exact = prefix(crop.on_images(images, params))
    inside = slice(8 // stride + 1, -(8 // stride + 1))
    torch.testing.assert_close(derived[:, :, inside, inside], exact[:, :, inside, inside])


@pytest.mark.parametrize("flip", [HorizontalFlip(), VerticalFlip()], ids=["horizontal", "vertical"])
def test_for_a_symmetric_kernel_flips_commute_everywhere(flip: Paired) -> None:
    images = torch.randn(10, 3, 12, 12, generator=generator(), dtype=torch.float64)
    kernel = torch.randn(5, 3, 3, 3, generator=generator(1), dtype=torch.float64)
    kernel = kernel + kernel.flip(-1) + kernel.flip(-2) + kernel.flip(-1, -2)
    params = flip.sample(10, generator())
    derived = flip.on_features(nn_functional.conv2d(images, kernel, padding=1), params, Grid((12, 12), (12, 12)))
    exact = nn_functional.conv2d(flip.on_images(images, params), kernel, padding=1)
    torch.testing.assert_close(derived, exact)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: HorizontalFlip(1.5), r"HorizontalFlip: p must be a probability from 0 to 1, got 1.5"),
        (
            lambda: PaddedCrop(0),
            r"PaddedCrop: size must be one number or \(height, width\), at least 1, got 0",
        ),
        (lambda: PaddedCrop(8, -1), r"PaddedCrop: padding must be 1, 2 or 4 numbers, 0 or more, got -1"),
        (lambda: PaddedCrop(8, (1, 2, 3)), r"padding must be 1, 2 or 4 numbers"),
        (
            lambda: PaddedCrop(8, 1, padding_mode="wrap"),
            r"padding_mode must be one of constant, edge, reflect",
        ),
        (
            lambda: PaddedCrop(8, 1, 0, "edge", True),
            r'pad_if_needed needs padding_mode "constant", got \'edge\'',
        ),
    ],
)
def test_wrong_parameters_are_named(make: object, text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        make()  # type: ignore[operator]


def test_wrong_batches_are_named() -> None:
    flip, crop = HorizontalFlip(), PaddedCrop(40)
    with pytest.raises(ArgumentError, match=r"HorizontalFlip: images must be \[n, ..., H, W\], got \[3, 4\]"):
        flip.on_images(torch.zeros(3, 4), flip.sample(3))
    with pytest.raises(ArgumentError, match=r"params must be \[3, k\], a row for each sample, got \[2, 1\]"):
        flip.on_images(torch.zeros(3, 1, 4, 4), flip.sample(2))
    with pytest.raises(ImageShapeError, match=r"window 40x40 is larger than an image of 32x32 with its padding"):
        crop.on_images(torch.zeros(2, 3, 32, 32), crop.sample(2))
    with pytest.raises(ArgumentError, match="fill has 2 values, the images have 3 channels"):
        PaddedCrop(8, 1, fill=(1, 2)).on_images(torch.zeros(1, 3, 8, 8), crop.sample(1))


def test_the_guides_own_transform_is_paired_and_keeps_the_law() -> None:
    page = (Path(__file__).parents[2] / "docs" / "guide" / "augmentation.md").read_text()
    code = page.split("### A transform of your own")[1].split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    exec(code, names)  # the text of our own page
    roll = names["Roll"](3)
    pipeline = Pipeline.from_transform(
        transforms.Compose([transforms.ToImage(), roll, transforms.ToDtype(torch.float32)])
    )
    assert [step.kind for step in pipeline.steps] == ["deterministic", "paired", "deterministic"]
    images = torch.randn(5, 2, 9, 12, generator=torch.Generator().manual_seed(0))
    params = roll.sample(5, torch.Generator().manual_seed(1))
    moved = roll.on_images(images, params)
    assert torch.equal(roll.on_features(images, params, Grid((9, 12), (9, 12))), moved)
    assert torch.equal(roll.on_images(images, roll.still(5)), images)
    draws = [pipeline.draw(5, seed) for seed in (0, 1)]
    shown = [pipeline.render(list(images), range(5), draw) for draw in draws]
    places = [pipeline.placement(draw, range(5), (9, 12)) for draw in draws]
    derived = derive(shown[0], *places, Grid((9, 12), (9, 12)))
    inner = (slice(None), slice(None), slice(6, -6), slice(6, -6))
    assert torch.equal(derived[inner], shown[1][inner])
