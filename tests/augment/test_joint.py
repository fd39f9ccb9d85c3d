"""Targets move with their image: torchvision v2's own bits for the same decisions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils._pytree import tree_flatten
from torchvision import transforms as v1
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from hoarfrost.augment import Draw, Paired, Pipeline, Placement, check_repeatable, derive_targets
from hoarfrost.errors import ArgumentError, DataError

N, HEIGHT, WIDTH = 6, 24, 28

PAIRED: dict[str, Any] = {
    "flip": v2.RandomHorizontalFlip(),
    "vertical flip": v2.RandomVerticalFlip(),
    "crop": v2.RandomCrop((20, 30), padding=4, fill=9),
    "crop if needed": v2.RandomCrop(26, pad_if_needed=True),
    "whole crop": v2.RandomCrop((HEIGHT, WIDTH)),
    "resized crop": v2.RandomResizedCrop(18),
    "rotation": v2.RandomRotation(40, interpolation="bilinear"),
    "affine": v2.RandomAffine(20, (0.1, 0.2), (0.7, 1.3), (-5, 5, -5, 5)),
    "perspective": v2.RandomPerspective(0.4, p=0.7),
    "erasing": v2.RandomErasing(p=0.8),
}


def numbers(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def image(i: int, kind: str) -> Any:
    pixels = (numbers(i, 3, HEIGHT, WIDTH) * 255).to(torch.uint8)
    if kind == "pil":
        return functional.to_pil_image(pixels)
    return tv_tensors.Image(pixels) if kind == "image" else pixels


def other(i: int) -> dict[str, Any]:
    corners = numbers(100 + i, 4, 2) * torch.tensor([WIDTH, HEIGHT])
    boxes = torch.cat([torch.minimum(corners[:2], corners[2:]), torch.maximum(corners[:2], corners[2:])], 1)
    made: dict[str, Any] = {
        "masks": tv_tensors.Mask((numbers(200 + i, 2, HEIGHT, WIDTH) * 5).to(torch.uint8)),
        "boxes": [tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(HEIGHT, WIDTH))],
        "labels": torch.tensor([i, i + 1]),
        "name": f"image {i}",
    }
    if hasattr(tv_tensors, "KeyPoints"):
        made["points"] = tv_tensors.KeyPoints(corners, canvas_size=(HEIGHT, WIDTH))
    return made


def alike(one: Any, other: Any) -> bool:
    (flat, spec), (others, other_spec) = tree_flatten(one), tree_flatten(other)
    if spec != other_spec:
        return False
    for a, b in zip(flat, others, strict=True):
        if type(a) is not type(b) or getattr(a, "canvas_size", None) != getattr(b, "canvas_size", None):
            return False
        same = torch.equal(a, b) if isinstance(a, torch.Tensor) else np.array_equal(np.asarray(a), np.asarray(b))
        if not same:
            return False
    return True


def v2s_own(transform: Any, monkeypatch: pytest.MonkeyPatch, params: dict[str, Any] | None, *inputs: Any) -> Any:
    """What the transform itself gives when it draws these params."""
    monkeypatch.setattr(transform, "make_params", lambda flat: params)
    if hasattr(transform, "p"):
        monkeypatch.setattr(transform, "p", 1.0 if params is not None else 0.0)
    return transform(*inputs)


@pytest.mark.filterwarnings("ignore:RandomErasing")
@pytest.mark.parametrize("kind", ["pil", "image", "tensor"])
@pytest.mark.parametrize("name", PAIRED)
def test_masks_boxes_and_points_have_v2s_bits(name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "erasing" and kind == "pil":
        pytest.skip("torchvision erases tensors only")
    transform = PAIRED[name]
    pipeline = Pipeline.from_transform(transform)
    draw = pipeline.draw(N, 0)
    items, others = [image(i, kind) for i in range(N)], [other(i) for i in range(N)]
    images, moved = pipeline.render_with(items, others, range(N), draw)
    assert torch.equal(images, pipeline.render(items, range(N), draw)), "the image is the one of `render`"
    paired, decisions = pipeline.steps[0].paired, draw.decisions[0]
    assert paired is not None
    assert decisions is not None
    changed = 0
    for i in range(N):
        params = paired.v2_params(decisions[i], (HEIGHT, WIDTH))
        with monkeypatch.context() as patch:
            own, own_other = v2s_own(transform, patch, params, items[i], others[i])
        pixels = own if kind != "pil" else v1.functional.to_tensor(own)
        assert torch.equal(images[i], torch.as_tensor(pixels).as_subclass(torch.Tensor))
        assert alike(moved[i], own_other)
        changed += not alike(moved[i], others[i])
    assert changed or name in ("erasing", "whole crop")


@pytest.mark.parametrize("name", ["crop", "affine", "perspective"])
def test_our_params_are_of_the_kind_that_v2_draws(name: str) -> None:
    transform = PAIRED[name]
    paired = Pipeline.from_transform(transform).steps[0].paired
    assert paired is not None
    row = paired.sample(20, torch.Generator().manual_seed(0))
    ours = [paired.v2_params(each, (HEIGHT, WIDTH)) for each in row]
    assert {tuple(each) for each in ours if each} == {tuple(transform.make_params([image(0, "tensor")]))}


def joint() -> v2.Compose:
    return v2.Compose(
        [
            v2.ToImage(),
            v2.RandomIoUCrop(),
            v2.RandomHorizontalFlip(),
            v2.RandomPhotometricDistort(),
            v2.SanitizeBoundingBoxes(),
            v2.Resize((20, 20)),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )


def detection(i: int) -> dict[str, Any]:
    whole = other(i)
    whole.pop("points", None)
    return {**whole, "boxes": whole["boxes"][0]}


def test_a_pipeline_renders_images_with_targets_and_repeats() -> None:
    pipeline = Pipeline.from_transform(joint())
    items, others = [image(i, "pil") for i in range(N)], [detection(i) for i in range(N)]
    draws = [pipeline.draw(N, seed) for seed in (0, 1)]
    images, moved = pipeline.render_with(items, others, range(N), draws[0])
    again, back = pipeline.render_with(items[::-1], others[::-1], range(N - 1, -1, -1), draws[0])
    assert torch.equal(again.flip(0), images)
    assert all(alike(a, b) for a, b in zip(back[::-1], moved, strict=True))
    assert any(
        not alike(a, b) for a, b in zip(moved, pipeline.render_with(items, others, range(N), draws[1])[1], strict=True)
    )
    assert all(each["masks"].shape[-2:] == (20, 20) and each["name"].startswith("image") for each in moved)
    check_repeatable(pipeline, items, range(N), draws[0], others)


def test_a_whole_sample_is_moved_as_the_pair_is() -> None:
    pipeline = Pipeline.from_transform(joint())
    items, others = [image(i, "pil") for i in range(N)], [detection(i) for i in range(N)]
    draw = pipeline.draw(N, 0)
    images, moved = pipeline.render_with(items, others, range(N), draw)
    samples = pipeline.render_samples(
        [{"image": item, **beside} for item, beside in zip(items, others, strict=True)], range(N), draw
    )
    for i, sample in enumerate(samples):
        assert torch.equal(sample.pop("image"), images[i])
        assert alike(sample, moved[i])


def test_pictures_are_masks_where_it_is_said() -> None:
    pipeline = Pipeline.from_transform(v2.Compose([v2.RandomRotation(40, interpolation="bilinear"), v2.ToImage()]))
    masks = [Image.fromarray((numbers(i, HEIGHT, WIDTH).numpy() > 0.5).astype(np.uint8) * 20) for i in range(N)]
    items, draw = [image(i, "pil") for i in range(N)], pipeline.draw(N, 0)
    blended = pipeline.render_with(items, masks, range(N), draw)[1]
    assert all(len(mask.unique()) > 2 for mask in blended), "v2 itself takes a picture for an image"
    moved = pipeline.render_with(items, masks, range(N), draw, masks=True)[1]
    assert all(type(mask) is tv_tensors.Mask and set(mask.unique().tolist()) <= {0, 20} for mask in moved)


@pytest.mark.parametrize("beside", [3, "cat", torch.zeros(3, HEIGHT, WIDTH), {"a": [torch.ones(2)]}], ids=str)
def test_what_moves_with_no_image_passes_through(beside: Any) -> None:
    pipeline = Pipeline.from_transform(v2.Compose([v1.RandomHorizontalFlip(), v2.RandomResizedCrop(8)]))
    items, draw = [image(i, "tensor") for i in range(N)], pipeline.draw(N, 0)
    images, others = pipeline.render_with(items, [beside] * N, range(N), draw)
    assert torch.equal(images, pipeline.render(items, range(N), draw))
    assert all(each is beside for each in others)


def reference_flip(picture: Any, target: Any) -> tuple[Any, Any]:
    if torch.rand(1) < 0.5:
        return functional.horizontal_flip(picture), functional.horizontal_flip(target)
    return picture, target


def test_a_function_of_image_and_target_is_called_with_both_under_its_seed() -> None:
    pipeline = Pipeline.from_transform(reference_flip)
    items, masks = [image(i, "tensor") for i in range(N)], [image(i, "tensor") for i in range(N)]
    images, moved = pipeline.render_with(items, masks, range(N), pipeline.draw(N, 0))
    assert torch.equal(images, torch.stack(moved))
    assert 0 < sum(torch.equal(one, two) for one, two in zip(images, items, strict=True)) < N
    with pytest.raises(DataError, match="called with 2 things, an image and what belongs to it, and gave int"):
        Pipeline.from_transform(lambda picture, target: 3).render_with(items, masks, range(N), pipeline.draw(N, 0))


@pytest.mark.parametrize(
    "alone", [v1.RandomHorizontalFlip(1.0), v1.Resize(8), v1.RandAugment()], ids=lambda step: type(step).__name__
)
def test_a_step_that_would_leave_targets_behind_is_refused(alone: Any) -> None:
    pipeline = Pipeline.from_transform(alone)
    items, others = [image(i, "pil") for i in range(N)], [other(i) for i in range(N)]
    with pytest.raises(
        ArgumentError, match=r"moves images alone, and a .* has to move with its image: take torchvision"
    ):
        pipeline.render_with(items, others, range(N), pipeline.draw(N, 0))


def test_a_paired_augmentation_of_ones_own_says_how_targets_move() -> None:
    class Slide(Paired):
        def sample(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
            return torch.randint(0, 5, (n, 1), generator=generator)

        def on_item(self, item: Any, params: torch.Tensor) -> Any:
            return functional.affine(item, 0.0, [int(params[0]), 0], 1.0, [0.0, 0.0])

        def place(self, params: torch.Tensor, sizes: torch.Tensor) -> tuple[Placement, torch.Tensor]:
            return Placement.shifted(torch.cat([torch.zeros_like(params), -params], dim=1)), sizes

        def on_target(self, target: Any, params: torch.Tensor, size: tuple[int, int]) -> Any:
            return self.on_item(target, params)

    pipeline = Pipeline.from_transform(Slide())
    items = [image(i, "tensor") for i in range(N)]
    images, moved = pipeline.render_with(
        items, [tv_tensors.Mask(item) for item in items], range(N), pipeline.draw(N, 0)
    )
    assert all(torch.equal(one, two.as_subclass(torch.Tensor)) for one, two in zip(images, moved, strict=True))


def test_albumentations_moves_what_it_has_names_for() -> None:
    library = pytest.importorskip("albumentations")
    pipeline = Pipeline.from_transform(library.Compose([library.HorizontalFlip(p=0.5)]))
    items = [np.asarray(image(i, "pil")) for i in range(N)]
    others = [{"mask": item[..., 0].copy(), "name": i} for i, item in enumerate(items)]
    images, moved = pipeline.render_with(items, others, range(N), pipeline.draw(N, 0))
    for i in range(N):
        assert np.array_equal((images[i, 0] * 255).round().numpy(), moved[i]["mask"])
        assert moved[i]["name"] == i
    assert any(not np.array_equal(one["mask"], two["mask"]) for one, two in zip(moved, others, strict=True))


# Targets derived from those of another view


def whole_numbers(i: int, box_format: str = "XYXY") -> dict[str, Any]:
    made = other(i)
    boxes = made["boxes"][0].as_subclass(torch.Tensor).round()
    if box_format == "XYWH":
        boxes = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
    made["boxes"] = [tv_tensors.BoundingBoxes(boxes, format=box_format, canvas_size=(HEIGHT, WIDTH))]
    if "points" in made:
        inside = (made["points"].as_subclass(torch.Tensor) * 4).round().div(4)
        inside = torch.minimum(inside, torch.tensor([WIDTH - 1.0, HEIGHT - 1.0]))
        made["points"] = tv_tensors.KeyPoints(inside, canvas_size=(HEIGHT, WIDTH))
    return made


def shifted(draw: Draw, position: int, offsets: torch.Tensor) -> Draw:
    decisions = list(draw.decisions)
    decisions[position] = offsets
    return Draw(draw.seed, draw.samples, tuple(decisions))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1 << 30), st.booleans(), st.sampled_from(["XYXY", "XYWH"]))
def test_derived_targets_are_those_of_the_other_draw(seed: int, still: bool, box_format: str) -> None:
    transform = v2.Compose(
        [
            v2.RandomCrop((HEIGHT, WIDTH), padding=3, fill=7),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(0.2),
            v2.RandomVerticalFlip(),
        ]
    )
    pipeline = Pipeline.from_transform(transform)
    items, others = [image(i, "image") for i in range(N)], [whole_numbers(i, box_format) for i in range(N)]
    source = pipeline.draw(N, seed)
    source = shifted(source, 0, pipeline.still(N).decisions[0]) if still else source  # type: ignore[arg-type]
    target = pipeline.draw(N, seed + 1)
    stored = pipeline.render_with(items, others, range(N), source)[1]
    wanted = pipeline.render_with(items, others, range(N), target)[1]
    derived = derive_targets(pipeline, stored, source, target, range(N), (HEIGHT, WIDTH))
    if still:
        assert all(each is not None for each in derived)
    for got, right in zip(derived, wanted, strict=True):
        assert got is None or alike(got, right)


def test_flips_alone_are_always_derived_and_fractions_never() -> None:
    pipeline = Pipeline.from_transform(v2.Compose([v2.Resize((20, 20)), v2.RandomHorizontalFlip()]))
    items, others = [image(i, "image") for i in range(N)], [{"m": other(i)["masks"], "i": i} for i in range(N)]
    draws = [pipeline.draw(N, seed) for seed in (0, 1)]
    views = [pipeline.render_with(items, others, range(N), draw)[1] for draw in draws]
    derived = derive_targets(pipeline, views[0], *draws, range(N), (HEIGHT, WIDTH))
    assert all(alike(got, right) for got, right in zip(derived, views[1], strict=True))
    boxes = [other(i)["boxes"] for i in range(N)]
    assert derive_targets(pipeline, boxes, *draws, range(N), (HEIGHT, WIDTH)) == [None] * N
    assert derive_targets(pipeline, list(range(N)), *draws, range(N), (HEIGHT, WIDTH)) == list(range(N))


@pytest.mark.parametrize(
    "step",
    [
        v2.RandomResizedCrop(8),
        v2.RandAugment(),
        v2.SanitizeBoundingBoxes(),
        lambda both: both,
        v1.RandomHorizontalFlip(),
    ],
    ids=["resized crop", "rand augment", "sanitized", "function", "v1"],
)
def test_what_may_move_otherwise_is_not_derived(step: Any) -> None:
    pipeline = Pipeline.from_transform(v2.Compose([v2.RandomHorizontalFlip(), step]))
    others = [whole_numbers(i) for i in range(N)]
    draws = [pipeline.draw(N, seed) for seed in (0, 1)]
    assert derive_targets(pipeline, others, *draws, range(N), (HEIGHT, WIDTH)) == [None] * N


def test_what_a_function_may_have_moved_is_not_derived() -> None:
    """Plain tensors pass through v2's own transforms, and move in a function of (image, target)."""
    pipeline = Pipeline.from_transform(reference_flip)
    masks, draws = [image(i, "tensor") for i in range(N)], [pipeline.draw(N, seed) for seed in (0, 1)]
    moved = pipeline.render_with(masks, masks, range(N), draws[0])[1]
    assert derive_targets(pipeline, moved, *draws, range(N), (HEIGHT, WIDTH)) == [None] * N


