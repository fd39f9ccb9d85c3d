"""Resized crops, rotations, affine maps and perspectives: torchvision's bits, and pixels where the placement says."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms as v1
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2

from hoarfrost.augment import Affine, Grid, Paired, Perspective, Pipeline, ResizedCrop, Rotation, derive
from hoarfrost.augment.pipeline.from_torchvision import adopt
from hoarfrost.errors import ArgumentError

N, SIZE = 16, (23, 30)
NEAREST, BILINEAR = InterpolationMode.NEAREST, InterpolationMode.BILINEAR


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int = N, size: tuple[int, int] = SIZE) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for _ in range(count)]


def both(name: str, *args: Any, **kwargs: Any) -> list[Any]:
    made = [getattr(module, name)(*args, **kwargs) for module in (v1, v2)]
    return [pytest.param(t, id=f"{version} {t!r}") for version, t in zip(("v1", "v2"), made, strict=True)]


TRANSFORMS = [
    *both("RandomResizedCrop", 12),
    *both("RandomResizedCrop", (9, 14), scale=(0.3, 0.5), ratio=(0.5, 1.5), interpolation=NEAREST, antialias=False),
    *both("RandomResizedCrop", 12, interpolation=InterpolationMode.BICUBIC, antialias=True),
    *both("RandomRotation", 30),
    *both("RandomRotation", (-20, 70), interpolation=BILINEAR, fill=7, center=(4, 9)),
    *both("RandomRotation", (90, 90)),
    *both("RandomAffine", 20, translate=(0.2, 0.1), scale=(0.7, 1.4), shear=10),
    *both("RandomAffine", (0, 5), shear=(-5, 5, 0, 12), interpolation=BILINEAR, fill=(1, 20, 255), center=(3, 3)),
    *both("RandomPerspective", 0.6, p=0.8),
    *both("RandomPerspective", 0.3, p=1.0, interpolation=NEAREST, fill=9),
]


def decided(transform: Any, paired: Paired, row: Tensor, size: tuple[int, int]) -> Any:
    """What torchvision's own `get_params` or `make_params` would have to return for these decisions."""
    sizes = torch.tensor([size])
    if isinstance(paired, ResizedCrop):
        corner, extent = paired.windows(row[None], sizes)
        top, left, height, width = (*corner[0].tolist(), *extent[0].tolist())
        return (top, left, height, width), {"top": top, "left": left, "height": height, "width": width}
    if isinstance(paired, Rotation):
        return float(row[0]), {"angle": float(row[0])}
    if isinstance(paired, Affine):
        angle, right, down, scale, *shear = row.tolist()
        shift = (round(right * size[1]), round(down * size[0]))
        named = {"angle": angle, "translate": shift, "scale": scale, "shear": tuple(shear)}
        return tuple(named.values()), named
    assert isinstance(paired, Perspective)
    start, end = (points[0].to(torch.int64).tolist() for points in paired.corners(row[None], sizes))
    from torchvision.transforms.functional import _get_perspective_coeffs

    return (start, end), {"coefficients": _get_perspective_coeffs(start, end)}


def by_torchvision(transform: Any, paired: Paired, item: Any, row: Tensor, size: tuple[int, int] = SIZE) -> Any:
    if isinstance(paired, Perspective) and not bool(row[0]):
        return item
    positional, named = decided(transform, paired, row, size)
    if isinstance(transform, v2.Transform):
        return transform.transform(item, named)
    transform.__dict__["get_params"] = lambda *args: positional
    was, transform.p = getattr(transform, "p", None), 1.0
    try:
        return transform(item)
    finally:
        del transform.__dict__["get_params"]
        transform.p = was


def as_array(item: Any) -> Any:
    return torch.from_numpy(np.array(item)) if isinstance(item, Image.Image) else item.as_subclass(torch.Tensor)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("kind", ["pil", "uint8", "float", "image"])
