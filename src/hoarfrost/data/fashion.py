"""Fashion-MNIST: the subset that ships with the package, and the whole set (Xiao et al. 2017)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import DatasetError
from .arrays import ImageArray
from .idx import read_idx

__all__ = ["DEBIAN_FOLDER", "FASHION_CLASSES", "embedded", "fashion_mnist"]

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package `dataset-fashion-mnist` puts its files."""

EMBEDDED_FOLDER = Path(__file__).parent / "embedded"

FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def embedded(train: bool = True, transform: Callable[[Any], Any] | None = None) -> ImageArray:
    """The Fashion-MNIST subset inside the package: 10,000 training or 2,000 test images, 28x28, grey.

    Classes are balanced, in the whole and in every ten samples from the start. Needs no network.
    Its licence (MIT, Zalando SE) lies beside the files.

    Example:
        >>> image, target = embedded()[0]
        >>> image.size
        (28, 28)
    """
    return _read(EMBEDDED_FOLDER, train, transform)


def fashion_mnist(
    train: bool = True,
    transform: Callable[[Any], Any] | None = None,
    *,
    root: str | Path | None = None,
) -> ImageArray:
    """All of Fashion-MNIST: 60,000 training or 10,000 test images, 28x28, grey.

    Args:
        train: the training images, else the test images.
        transform: called with each PIL image.
        root: a folder of the four gzipped IDX files. By default Debian's folder
            (package `dataset-fashion-mnist`) if it is there, else torchvision downloads the set
            to `$XDG_CACHE_HOME/hoarfrost`.

    Raises:
        DatasetError: the files are missing or damaged, or the download failed.
    """
    if root is not None:
        return _read(Path(root), train, transform)
    if DEBIAN_FOLDER.is_dir():
        return _read(DEBIAN_FOLDER, train, transform)
    return _download(train, transform)


def _read(folder: Path, train: bool, transform: Callable[[Any], Any] | None) -> ImageArray:
    part = "train" if train else "t10k"
    images = read_idx(folder / f"{part}-images-idx3-ubyte.gz")
    targets = read_idx(folder / f"{part}-labels-idx1-ubyte.gz")
    return ImageArray(images, targets, FASHION_CLASSES, transform)


def _download(train: bool, transform: Callable[[Any], Any] | None) -> ImageArray:
    from torchvision.datasets import FashionMNIST

    root = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "hoarfrost"
    try:
        source = FashionMNIST(str(root), train=train, download=True)
    except (OSError, RuntimeError) as error:
        raise DatasetError(
            f"Fashion-MNIST could not be downloaded to {root} ({error}); install Debian's package "
            "dataset-fashion-mnist, or use the subset that ships with Hoarfrost: 'embedded'"
        ) from error
    return ImageArray(source.data.numpy(), source.targets.numpy(), FASHION_CLASSES, transform)