def test_pictures_among_the_targets_are_not_derived() -> None:
    """v2 takes them for images and moves them."""
    pipeline = Pipeline.from_transform(v2.RandomHorizontalFlip())
    draws = [pipeline.draw(N, seed) for seed in (0, 1)]
    others = [{"depth": image(i, "pil"), "mask": tv_tensors.Mask(torch.zeros(HEIGHT, WIDTH))} for i in range(N)]
    assert derive_targets(pipeline, others, *draws, range(N), (HEIGHT, WIDTH)) == [None] * N


def test_a_whole_sample_is_given_to_albumentations_by_its_names() -> None:
    library = pytest.importorskip("albumentations")
    pipeline = Pipeline.from_transform(library.HorizontalFlip(p=0.5))
    pixels = [functional.to_pil_image(image(i, "tensor")) for i in range(N)]
    given = [
        {"image": np.asarray(one), "mask": np.asarray(one)[..., 0].copy(), "id": i} for i, one in enumerate(pixels)
    ]
    made = pipeline.render_samples(given, range(N), pipeline.draw(N, 0))
    assert all(np.array_equal(one["image"][..., 0], one["mask"]) for one in made)
    assert [one["id"] for one in made] == list(range(N))
    assert 0 < sum(np.array_equal(one["mask"], was["mask"]) for one, was in zip(made, given, strict=True)) < N
