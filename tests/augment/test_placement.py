"""Placements compose as the images do, and features derived from them are shifted and mirrored images."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as nn_functional
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision import transforms as v1

from hoarfrost.augment import Grid, HorizontalFlip, PaddedCrop, Paired, Pipeline, Placement, VerticalFlip, derive
from hoarfrost.errors import ArgumentError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_placement(n: int, reach: int, seed: int) -> Placement:
    sign = 1 - 2 * torch.randint(0, 2, (n, 2), generator=generator(seed))
    return Placement.shifted(torch.randint(-reach, reach + 1, (n, 2), generator=generator(seed + 1)), sign)


def looked_up(images: torch.Tensor, placement: Placement, fill: float = 0.0) -> torch.Tensor:
    """The slow reference: each output pixel u is the image's pixel sign * u + shift, or the fill outside."""
    n, _, height, width = images.shape
    out = torch.full_like(images, fill)
    for i in range(n):
        (sy, sx), (by, bx) = placement.sign[i].tolist(), placement.shift[i].tolist()
        for y in range(height):
            for x in range(width):
                v, u = sy * y + by, sx * x + bx
                if 0 <= v < height and 0 <= u < width:
                    out[i, :, y, x] = images[i, :, v, u]
    return out


CHAINS = [
    pytest.param([HorizontalFlip()], id="flip"),
    pytest.param([PaddedCrop(10, 3)], id="crop"),
    pytest.param([HorizontalFlip(), PaddedCrop(10, 3)], id="flip, crop"),
    pytest.param([PaddedCrop(10, 3), HorizontalFlip(), VerticalFlip()], id="crop, flips"),
    pytest.param([PaddedCrop(10, 2), HorizontalFlip(), PaddedCrop(10, 3), VerticalFlip()], id="crops, flips"),
]


@pytest.mark.parametrize("chain", CHAINS)
def test_a_chain_of_steps_is_its_placement(chain: list[Paired]) -> None:
    images = torch.rand(12, 2, 10, 10, generator=generator()) + 1
    moved, placement, sizes = images, Placement.identity(12), torch.tensor([[10, 10]]).expand(12, 2)
    for seed, step in enumerate(chain):
        params = step.sample(12, generator(seed))
        moved = step.on_images(moved, params)
        here, sizes = step.place(params, sizes)
        placement = placement.then(here)
    shown = moved != 0  # a second crop may have cut away what the placement alone would still find
    assert torch.equal(moved[shown], looked_up(images, placement)[shown])
    if sum(isinstance(step, PaddedCrop) for step in chain) < 2:
        assert torch.equal(moved, looked_up(images, placement))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 8), st.integers(2, 9), st.integers(2, 9), st.integers(0, 2**20))
def test_derive_is_the_lookup_for_the_identity_prefix(n: int, height: int, width: int, seed: int) -> None:
    images = torch.randn(n, 3, height, width, generator=generator(seed))
    target = random_placement(n, 6, seed)
    derived = derive(images, Placement.identity(n), target, Grid((height, width), (height, width)))
    assert torch.equal(derived, looked_up(images, target))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**20))
def test_derive_between_views_agrees_where_the_source_shows_the_pixel(seed: int) -> None:
    images = torch.rand(4, 1, 9, 9, generator=generator(seed)) + 1
    source, target = random_placement(4, 4, seed), random_placement(4, 4, seed + 7)
    grid = Grid((9, 9), (9, 9))
    derived = derive(looked_up(images, source), source, target, grid)
    known = derived != 0
    assert torch.equal(derived[known], looked_up(images, target)[known])
    everywhere = derive(looked_up(torch.ones_like(images), source), source, target, grid) != 0
    assert torch.equal(known, everywhere)


def test_composition_is_undone_by_relative_to() -> None:
    first, second = random_placement(50, 9, 0), random_placement(50, 9, 3)
    back = first.then(second).relative_to(first)
    assert torch.equal(back.sign, second.sign)
    assert torch.equal(back.shift, second.shift)


@pytest.mark.parametrize("layout", ["NCHW", "tokens"])
def test_derive_to_itself_is_the_identity(layout: str) -> None:
    shape = (5, 3, 7, 7) if layout == "NCHW" else (5, 50, 3)
    features = torch.randn(*shape, generator=generator())
    place = random_placement(5, 8, 0)
    grid = Grid((28, 28), (7, 7), layout, 0 if layout == "NCHW" else 1)
    same = derive(features, place, place, grid)
    assert torch.equal(same, features)
    assert same.data_ptr() != features.data_ptr(), "the caller may write into what it gets"


