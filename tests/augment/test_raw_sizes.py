"""Renditions of raw images of several sizes: what is derived is what the pixels say, each image by its own map."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode, v2

from hoarfrost.augment import Draw, Grid, PaddedCrop, Pipeline, derive

SIZES = [(40, 56), (48, 32), (36, 36)]
N, SIDE, STRIDE = 9, 32, 4
GRID = Grid((SIDE, SIDE), (SIDE // STRIDE, SIDE // STRIDE))
FLIP = v2.RandomHorizontalFlip()
BILINEAR = InterpolationMode.BILINEAR


def raw(of: str) -> list[Tensor]:
    """Images [3, H, W] of three sizes: noise, or each pixel's own place (y, x) and 1."""
    generator, made = torch.Generator().manual_seed(0), []
    for n in range(N):
        height, width = SIZES[n % 3]
        y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        noise = torch.rand(3, height, width, generator=generator)
        made.append(noise if of == "noise" else torch.stack([y, x, torch.ones_like(x)]))
    return made


def frames(pipeline: Pipeline, images: list[Tensor]) -> Tensor:
    return pipeline.frame(torch.tensor([image.shape[-2:] for image in images]), len(images))


def front() -> nn.Module:
    """Looks at no neighbour, and borders are nothing to it."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 1), nn.AvgPool2d(STRIDE))


def aligned(pipeline: Pipeline, draw: Draw, sizes: Tensor) -> Draw:
    """The same, with crops whose corners lie on whole strides."""
    decisions = list(draw.decisions)
    for position, step in enumerate(pipeline.steps):
        if isinstance(step.paired, PaddedCrop) and decisions[position] is not None:
            room = sizes + 2 * step.paired.padding[0] - SIDE
            corner = step.paired.offsets(decisions[position], sizes) // STRIDE * STRIDE  # type: ignore[arg-type]
            decisions[position] = -(-corner * (1 << 31) // (room + 1))
            assert torch.equal(step.paired.offsets(decisions[position], sizes), corner)  # type: ignore[arg-type]
    return replace(draw, decisions=tuple(decisions))


EXACT = {
    "shorter side, flip, padded crop": [v2.Resize(32), FLIP, v2.RandomCrop(SIDE, padding=8)],
    "shorter side, middle, flip": [v2.Resize(40), v2.CenterCrop(SIDE), FLIP],
    "out of proportion, flips": [v2.Resize((SIDE, SIDE)), FLIP, v2.RandomVerticalFlip()],
    "flip, out of proportion": [FLIP, v2.Resize((SIDE, SIDE))],
    "out of proportion, quarter turns": [v2.Resize((SIDE, SIDE)), v2.RandomRotation((90, 90)), FLIP],
    "out of proportion, padded crop": [v2.Resize((SIDE, SIDE)), v2.RandomCrop(SIDE, padding=8)],
}


@pytest.mark.parametrize("steps", EXACT.values(), ids=EXACT)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC", "tokens"])
def test_flips_quarter_turns_and_aligned_shifts_are_exact(steps: list[Any], layout: str) -> None:
    pipeline, images, model = Pipeline.from_transform(v2.Compose(steps)), raw("noise"), front()
    sizes = frames(pipeline, images)
    features, shown, places = [], [], []
    for seed in (0, 1):
        draw = aligned(pipeline, pipeline.draw(N, seed), sizes)
        with torch.no_grad():
            maps = model(pipeline.render(images, range(N), draw))
        whole = nn.functional.avg_pool2d(
            pipeline.render([torch.ones_like(image) for image in images], range(N), draw)[:, :1], STRIDE
        )
        laid = [tensor if layout == "NCHW" else tensor.movedim(1, -1).contiguous() for tensor in (maps, whole)]
        if layout == "tokens":
            laid = [torch.cat([torch.full_like(t[:, 0, :2], seed), t.flatten(1, 2)], 1) for t in laid]
        features.append(laid[0])
        shown.append(laid[1])
        places.append(pipeline.placement(draw, range(N), sizes))
    grid = replace(GRID, layout=layout, prefix_tokens=2 if layout == "tokens" else 0)
    derived = derive(features[0], *places, grid)
    known = derive(shown[0], *places, grid)
    if layout == "tokens":
        assert torch.equal(derived[:, :2], features[0][:, :2]), "class and register tokens stay"
        derived, known, shown[1], features[1] = (t[:, 2:] for t in (derived, known, shown[1], features[1]))
    both = ((known > 0.99) & (shown[1] > 0.99)).expand_as(derived)
    assert float(both.double().mean()) > 0.3
    torch.testing.assert_close(derived[both], features[1][both], atol=1e-5, rtol=0)
    if not any(isinstance(step, v2.RandomCrop) for step in steps):
        assert bool(both.all())


WARPED = {
    "resized crops of raw images": [v2.RandomResizedCrop(SIDE, (0.4, 1.0)), FLIP],
    "turned out of proportion": [v2.Resize((SIDE, SIDE)), v2.RandomRotation(30, BILINEAR), FLIP],
    "turned raw, resized, cropped": [v2.RandomRotation(20, BILINEAR), v2.Resize(40), v2.CenterCrop(SIDE)],
    "affine behind a crop of the middle": [
        *(v2.Resize(40), v2.CenterCrop(SIDE)),
        v2.RandomAffine(10, (0.1, 0.1), (0.8, 1.2), interpolation=BILINEAR),
    ],
}


@pytest.mark.parametrize("steps", WARPED.values(), ids=WARPED)
def test_what_each_cell_shows_of_the_raw_image_is_derived_wherever_the_base_view_shows_it(steps: list[Any]) -> None:
    """Blended between its neighbours, a place on the raw image comes out right: it is linear along both axes."""
    pipeline, images = Pipeline.from_transform(v2.Compose(steps)), raw("places")
    sizes = frames(pipeline, images)
    draws = [pipeline.draw(N, seed) for seed in (0, 1)]
    base, exact = (nn.functional.avg_pool2d(pipeline.render(images, range(N), draw), STRIDE) for draw in draws)
    source, target = (pipeline.placement(draw, range(N), sizes) for draw in draws)
    derived = derive(base, source, target, GRID, "zeros", "interpolated")
    whole = (derived[:, 2] > 0.999) & (exact[:, 2] > 0.999)
    away = (derived[:, :2] - exact[:, :2]).abs().amax(1)
    assert min(float(part.double().mean()) for part in whole) > 0.05, "each image has some"
    assert float(away[whole].median()) < 0.02
    assert float(away[whole].max()) < STRIDE, "beyond the outermost cells' centres these stand for half a stride"
    mixed = derive(base, source, target[[*range(1, N), 0]], GRID, "zeros", "interpolated")
    assert float((mixed[:, :2] - exact[:, :2]).abs().amax(1)[whole].median()) > 1, "another image's map is none"