def test_images_have_the_bits_of_torchvisions_own_transform(transform: Any, kind: str) -> None:
    paired = adopt(transform)
    assert isinstance(paired, Paired)
    items: list[Any] = pictures()
    if kind != "pil":
        items = [v2.functional.pil_to_tensor(item) for item in items]
        items = [item / 255 for item in items] if kind == "float" else items
        items = [tv_tensors.Image(item) for item in items] if kind == "image" else items
    params = paired.sample(N, generator())
    pipeline = Pipeline.from_transform(v2.Compose([transform, v2.Lambda(lambda item: item)]))
    draw = pipeline.draw(N, 0)
    params = draw.decisions[0]
    assert params is not None
    wanted = [by_torchvision(transform, paired, item, row) for item, row in zip(items, params, strict=True)]
    single = [paired.on_item(item, row) for item, row in zip(items, params, strict=True)]
    assert all(torch.equal(as_array(a), as_array(b)) for a, b in zip(single, wanted, strict=True))
    rendered = Pipeline.from_transform(transform).render(items, range(N), draw_of(transform, draw))
    if kind != "pil":
        assert torch.equal(rendered, torch.stack([as_array(item) for item in wanted]))
    else:
        assert torch.equal(rendered, torch.stack([v1.functional.to_tensor(item) for item in wanted]))


def draw_of(transform: Any, draw: Any) -> Any:
    """The decisions of the first step alone."""
    return type(draw)(draw.seed, draw.samples, draw.decisions[:1])


COORDINATES = [
    pytest.param(ResizedCrop(20, scale=(0.3, 0.9), antialias=False), id="resized crop, larger"),
    pytest.param(ResizedCrop((11, 9), (0.5, 1.0), (0.5, 2.0), antialias=False), id="resized crop, smaller"),
    pytest.param(Rotation((-180, 180), interpolation=BILINEAR), id="rotation"),
    pytest.param(Rotation((-60, 60), (5.0, 9.0), interpolation=BILINEAR), id="rotation about a point"),
    pytest.param(Rotation((90, 90)), id="quarter turn"),
    pytest.param(Affine((-50, 50), (0.2, 0.3), (0.6, 1.5), interpolation=BILINEAR), id="affine"),
    pytest.param(Affine((0, 0), shear_x=(-20, 20), shear_y=(-15, 15), interpolation=BILINEAR), id="shear"),
    pytest.param(Affine((-9, 9), centre=(3.0, 20.0), scale=(0.5, 2.0), interpolation=BILINEAR), id="affine elsewhere"),
    pytest.param(Perspective(0.5, 1.0), id="perspective"),
    pytest.param(Perspective(0.9, 0.5), id="strong perspective"),
]


def coordinates(size: tuple[int, int]) -> Tensor:
    """[2, H, W]: each pixel holds where its centre lies, counted from the image's edge."""
    rows, columns = (torch.arange(side, dtype=torch.float64) + 0.5 for side in size)
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"))


@pytest.mark.parametrize("augmentation", COORDINATES)
@pytest.mark.parametrize("size", [(28, 28), (23, 30), (31, 20)], ids=str)
def test_pixels_lie_where_the_placement_says(augmentation: Paired, size: tuple[int, int]) -> None:
    images = coordinates(size).expand(40, 2, *size)
    params = augmentation.sample(40, generator())
    seen = augmentation.on_images(images, params)
    placement, sizes = augmentation.place(params, torch.tensor([size]).expand(40, 2))
    assert sizes.tolist() == [list(seen.shape[2:])] * 40
    own = coordinates(tuple(seen.shape[2:]))
    y, x = placement.points(own[None, 0], own[None, 1])
    corner, extent = torch.zeros(40, 2), torch.tensor([size]).expand(40, 2)
    if isinstance(augmentation, ResizedCrop):
        corner, extent = augmentation.windows(params, extent)
    far = corner + extent
    inside = (y > corner[:, 0, None, None] + 0.51) & (y < far[:, 0, None, None] - 0.51)
    inside &= (x > corner[:, 1, None, None] + 0.51) & (x < far[:, 1, None, None] - 0.51)
    assert inside.double().mean() > 0.3
    # A turned image of other sides lies half a pixel off its grid, and the nearest pixel is that much off.
    off = 0.501 if isinstance(augmentation, Rotation) and augmentation.interpolation is NEAREST else 1e-4
    torch.testing.assert_close(seen[:, 0][inside], y[inside], rtol=0, atol=off)
    torch.testing.assert_close(seen[:, 1][inside], x[inside], rtol=0, atol=off)