@pytest.mark.parametrize("border", ["zeros", "replicate", torch.arange(4.0)], ids=["zeros", "replicate", "values"])
def test_all_layouts_agree(border: Any) -> None:
    features = torch.randn(6, 4, 7, 5, generator=generator())
    source, target, grid = random_placement(6, 9, 0), random_placement(6, 9, 5), Grid((28, 20), (7, 5))
    plain = derive(features, source, target, grid, border)
    last = derive(features.contiguous(memory_format=torch.channels_last), source, target, grid, border)
    assert plain.is_contiguous()
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(plain, last)
    tokens = torch.cat([torch.full((6, 2, 4), 9.0), features.flatten(2).transpose(1, 2)], dim=1)
    token_grid = Grid((28, 20), (7, 5), "tokens", prefix_tokens=2)
    moved = derive(tokens, source, target, token_grid, border)
    assert torch.equal(moved[:, :2], tokens[:, :2])
    assert torch.equal(moved[:, 2:].transpose(1, 2).unflatten(2, (7, 5)), plain)


def test_replicate_takes_the_nearest_known_cell() -> None:
    features = torch.arange(4.0).view(1, 1, 1, 4)
    shifted = Placement.shifted(torch.tensor([[0, 2]]))
    grid = Grid((1, 4), (1, 4))
    identity = Placement.identity(1)
    assert derive(features, identity, shifted, grid, "zeros").flatten().tolist() == [2, 3, 0, 0]
    assert derive(features, identity, shifted, grid, "replicate").flatten().tolist() == [2, 3, 3, 3]


def test_a_border_can_be_a_value_for_each_channel() -> None:
    features = torch.ones(2, 3, 5, 5)
    crop, values = PaddedCrop(5, 2), torch.tensor([4.0, 5.0, 6.0])
    params = crop.sample(2, generator())
    moved = crop.on_features(features, params, Grid((5, 5), (5, 5)), values)
    unknown = crop.on_images(features, params) == 0
    assert unknown.any()
    assert torch.equal(moved, torch.where(unknown, values.view(1, 3, 1, 1), features))


def test_a_border_can_be_the_features_of_a_sample_each_cell_in_its_own_place() -> None:
    features, blank = torch.randn(6, 4, 7, 5, generator=generator()), torch.randn(4, 7, 5, generator=generator())
    source, target, grid = random_placement(6, 9, 0), random_placement(6, 9, 5), Grid((28, 20), (7, 5))
    known = derive(torch.ones_like(features), source, target, grid)
    assert 0 < float(known.mean()) < 1
    wanted = torch.where(known.bool(), derive(features, source, target, grid), blank)
    assert torch.equal(derive(features, source, target, grid, blank), wanted)
    last = features.contiguous(memory_format=torch.channels_last)
    assert torch.equal(derive(last, source, target, grid, blank), wanted)
    turned = Grid((28, 20), (7, 5), "NHWC")
    moved = derive(features.movedim(1, -1), source, target, turned, blank.movedim(0, -1))
    assert torch.equal(moved.movedim(-1, 1), wanted)
    tokens, lone = (torch.cat([t.new_full((len(t), 2, 4), 9.0), t.flatten(2).mT], 1) for t in (features, blank[None]))
    moved = derive(tokens, source, target, Grid((28, 20), (7, 5), "tokens", prefix_tokens=2), lone[0])
    assert torch.equal(moved, torch.cat([tokens[:, :2], wanted.flatten(2).mT], 1))


@pytest.mark.parametrize(("shift", "cells"), [(4, 1), (5, 1), (7, 2), (-4, -1), (1, 0)])
def test_shifts_round_to_the_nearest_cell(shift: int, cells: int) -> None:
    features = torch.arange(1.0, 8.0).view(1, 1, 1, 7)
    target = Placement.shifted(torch.tensor([[0, shift]]))
    derived = derive(features, Placement.identity(1), target, Grid((4, 28), (1, 7))).flatten().tolist()
    assert derived == [c + 1 + cells if 0 <= c + cells < 7 else 0 for c in range(7)]


