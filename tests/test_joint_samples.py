"""What moves with its image, samples transformed as a whole, several images, several views: through the Freezer.

The prefix is pointwise, so that features show which rendition they are of: masks must fit them cell by cell.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision import tv_tensors
from torchvision.datasets import VisionDataset
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from hoarfrost import Freezer, Views
from hoarfrost.augment import deterministic
from hoarfrost.errors import ArgumentError, DatasetError, UnstableDataError, UnstableTransformError
from hoarfrost.samples import EXAMPLES
from hoarfrost.samples.compact import compacted, nbytes_of, opened

N, SIZE = 96, 16


def mask_of(i: int) -> Tensor:
    """Something in the middle, [H, W], so that what a shift brings in is nothing."""
    mask = torch.zeros(SIZE, SIZE, dtype=torch.uint8)
    mask[4:12, 4:12] = torch.randint(0, 2, (8, 8), generator=torch.Generator().manual_seed(i))
    return mask


MASKS = torch.stack([mask_of(i) for i in range(N)])
IMAGES = MASKS[:, None].float() * (1 + torch.arange(N)[:, None, None, None] / N)
"""[N, 1, H, W]: a mask, in a brightness that says whose it is."""


class Items(Dataset[Any]):
    """Items of any make, and a transform that is called in any way."""

    def __init__(self, make: Callable[..., Any], **own: Any) -> None:
        self.make, self.reads = make, 0
        for name, value in own.items():
            setattr(self, name, value)

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> Any:
        self.reads += 1
        return self.make(self, index)


class Net(nn.Module):
    """A pointwise front, and a head that says something of each pixel."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.front = nn.Conv2d(1, 2, 1, bias=False)
        self.back = nn.Sequential(nn.ReLU(), nn.Conv2d(2, 2, 3, padding=1))
        with torch.no_grad():
            self.front.weight.copy_(torch.tensor([2.0, -1.0]).reshape(2, 1, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        out: Tensor = self.back(self.front(pixels))
        return out


def freezer_of(data: Any, model: nn.Module | None = None, **options: Any) -> Freezer:
    given = {"batch_size": 20, "epochs": 4, "policy": {0: "front"}, "mode": "cache", "ladder": "exact", **options}
    return Freezer(model or Net(), data, **given)


FLIP = v2.RandomHorizontalFlip()
MOVING = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomCrop(SIZE, padding=3), v2.RandomVerticalFlip()])


def with_mask(_: Any, i: int) -> Any:
    return IMAGES[i], tv_tensors.Mask(MASKS[i])


def flipped(image: Any, mask: Any) -> Any:
    """As the reference scripts of torchvision do it, on whatever comes."""
    if torch.rand(1) < 0.5:
        return image.flip(-1), mask.flip(-1)
    return image, mask


SEGMENTATIONS: dict[str, tuple[Callable[[], Dataset[Any]], Any]] = {
    "a typed mask": (lambda: Items(with_mask), MOVING),
    "the data set's joint transform": (
        lambda: Items(lambda me, i: me.transforms(IMAGES[i], tv_tensors.Mask(MASKS[i])), transforms=MOVING),
        None,
    ),
    "a function of two": (lambda: Items(lambda _, i: (IMAGES[i], MASKS[i])), flipped),
    "the data set's function of two": (
        lambda: Items(lambda me, i: me.transforms(IMAGES[i], MASKS[i]), transforms=flipped),
        None,
    ),
    "a subset": (
        lambda: Subset(Items(lambda me, i: me.transforms(*with_mask(me, i)), transforms=MOVING), range(80)),
        None,
    ),
}

STORED: dict[str, dict[str, Any]] = {
    "two views": {"views": 2},
    "moved to fresh renditions": {"views": Views(count=2, derived=0.7)},
    "all in feature space": {"views": Views(count=1, derived=1.0)},
    "as they are shown": {"views": Views(count=2, record="shown")},
    "drawn anew": {"views": Views(count=2, refresh_every=1)},
    "residuals": {"views": Views(count=3, residual=True)},
    "recomputed": {"mode": "recompute"},
    "by workers": {"workers": 2},
}


ALL_WAYS = {"a typed mask", "a function of two", "a transform that gives two", "two images, each called for itself"}
"""Cases that are tried with each way of storing; the others differ from these in how they are taken over."""


def ways(cases: Any) -> list[Any]:
    told = [(case, stored) for case in cases for stored in STORED]
    return [one for one in told if one[0] in ALL_WAYS or one[1] in ("two views", "recomputed")]