EXACT = [
    pytest.param(ResizedCrop(20, interpolation=InterpolationMode.NEAREST_EXACT), id="resized crop"),
    pytest.param(Rotation((-180, 180)), id="rotation"),
    pytest.param(Affine((-50, 50), (0.2, 0.3), (0.6, 1.5), (-20, 20), (-9, 9)), id="affine"),
    pytest.param(Perspective(0.5, interpolation=NEAREST), id="perspective"),
]


@pytest.mark.parametrize("augmentation", EXACT)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC", "tokens"])
def test_for_the_identity_features_are_images_of_nearest_pixels(augmentation: Paired, layout: str) -> None:
    images = torch.randn(30, 3, 19, 24, generator=generator(), dtype=torch.float64)
    params = augmentation.sample(30, generator(1))
    wanted = augmentation.on_images(images, params)
    features = images if layout == "NCHW" else images.movedim(1, -1).contiguous()
    features = features.flatten(1, 2) if layout == "tokens" else features
    found = augmentation.on_features(features, params, Grid((19, 24), (19, 24), layout))
    if layout != "NCHW":
        found = found.view(30, *wanted.shape[2:], 3).movedim(-1, 1)
    # Where a pixel's place falls on the edge between two, the last bit of the kernel's grid decides.
    placement, _ = augmentation.place(params, torch.tensor([[19, 24]]).expand(30, 2))
    own = coordinates(tuple(wanted.shape[2:]))
    y, x = placement.points(own[None, 0], own[None, 1])
    clear = ((y - y.round()).abs() > 1e-4) & ((x - x.round()).abs() > 1e-4)
    assert clear.double().mean() > 0.9
    assert torch.equal(found.movedim(1, -1)[clear], wanted.movedim(1, -1)[clear])


SMOOTH = [
    pytest.param(ResizedCrop(20, antialias=False), id="resized crop"),
    pytest.param(Rotation((-180, 180), interpolation=BILINEAR), id="rotation"),
    pytest.param(Affine((-50, 50), (0.2, 0.3), (0.6, 1.5), (-20, 20), interpolation=BILINEAR), id="affine"),
    pytest.param(Perspective(0.5), id="perspective"),
]


@pytest.mark.parametrize("augmentation", SMOOTH)
def test_for_the_identity_interpolated_features_are_bilinear_images(augmentation: Paired) -> None:
    images = torch.randn(30, 3, 20, 20, generator=generator(), dtype=torch.float64)
    params = augmentation.sample(30, generator(1))
    wanted = augmentation.on_images(images, params)
    found = augmentation.on_features(images, params, Grid((20, 20), (20, 20)), form="interpolated")
    placement, _ = augmentation.place(params, torch.tensor([[20, 20]]).expand(30, 2))
    own = coordinates((20, 20))
    y, x = placement.points(own[None, 0], own[None, 1])
    corner, far = torch.zeros(30, 2), torch.full((30, 2), 20)
    if isinstance(augmentation, ResizedCrop):
        corner, extent = augmentation.windows(params, far)
        far = corner + extent
    inside = (y > corner[:, 0, None, None] + 0.51) & (y < far[:, 0, None, None] - 0.51)
    inside &= (x > corner[:, 1, None, None] + 0.51) & (x < far[:, 1, None, None] - 0.51)
    assert inside.double().mean() > 0.5
    torch.testing.assert_close(found.movedim(1, -1)[inside], wanted.movedim(1, -1)[inside], rtol=0, atol=1e-4)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC", "tokens"])
@pytest.mark.parametrize("cells", [7, 8])
def test_a_prefix_of_disjoint_windows_commutes_with_quarter_turns(layout: str, cells: int) -> None:
    """Average pooling has no direction and no border: derived features are the exact ones, whatever the turn."""
    size = 4 * cells
    images = torch.randn(6, 3, size, size, generator=generator(), dtype=torch.float64)
    params = torch.tensor([[0.0], [90.0], [180.0], [270.0], [-90.0], [360.0]], dtype=torch.float64)
    turn = Rotation((0, 360))
    maps = torch.nn.functional.avg_pool2d(images, 4)
    wanted = torch.nn.functional.avg_pool2d(turn.on_images(images, params), 4)
    features = maps if layout == "NCHW" else maps.movedim(1, -1).contiguous()
    features = features.flatten(1, 2) if layout == "tokens" else features
    for form in ("cells", "interpolated"):
        found = turn.on_features(features, params, Grid((size, size), (cells, cells), layout), form=form)  # type: ignore[arg-type]
        found = found if layout == "NCHW" else found.view(6, cells, cells, 3).movedim(-1, 1)
        torch.testing.assert_close(found, wanted)


