"""JPEGs to train on, made in all processes that there are cores for."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

__all__ = ["CLASSES", "Jpegs", "make_jpegs"]

CLASSES = 1000


def make_jpegs(folder: Path, samples: int, pixels: int) -> None:
    """Noise of low frequency with a little of high on it, which decodes about as fast as photographs do."""
    cores = os.cpu_count() or 1
    parts = [range(n, samples, cores) for n in range(cores)]
    with ProcessPoolExecutor(cores) as pool:
        for _ in pool.map(_write_jpegs, [folder] * cores, parts, [pixels] * cores):
            pass


def _write_jpegs(folder: Path, numbers: range, pixels: int) -> None:
    for number in numbers:
        made = np.random.default_rng(number)
        coarse = Image.fromarray(made.integers(0, 256, (12, 12, 3), np.uint8)).resize((pixels, pixels), Image.BICUBIC)
        fine = made.integers(-12, 13, (pixels, pixels, 1), np.int16)
        image = (np.asarray(coarse, np.int16) + fine).clip(0, 255).astype(np.uint8)
        Image.fromarray(image).save(folder / f"{number:05d}.jpg", quality=90)


class Jpegs(Dataset[Any]):
    """(image, class); a transform of PIL images may be set."""

    def __init__(self, folder: Path, samples: int, transform: Callable[[Any], Any] | None = None) -> None:
        self.folder, self.samples, self.transform = folder, samples, transform

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, number: int) -> tuple[Any, int]:
        image = Image.open(self.folder / f"{number:05d}.jpg").convert("RGB")
        return (image if self.transform is None else self.transform(image)), number % CLASSES