def fits(features: Tensor, masks: Tensor) -> bool:
    return torch.equal((features[:, 0] > 0).to(masks.dtype), masks.reshape(-1, SIZE, SIZE))


@pytest.mark.filterwarnings("ignore:hoarfrost. features at cut")
@pytest.mark.parametrize(("case", "stored"), ways(SEGMENTATIONS))
def test_masks_are_those_of_the_rendition_whose_features_they_come_with(case: str, stored: str) -> None:
    make, transform = SEGMENTATIONS[case]
    with freezer_of(make(), transform=transform, **STORED[stored]) as freezer:
        shown = set()
        for epoch in range(4):
            for features, masks in freezer.batches(epoch):
                assert features.shape[1:] == (2, SIZE, SIZE)
                assert masks.dtype == torch.uint8
                assert type(masks) is Tensor
                assert fits(features, masks)
                shown |= {mask.numpy().tobytes() for mask in masks}
            freezer.end_epoch()
        if "function" not in case or stored != "all in feature space":
            assert len(shown) > 1.3 * len(freezer._data.samples), "they move"


@pytest.mark.parametrize("case", SEGMENTATIONS)
def test_live_batches_hold_masks_of_their_images(case: str) -> None:
    make, transform = SEGMENTATIONS[case]
    with freezer_of(make(), transform=transform, policy="none") as freezer:
        for images, masks in freezer.batches(0):
            assert fits(images, masks)
        kept = freezer._data.samples.carried._rests.values()
        assert sum(map(len, kept)) <= EXAMPLES, "nobody will ask for these masks again"


class Seeded(Dataset[Any]):
    """What a data set gives, under the seeds that the Freezer has for its samples."""

    def __init__(self, seeds: Tensor) -> None:
        self.seeds = seeds

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> Any:
        torch.manual_seed(int(self.seeds[index]))
        return flipped(IMAGES[index], MASKS[index])


def test_live_batches_are_those_of_torch_for_the_same_draws() -> None:
    make, transform = SEGMENTATIONS["a function of two"]
    with freezer_of(make(), transform=transform, policy="none") as freezer:
        (seeds,) = freezer._data.renditions.live(0).decisions
        assert seeds is not None
        order = freezer._data.order.shuffled(0).tolist()
        theirs = DataLoader(Seeded(seeds[:, 0]), batch_sampler=[order[n : n + 20] for n in range(0, N, 20)])
        for ours, wanted in zip(freezer.batches(0), theirs, strict=True):
            assert all(torch.equal(one, other) for one, other in zip(ours, wanted, strict=True))


def test_nothing_is_read_or_rendered_behind_the_build() -> None:
    data = Items(with_mask)
    with freezer_of(data, transform=FLIP, views=Views(count=2, derived=0.5)) as freezer:
        next(freezer.batches(0))
        data.reads = 0
        for epoch in range(3):
            for features, masks in freezer.batches(epoch):
                assert fits(features, masks)
        assert data.reads == 0, "flips of masks are derived too"


def test_masks_of_a_cache_that_another_process_built_are_rendered_again(tmp_path: Any) -> None:
    with freezer_of(Items(with_mask), transform=MOVING, cache_dir=tmp_path, settle="last") as freezer:
        batches = [batch for epoch in range(2) for batch in freezer.batches(epoch)]
    data = Items(with_mask)
    with freezer_of(data, transform=MOVING, cache_dir=tmp_path, settle="last") as freezer:
        again = [batch for epoch in range(2) for batch in freezer.batches(epoch)]
        assert freezer.cache is not None
    for (features, masks), (others, theirs) in zip(batches, again, strict=True):
        assert torch.equal(features, others)
        assert torch.equal(masks, theirs)


class Vision(VisionDataset):
    """As torchvision's own segmentation sets: pictures, and pictures for masks."""

    def __init__(self, **own: Any) -> None:
        super().__init__("", **own)

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> Any:
        image = Image.fromarray((MASKS[index] * 200).numpy())
        mask = Image.fromarray(MASKS[index].numpy())
        return (image, mask) if self.transforms is None else self.transforms(image, mask)


def pictures(image: Any, mask: Any) -> Any:
    if torch.rand(1) < 0.5:
        image, mask = functional.horizontal_flip(image), functional.horizontal_flip(mask)
    return functional.to_dtype(functional.to_image(image), torch.float32, scale=True), functional.pil_to_tensor(mask)


