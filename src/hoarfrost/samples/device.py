"""Where images go before a model sees them, and in which memory format."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["OnDevice", "device_of"]


@dataclass(frozen=True)
class OnDevice:
    """Brings images to the model's device.

    Args:
        channels_last: in that memory format (faster convolutions on most devices).
    """

    device: torch.device
    channels_last: bool = False

    def __call__(self, images: Tensor) -> Tensor:
        """[B, ...] on the device; images [B, C, H, W] in the memory format that the model is run with."""
        images = images.to(self.device)
        if self.channels_last and images.dim() == 4:
            images = images.contiguous(memory_format=torch.channels_last)
        return images


def device_of(model: nn.Module) -> torch.device:
    """Where the model's first parameter is."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