@pytest.mark.parametrize("sizes", [(28, 7), (30, 8), (5, 3)], ids=str)
def test_a_flip_mirrors_any_grid(sizes: tuple[int, int]) -> None:
    image, feature = sizes
    features = torch.randn(3, 2, feature, feature, generator=generator())
    flip = HorizontalFlip(1.0)
    moved = flip.on_features(features, flip.sample(3), Grid((image, image), (feature, feature)))
    assert torch.equal(moved, features.flip(-1))


@pytest.mark.parametrize(
    "steps",
    [
        [v1.CenterCrop(8)],
        [v1.Pad((1, 2, 3, 4)), v1.CenterCrop((9, 8))],
        [v1.CenterCrop(15), v1.CenterCrop(14)],
    ],
    ids=["crop", "pad, crop", "larger crop"],
)
def test_deterministic_geometry_is_placed(steps: list[object]) -> None:
    images = torch.rand(2, 1, 11, 12, generator=generator()) + 1
    pipeline = Pipeline.from_transform(v1.Compose([v1.RandomVerticalFlip(0.0), *steps, v1.RandomHorizontalFlip(1.0)]))
    draw = pipeline.draw(2, 0)
    placement = pipeline.placement(draw, [0, 1], (11, 12))
    rendered = pipeline.render(images, [0, 1], draw)
    (sy, sx), (by, bx) = placement.sign[0].tolist(), placement.shift[0].tolist()
    for y in range(rendered.shape[2]):
        for x in range(rendered.shape[3]):
            v, u = sy * y + by, sx * x + bx
            inside = 0 <= v < 11 and 0 <= u < 12
            assert rendered[0, 0, y, x] == (images[0, 0, v, u] if inside else 0)


def test_a_resize_scales_what_lies_in_front_of_it() -> None:
    steps = [v1.RandomHorizontalFlip(1.0), v1.RandomCrop(8, 2)]
    pipeline, plain = (Pipeline.from_transform(v1.Compose(s)) for s in ([*steps, v1.Resize((16, 24))], steps))
    placement = pipeline.placement(pipeline.draw(20, 0), range(20), (8, 8))
    before = plain.placement(plain.draw(20, 0), range(20), (8, 8))
    assert torch.equal(placement.maps[:, :2, 2], before.maps[:, :2, 2])
    wanted = torch.tensor([0.5, -1 / 3], dtype=torch.float64).diag()
    torch.testing.assert_close(placement.maps[:, :2, :2], wanted.expand(20, 2, 2))
    with pytest.raises(ArgumentError, match="view 0 is not only mirrored and shifted by whole pixels, but"):
        _ = placement.shift


def test_between_resized_views_shifts_are_those_of_the_resized_images() -> None:
    resized, first = (
        Pipeline.from_transform(v1.Compose(s))
        for s in ([v1.Resize((37, 51)), v1.RandomCrop(32, 4), v1.RandomHorizontalFlip()], [v1.RandomCrop(32, 4)])
    )
    frame = resized.frame((113, 97), 50)
    assert torch.equal(frame, torch.tensor([37, 51]).expand(50, 2))
    source, target = (resized.placement(resized.draw(50, seed), range(50), frame) for seed in (0, 1))
    assert torch.equal(target.relative_to(source).shift, target.relative_to(source).shift.round())
    draws = [resized.draw(50, seed) for seed in (0, 1)]
    crops = [first.placement(type(d)(d.seed, 50, d.decisions[1:2]), range(50), (37, 51)) for d in draws]
    flips = [
        Placement.shifted((rows := draw.decisions[2].repeat(1, 2) * torch.tensor([0, 1])) * 31, 1 - 2 * rows)  # type: ignore[union-attr]
        for draw in draws
    ]
    wanted = crops[1].then(flips[1]).relative_to(crops[0].then(flips[0]))
    found = target.relative_to(source)
    assert torch.equal(found.sign, wanted.sign)
    assert torch.equal(found.shift, wanted.shift)
    features, grid = torch.randn(50, 3, 8, 8, generator=generator()), Grid((32, 32), (8, 8))
    moved = derive(features, source, target, grid)
    assert torch.equal(moved, derive(features, Placement.identity(50), wanted, grid))


