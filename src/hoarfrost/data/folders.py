"""Folders of images, one subfolder a class, as torchvision's ImageFolder reads them."""

from __future__ import annotations

import random
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

from PIL import Image, ImageColor
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS

from ..errors import ArgumentError, DatasetError

__all__ = ["image_folder"]

DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)
"""What Pillow raises for files that are damaged, cut short, vanished, too large, or no images: no family of its own."""

TEST_NAMES = ("val", "valid", "validation", "test")


def image_folder(
    directory: str | Path, *, seed: int = 0, test_share: float = 0.2, background: str = "white"
) -> tuple[ImageFolder, ImageFolder]:
    """Training and test images of a folder, as two torchvision data sets; items are `(PIL image, target)`, in RGB.

    Two layouts are known:

    ```
    DIR/train/cat/1.jpg  DIR/val/cat/2.jpg      val, valid, validation or test, in that order
    DIR/cat/1.jpg        DIR/dog/2.jpg          divided by seed, class by class
    ```

    Args:
        directory: the folder.
        seed: of the division, where there is no test folder; the same seed gives the same division.
        test_share: share of each class that is held out, at least one image of each.
        background: the colour that transparent images are laid on, a name or `#rrggbb`.

    Raises:
        DatasetError: the folder is missing or empty, has a single class, an empty class, or a test class
            that is not trained.
        ArgumentError: `test_share` is not between 0 and 1, or there is no such colour.
    """
    load = _Loader(background)
    if not 0 < test_share < 1:
        raise ArgumentError(f"test_share must lie between 0 and 1, got {test_share}")
    root = Path(directory).expanduser()
    if not root.is_dir():
        raise DatasetError(f"the image folder {root} " + ("is a file" if root.exists() else "does not exist"))
    tests = [root / name for name in TEST_NAMES if (root / name).is_dir()]
    if (root / "train").is_dir():
        classes = _classes(root / "train")
        if not tests:
            expected = ", ".join(f"{name}/" for name in TEST_NAMES)
            raise DatasetError(
                f"{root} has train/ but none of {expected}: add one, or name {root / 'train'} to have it divided"
            )
        unknown = sorted(set(_subfolders(tests[0])) - set(classes))
        if unknown:
            raise DatasetError(f"{tests[0]} has classes that {root / 'train'} lacks: {', '.join(unknown)}")
        train, test = _Images(root / "train", classes, load), _Images(tests[0], classes, load)
        if len(test) == 0:
            raise DatasetError(f"{tests[0]} holds no images; known kinds are {', '.join(IMG_EXTENSIONS)}")
        return train, test
    classes = _classes(root)
    train, test = _Images(root, classes, load), _Images(root, classes, load)
    kept, held = _divide(train.targets, classes, seed, test_share)
    train.keep(kept)
    test.keep(held)
    return train, test


class _Images(ImageFolder):  # type: ignore[misc]  # torchvision carries no types
    """An ImageFolder with the classes handed to it, so that a test folder lacking one keeps the numbers."""

    def __init__(self, root: Path, classes: list[str], load: _Loader) -> None:
        self._names = classes
        super().__init__(str(root), loader=load, allow_empty=True)

    def find_classes(self, directory: str) -> tuple[list[str], dict[str, int]]:
        return self._names, {name: number for number, name in enumerate(self._names)}

    def keep(self, indices: list[int]) -> None:
        samples: list[tuple[str, int]] = [self.imgs[index] for index in indices]  # type: ignore[has-type]
        self.samples = self.imgs = samples
        self.targets = [target for _, target in samples]


class _Loader:
    """Reads an image file as RGB; what is transparent is laid on a colour, which a conversion alone would not do."""

    def __init__(self, background: str) -> None:
        try:
            self._colour = ImageColor.getrgb(background)[:3]
        except ValueError as error:
            raise ArgumentError(f"background {background!r} is no colour: give a name, or #rrggbb") from error
        self._background, self._said = background, False

    def __call__(self, path: str) -> Any:
        try:
            with Image.open(path) as image:
                return self._laid(image, path) if image.has_transparency_data else image.convert("RGB")
        except DAMAGED as error:
            raise DatasetError(f"the image {path} cannot be read: {error}") from error

    def _laid(self, image: Any, path: str) -> Any:
        image = image.convert("RGBA")
        if image.getextrema()[3][0] == 255:
            return image.convert("RGB")
        if not self._said:
            self._said = True
            warnings.warn(
                f"hoarfrost: some images are transparent, such as {path}; they are laid on {self._background}, and "
                "background names another colour",
                stacklevel=2,
            )
        laid = Image.new("RGBA", image.size, (*self._colour, 255))
        laid.alpha_composite(image)
        return laid.convert("RGB")


def _subfolders(root: Path) -> list[str]:
    return sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _classes(root: Path) -> list[str]:
    """The class folders' names, checked: at least two, none of them empty."""
    names = _subfolders(root)
    if not names:
        raise DatasetError(f"{root} has no subfolders: each class needs one, with its images inside")
    if len(names) == 1:
        raise DatasetError(f"{root} has a single class, {names[0]!r}: a classifier needs at least two")
    empty = [name for name in names if not _has_image(root / name)]
    if empty:
        more = f" and {len(empty) - 5} more" if len(empty) > 5 else ""
        kinds = ", ".join(IMG_EXTENSIONS)
        raise DatasetError(f"{root} has classes without images: {', '.join(empty[:5])}{more} (known kinds are {kinds})")
    return names


def _has_image(folder: Path) -> bool:
    return any(path.suffix.lower() in IMG_EXTENSIONS for path in folder.rglob("*"))


def _divide(targets: list[int], classes: list[str], seed: int, share: float) -> tuple[list[int], list[int]]:
    """Indices to train on and to hold out, in their first order, class by class."""
    order = random.Random(seed)
    held: set[int] = set()
    for number, name in enumerate(classes):
        members = [index for index, target in enumerate(targets) if target == number]
        if len(members) < 2:
            raise DatasetError(f"class {name!r} has {len(members)} image: dividing it into training and test needs two")
        count = min(len(members) - 1, max(1, round(share * len(members))))
        held.update(order.sample(members, count))
    return [index for index in range(len(targets)) if index not in held], sorted(held)
