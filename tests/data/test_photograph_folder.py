"""The folder of photographs that a script makes of other packages' pictures."""

from __future__ import annotations

import os
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import photographs
from hoarfrost.data import open_data


def picture(seed: int, size: tuple[int, int] = (60, 40)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two packages of made pictures, ten animals and five things, with the table that reads them."""
    first = photographs.Source("first 1.0 (made)", "first", "MIT")
    second = photographs.Source("@made/second 2.0 (made)", "second/assets", "GPL-2")
    for number in range(10):
        path = tmp_path / "packages" / "first" / "animals" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(path)
    for number in range(5):
        path = tmp_path / "packages" / "second" / "assets" / f"T{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(100 + number).save(path)
    table = {"animal": [(first, "animals/*.png")], "thing": [(second, "T*.png")]}
    monkeypatch.setattr(photographs, "CLASSES", table)
    return tmp_path / "packages"


def listed(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.jpg"))}


def test_a_fifth_of_each_class_is_held_back_and_all_is_found_as_a_folder_of_images(
    packages: Path, tmp_path: Path
) -> None:
    assert photographs.write(tmp_path / "out", packages) == {"animal": (8, 2), "thing": (4, 1)}
    data = open_data(str(tmp_path / "out"))
    assert data.classes == ("animal", "thing")
    assert (len(data.train), len(data.test)) == (12, 3)  # type: ignore[arg-type]
    said = (tmp_path / "out" / "LICENCES.md").read_text()
    assert "first 1.0 (made): MIT" in said
    assert "@made/second 2.0 (made): GPL-2" in said


def test_the_same_packages_give_the_same_folder(packages: Path, tmp_path: Path) -> None:
    photographs.write(tmp_path / "one", packages)
    photographs.write(tmp_path / "two", packages)
    assert listed(tmp_path / "one") == listed(tmp_path / "two")


@pytest.mark.parametrize("mirrored", [False, True])
def test_of_pictures_that_are_alike_one_is_taken(packages: Path, tmp_path: Path, mirrored: bool) -> None:
    copy = picture(3, (120, 80))
    if mirrored:
        copy = copy.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    copy.save(packages / "second" / "assets" / "T9.png")
    assert sum(photographs.write(tmp_path / "out", packages)["thing"]) == 5


def test_what_is_transparent_is_laid_on_white_and_large_pictures_are_brought_down(
    packages: Path, tmp_path: Path
) -> None:
    clear = Image.new("RGBA", (1024, 256), (255, 0, 0, 0))
    clear.paste((0, 0, 200, 255), (0, 0, 512, 256))
    clear.save(packages / "first" / "animals" / "clear.png")
    photographs.write(tmp_path / "out", packages)
    (made,) = (tmp_path / "out").rglob("*clear.jpg")
    with Image.open(made) as image:
        assert image.size == (512, 128)
        assert min(image.getpixel((500, 64))) > 250  # type: ignore[arg-type, type-var]


def test_pictures_that_are_left_out_are_not_written(packages: Path, tmp_path: Path) -> None:
    picture(77).save(packages / "first" / "animals" / "cow_mirror.png")
    assert sum(photographs.write(tmp_path / "out", packages)["animal"]) == 10


def test_a_qt_pack_gives_its_members() -> None:
    # One folder with two files, one of them zipped; nodes of version 1 have 14 bytes.
    def named(text: str) -> bytes:
        return struct.pack(">HI", len(text), 0) + text.encode("utf-16-be")

    names = [named("a"), named("one.png"), named("two.png")]
    zipped = struct.pack(">I", 3) + zlib.compress(b"two")
    data = struct.pack(">I", 3) + b"one" + struct.pack(">I", len(zipped)) + zipped
    places = [0, len(names[0]), len(names[0]) + len(names[1])]
    nodes = struct.pack(">IHII", 0, 2, 1, 1) + struct.pack(">IHII", places[0], 2, 2, 2)
    nodes += struct.pack(">IHII", places[1], 0, 0, 0) + struct.pack(">IHII", places[2], 1, 0, 7)
    start = 20
    header = b"qres" + struct.pack(">4I", 1, start, start + len(nodes), start + len(nodes) + len(data))
    pack = header + nodes + data + b"".join(names)
    assert dict(photographs.packed(pack)) == {"/a/one.png": b"one", "/a/two.png": b"two"}
    with pytest.raises(ValueError, match="not a Qt resource file"):
        next(photographs.packed(b"none" + pack[4:]))


def test_missing_packages_are_named(
    packages: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["photographs.py", str(tmp_path / "out"), "--packages", str(tmp_path)])
    with pytest.raises(SystemExit):
        photographs.main()
    assert "not found: first 1.0 (made) in" in capsys.readouterr().err


@pytest.mark.slow
def test_the_packages_themselves_give_a_thousand_photographs(tmp_path: Path) -> None:
    packages = Path(os.environ.get("PHOTOGRAPH_PACKAGES", "/"))
    if not all((packages / source.folder).is_dir() for source in photographs.sources()):
        pytest.skip("the packages are not there; PHOTOGRAPH_PACKAGES names the folder they are unpacked in")
    counts = photographs.write(tmp_path / "out", packages)
    assert len(counts) == 9
    assert sum(map(sum, counts.values())) >= 1000