def test_images_of_differing_sizes_become_alike_and_keep_their_places() -> None:
    sizes = [(20, 30), (41, 17), (20, 30), (33, 33)]
    items = [Image.fromarray((255 * np.ones((*size, 3))).astype(np.uint8)) for size in sizes]
    pipeline = Pipeline.from_transform(v1.Compose([v1.RandomRotation(20), v1.RandomResizedCrop(16), v1.ToTensor()]))
    draw = pipeline.draw(4, 0)
    whole = pipeline.render(items, range(4), draw)
    assert whole.shape == (4, 3, 16, 16)
    places = pipeline.placement(draw, range(4), torch.tensor(sizes))
    for i, size in enumerate(sizes):
        assert torch.equal(pipeline.render([items[i]], [i], draw)[0], whole[i])
        torch.testing.assert_close(pipeline.placement(draw, [i], size).maps[0], places.maps[i])


CHAIN: list[Paired] = [
    ResizedCrop(20, (0.4, 1.0), antialias=False),
    Rotation((-30, 30), interpolation=BILINEAR),
    Affine((-10, 10), (0.1, 0.1), (0.8, 1.2), interpolation=BILINEAR),
    Perspective(0.3, 1.0),
]


def test_a_chain_of_steps_is_its_placement_and_one_view_is_derived_from_another() -> None:
    """A view that was cropped and then turned has corners that its placement would still find in the image."""
    size, pipeline = (24, 24), Pipeline.from_transform(v1.Compose(CHAIN))
    images, plain = coordinates(size).expand(30, 2, *size), torch.ones(30, 1, *size, dtype=torch.float64)
    draws = [pipeline.draw(30, seed) for seed in (0, 1)]
    moved, other = (pipeline.render(images, range(30), draw) for draw in draws)
    shown, visible = (pipeline.render(plain, range(30), draw)[:, 0] for draw in draws)
    source, target = (pipeline.placement(draw, range(30), size) for draw in draws)
    own = coordinates((20, 20))
    y, x = source.points(own[None, 0], own[None, 1])
    whole = shown > 0.999
    assert torch.equal(source.hidden(own[None, :1].expand(30, 1, 20, 20)[:, 0], own[None, 1]) & whole, whole & False)
    away = torch.maximum((moved[:, 0] - y).abs(), (moved[:, 1] - x).abs())[whole]
    assert away.median() < 1e-6
    assert away.max() < 1.1, "at a window's edge a bilinear kernel repeats its last pixel, at most once a step"
    grid, nothing = Grid((20, 20), (20, 20)), torch.full((2,), math.nan)
    taken = derive(shown[:, None], source, target, grid, nothing[:1])
    held = taken.isfinite() & (visible > 0.999)[:, None]
    assert held.double().mean() > 0.3
    assert taken[held].quantile(0.02) > 0.3, "no cell that holds nothing but fill is taken for one that shows more"
    derived = derive(moved, source, target, grid, nothing, "interpolated")
    inner, other_inner = (-torch.nn.functional.max_pool2d(-part[:, None], 5, 1, 2) for part in (shown, visible))
    told = derive(inner, source, target, grid, "zeros", "interpolated")
    told = ((told > 0.999) & (other_inner > 0.999))[:, 0]
    assert told.double().mean() > 0.05
    # Between two pixels a perspective is not quite linear.
    assert (derived - other).abs().amax(1)[told].max() < 0.02


def test_composition_is_undone_by_relative_to() -> None:
    sizes = torch.tensor([[20, 20]]).expand(25, 2)
    places = [paired.place(paired.sample(25, generator(i)), sizes)[0] for i, paired in enumerate(CHAIN)]
    for first in places:
        for second in places:
            torch.testing.assert_close(first.then(second).relative_to(first).maps, second.maps)


