"""A user's own paired augmentation: three methods, and it is one among the others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Generator, Tensor
from torchvision import transforms as v1
from torchvision.transforms import v2

from hoarfrost.augment import Grid, Paired, Pipeline, Placement, derive
from hoarfrost.errors import ArgumentError

N = 24


class Slide(Paired):
    """The example of `Paired`."""

    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        return torch.randint(0, 5, (n, 1), generator=generator)

    def on_item(self, item: Any, params: Tensor) -> Any:
        return v2.functional.crop(
            v2.functional.pad(item, [0, 0, 4, 0]), 0, int(params[0]), *v2.functional.get_size(item)
        )

    def place(self, params: Tensor, sizes: Tensor) -> tuple[Placement, Tensor]:
        return Placement.shifted(torch.cat([torch.zeros_like(params), params], dim=1)), sizes


class Transposed(Paired):
    """Rows and columns exchanged, for a batch of square images."""

    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        return torch.randint(0, 2, (n, 1), generator=generator)

    def on_images(self, images: Tensor, params: Tensor) -> Tensor:
        return torch.where(params.bool()[:, :, None, None], images.transpose(-1, -2), images)

    def place(self, params: Tensor, sizes: Tensor) -> tuple[Placement, Tensor]:
        maps = torch.eye(3).repeat(len(params), 1, 1)
        maps[params[:, 0] == 1] = torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]])
        return Placement(maps), sizes


OWN = [pytest.param(Slide(), id="on items"), pytest.param(Transposed(), id="on batches")]


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(1, 256, (12, 12, 3), dtype=np.uint8)) for _ in range(N)]


@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize("kind", ["pil", "tensor"])
def test_it_runs_in_a_pipeline_and_its_views_are_derived(own: Paired, kind: str) -> None:
    pipeline = Pipeline.from_transform(
        v1.Compose([own, v1.RandomHorizontalFlip(), *([v1.ToTensor()] if kind == "pil" else [])])
    )
    assert pipeline.is_derivable
    assert pipeline.describe()[0] == f"{type(own).__name__}: paired, has a form on images and one on features"
    items: list[Any] = pictures() if kind == "pil" else [v1.functional.to_tensor(item) for item in pictures()]
    draws = [pipeline.draw(N, seed) for seed in (0, 1)]
    base, other = (pipeline.render(items, range(N), draw) for draw in draws)
    source, target = (pipeline.placement(draw, range(N), (12, 12)) for draw in draws)
    derived = derive(base, source, target, Grid((12, 12), (12, 12)))
    known = derived != 0
    assert known.double().mean() > 0.7
    assert torch.equal(derived[known], other[known])
    assert not torch.equal(base, other)
    whole, still = pipeline.render(items, range(N), draws[0]), pipeline.still(N)
    assert torch.equal(whole, base)
    assert torch.equal(pipeline.render(items, range(N), still), pipeline.render(items, range(N), pipeline.still(N)))


@pytest.mark.parametrize("own", OWN)
def test_it_keeps_the_law(own: Paired) -> None:
    images = torch.randn(N, 3, 12, 12)
    params = own.sample(N, torch.Generator().manual_seed(0))
    grid = Grid((12, 12), (12, 12))
    for form in ("cells", "interpolated"):
        assert torch.equal(own.on_features(images, params, grid, form=form), own.on_images(images, params))  # type: ignore[arg-type]
    pooled = torch.nn.functional.avg_pool2d
    if isinstance(own, Transposed):
        moved = own.on_features(pooled(images, 4), params, Grid((12, 12), (3, 3)))
        torch.testing.assert_close(moved, pooled(own.on_images(images, params), 4))


@pytest.mark.parametrize("own", OWN)
def test_its_transform_runs_without_a_pipeline_too(own: Paired) -> None:
    transform, item = v2.Compose([own, v2.PILToTensor()]), pictures()[0]
    torch.manual_seed(0)
    seen = [transform(item) for _ in range(20)]
    assert {image.shape for image in seen} == {(3, 12, 12)}
    assert any(not torch.equal(image, seen[0]) for image in seen)
    torch.manual_seed(0)
    assert torch.equal(seen[0], transform(item))


def test_one_without_a_form_on_images_is_refused_where_it_is_defined() -> None:
    with pytest.raises(ArgumentError, match=r"Half: a paired augmentation defines on_images .* or on_item"):

        class Half(Paired):
            def sample(self, n: int, generator: Generator | None = None) -> Tensor:
                return torch.zeros(n, 1)

            def place(self, params: Tensor, sizes: Tensor) -> tuple[Placement, Tensor]:
                return Placement.identity(len(params)), sizes
