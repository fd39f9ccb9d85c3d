"""The embedded subset, and the full set where Debian's package is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from hoarfrost.data import FASHION_CLASSES, ImageArray, embedded, fashion_mnist
from hoarfrost.data.fashion import DEBIAN_FOLDER, EMBEDDED_FOLDER
from hoarfrost.data.idx import read_idx, write_idx
from hoarfrost.errors import ArgumentError, DatasetError

needs_debian = pytest.mark.skipif(not DEBIAN_FOLDER.is_dir(), reason="Debian's dataset-fashion-mnist is not here")


@pytest.mark.parametrize(("train", "samples"), [(True, 10_000), (False, 2_000)], ids=["train", "test"])
def test_embedded_is_balanced_in_every_ten(train: bool, samples: int) -> None:
    data = embedded(train)
    targets = np.asarray(data.targets).reshape(-1, 10)
    assert len(data) == samples
    np.testing.assert_array_equal(np.sort(targets, axis=1), np.tile(np.arange(10), (samples // 10, 1)))


def test_items_are_images_and_targets() -> None:
    image, target = embedded()[3]
    assert (image.mode, image.size) == ("L", (28, 28))
    assert target == embedded().targets[3]


def test_the_licence_lies_beside_the_data() -> None:
    text = (EMBEDDED_FOLDER / "LICENSE").read_text()
    assert "MIT" in text
    assert "Zalando SE" in text


@needs_debian
def test_the_script_makes_the_embedded_files() -> None:
    path = Path(__file__).parents[2] / "scripts" / "make_embedded_data.py"
    spec = importlib.util.spec_from_file_location("make_embedded_data", path)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    targets = read_idx(DEBIAN_FOLDER / "t10k-labels-idx1-ubyte.gz")
    chosen = script.choose(targets, script.SAMPLES["t10k"], seed=0)
    expected = read_idx(DEBIAN_FOLDER / "t10k-images-idx3-ubyte.gz")[chosen]
    np.testing.assert_array_equal(embedded(train=False).images, expected)
    np.testing.assert_array_equal(embedded(train=False).targets, targets[chosen])


@needs_debian
def test_the_full_set_comes_from_debian() -> None:
    assert len(fashion_mnist(train=False)) == 10_000


def test_a_root_of_ones_own(tmp_path: Path) -> None:
    write_idx(tmp_path / "t10k-images-idx3-ubyte.gz", np.zeros((3, 28, 28), np.uint8))
    write_idx(tmp_path / "t10k-labels-idx1-ubyte.gz", np.array([0, 1, 9], np.uint8))
    data = fashion_mnist(train=False, transform=lambda image: image.size, root=tmp_path)
    assert data[2] == ((28, 28), 9)
    with pytest.raises(DatasetError, match=r"train-images-idx3-ubyte\.gz is missing"):
        fashion_mnist(root=tmp_path)


def test_a_failed_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("hoarfrost.data.fashion.DEBIAN_FOLDER", tmp_path / "nothing")
    monkeypatch.setattr("torchvision.datasets.FashionMNIST.__init__", refuse)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(DatasetError, match=r"could not be downloaded .*no network.*dataset-fashion-mnist"):
        fashion_mnist()


def test_first_is_a_data_set_of_its_own() -> None:
    few = embedded().first(20)
    assert len(few) == 20
    assert few.targets == embedded().targets[:20]
    with pytest.raises(ArgumentError, match=r"first\(0\): the data set has 20 samples"):
        few.first(0)


def test_images_and_targets_must_match() -> None:
    with pytest.raises(DatasetError, match="2 images but 1 targets"):
        ImageArray(np.zeros((2, 4, 4), np.uint8), np.zeros(1, np.int64), FASHION_CLASSES)
    with pytest.raises(DatasetError, match="got none"):
        ImageArray(np.zeros((0, 4, 4), np.uint8), np.zeros(0, np.int64), FASHION_CLASSES)
