"""Erased rectangles: torchvision's on images; on features the cells in them, and those that a base view lacks."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms as v1
from torchvision.transforms import v2

from hoarfrost.augment import Erasing, Grid, HorizontalFlip, PaddedCrop, Pipeline, Placement, Rotation, derive
from hoarfrost.augment.pipeline.from_torchvision import adopt
from hoarfrost.errors import ArgumentError

N, SIZE = 20, (17, 24)
ALWAYS = Erasing(1.0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


VALUES = [0, 0.3, 7, (0.1, 0.2, 250.7)]


@pytest.mark.parametrize("value", VALUES, ids=str)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("module", [v1, v2], ids=["v1", "v2"])
def test_images_have_the_bits_of_torchvisions_own_transform(module: Any, value: Any, dtype: torch.dtype) -> None:
    transform = module.RandomErasing(p=0.7, value=value)
    images = torch.randint(0, 256, (N, 3, *SIZE), generator=generator()).to(dtype)
    paired = adopt(transform)
    assert isinstance(paired, Erasing)
    pipeline = Pipeline.from_transform(transform)
    draw = pipeline.draw(N, 0)
    params = draw.decisions[0]
    assert params is not None
    corner, extent = paired.rectangles(params, torch.tensor([SIZE]).expand(N, 2))
    given_values = torch.tensor([float(value)] if isinstance(value, (int, float)) else list(value))[:, None, None]
    wanted = []
    for image, erased, (top, left), (height, width) in zip(
        images, params[:, 0] > 0, corner.tolist(), extent.tolist(), strict=True
    ):
        box = {"i": top, "j": left, "h": height, "w": width, "v": given_values}
        wanted.append(v2.functional.erase(image, **box) if bool(erased) else image)
    assert torch.equal(pipeline.render(images, range(N), draw), torch.stack(wanted))
    assert torch.equal(
        torch.stack([paired.on_item(i, row) for i, row in zip(images, params, strict=True)]), torch.stack(wanted)
    )
    assert 0.3 < (params[:, 0] > 0).double().mean() < 1


def test_pil_images_are_erased_as_tensors_are() -> None:
    array = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    pipeline = Pipeline.from_transform(v2.Compose([v2.RandomErasing(1.0, value=9), v2.PILToTensor()]))
    draw = pipeline.draw(3, 0)
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    assert draw.decisions[0] is not None
    wanted = Erasing(1.0, value=9).on_images(tensor.expand(3, 3, *SIZE), draw.decisions[0])
    assert torch.equal(pipeline.render([Image.fromarray(array)] * 3, range(3), draw), wanted)


def test_rectangles_are_distributed_as_torchvisions() -> None:
    n, size = 4000, (40, 30)
    params = Erasing(0.25).sample(n, generator())
    assert params[:, 0].mean() == pytest.approx(0.25, abs=0.04)
    corner, extent = ALWAYS.rectangles(ALWAYS.sample(n, generator()), torch.tensor([size]).expand(n, 2))
    torch.manual_seed(0)
    image = torch.zeros(1, *size)
    theirs = torch.tensor([v1.RandomErasing.get_params(image, (0.02, 0.33), (0.3, 3.3), [0.0])[:4] for _ in range(n)])
    ours = torch.cat([corner, extent], 1)
    assert bool((corner + extent <= torch.tensor(size)).all())
    for column in range(4):
        a, b = ours[:, column].double(), theirs[:, column].double()
        error = b.std() / math.sqrt(n)
        assert abs(a.mean() - b.mean()) < 7 * error
        assert abs(a.std() - b.std()) < 7 * error


@settings(max_examples=40, deadline=None)
@given(st.integers(3, 14), st.integers(3, 14), st.integers(0, 2**20), st.sampled_from(["NCHW", "NHWC", "tokens"]))
def test_for_the_identity_features_are_images(height: int, width: int, seed: int, layout: str) -> None:
    images = torch.randn(6, 2, height, width, generator=generator(seed))
    params = ALWAYS.sample(6, generator(seed))
    features = images if layout == "NCHW" else images.movedim(1, -1)
    features = torch.cat([images[:, None, :, 0, 0], features.flatten(1, 2)], 1) if layout == "tokens" else features
    prefix = int(layout == "tokens")
    grid = Grid((height, width), (height, width), layout, prefix)
    for value, border in ((0.0, "zeros"), ((3.0, -1.5), torch.tensor([3.0, -1.5]))):
        wanted = Erasing(1.0, value=value).on_images(images, params)
        for form in ("cells", "interpolated"):
            found = ALWAYS.on_features(features, params, grid, border, form)  # type: ignore[arg-type]
            if layout == "tokens":
                assert torch.equal(found[:, :1], features[:, :1])
                found = found[:, 1:].unflatten(1, (height, width))
            assert torch.equal(found if layout == "NCHW" else found.movedim(-1, 1), wanted)


def test_cells_whose_centres_are_erased_get_the_border() -> None:
    features = torch.ones(1, 2, 7, 7)
    place = Placement.erased(torch.tensor([[4, 6]]), torch.tensor([[8, 3]]))
    border = torch.tensor([5.0, 6.0])
    moved = derive(features, Placement.identity(1), place, Grid((28, 28), (7, 7)), border)
    centres = 4 * torch.arange(7) + 2
    rows, columns = (centres >= 4) & (centres < 12), (centres >= 6) & (centres < 9)
    wanted = torch.where(rows[:, None] & columns, border.view(1, 2, 1, 1), features)
    assert int((wanted != 1).sum()) == 4
    assert torch.equal(moved, wanted)
    strided = Grid.of((28, 28), (7, 7), stride=(4, 4), offset=(0, 0))
    moved = derive(features, Placement.identity(1), place, strided, border)
    rows, columns = (centres - 1.5 >= 4) & (centres - 1.5 < 12), (centres - 1.5 >= 6) & (centres - 1.5 < 9)
    assert torch.equal(moved, torch.where(rows[:, None] & columns, border.view(1, 2, 1, 1), features))


CHAINS = {
    "erased": [ALWAYS],
    "flipped, cropped, erased": [HorizontalFlip(), PaddedCrop(16, 3), ALWAYS],
    "erased, flipped, cropped": [ALWAYS, HorizontalFlip(), PaddedCrop(16, 3)],
    "erased twice, some": [Erasing(0.5), HorizontalFlip(), Erasing(0.5)],
    "turned, erased": [Rotation((90, 90)), ALWAYS],
}


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("form", ["cells", "interpolated"])
def test_what_the_base_view_lacks_is_unknown_and_what_it_shows_is_told(chain: str, form: Any) -> None:
    images = torch.rand(N, 2, 16, 16, generator=generator(), dtype=torch.float64) + 1
    pipeline = Pipeline.from_transform(v1.Compose(CHAINS[chain]))
    draws = [pipeline.draw(N, seed) for seed in (0, 1)]
    base, other = (pipeline.render(images, range(N), draw) for draw in draws)
    source, target = (pipeline.placement(draw, range(N), (16, 16)) for draw in draws)
    grid = Grid((16, 16), (16, 16))
    derived = derive(base, source, target, grid, "zeros", form)
    known = derived != 0
    assert known.any(-1).any(-1).all()
    torch.testing.assert_close(derived[known], other[known])
    # Unknown is what either does not show, but no more: all that both show is there.
    told = derive(pipeline.render(torch.ones_like(images), range(N), draws[0]), source, target, grid, "zeros", form)
    assert torch.equal(told != 0, known)
    plain = derive(images, Placement.identity(N), target, grid, "zeros", form)
    torch.testing.assert_close(plain, other)
    again = derive(base, source, source, grid, "zeros", form)
    assert torch.equal(again, base), "a view is derived from itself as it is, its hole included"


def test_what_was_erased_in_the_base_view_alone_is_filled() -> None:
    images = torch.rand(N, 3, 16, 16, generator=generator()) + 1
    pipeline = Pipeline.from_transform(v1.RandomErasing(1.0))
    draw = pipeline.draw(N, 0)
    base, source = pipeline.render(images, range(N), draw), pipeline.placement(draw, range(N), (16, 16))
    values = torch.tensor([7.0, 8.0, 9.0])
    derived = derive(base, source, Placement.identity(N), Grid((16, 16), (16, 16)), values)
    assert torch.equal(derived, torch.where(base == 0, values.view(3, 1, 1), images))
    replicated = derive(base, source, Placement.identity(N), Grid((16, 16), (16, 16)), "replicate")
    assert torch.equal(replicated, base), "there is no nearest cell to a hole"


def test_a_view_that_was_cropped_and_then_turned_lacks_its_corners() -> None:
    images = torch.rand(N, 1, 24, 24, generator=generator()) + 1
    pipeline = Pipeline.from_transform(v1.Compose([PaddedCrop(12), Rotation((45, 45)), HorizontalFlip()]))
    draw = pipeline.draw(N, 0)
    base, source = pipeline.render(images, range(N), draw), pipeline.placement(draw, range(N), (24, 24))
    assert source.windows is not None
    target = pipeline.placement(draw, range(N), (24, 24))
    grid = Grid((12, 12), (12, 12))
    straight, drawn = Pipeline.from_transform(PaddedCrop(12)), replace(draw, decisions=draw.decisions[:1])
    wanted = straight.render(images, range(N), drawn)
    derived = derive(base, source, straight.placement(drawn, range(N), (24, 24)), grid)
    assert float((derived == 0).double().mean()) > 0.1
    shown = derived != 0
    assert float((derived[shown] == wanted[shown]).double().mean()) > 0.6, "but for pixels that were taken twice"
    assert torch.equal(derive(base, source, target, grid), base)


def test_still_erases_nothing() -> None:
    images = torch.rand(4, 3, 8, 8, generator=generator())
    still = ALWAYS.still(4)
    assert torch.equal(ALWAYS.on_images(images, still), images)
    assert ALWAYS.place(still, torch.tensor([[8, 8]]).expand(4, 2))[0].holes is None


def test_wrong_parameters_are_named() -> None:
    with pytest.raises(ArgumentError, match=r"Erasing: p must be a probability from 0 to 1, got 2"):
        Erasing(2)
    with pytest.raises(ArgumentError, match=r"Erasing: scale must be \(low, high\) shares of the area"):
        Erasing(0.5, (0.3, 0.1))
    with pytest.raises(ArgumentError, match="Erasing: fill has 2 values, the images have 3 channels"):
        Erasing(1.0, value=(1.0, 2.0)).on_images(torch.zeros(1, 3, 8, 8), ALWAYS.sample(1))