def test_the_joint_transform_of_a_vision_data_set_is_taken_over_and_given_back() -> None:
    data = Vision(transforms=pictures)
    with freezer_of(data) as freezer:
        for features, masks in freezer.batches(0):
            assert fits(features, masks)
        assert any("the transform takes 0 and 1 together" in line for line in freezer.describe())
        assert any("bytes a sample and rendition" in line for line in freezer.describe())
    assert data.transforms is pictures


def test_a_joint_transform_that_moves_nothing_but_the_image_leaves_a_pair() -> None:
    data = Items(lambda me, i: me.transforms(IMAGES[i], i % 3), transforms=FLIP)
    with freezer_of(data) as freezer:
        assert freezer._data.samples.form.pair
        for features, targets in freezer.batches(0):
            numbers = ((features[:, 0].amax((1, 2)) / 2 - 1) * N).round().long()
            assert torch.equal(numbers % 3, targets)


def detection(_: Any, i: int) -> Any:
    rows, columns = MASKS[i].nonzero().unbind(1)
    box = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])[None]
    target = {
        "boxes": tv_tensors.BoundingBoxes(box, format="XYXY", canvas_size=(SIZE, SIZE)),
        "masks": tv_tensors.Mask(MASKS[i][None]),
        "labels": torch.tensor([i]),
        "name": f"number {i}",
    }
    return tv_tensors.Image(IMAGES[i]), target


def listed(items: list[Any]) -> Any:
    return torch.stack([image for image, _ in items]), [target for _, target in items]


@pytest.mark.parametrize("views", [Views(2), Views(1, derived=1.0)], ids=["stored", "derived"])
def test_boxes_move_with_their_image(views: Views) -> None:
    with freezer_of(Items(detection), transform=MOVING, collate_fn=listed, views=views) as freezer:
        for epoch in range(2):
            for features, targets in freezer.batches(epoch):
                for each, target in zip(features, targets, strict=True):
                    assert fits(each[None], target["masks"])
                    rows, columns = (each[0] > 0).nonzero().unbind(1)
                    box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                    assert target["boxes"].tolist() == [[int(side) for side in box]]
                    assert target["name"] == f"number {int(target['labels'])}"


# The whole sample


def sample(_: Any, i: int) -> Any:
    return {"pixels": IMAGES[i], "mask": tv_tensors.Mask(MASKS[i]), "id": i}


def of_a_sample(item: Any) -> Any:
    pixels, mask = flipped(item["pixels"], item["mask"])
    return {**item, "pixels": pixels, "mask": mask, "seen": 1}


WHOLE: dict[str, tuple[Callable[[], Dataset[Any]], Any]] = {
    "v2 on a mapping": (
        lambda: Items(
            lambda me, i: me.transform({**sample(me, i), "pixels": tv_tensors.Image(IMAGES[i])}), transform=MOVING
        ),
        None,
    ),
    "a function of a mapping": (
        lambda: Items(lambda me, i: me.transform(sample(me, i)), transform=of_a_sample),
        None,
    ),
    "a function of a mapping, handed over": (lambda: Items(sample), of_a_sample),
    "types in a mapping": (lambda: Items(sample), MOVING),
}


@pytest.mark.parametrize("mode", ["cache", "recompute"])
@pytest.mark.parametrize("case", WHOLE)
def test_a_transform_of_the_whole_sample_is_taken_over(case: str, mode: str) -> None:
    make, transform = WHOLE[case]
    with freezer_of(make(), transform=transform, mode=mode) as freezer:
        for epoch in range(2):
            for batch in freezer.batches(epoch):
                assert fits(batch["pixels"], batch["mask"])
                assert torch.equal(batch["mask"].sum((1, 2)), MASKS[batch["id"]].sum((1, 2)))


def test_what_a_sample_is_after_its_transform_is_what_batches_hold() -> None:
    make, _ = WHOLE["a function of a mapping"]
    with freezer_of(make()) as freezer:
        assert all(batch["seen"].tolist() == [1] * len(batch["seen"]) for batch in freezer.batches(0))


