"""Image folders: both layouts, their division, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from hoarfrost.data import image_folder
from hoarfrost.errors import ArgumentError, DatasetError


def fill(folder: Path, count: int = 3, size: tuple[int, int] = (12, 12)) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        Image.new("RGB", size, (number, 0, 0)).save(folder / f"{number}.png")


def paths(images: object) -> list[str]:
    return [path for path, _ in images.samples]  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["val", "valid", "validation", "test"])
def test_train_and_test_folders(tmp_path: Path, name: str) -> None:
    for part in ("train", name):
        for kind in ("cat", "dog"):
            fill(tmp_path / part / kind)
    train, test = image_folder(tmp_path)
    assert (len(train), len(test)) == (6, 6)
    assert train.classes == test.classes == ["cat", "dog"]


def test_a_test_folder_that_lacks_a_class_keeps_the_numbers(tmp_path: Path) -> None:
    for kind in ("cat", "dog"):
        fill(tmp_path / "train" / kind)
    fill(tmp_path / "val" / "dog")
    _, test = image_folder(tmp_path)
    assert test.targets == [1, 1, 1]


def test_one_folder_is_divided_by_seed(tmp_path: Path) -> None:
    fill(tmp_path / "cat", 10)
    fill(tmp_path / "dog", 5)
    train, test = image_folder(tmp_path, seed=3)
    assert (train.targets.count(0), train.targets.count(1)) == (8, 4)
    assert (test.targets.count(0), test.targets.count(1)) == (2, 1)
    assert not set(paths(train)) & set(paths(test))
    assert paths(image_folder(tmp_path, seed=3)[1]) == paths(test)
    assert any(paths(image_folder(tmp_path, seed=seed)[1]) != paths(test) for seed in range(3))


def test_transforms_of_the_two_parts_are_their_own(tmp_path: Path) -> None:
    fill(tmp_path / "cat")
    fill(tmp_path / "dog")
    train, test = image_folder(tmp_path)
    train.transform = lambda image: image.size
    assert train[0][0] == (12, 12)
    assert test[0][0].size == (12, 12)


def test_missing_and_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nothing does not exist"):
        image_folder(tmp_path / "nothing")
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match="file is a file"):
        image_folder(tmp_path / "file")
    with pytest.raises(DatasetError, match="has no subfolders"):
        image_folder(tmp_path)
    fill(tmp_path / "cat")
    with pytest.raises(DatasetError, match="a single class, 'cat'"):
        image_folder(tmp_path)
    (tmp_path / "dog").mkdir()
    with pytest.raises(DatasetError, match="classes without images: dog"):
        image_folder(tmp_path)


def test_train_without_test(tmp_path: Path) -> None:
    for kind in ("cat", "dog"):
        fill(tmp_path / "train" / kind)
    with pytest.raises(DatasetError, match="has train/ but none of val/, valid/, validation/, test/"):
        image_folder(tmp_path)
    (tmp_path / "val").mkdir()
    with pytest.raises(DatasetError, match="val holds no images"):
        image_folder(tmp_path)
    fill(tmp_path / "val" / "bird")
    with pytest.raises(DatasetError, match=r"classes that .*train lacks: bird"):
        image_folder(tmp_path)


def test_a_class_of_one_image_cannot_be_divided(tmp_path: Path) -> None:
    fill(tmp_path / "cat")
    fill(tmp_path / "dog", 1)
    with pytest.raises(DatasetError, match="class 'dog' has 1 image"):
        image_folder(tmp_path)


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    for part in ("train", "val"):
        for kind in ("cat", "dog"):
            fill(tmp_path / part / kind, 1)
    (tmp_path / "train" / "cat" / "0.png").write_bytes(b"not a picture")
    with pytest.raises(DatasetError, match=r"cat/0\.png cannot be read"):
        image_folder(tmp_path)[0][0]


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0])
def test_test_share_is_checked(tmp_path: Path, share: float) -> None:
    with pytest.raises(ArgumentError, match="test_share must lie between 0 and 1"):
        image_folder(tmp_path, test_share=share)
