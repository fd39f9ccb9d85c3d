"""Images that stand for a data set that is elsewhere."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..errors import ArgumentError
from .arrays import ImageArray

__all__ = ["photo_like"]


def photo_like(samples: int, image_size: int, *, channels: int = 3, classes: int = 10, seed: int = 0) -> ImageArray:
    """Random images with the spectrum of photographs: amplitude falls as 1/f (Field 1987, JOSA A 4(12)).

    They cost what photos cost, and what networks make of them compresses roughly as with photos; they show nothing.

    Args:
        image_size: height and width, in pixels.
        channels: 1, or 3 that are alike but for a third of their contrast.

    Raises:
        ArgumentError: channels are neither 1 nor 3.
    """
    if channels not in (1, 3):
        raise ArgumentError(f"images have 1 or 3 channels, not {channels!r}")
    generator = np.random.default_rng(seed)
    common = _pink(generator, samples, image_size)
    if channels == 3:
        common = np.stack([0.67 * common + 0.33 * _pink(generator, samples, image_size) for _ in range(3)], -1)
    images = np.clip(128 + 50 * common, 0, 255).astype(np.uint8)
    return ImageArray(images, np.arange(samples) % classes, [str(number) for number in range(classes)])


def _pink(generator: np.random.Generator, samples: int, size: int) -> npt.NDArray[np.float64]:
    """[samples, size, size], of deviation 1 each."""
    down, right = np.meshgrid(np.fft.fftfreq(size), np.fft.rfftfreq(size), indexing="ij")
    frequency = np.hypot(down, right)
    frequency[0, 0] = np.inf  # no mean
    noise = np.fft.rfft2(generator.standard_normal((samples, size, size))) / frequency
    planes = np.fft.irfft2(noise, s=(size, size))
    scaled: npt.NDArray[np.float64] = planes / planes.std(axis=(1, 2), keepdims=True)
    return scaled
