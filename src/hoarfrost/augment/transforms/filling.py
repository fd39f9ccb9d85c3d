"""What images are filled with where they have nothing to show."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...errors import ArgumentError

__all__ = ["filling"]


def filling(name: str, fill: float | Sequence[float], images: Tensor) -> Tensor:
    """A fill of one value, or of one a channel, beside images [..., C, H, W] and of their dtype: [1 or C, 1, 1].

    Raises:
        ArgumentError: another number of values than channels.
    """
    values = torch.tensor(fill, dtype=torch.float64).to(images.dtype).to(images.device)
    channels = images.shape[-3] if images.ndim > 2 else 1
    if values.ndim and len(values) not in (1, channels):
        raise ArgumentError(f"{name}: fill has {len(values)} values, the images have {channels} channels")
    return values.view(-1, 1, 1)