@pytest.mark.parametrize("own", [True, False], ids=["the data set's", "handed over"])
def test_albumentations_is_called_by_its_names(own: bool) -> None:
    library = pytest.importorskip("albumentations")
    transform = library.Compose([library.HorizontalFlip(p=0.5), library.RandomBrightnessContrast(p=0.2)])

    def parts(i: int) -> Any:
        return {"image": (MASKS[i] * 200).numpy()[..., None], "mask": MASKS[i].numpy()}

    def make(me: Any, i: int) -> Any:
        given = me.transform(**parts(i)) if own else parts(i)
        return {"image": given["image"], "mask": given["mask"], "id": i}

    class Named(Net):
        def forward(self, image: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(image.permute(0, 3, 1, 2).float() if image.shape[-1] == 1 else image)

    data = Items(make, **({"transform": transform} if own else {}))
    with freezer_of(data, Named(), transform=None if own else transform) as freezer:
        shown = set()
        for epoch in range(2):
            for batch in freezer.batches(epoch):
                assert torch.equal((batch["image"][:, 0] > 200).to(torch.uint8), batch["mask"])
                shown |= {mask.numpy().tobytes() for mask in batch["mask"]}
        assert len(shown) > 1.3 * N


def test_a_transform_that_counts_its_calls_is_refused() -> None:
    calls = iter(range(10**6))

    def counting(image: Any, mask: Any) -> Any:
        return (image.flip(-1), mask.flip(-1)) if next(calls) % 3 else (image, mask)

    with pytest.raises(UnstableTransformError, match="counting, gave two images for sample 0 under one draw"):
        freezer_of(Items(with_mask), transform=counting)


def test_a_random_state_of_its_own_is_seeded() -> None:
    class Own:
        def __init__(self) -> None:
            self.generator = np.random.default_rng(0)

        def __call__(self, image: Any, mask: Any) -> Any:
            return (image.flip(-1), mask.flip(-1)) if self.generator.random() < 0.5 else (image, mask)

    runs = []
    for _ in range(2):
        with freezer_of(Items(with_mask), transform=Own()) as freezer:
            runs.append([batch for epoch in range(2) for batch in freezer.batches(epoch)])
            assert any("it drew random numbers when it was tried" in line for line in freezer.describe())
    for (features, masks), (others, theirs) in zip(*runs, strict=True):
        assert fits(features, masks)
        assert torch.equal(features, others)
        assert torch.equal(masks, theirs)


@pytest.mark.parametrize(
    ("data", "transform"),
    [
        (lambda: Items(lambda _, i: (IMAGES[i], MASKS[i].long())), MOVING),
        (lambda: Items(lambda me, i: (me.transform(IMAGES[i]), MASKS[i].long()), transform=MOVING), None),
        (lambda: Items(lambda me, i: (me.transform(IMAGES[i]), tv_tensors.Mask(MASKS[i])), transform=MOVING), None),
    ],
    ids=["handed over", "the data set's", "typed, and the image alone"],
)
def test_a_mask_that_would_stay_behind_is_told(data: Callable[[], Dataset[Any]], transform: Any) -> None:
    with pytest.raises(DatasetError, match=r"not the \w+ at 1, which is of its size: a mask must move with its image"):
        freezer_of(data(), transform=transform)


def test_colours_may_change_beside_a_mask() -> None:
    data = Items(lambda _, i: (IMAGES[i], MASKS[i]))
    with freezer_of(data, transform=v2.ColorJitter(0.1)) as freezer:
        for features, masks in freezer.batches(0):
            assert fits(features, masks)


def test_a_data_set_that_works_on_after_its_transform_is_still_refused() -> None:
    data = Items(lambda me, i: (2 * me.transform(IMAGES[i]) - 1, i), transform=FLIP)
    with pytest.raises(DatasetError, match="has a transform of its own and works on what comes of it"):
        freezer_of(data)
    assert data.transform is FLIP  # type: ignore[attr-defined]


# Several images


class Both(nn.Module):
    """Two images in one call."""

    def __init__(self, again: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.again = again
        self.front = nn.Conv2d(1 if again else 2, 2, 1, bias=False)
        self.back = nn.Conv2d(3 if again else 2, 2, 3, padding=1)
        with torch.no_grad():
            self.front.weight.fill_(2.0)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        front = self.front(left if self.again else torch.cat([left, right], 1))
        out: Tensor = self.back(torch.cat([front, right], 1) if self.again else front)
        return out


def two(_: Any, i: int) -> Any:
    return IMAGES[i], IMAGES[i] * 3, i


def test_two_images_of_one_call_are_rendered_by_one_draw_and_not_kept() -> None:
    with freezer_of(Items(two), Both(again=False), transform=MOVING, input=(0, 1)) as freezer:
        for features, rights, numbers in freezer.batches(0):
            assert rights.dim() == 1, "the second image is in the features"
            unmoved = 8 * IMAGES[numbers]
            torch.testing.assert_close(features[:, 0].sum((1, 2)), unmoved.sum((1, 2, 3)))
            assert (features[:, 0] > 0).sum() == (unmoved > 0).sum(), "they lie on one another"
            assert freezer(features, rights).shape == (len(numbers), 2, SIZE, SIZE)
        assert nbytes_of(freezer._data.samples.carried.items(torch.arange(N))) < 16 * N


def test_an_image_that_the_suffix_needs_again_is_that_of_the_rendition() -> None:
    options = {"input": (0, 1), "max_tensors": 2, "transform": MOVING}
    with freezer_of(Items(two), Both(again=True), **options) as freezer:
        for epoch in range(2):
            for features, rights, _ in freezer.batches(epoch):
                torch.testing.assert_close(features[0][:, :1] * 1.5, rights)
                assert torch.isfinite(freezer(features, rights)).all()


# Several views


class TwoViews:
    """As self-supervised learning has it."""

    def __init__(self, transform: Any) -> None:
        self.transform = transform

    def __call__(self, image: Any) -> list[Any]:
        return [self.transform(image), self.transform(image)]


def drawn_twice(me: Any, i: int) -> Any:
    return (me.transform(IMAGES[i]), me.transform(IMAGES[i])), i


def drawn_twice_flat(me: Any, i: int) -> Any:
    return me.transform(IMAGES[i]), me.transform(IMAGES[i]), i


def drawn_twice_by_name(_: Any, i: int) -> Any:
    return {"one": IMAGES[i], "other": IMAGES[i], "id": i}


VIEWS: dict[str, tuple[Callable[[], Dataset[Any]], dict[str, Any], Callable[[Any], Any]]] = {
    "a transform that gives two": (
        lambda: Items(lambda _, i: (IMAGES[i], i)),
        {"transform": TwoViews(MOVING)},
        lambda batch: (*batch[0], batch[1]),
    ),
    "the data set's transform gives two": (
        lambda: Items(lambda me, i: (me.transform(IMAGES[i]), i), transform=TwoViews(MOVING)),
        {},
        lambda batch: (*batch[0], batch[1]),
    ),
    "the data set calls twice": (
        lambda: Items(drawn_twice, transform=MOVING),
        {},
        lambda batch: (*batch[0], batch[1]),
    ),
    "the data set calls twice, flat": (
        lambda: Items(drawn_twice_flat, transform=MOVING),
        {},
        lambda batch: tuple(batch),
    ),
    "two images, each called for itself": (
        lambda: Items(lambda _, i: (IMAGES[i], IMAGES[i], i)),
        {"transform": MOVING, "input": ((0,), (1,))},
        lambda batch: tuple(batch),
    ),
    "by name": (
        lambda: Items(drawn_twice_by_name),
        {"transform": MOVING, "input": (("one",), ("other",))},
        lambda batch: (batch["one"], batch["other"], batch["id"]),
    ),
}


@pytest.mark.filterwarnings("ignore:hoarfrost. features at cut")
@pytest.mark.parametrize(("case", "stored"), ways(VIEWS))
def test_both_views_come_back_as_features_of_one_sample_each_by_its_own_draw(case: str, stored: str) -> None:
    make, options, parts = VIEWS[case]
    with freezer_of(make(), **options, **STORED[stored]) as freezer:
        equal = together = 0
        for epoch in range(3):
            seen = []
            for batch in freezer.batches(epoch):
                one, other, numbers = parts(batch)
                for features in (one, other):
                    assert features.shape[1:] == (2, SIZE, SIZE)
                    torch.testing.assert_close(features[:, 0].sum((1, 2)), 2 * IMAGES[numbers].sum((1, 2, 3)))
                    assert freezer(features).shape == (len(numbers), 2, SIZE, SIZE)
                equal += sum(torch.equal(a, b) for a, b in zip(one, other, strict=True))
                together += len(numbers)
                seen += numbers.tolist()
            assert sorted(seen) == list(range(N))
            freezer.end_epoch()
        assert equal < 0.2 * together, "each view has its own draw"
        if "mode" not in STORED[stored]:
            assert len(freezer._feeder.caches) == 2


@pytest.mark.parametrize("case", VIEWS)
def test_live_batches_hold_two_views(case: str) -> None:
    make, options, parts = VIEWS[case]
    with freezer_of(make(), **options, policy="none") as freezer:
        for batch in freezer.batches(0):
            one, other, numbers = parts(batch)
            for images in (one, other):
                torch.testing.assert_close(images.sum((1, 2, 3)), IMAGES[numbers].sum((1, 2, 3)))
            assert not torch.equal(one, other)


def test_a_pair_of_images_is_asked_for_with_all_ways_named() -> None:
    with pytest.raises(DatasetError, match=r"input=0\) .* input=\(0, 1\) .* input=\(\(0,\), \(1,\)\) where it is"):
        freezer_of(Items(lambda _, i: (IMAGES[i], IMAGES[i])))


@pytest.mark.parametrize("wrong", [((0,), ()), ((0,), 1.5), ((True,), (1,)), ((), ())])
def test_calls_that_are_none_are_refused(wrong: Any) -> None:
    with pytest.raises(ArgumentError, match="input must be a key of an item, or several, not"):
        freezer_of(Items(lambda _, i: (IMAGES[i], IMAGES[i])), input=wrong)


class Deep(Net):
    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.back = nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Dropout(0.1), nn.LazyLinear(8))
        self(torch.zeros(1, 1, SIZE, SIZE))


def resized(image: Any, mask: Any) -> Any:
    return image.float() * 0.5, mask.flip(0)


def segment(model: Any, batch: Any) -> Tensor:
    return F.mse_loss(model(batch[0]), batch[1].float().flatten(1)[:, 100:108])


def contrast(model: Any, batch: Any) -> Tensor:
    one, other = (F.normalize(model(view)) for view in batch[:2])
    return F.cross_entropy(5 * one @ other.T, torch.arange(len(one)))


LAWS: dict[str, tuple[Callable[[], Dataset[Any]], dict[str, Any], Callable[[Any, Any], Tensor]]] = {
    "a joint transform": (
        lambda: Items(lambda me, i: me.transforms(*with_mask(me, i)), transforms=v2.Compose([v2.Resize(SIZE)])),
        {},
        segment,
    ),
    "two images, each called for itself": (
        lambda: Items(lambda _, i: (IMAGES[i], IMAGES[i].flip(-1), i)),
        {"input": ((0,), (1,))},
        contrast,
    ),
}


@pytest.mark.parametrize("case", LAWS)
def test_a_cached_run_is_a_recomputing_run(case: str) -> None:
    make, options, step = LAWS[case]
    start = Deep()

    def run(mode: str) -> tuple[list[float], dict[str, Tensor]]:
        model = copy.deepcopy(start)
        optimizer = torch.optim.SGD(model.parameters(), 0.02, momentum=0.9)
        losses = []
        torch.manual_seed(5)
        with freezer_of(make(), model, mode=mode, policy={1: "front"}, optimizer=optimizer, **options) as freezer:
            for epoch in range(4):
                for batch in freezer.batches(epoch):
                    loss = step(freezer, batch)
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    losses.append(loss.item())
                freezer.end_epoch()
            assert freezer.source == mode
        return losses, model.state_dict()

    cached, recomputed = run("cache"), run("recompute")
    assert cached[0] == recomputed[0]
    assert all(torch.equal(cached[1][name], value) for name, value in recomputed[1].items())


def test_an_evaluation_has_both_views_and_masks() -> None:
    views, both = VIEWS["two images, each called for itself"], ((0,), (1,))
    with freezer_of(views[0](), transform=MOVING, input=both) as freezer:
        evaluation = freezer.evaluation(views[0](), batch_size=40, codec="exact")
        for _ in range(2):
            next(freezer.batches(0))
            for one, other, numbers in evaluation:
                assert torch.equal(one, other)
                assert torch.equal(one[:, :1], 2 * IMAGES[numbers])
    with freezer_of(Items(with_mask), transform=MOVING) as freezer:
        next(freezer.batches(0))
        joint = Items(lambda me, i: me.transforms(*with_mask(me, i)), transforms=v2.Resize(SIZE))
        evaluation = freezer.evaluation(joint, batch_size=40)
        assert all(fits(features, masks) for _ in range(2) for features, masks in evaluation)


def test_a_model_of_two_views_is_evaluated_on_images_as_they_are() -> None:
    make, options, _ = VIEWS["two images, each called for itself"]
    with freezer_of(make(), **options) as freezer:
        next(freezer.batches(0))
        evaluation = freezer.evaluation(Items(lambda _, i: (IMAGES[i], i)), codec="exact")
        for features, numbers in evaluation:
            assert torch.equal(features[:, :1], 2 * IMAGES[numbers])
    with pytest.raises(DatasetError, match=r"the model cannot be called with 1 for itself, a int"):
        freezer_of(Items(lambda _, i: (IMAGES[i], i)), **options)


def test_a_mask_that_the_transform_does_not_get_stays_as_it_is() -> None:
    def item(me: Any, i: int) -> Any:
        return (*me.transforms(IMAGES[i], tv_tensors.Mask(MASKS[i])), tv_tensors.Mask(MASKS[i]), i)

    with freezer_of(Items(item, transforms=FLIP), views=Views(1, derived=1.0)) as freezer:
        for features, masks, unmoved, numbers in freezer.batches(0):
            assert fits(features, masks)
            assert torch.equal(unmoved, MASKS[numbers])


def test_texts_are_encoded_one_after_the_other() -> None:
    """Two rows of tokens, each called for itself, as sentence encoders are trained."""

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.front, self.back = nn.Embedding(20, 4), nn.Linear(4, 3)

        def forward(self, tokens: Tensor) -> Tensor:
            out: Tensor = self.back(self.front(tokens).mean(1))
            return out

    rows = torch.randint(0, 20, (N, 2, 5), generator=torch.Generator().manual_seed(0))
    data = Items(lambda _, i: {"one": rows[i, 0], "other": rows[i, 1], "id": i})
    with freezer_of(data, Encoder(), input=(("one",), ("other",))) as freezer:
        for batch in freezer.batches(0):
            front = freezer._front.division
            assert front is not None
            for place, name in enumerate(("one", "other")):
                assert torch.equal(batch[name], front.prefix(rows[batch["id"], place]))


def test_a_run_that_goes_on_has_its_views(tmp_path: Any) -> None:
    make, options, parts = VIEWS["a transform that gives two"]
    with freezer_of(make(), cache_dir=tmp_path, **options) as freezer:
        wanted = [parts(batch) for batch in freezer.batches(0)]
        state = freezer.state_dict()
    with freezer_of(make(), freezer.model, cache_dir=tmp_path, **options) as again:
        again.load_state_dict(state)
        assert len(again._feeder.caches) == 2
        for ours, theirs in zip(again.batches(0), wanted, strict=True):
            assert all(torch.equal(one, other) for one, other in zip(parts(ours), theirs, strict=True))


def test_a_disk_budget_is_for_both_views() -> None:
    make, options, _ = VIEWS["a transform that gives two"]
    with freezer_of(make(), **options) as freezer:
        next(freezer.batches(0))
        whole = sum(cache.nbytes for cache in freezer._feeder.caches)
        predicted = freezer.history[-1]["predicted_bytes"]
    with freezer_of(Items(lambda _, i: (IMAGES[i], i)), transform=lambda image: MOVING(image)) as freezer:
        next(freezer.batches(0))
        assert predicted == pytest.approx(2 * freezer.history[-1]["predicted_bytes"], rel=0.05)
    with freezer_of(make(), **options, disk_budget=int(whole * 0.7)) as freezer:
        with pytest.warns(UserWarning, match="1 of 2 views"):
            next(freezer.batches(0))
        assert sum(cache.nbytes for cache in freezer._feeder.caches) <= whole * 0.7


def test_compacted_items_are_exact_and_small() -> None:
    large = torch.zeros(100, 64, 64, dtype=torch.long)
    item = {"mask": tv_tensors.Mask(MASKS[0].repeat(8, 8)), "part": large[3], "more": [np.ones((4, 4))[:2], "text", 3]}
    kept = compacted(item)
    assert nbytes_of(kept) < 2000
    back = opened(kept)
    assert type(back["mask"]) is tv_tensors.Mask
    assert torch.equal(back["mask"], item["mask"])
    assert torch.equal(back["part"], large[3])
    assert back["part"].dtype == torch.long
    small = compacted((torch.arange(100.0)[5:8],))[0]
    assert small.untyped_storage().nbytes() == 12
    assert type(compacted(detection(None, 3)[1])["boxes"]) is tv_tensors.BoundingBoxes


class Segments(Dataset[Any]):
    """Pairs, a joint transform."""

    def __init__(self, transforms: Any) -> None:
        self.transforms = transforms

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> Any:
        return self.transforms(tv_tensors.Image(IMAGES[index]), tv_tensors.Mask(MASKS[index]))


@pytest.mark.parametrize(
    "turned", [v2.CenterCrop(8), v2.RandomHorizontalFlip(1.0), v2.Pad(2)], ids=["crop", "flip", "pad"]
)
@pytest.mark.parametrize("how", ["own", "handed over"])
def test_a_transform_without_chance_moves_the_mask_of_a_pair_too(how: str, turned: Any) -> None:
    data: Any = Segments(turned) if how == "own" else Items(with_mask)
    with freezer_of(data, policy={1: "front"}, transform=None if how == "own" else turned) as freezer:
        for epoch in range(2):
            for inputs, masks in freezer.batches(epoch):
                assert torch.equal(inputs[:, 0] > 0.5, masks.bool())
            freezer.end_epoch()
        assert freezer.source == "cache"
        evaluation = freezer.evaluation(Segments(turned))
        for _ in range(2):
            for inputs, masks in evaluation:
                assert torch.equal(inputs[:, 0] > 0.5, masks.bool())


def boxed(i: int, boxes: Any) -> dict[str, Any]:
    return {"pixels": IMAGES[i], "boxes": boxes, "labels": torch.tensor([1])}


def test_sanitising_boxes_is_refused_where_it_gets_no_labels() -> None:
    boxes = tv_tensors.BoundingBoxes(torch.tensor([[1.0, 1.0, 5.0, 6.0]]), format="XYXY", canvas_size=(SIZE, SIZE))
    data = Items(lambda self, i: boxed(i, boxes))
    transform = v2.Compose([v2.RandomHorizontalFlip(), v2.SanitizeBoundingBoxes()])
    with pytest.raises(ArgumentError, match=r"SanitizeBoundingBoxes drops boxes together with their labels.* item"):
        freezer_of(data, transform=transform)


@pytest.mark.parametrize("way", ["a transform of the image", "joint transforms of the data set"])
def test_boxes_that_no_type_shows_are_said_once(way: str, caplog: pytest.LogCaptureFixture) -> None:
    plain = torch.tensor([[1.0, 1.0, 5.0, 6.0]])
    told: dict[str, Any] = {}
    if way == "a transform of the image":
        data = Items(lambda self, i: boxed(i, plain))
        told["transform"] = v2.RandomHorizontalFlip()
    else:

        def make(self: Items, i: int) -> Any:
            return self.transforms(tv_tensors.Image(IMAGES[i]), {"boxes": plain})

        data = Items(make, transforms=v2.RandomHorizontalFlip())
    with caplog.at_level("WARNING", "hoarfrost"):
        freezer_of(data, **told)
    said = [record.getMessage() for record in caplog.records if "tv_tensors.BoundingBoxes" in record.getMessage()]
    assert len(said) == 1
    assert "'boxes'" in said[0]


def test_boxes_of_their_type_and_colours_alone_say_nothing(caplog: pytest.LogCaptureFixture) -> None:
    plain = torch.tensor([[1.0, 1.0, 5.0, 6.0]])
    boxes = tv_tensors.BoundingBoxes(plain, format="XYXY", canvas_size=(SIZE, SIZE))
    with caplog.at_level("WARNING", "hoarfrost"):
        freezer_of(Items(lambda self, i: boxed(i, boxes)), transform=v2.RandomHorizontalFlip())
        freezer_of(Items(lambda self, i: boxed(i, plain)), transform=v2.GaussianBlur(3))
    assert not caplog.records


def scaled(sample: dict[str, Any]) -> dict[str, Any]:
    return {**sample, "pixels": sample["pixels"] / 2, "twice": sample["label"] * 2}


def drawn(sample: dict[str, Any]) -> dict[str, Any]:
    return {**sample, "pixels": sample["pixels"] * torch.rand(())}


def test_a_function_of_the_whole_item_may_be_declared_deterministic() -> None:
    data = Items(lambda self, i: {"pixels": IMAGES[i], "label": i})
    for transform, advised in ((scaled, True), (drawn, False)):
        (line,) = [line for line in freezer_of(data, transform=transform).describe() if "do not know" in line]
        assert ("augment.deterministic" in line) == advised
    freezer = freezer_of(data, transform=deterministic(scaled), policy="none")
    assert not freezer._data.samples.pipeline.is_random
    for batch in freezer.batches(0):
        assert torch.equal(batch["twice"], 2 * batch["label"])
        assert torch.equal(batch["pixels"], IMAGES[batch["label"]] / 2)


def test_an_unstable_evaluation_gets_advice_for_an_evaluation() -> None:
    freezer = freezer_of(Items(lambda self, i: (IMAGES[i], i)))
    unstable = Items(lambda self, i: (IMAGES[i] + torch.rand(()), i))
    with pytest.raises(UnstableDataError, match=r"an evaluation would .* evaluation\(dataset, transform=") as caught:
        freezer.evaluation(unstable)
    assert "Freezer(model" not in str(caught.value)