@pytest.mark.parametrize("size", [(40, 60), (60, 40), (33, 33)], ids=str)
def test_resized_sizes_are_torchvisions(size: tuple[int, int]) -> None:
    for resize in (v1.Resize(25), v1.Resize(25, max_size=30), v1.Resize((10, 20))):
        height, width = resize(torch.zeros(1, *size)).shape[1:]
        flip = v1.RandomHorizontalFlip(1.0)
        assert Pipeline.from_transform(v1.Compose([resize, flip])).frame(size).tolist() == [[height, width]]
        pipeline = Pipeline.from_transform(v1.Compose([flip, resize]))
        maps = pipeline.placement(pipeline.draw(1, 0), [0], size).maps[0]
        wanted = [[size[0] / height, 0, 0], [0, -size[1] / width, size[1]], [0, 0, 1]]
        torch.testing.assert_close(maps, torch.tensor(wanted, dtype=torch.float64))


def test_placements_are_indexed_by_rows() -> None:
    place = random_placement(6, 5, 0)
    assert len(place[2:4]) == 2
    assert torch.equal(place[torch.tensor([5, 0])].shift, place.shift[[5, 0]])
    assert torch.equal(place[[1]].sign, place.sign[1:2])


def test_errors_name_what_does_not_fit() -> None:
    features, one = torch.zeros(2, 3, 7, 7), Placement.identity(2)
    with pytest.raises(ArgumentError, match="2 features, but 2 source and 1 target placements"):
        derive(features, one, Placement.identity(1), Grid((28, 28), (7, 7)))
    with pytest.raises(ArgumentError, match=r"features must be \[N, C, 8, 8\] for this grid, got \[2, 3, 7, 7\]"):
        derive(features, one, one, Grid((28, 28), (8, 8)))
    with pytest.raises(ArgumentError, match=r"must be \[N, 50, D\] .* supported are feature maps"):
        derive(features, one, one, Grid((28, 28), (7, 7), "tokens", 1))
    with pytest.raises(ArgumentError, match=r'border must be "zeros", "replicate" or a tensor, got .wrap.'):
        derive(features, one, one, Grid((28, 28), (7, 7)), "wrap")  # type: ignore[arg-type]
    with pytest.raises(
        ArgumentError, match=r"one value a channel, \[3\], or one sample.s features, \[3, 7, 7\], got \[2\]"
    ):
        derive(features, one, one, Grid((28, 28), (7, 7)), torch.zeros(2))
    with pytest.raises(ArgumentError, match=r"feature_size must be \(height, width\), both at least 1, got \(0, 7\)"):
        Grid((28, 28), (0, 7))
    with pytest.raises(ArgumentError, match='layout must be "NCHW", "NHWC" or "tokens", got \'NCL\''):
        Grid((28, 28), (7, 7), "NCL")
    with pytest.raises(ArgumentError, match=r"prefix_tokens=1 with layout 'NCHW'; only tokens have them"):
        Grid((28, 28), (7, 7), prefix_tokens=1)
    with pytest.raises(ArgumentError, match=r"Placement: maps must be \[n, 3, 3\], got \[2, 3\]"):
        Placement(torch.ones(2, 3))
    with pytest.raises(ArgumentError, match=r"Placement: holes must be \[2, k, 3, 3\], got \[1, 3, 3\]"):
        Placement(one.maps, torch.ones(1, 3, 3))