@pytest.mark.parametrize("augmentation", [p.values[0] for p in COORDINATES], ids=[str(p.id) for p in COORDINATES])
def test_the_same_decisions_give_the_same_result(augmentation: Any) -> None:
    params = augmentation.sample(8, generator(3))
    assert torch.equal(params, augmentation.sample(8, generator(3)))
    assert not torch.equal(params, augmentation.sample(8, generator(4))) or not augmentation.is_random
    images = torch.randn(8, 3, 16, 16, generator=generator())
    # Where a perspective's corners fall together, torchvision's own kernel gives NaN.
    once, again = (augmentation.on_images(images, params).nan_to_num() for _ in range(2))
    assert torch.equal(once, again)
    grid = Grid((16, 16), (16, 16))
    for form in ("cells", "interpolated"):
        moved = augmentation.on_features(images, params, grid, "replicate", form)
        alone = augmentation.on_features(images[3:4], params[3:4], grid, "replicate", form)
        assert torch.equal(moved[3:4], alone), "a sample's features do not depend on its batch"


@pytest.mark.parametrize("augmentation", [p.values[0] for p in COORDINATES], ids=[str(p.id) for p in COORDINATES])
def test_still_decisions_change_least(augmentation: Any) -> None:
    params = augmentation.still(3)
    placement, sizes = augmentation.place(params, torch.tensor([[24, 24]]).expand(3, 2))
    middle = sizes[:, :, None].double() / 2
    y, x = placement.points(middle[:, :1], middle[:, 1:])
    assert torch.allclose(torch.cat([y, x]), torch.tensor(12.0, dtype=torch.float64))
    if augmentation.is_random:
        assert bool((placement.maps[:, [0, 1], [1, 0]] == 0).all())


# How decisions are distributed: fixed seeds, bounds at five standard errors or more.


def test_resized_crops_are_distributed_as_torchvisions() -> None:
    size, n = (40, 60), 4000
    crop = ResizedCrop(16)
    corner, extent = crop.windows(crop.sample(n, generator()), torch.tensor([size]).expand(n, 2))
    assert bool((corner >= 0).all())
    assert bool((corner + extent <= torch.tensor(size)).all())
    image = torch.zeros(3, *size)
    torch.manual_seed(0)
    theirs = torch.tensor([v1.RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(n)])
    ours = torch.cat([corner, extent], 1).double()
    areas = ours[:, 2:].prod(1) / (size[0] * size[1])
    shapes = ours[:, 3] / ours[:, 2]
    assert areas.min() > 0.07
    assert areas.max() <= 1
    assert shapes.min() > 0.7
    assert shapes.max() < 1.43
    for column in range(4):
        a, b = ours[:, column].sort().values, theirs[:, column].double().sort().values
        error = theirs[:, column].double().std() / math.sqrt(n)
        assert abs(a.mean() - b.mean()) < 7 * error
        assert abs(a.std() - b.std()) < 7 * error
    their_areas = theirs[:, 2:].double().prod(1) / (size[0] * size[1])
    assert abs(areas.mean() - their_areas.mean()) < 0.025


