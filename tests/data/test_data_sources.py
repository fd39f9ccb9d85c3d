"""Data by name, and the transforms that go with them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from hoarfrost.data import default_transforms, open_data
from hoarfrost.errors import ArgumentError, DatasetError


def photos(root: Path, size: tuple[int, int]) -> Path:
    for kind in ("cat", "dog"):
        (root / kind).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", size, (number, 9, 9)).save(root / kind / f"{number}.png")
    return root


def kinds(transform: v2.Compose) -> list[str]:
    return [type(step).__name__ for step in transform.transforms]


def test_embedded() -> None:
    data = open_data("embedded")
    assert (data.channels, data.image_size, data.name, len(data.classes)) == (1, 28, "embedded", 10)
    train, test = default_transforms(data)
    assert kinds(train)[:2] == ["RandomHorizontalFlip", "RandomCrop"]
    assert train.transforms[1].padding == [4, 4, 4, 4]
    pixels = torch.stack([test(data.test[index][0]) for index in range(200)])
    assert pixels.shape == (200, 1, 28, 28)
    assert abs(pixels.mean()) < 0.05
    assert abs(pixels.std() - 1) < 0.05


def test_photos_get_the_imagenet_recipe(tmp_path: Path) -> None:
    data = open_data(str(photos(tmp_path / "pets", (300, 250))))
    assert (data.channels, data.image_size, data.name, data.classes) == (3, 224, "pets", ("cat", "dog"))
    train, test = default_transforms(data)
    assert kinds(train)[:2] == ["RandomResizedCrop", "RandomHorizontalFlip"]
    image, _ = data.train[0]
    assert train(image).shape == test(image).shape == (3, 224, 224)


def test_small_images_keep_their_size(tmp_path: Path) -> None:
    data = open_data(str(photos(tmp_path, (32, 32))))
    train, test = default_transforms(data)
    assert data.image_size == 32
    assert "RandomResizedCrop" not in kinds(train)
    image, _ = data.train[0]
    assert train(image).shape == test(image).shape == (3, 32, 32)


@pytest.mark.parametrize("size", [(32, 48), (48, 48)], ids=["oblong", "other-size"])
def test_a_size_of_ones_own(tmp_path: Path, size: tuple[int, int]) -> None:
    data = open_data(str(photos(tmp_path, size)), image_size=64)
    image, _ = data.test[0]
    assert all(transform(image).shape == (3, 64, 64) for transform in default_transforms(data))


def test_grey_images_can_be_enlarged() -> None:
    data = open_data("embedded", image_size=128)
    assert all(transform(data.test[0][0]).shape == (1, 128, 128) for transform in default_transforms(data))


def test_unknown_names_list_the_known_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ArgumentError, match=r"unknown data 'embeded': give one of embedded, fashion-mnist, .*'embedded'"
    ):
        open_data("embeded")
    with pytest.raises(DatasetError, match="somewhere/else does not exist"):
        open_data("somewhere/else")
    with pytest.raises(ArgumentError, match="image_size must be at least 1, got 0"):
        open_data("embedded", image_size=0)