@pytest.mark.parametrize("border", ["zeros", "replicate", torch.arange(3.0)], ids=["zeros", "replicate", "values"])
@pytest.mark.parametrize("prefix_tokens", [0, 2])
@pytest.mark.parametrize("form", ["cells", "interpolated"])
def test_all_layouts_are_moved_alike(border: Any, prefix_tokens: int, form: Any) -> None:
    maps = torch.randn(6, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    source, target = random_placement(6, 20, 1), random_placement(6, 20, 2)
    wanted = derive(maps, source, target, Grid((20, 28), (5, 7)), border, form)
    last = derive(maps.permute(0, 2, 3, 1).contiguous(), source, target, Grid((20, 28), (5, 7), "NHWC"), border, form)
    assert torch.equal(last.permute(0, 3, 1, 2), wanted)
    front = torch.randn(6, prefix_tokens, 3)
    tokens = torch.cat([front, maps.flatten(2).movedim(1, 2)], 1)
    found = derive(tokens, source, target, Grid((20, 28), (5, 7), "tokens", prefix_tokens), border, form)
    assert torch.equal(found[:, :prefix_tokens], front)
    assert torch.equal(found[:, prefix_tokens:].movedim(1, 2).unflatten(2, (5, 7)), wanted)


def ramp(height: int, width: int) -> torch.Tensor:
    """[1, 2, H, W]: each pixel holds its place, so that what is shown says where it comes from."""
    rows, columns = torch.meshgrid(torch.arange(float(height)), torch.arange(float(width)), indexing="ij")
    return torch.stack([rows, columns])[None]


def seen(image: torch.Tensor, place: Placement) -> torch.Tensor:
    """The ramp under placements [n], continued beyond its borders."""
    height, width = image.shape[2:]
    rows = place.sign[:, :1] * torch.arange(height) + place.shift[:, :1]
    columns = place.sign[:, 1:] * torch.arange(width) + place.shift[:, 1:]
    grids = [rows[:, :, None].expand(-1, -1, width), columns[:, None, :].expand(-1, height, -1)]
    return torch.stack(grids, 1).float()


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("first", [0, 1])
def test_interpolated_cells_are_exact_where_features_are_linear_in_place(stride: int, first: int) -> None:
    """The prefix takes every so many pixels: between its cells a ramp is what lies between."""
    size, shown = 32, slice(first % stride, None, stride)
    cells = len(range(size)[shown])
    grid = Grid((size, size), (cells, cells), pixels=((first % stride, stride),) * 2)
    source, target = random_placement(40, 5, 3), random_placement(40, 5, 4)
    image = ramp(size, size)
    before, after = (seen(image, place)[:, :, shown, shown] for place in (source, target))
    found = derive(before, source, target, grid, torch.full((2,), float("nan")), "interpolated")
    front = _inner(source, target, grid)
    assert bool(front.any())
    assert torch.allclose(found[front], after[front], atol=1e-4)


def _inner(source: Placement, target: Placement, grid: Grid) -> torch.Tensor:
    """[n, 2, h, w]: cells whose neighbours the source shows, away from the border."""
    move = target.relative_to(source)
    axes = []
    for axis in (0, 1):
        first, step = grid.cells_of(axis)
        pixels = first + step * torch.arange(grid.feature_size[axis])
        there = (move.sign[:, axis, None] * pixels + move.shift[:, axis, None] - first) / step
        axes.append((there >= 0) & (there <= grid.feature_size[axis] - 1))
    return (axes[0][:, None, :, None] & axes[1][:, None, None, :]).expand(-1, 2, -1, -1)


def test_whole_steps_are_moved_alike_in_both_forms() -> None:
    maps, grid = torch.randn(8, 3, 7, 7), Grid((28, 28), (7, 7))
    sign, shift = torch.ones(8, 2), torch.zeros(8, 2)
    sign[::2, 1], shift[::2, 1] = -1, 27
    shift[:, 0] = torch.tensor([0, 4, -4, 8, 12, 0, -8, 24])
    source, target = Placement.identity(8), Placement.shifted(shift, sign)
    forms = [derive(maps, source, target, grid, "zeros", form) for form in ("cells", "interpolated")]  # type: ignore[arg-type]
    assert torch.allclose(*forms, atol=1e-6)


def test_a_flip_behind_a_strided_convolution_lies_half_a_cell_off() -> None:
    image = ramp(28, 28)
    flipped = image.flip(3)
    before, after = image[..., ::2, ::2], flipped[..., ::2, ::2]
    place = Placement.shifted(torch.tensor([[0, 27]]), torch.tensor([[1, -1]]))
    known = derive(
        before,
        Placement.identity(1),
        place,
        Grid((28, 28), (14, 14), pixels=((0, 2), (0, 2))),
        "replicate",
        "interpolated",
    )
    tiles = derive(before, Placement.identity(1), place, Grid((28, 28), (14, 14)), "replicate")
    assert torch.allclose(known[..., 1:], after[..., 1:])
    assert not torch.allclose(tiles[..., 1:], after[..., 1:])


def test_an_unknown_form_is_refused() -> None:
    one = Placement.identity(1)
    with pytest.raises(ArgumentError, match='form must be "cells" or "interpolated", got \'cubic\''):
        derive(torch.zeros(1, 1, 2, 2), one, one, Grid((2, 2), (2, 2)), form="cubic")  # type: ignore[arg-type]


def random_maps(n: int, seed: int, bend: float = 0.0) -> Placement:
    """Turned, scaled, sheared and shifted, and seen from aside as far as bend says."""
    maps = torch.eye(3, dtype=torch.float64) + 0.3 * torch.randn(n, 3, 3, generator=generator(seed)).double()
    maps[:, :2, 2] = 6 * torch.rand(n, 2, generator=generator(seed + 1)).double() - 3
    maps[:, 2] = torch.tensor([0.0, 0, 1]) + bend * torch.tensor([1.0, 1, 0]) * torch.rand(n, 3, generator=generator(2))
    return Placement(maps)


@pytest.mark.parametrize("bend", [0.0, 0.02], ids=["affine", "projective"])
@pytest.mark.parametrize("sizes", [((24, 36), (6, 9)), ((27, 27), (7, 7)), ((9, 8), (9, 8))], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_interpolation_is_that_of_grid_sample(bend: float, sizes: Any, dtype: torch.dtype) -> None:
    (height, width), cells = sizes
    grid, target = Grid((height, width), cells), random_maps(10, 4, bend)
    features = torch.randn(10, 5, *cells, generator=generator(), dtype=dtype)
    found = derive(features, Placement.identity(10), target, grid, "replicate", "interpolated")
    rows, columns = (
        (torch.arange(c, dtype=torch.float64) + 0.5) * side / c for c, side in zip(cells, sizes[0], strict=True)
    )
    y, x = target.points(rows[None, :, None], columns[None, None, :])
    points = torch.stack([2 * x / width - 1, 2 * y / height - 1], -1).to(dtype)
    wanted = nn_functional.grid_sample(features, points, "bilinear", "border", align_corners=False)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)
    lost = (y < 0) | (y > height) | (x < 0) | (x > width)
    zeros = derive(features, Placement.identity(10), target, grid, "zeros", "interpolated")
    assert torch.equal(zeros, torch.where(lost[:, None], 0, found))
    assert 0.02 < lost.double().mean() < 0.8


@pytest.mark.parametrize("bend", [0.0, 0.02], ids=["affine", "projective"])
def test_maps_compose_as_functions_do(bend: float) -> None:
    first, second = random_maps(20, 0, bend), random_maps(20, 9, bend)
    y, x = 20 * torch.rand(20, 3, 4).double(), 20 * torch.rand(20, 3, 4).double()
    both, apart = first.then(second).points(y, x), first.points(*second.points(y, x))
    back = second.relative_to(first).points(*first.relative_to(second).points(y, x))
    for found, wanted in zip((*both, *back), (*apart, y, x), strict=True):
        known = (found.abs() < 1e8) & (wanted.abs() < 1e8)
        assert known.double().mean() > 0.6
        torch.testing.assert_close(found[known], wanted[known], rtol=1e-6, atol=1e-6)


def test_flips_and_shifts_compose_without_any_rounding() -> None:
    place = Placement.identity(200)
    sign, shift = torch.ones(200, 2, dtype=torch.int64), torch.zeros(200, 2, dtype=torch.int64)
    for seed in range(30):
        step = random_placement(200, 300, 2 * seed)
        place = place.then(step)
        sign, shift = sign * step.sign, sign * step.shift + shift
    assert torch.equal(place.maps, Placement.shifted(shift, sign).maps)
    other = random_placement(200, 10_000, 77)
    assert torch.equal(
        other.relative_to(place).maps, Placement.shifted(sign * (other.shift - shift), sign * other.sign).maps
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int16], ids=str)
@pytest.mark.parametrize("form", ["cells", "interpolated"])
def test_features_of_any_type_are_moved(dtype: torch.dtype, form: Any) -> None:
    features = (100 * torch.randn(6, 4, 7, 7, generator=generator())).to(dtype)
    grid, target = Grid((28, 28), (7, 7)), random_maps(6, 3)
    found = derive(features, Placement.identity(6), target, grid, "zeros", form)
    wanted = derive(features.double(), Placement.identity(6), target, grid, "zeros", form)
    assert found.dtype == dtype
    off = {torch.float16: 0.5, torch.bfloat16: 4.0, torch.float64: 0.0, torch.int16: 0.501}[dtype]
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=off if form == "interpolated" else 0)


