"""In which frame the renditions of each image lie, known wherever they are derived."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset
from torchvision.transforms import v2

from hoarfrost.samples.dataset import Samples

SIZES = [(40, 56), (48, 32), (36, 36)]
FLIP = v2.RandomHorizontalFlip()
CROP = v2.RandomResizedCrop(32)


class Pictures:
    """Pictures of three sizes; `reads` counts how often one is read."""

    def __init__(self, n: int = 20, sizes: list[tuple[int, int]] = SIZES) -> None:
        self.sizes, self.n, self.reads = sizes, n, 0

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        self.reads += 1
        height, width = self.sizes[index % len(self.sizes)]
        return Image.new("RGB", (width, height), (index, 2 * index, 3 * index)), index % 4


def transform(*steps: Any) -> v2.Compose:
    return v2.Compose([*steps, v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])


@pytest.mark.parametrize(
    ("steps", "frames"),
    [
        ([CROP, FLIP], SIZES),
        ([v2.Resize(32), FLIP, v2.RandomCrop(32, padding=4)], [(32, 44), (48, 32), (32, 32)]),
        ([v2.Resize(40), v2.CenterCrop(32), FLIP], [(32, 32)] * 3),
        ([v2.Resize((24, 28)), FLIP], [(24, 28)] * 3),
        ([v2.ColorJitter(0.5), CROP], SIZES),
    ],
    ids=["raw", "by the shorter side", "from the middle", "as told", "behind colours"],
)
@pytest.mark.parametrize("workers", [0, 1])
def test_frames_are_known_of_what_was_rendered(steps: Any, frames: Any, workers: int) -> None:
    data = Pictures()
    with closing(Samples(data, transform(*steps), workers)) as samples:  # type: ignore[arg-type]
        ids = torch.tensor([2, 3, 7])
        list(samples.stream([ids], samples.pipeline.draw(20, 0)))
        before = data.reads
        assert samples.frames.of(ids).tolist() == [list(frames[n % 3]) for n in ids.tolist()]
        assert data.reads == before


def test_what_nobody_rendered_is_read_where_frames_differ() -> None:
    data = Pictures()
    with closing(Samples(data, transform(CROP))) as samples:  # type: ignore[arg-type]
        before = data.reads
        assert samples.frames.of([4, 5]).tolist() == [[48, 32], [36, 36]]
        assert samples.frames.of([5, 4]).tolist() == [[36, 36], [48, 32]]
        assert data.reads == before + 2


def test_one_that_differs_from_all_that_were_looked_at_is_known_once_it_is_rendered() -> None:
    data = Pictures(200, [(32, 32)] * 150 + [(40, 24)] + [(32, 32)] * 49)
    with closing(Samples(data, transform(CROP))) as samples:  # type: ignore[arg-type]
        ids = torch.tensor([149, 150])
        assert samples.frames.told(ids, 0) is None
        list(samples.stream([ids], samples.pipeline.draw(200, 0)))
        assert samples.frames.of(ids).tolist() == [[32, 32], [40, 24]]
        assert samples.frames.told(ids, 0) == (32, 32, 40, 24)
        assert samples.frames.told(torch.tensor([0, 1]), 0) is None


def test_what_is_told_is_learned() -> None:
    with (
        closing(Samples(Pictures(), transform(CROP))) as one,
        closing(Samples(data := Pictures(), transform(CROP))) as other,
    ):  # type: ignore[arg-type]
        ids = torch.tensor([3, 1, 2])
        assert one.frames.told(ids, 0) is None, "not known yet"
        one.frames.of(ids)
        told, before = one.frames.told(ids, 0), data.reads
        assert told is not None
        other.frames.learn(ids, told, 0)
        assert torch.equal(other.frames.of(ids), one.frames.of(ids))
        assert data.reads == before


def test_vectors_have_no_frame() -> None:
    with closing(Samples(TensorDataset(torch.randn(5, 3), torch.arange(5)), FLIP)) as samples:
        assert not samples.frames.known


@pytest.mark.parametrize(
    ("steps", "name"),
    [
        ([FLIP, v2.RandomResize(20, 30), v2.CenterCrop(32)], "RandomResize makes"),
        ([v2.RandomResize(20, 30), v2.RandomCrop(32, pad_if_needed=True)], "RandomResize makes"),
        ([FLIP, lambda image: image.resize((32, 32))], "<lambda> makes 32x32 of an image of 40x56"),
        ([CROP, FLIP], None),
        ([v2.Resize(40), v2.RandomRotation(20), v2.CenterCrop(32), FLIP], None),
        ([CROP, v2.RandAugment(), v2.ColorJitter(0.5)], None),
    ],
)
def test_the_step_is_named_whose_sizes_nobody_foretells(steps: Any, name: str | None) -> None:
    with closing(Samples(Pictures(), transform(*steps))) as samples:  # type: ignore[arg-type]
        found = samples.frames.unplaced
        assert found is None if name is None else name in str(found)
