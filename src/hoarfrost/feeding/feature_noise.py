"""Noise and blur on features, drawn by seed, epoch and step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..cuts import Cut
from ..seeds import mix
from ..settings import Noise

__all__ = ["FeatureNoise"]

DRAWN_FOR_NOISE = 17
"""Sets its seeds apart from those of orders."""


@dataclass(frozen=True)
class FeatureNoise:
    """What is done to the features of each batch behind one cut.

    Attributes:
        stage: that the cut lies in, from 0.
        seed: with epoch and step it says what is drawn, whatever was drawn before: an epoch that is gone on with in the
            middle sees the same.
    """

    noise: Noise
    cut: Cut
    stage: int
    seed: int

    def on(self, features: Tensor, epoch: int, step: int, call: int = 0) -> Tensor:
        """[B, ...] -> the same shape and memory format.

        Args:
            call: which call of the model they are for; each has noise of its own.
        """
        std, blur = self.noise.at(self.stage)
        device = features.device
        drawing = torch.Generator(device).manual_seed(mix(self.seed, epoch, step, call, DRAWN_FOR_NOISE))
        on_maps = self.cut.layout in ("NCHW", "NHWC")
        if std:
            shape = list(features.shape)
            if self.noise.alike and on_maps:
                shape[self.cut.channel_axis] = 1
            drawn = torch.randn(shape, generator=drawing, device=device, dtype=torch.float32)
            features = features + drawn.mul_(std).to(features.dtype)
        if blur and on_maps:
            drawn = torch.rand((), generator=drawing, device=device)
            features = _blurred(features, Noise.LEAST_BLUR + (blur - Noise.LEAST_BLUR) * drawn, self.cut.layout)
        return features


def _blurred(features: Tensor, sigma: Tensor, layout: str) -> Tensor:
    """Feature maps under a 3x3 Gaussian, mirrored at their borders."""
    maps = features if layout == "NCHW" else features.permute(0, 3, 1, 2)
    if min(maps.shape[2:]) < 2:
        return features
    beside = (-0.5 / sigma.square()).exp()
    middle, beside = (1 / (1 + 2 * beside)).to(maps.dtype), (beside / (1 + 2 * beside)).to(maps.dtype)
    wide = functional.pad(maps, (1, 1, 1, 1), mode="reflect")
    rows = wide[:, :, 1:-1] * middle + (wide[:, :, :-2] + wide[:, :, 2:]) * beside
    made = rows[..., 1:-1] * middle + (rows[..., :-2] + rows[..., 2:]) * beside
    if layout == "NHWC":
        return made.permute(0, 2, 3, 1)
    return made.contiguous(memory_format=torch.channels_last) if _is_channels_last(features) else made


def _is_channels_last(features: Tensor) -> bool:
    return not features.is_contiguous() and features.is_contiguous(memory_format=torch.channels_last)