@pytest.mark.parametrize("form", ["cells", "interpolated"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC", "tokens"])
def test_no_samples_give_no_features(form: Any, layout: str) -> None:
    shape = {"NCHW": (0, 3, 4, 4), "NHWC": (0, 4, 4, 3), "tokens": (0, 16, 3)}[layout]
    none = Placement.identity(0)
    assert derive(torch.zeros(shape), none, none, Grid((8, 8), (4, 4), layout), "zeros", form).shape == shape
    pixels = Grid.of((8, 8), (4, 4), stride=(2, 2), offset=(0, 0), layout=layout)
    assert derive(torch.zeros(shape), none, none, pixels, torch.zeros(3), form).shape == shape


@pytest.mark.parametrize("size", [27, 28])
def test_a_stack_of_strided_convolutions_is_flipped_where_its_cells_lie(size: int) -> None:
    """28 -> 14 -> 7 with stride 2 and padding 1: the cells lie at pixels 0, 4, ..., so that a flip moves them."""
    kernel = torch.outer(torch.tensor([1.0, 2, 1]), torch.tensor([1.0, 2, 1]))[None, None].double() / 16

    def prefix(x: torch.Tensor) -> torch.Tensor:
        for _ in range(2):
            x = nn_functional.conv2d(x, kernel, stride=2, padding=1)
        return x

    # Slow waves, which survive the convolutions and are nearly linear from cell to cell.
    rows, columns = torch.meshgrid(torch.arange(size).double(), torch.arange(size).double(), indexing="ij")
    images = torch.stack([(columns / 9).sin() + rows / 20, (columns / 7 + rows / 11).cos()])[:, None]
    flip, ones = HorizontalFlip(1.0), torch.ones(2, 1, dtype=torch.int64)
    features, exact = prefix(images), prefix(flip.on_images(images, ones))
    cells = (features.shape[2], features.shape[3])
    assert cells == (7, 7)
    places = Placement.identity(2), flip.place(ones, torch.tensor([[size, size]] * 2))[0]
    inner = (slice(None), slice(None), slice(1, -1), slice(1, -1))

    def error(grid: Grid, form: Any) -> float:
        return float((derive(features, *places, grid, "replicate", form) - exact)[inner].abs().max())

    known = Grid.of((size, size), cells, stride=(4, 4), offset=(0, 0))
    assert error(known, "interpolated") < 0.06
    if size == 28:
        assert error(known, "cells") > 5 * error(known, "interpolated"), (
            "whole cells cannot follow three quarters of one"
        )
        assert error(Grid((size, size), cells), "interpolated") > 5 * error(known, "interpolated")


def test_a_grid_may_be_made_of_a_cuts_geometry() -> None:
    grid = Grid.of((28, 20), (7, 5), stride=(4, 4.0), offset=(0, 1.5), layout="tokens", prefix_tokens=1)
    assert grid == Grid((28, 20), (7, 5), "tokens", 1, ((0.0, 4.0), (1.5, 4.0)))
    assert grid.cells_of(1) == (1.5, 4.0)
    assert Grid((28, 20), (7, 5)).cells_of(0) == (1.5, 4.0)
    with pytest.raises(ArgumentError, match=r"pixels must be \(first, step\) .* with a step above 0"):
        Grid.of((28, 20), (7, 5), stride=(0, 4), offset=(0, 0))


@pytest.mark.parametrize("size", [(14, 14), (7, 7), (28, 28), (5, 9)], ids=str)
def test_what_is_moved_alike_has_the_bits_of_what_is_moved_one_by_one(size: tuple[int, int]) -> None:
    """All of a chunk under one rendition take a way of their own."""
    drawn = torch.Generator().manual_seed(0)
    features, grid = torch.randn(6, 3, *size, generator=drawn), Grid((28, 28), size)
    flip, tall, crop = HorizontalFlip(), VerticalFlip(), PaddedCrop(28, 9)

    def placement(n: int) -> Placement:
        place, sizes = Placement.identity(n), torch.tensor([[28, 28]]).expand(n, 2)
        for step in (flip, tall, crop):
            move, sizes = step.place(step.sample(n, drawn), sizes)
            place = place.then(move)
        return place

    for _ in range(40):
        source, target = placement(1)[[0] * 6], placement(1)[[0] * 6]
        assert source.is_shared
        others = placement(1)
        mixed = Placement(torch.cat([target.maps, others.maps]))
        assert not mixed.is_shared
        one_by_one = derive(
            torch.cat([features, features[:1]]), Placement(torch.cat([source.maps, source.maps[:1]])), mixed, grid
        )
        assert torch.equal(derive(features, source, target, grid), one_by_one[:6])