@pytest.mark.parametrize(("size", "window"), [((10, 60), (10, 13)), ((60, 10), (13, 10)), ((8, 8), (8, 8))])
def test_resized_crops_that_never_fit_fall_back_to_the_middle(size: tuple[int, int], window: tuple[int, int]) -> None:
    crop = ResizedCrop(8, scale=(2.0, 2.0))
    corner, extent = crop.windows(crop.sample(5, generator()), torch.tensor([size]).expand(5, 2))
    assert extent.tolist() == [list(window)] * 5
    assert corner.tolist() == [[(size[0] - window[0]) // 2, (size[1] - window[1]) // 2]] * 5
    theirs = v1.RandomResizedCrop.get_params(torch.zeros(1, *size), [2.0, 2.0], [3 / 4, 4 / 3])
    assert list(theirs) == [*corner[0].tolist(), *window]


def uniform(values: Tensor, low: float, high: float) -> bool:
    """Kolmogorov's distance to the uniform distribution, below its 1 in 10,000 bound."""
    there = (values.double().sort().values - low) / (high - low)
    steps = torch.arange(1, len(values) + 1) / len(values)
    inside = bool((there >= 0).all()) and bool((there <= 1).all())
    return inside and float((there - steps).abs().max()) < 2.23 / math.sqrt(len(values))


def test_angles_shifts_scales_and_shears_are_uniform() -> None:
    assert uniform(Rotation((-20, 50)).sample(5000, generator())[:, 0], -20, 50)
    ranges = ((-30.0, 30.0), (-0.2, 0.2), (-0.1, 0.1), (0.5, 2.0), (-5.0, 5.0), (0.0, 9.0))
    affine = Affine(ranges[0], (0.2, 0.1), ranges[3], ranges[4], ranges[5])
    params = affine.sample(5000, generator())
    assert all(uniform(params[:, i], *limits) for i, limits in enumerate(ranges))
    assert params.T.corrcoef().fill_diagonal_(0).abs().max() < 0.07
    assert Rotation((45, 45)).sample(4, generator()).tolist() == [[45.0]] * 4
    assert not Rotation((45, 45)).is_random


def test_corners_of_perspectives_are_those_that_torchvision_draws() -> None:
    paired, n = Perspective(0.5, 0.3), 6000
    params = paired.sample(n, generator())
    assert params[:, 0].mean() == pytest.approx(0.3, abs=0.03)
    _, moved = paired.corners(params, torch.tensor([SIZE]).expand(n, 2))
    torch.manual_seed(0)
    theirs = torch.tensor([v1.RandomPerspective.get_params(SIZE[1], SIZE[0], 0.5)[1] for _ in range(n)])
    for corner in range(4):
        for axis in range(2):
            ours, wanted = (points[:, corner, axis].to(torch.int64) for points in (moved, theirs))
            counts, others = ours.bincount(minlength=30), wanted.bincount(minlength=30)
            assert counts.nonzero().tolist() == others.nonzero().tolist()
            assert (counts - others).abs().max() < 8 * math.sqrt(n / 6)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_blank_shows_the_fill_where_there_is_one(transform: Any) -> None:
    pipeline = Pipeline.from_transform(v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32), transform]))
    blank = pipeline.blank(pictures()[0])
    if isinstance(adopt(transform), ResizedCrop):
        assert blank is None
        return
    assert blank is not None
    fill = torch.tensor(transform.fill if transform.fill is not None else 0, dtype=torch.float32)
    assert torch.equal(blank, torch.zeros(1, 3, *SIZE) + fill.view(-1, 1, 1))


def test_what_grows_or_fills_otherwise_stays_on_images() -> None:
    for transform, why in (
        (v1.RandomRotation(30, expand=True), "its output grows with the angle"),
        (v2.RandomAffine(30, fill={tv_tensors.Image: 3, "others": 0}), "its fill differs between types"),
    ):
        (step,) = Pipeline.from_transform(transform).steps
        assert step.kind == "image-only"
        assert step.reason.startswith(why)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: ResizedCrop(0), r"ResizedCrop: size must be one number or \(height, width\), at least 1, got 0"),
        (lambda: ResizedCrop(8, scale=(0.5, 0.1)), r"ResizedCrop: scale must be \(low, high\) shares of the area"),
        (lambda: ResizedCrop(8, ratio=(0, 1)), r"ResizedCrop: ratio must be \(low, high\), above 0, got \(0, 1\)"),
        (lambda: Rotation((5, -5)), r"Rotation: degrees must be \(low, high\), got \(5, -5\)"),
        (lambda: Affine((0, 0), scale=(0, 1)), r"Affine: scale must be \(low, high\), above 0, got \(0, 1\)"),
        (lambda: Affine((0, 0), shear_x=(2, 1)), r"Affine: shear_x must be \(low, high\), got \(2, 1\)"),
        (lambda: Perspective(1.5), r"Perspective: distortion must be from 0 to 1, got 1.5"),
        (lambda: Perspective(p=-1), r"Perspective: p must be from 0 to 1, got -1"),
    ],
)
def test_wrong_parameters_are_named(make: Any, text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        make()
