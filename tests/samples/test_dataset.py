from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, Subset
from torchvision.datasets import FakeData
from torchvision.transforms import v2

from hoarfrost.data import ImageArray
from hoarfrost.errors import ArgumentError, DatasetError, ImageShapeError, UnstableDataError
from hoarfrost.samples.dataset import Samples
from hoarfrost.samples.own_transform import PassThrough
from shared.images import PLAIN, RANDOM, CountingImages, images


class Pairs(Dataset[Any]):
    """A data set of given items."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


def vectors(n: int = 6, width: int = 4) -> list[Any]:
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(width, generator=generator), i % 3) for i in range(n)]


def test_the_transform_is_taken_over_until_close() -> None:
    data = images(10, RANDOM)
    samples = Samples(data)
    assert isinstance(data.transform, PassThrough)
    assert samples.pipeline.is_random
    samples.close()
    assert data.transform is RANDOM


def test_a_data_set_that_needs_what_its_transform_gives_is_refused_and_gets_it_back() -> None:
    class TwoViews(Dataset[Any]):
        def __init__(self) -> None:
            self.transform = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])

        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            image = Image.new("L", (8, 8), index)
            return torch.cat([self.transform(image), self.transform(image)]), index

    data = TwoViews()
    own = data.transform
    with pytest.raises(DatasetError, match="TwoViews has a transform of its own and works on after it"):
        Samples(data)
    assert data.transform is own


def test_to_close_twice_does_not_bring_an_old_transform_back() -> None:
    data = images(10, RANDOM)
    samples = Samples(data)
    samples.close()
    data.transform = PLAIN
    samples.close()
    assert data.transform is PLAIN


def test_several_may_hold_a_transform_and_the_last_gives_it_back() -> None:
    data = images(10, RANDOM)
    first, second = Samples(data), Samples(data)
    ids, draw = torch.arange(4), first.pipeline.draw(10, 3)
    assert torch.equal(first.images(ids, draw)[0], second.images(ids, draw)[0])  # type: ignore[arg-type]
    third = Samples(data, transform=PLAIN)  # of raw images, as long as it is there
    assert third.identity.look() == first.identity.look()
    first.close()
    first.close()
    assert isinstance(data.transform, PassThrough)
    third.close()
    assert isinstance(data.transform, PassThrough)
    second.close()
    assert data.transform is RANDOM


def test_a_transform_that_the_user_gives_meanwhile_is_the_one() -> None:
    data = images(10, RANDOM)
    first = Samples(data)
    data.transform = PLAIN
    second = Samples(data)
    assert not second.pipeline.is_random
    first.close()
    second.close()
    assert data.transform is PLAIN


def test_a_forgotten_one_gives_the_transform_back() -> None:
    data = images(10, RANDOM)
    samples: Samples | None = Samples(data)
    assert isinstance(data.transform, PassThrough)
    samples = None
    gc.collect()
    assert samples is None
    assert data.transform is RANDOM


def test_the_joint_transform_of_torchvision_is_taken_over_too() -> None:
    data = FakeData(6, (3, 8, 8), 2, transform=v2.ToImage())
    samples = Samples(data)
    assert isinstance(data.transforms.transform, PassThrough)
    samples.close()
    assert isinstance(data.transforms.transform, v2.ToImage)


def test_a_given_transform_leaves_the_data_set_as_it_is() -> None:
    still = v2.ToImage()
    data = images(10, still)
    samples = Samples(data, transform=v2.Compose([v2.ToDtype(torch.float32, scale=True)]))
    assert data.transform is still
    assert samples.images(torch.tensor([0]), samples.pipeline.still(10))[0].dtype == torch.float32


@pytest.mark.parametrize("nested", [False, True], ids=["subset", "subset of a subset"])
def test_a_subset_takes_the_transform_and_its_parent_keeps_it(nested: bool) -> None:
    data = images(30, RANDOM)
    middle = Subset(data, range(5, 25)) if nested else data
    subset = Subset(middle, range(8))
    samples = Samples(subset)
    assert data.transform is RANDOM
    assert samples.pipeline.is_random
    assert isinstance(samples.read([0])[0][0], Image.Image)
    assert isinstance(subset[0][0], Tensor)
    samples.close()
    assert data.transform is RANDOM


def test_a_subset_leaves_the_joint_transform_of_its_parent() -> None:
    data = FakeData(10, (3, 8, 8), 2, transform=PLAIN)
    Samples(Subset(data, range(6)))
    assert data.transforms.transform is PLAIN


def test_a_refused_data_set_gets_its_transform_back() -> None:
    class Shaky(ImageArray):
        def __getitem__(self, index: int) -> tuple[Any, int]:
            noise = np.random.default_rng().integers(0, 255, (4, 4), dtype=np.uint8)
            return Image.fromarray(noise), 0

    data = Shaky(np.zeros((5, 4, 4), np.uint8), np.zeros(5, np.int64), ["a"], RANDOM)
    with pytest.raises(UnstableDataError):
        Samples(data)
    assert data.transform is RANDOM


def test_an_unstable_data_set_is_refused_with_what_to_do() -> None:
    class Augmenting(Pairs):
        def __getitem__(self, index: int) -> Any:
            return torch.rand(1, 4, 4), 0

    text = (
        "Augmenting gave two different images for index 0, .* Let the data set give unaugmented images, "
        r"and hand the augmentation over: Freezer\(model, dataset, transform=...\)"
    )
    with pytest.raises(UnstableDataError, match=text):
        Samples(Augmenting(vectors()))


def test_random_augmentation_beside_a_given_transform_is_refused() -> None:
    with pytest.raises(UnstableDataError, match="ImageArray gave two different images"):
        Samples(images(40, RANDOM), transform=PLAIN)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (Pairs([]), "the data set has 0 samples; training needs at least 2"),
        (Pairs(vectors(1)), "the data set has 1 sample; training needs at least 2"),
        (Pairs([(torch.zeros(2), 0), 1.0, 2.0]), r"sample 1 is a float, not a pair \(image, target\)"),
        (Pairs([{"a": 1, "b": 2}] * 3), "an item is a dict of 'a', 'b', of which the model's forward takes nothing"),
        (Pairs([(torch.zeros(3, 4, 4), torch.zeros(3, 4, 4))] * 3), "an item is a pair of two images: say which"),
        (Pairs([(torch.zeros(2), torch.zeros(i + 1)) for i in range(3)]), "targets must be .* of one shape: "),
    ],
    ids=["empty", "one sample", "no pair", "nothing to call with", "two images", "ragged targets"],
)
def test_data_that_cannot_be_trained_on_are_refused(data: Dataset[Any], text: str) -> None:
    with pytest.raises(DatasetError, match=text):
        Samples(data)


def test_a_stream_without_length_is_refused() -> None:
    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            return iter(vectors())

    with pytest.raises(DatasetError, match="Stream has no length: features are stored by sample number"):
        Samples(Stream())


def test_a_transform_attribute_that_is_no_function_is_refused() -> None:
    data = Pairs(vectors())
    data.transform = "flip"  # type: ignore[attr-defined]
    with pytest.raises(ArgumentError, match="the data set's transform attribute is a str, not a function"):
        Samples(data)


def test_images_of_differing_sizes_are_named() -> None:
    samples = Samples(Pairs([(torch.zeros(1, 4 + i % 2, 4), 0) for i in range(4)]))
    with pytest.raises(ImageShapeError, match=r"sample 0 is 4x4 .* and sample 1 is 5x4 .*; add Resize"):
        samples.images(torch.tensor([0, 1]), samples.pipeline.still(4))


def test_identity_follows_the_bytes() -> None:
    one, same, other = images(20), images(20), images(20)
    other.images = other.images.copy()
    other.images[0, 0, 0] += 1
    seen, also, changed = (Samples(data).identity.look() for data in (one, same, other))
    assert seen == also
    assert seen.data["memory"] != changed.data["memory"]
    assert seen.targets == changed.targets


def test_identity_follows_the_targets() -> None:
    one, other = images(10), images(10)
    other.targets = [*other.targets[:-1], other.targets[-1] + 1]
    seen, changed = (Samples(data).identity.look() for data in (one, other))
    assert seen.targets != changed.targets
    assert seen.data == changed.data


def test_images_are_the_users_own_transform_of_the_items() -> None:
    samples = Samples(images(10, PLAIN))
    ids = torch.tensor([4, 0, 9])
    rendered, targets = samples.images(ids, samples.pipeline.draw(10, 0))
    own = images(10, PLAIN)
    assert torch.equal(rendered, torch.stack([own[i][0] for i in ids.tolist()]))
    assert targets.tolist() == [own[i][1] for i in ids.tolist()]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_gives_the_groups_in_order(workers: int) -> None:
    samples = Samples(images(30, RANDOM), workers=workers)
    draw = samples.pipeline.draw(30, 5)
    groups = [torch.tensor([3, 1]), torch.tensor([7]), torch.tensor([2, 9, 29])]
    for ids, (rendered, targets) in zip(groups, samples.stream(groups, draw), strict=True):
        wanted, numbers = samples.images(ids, draw)
        assert torch.equal(rendered, wanted)
        assert torch.equal(targets, numbers)


def test_workers_do_not_draw_from_the_training_random_state() -> None:
    samples = Samples(images(10, RANDOM), workers=1)
    before = torch.get_rng_state()
    list(samples.stream([torch.tensor([0])], samples.pipeline.draw(10, 0)))
    assert torch.equal(before, torch.get_rng_state())


def test_a_refused_length_reads_no_image() -> None:
    data = CountingImages(2)
    data.images = data.images[:1]
    with pytest.raises(DatasetError, match="1 sample"):
        Samples(data)
    assert data.reads == 0
