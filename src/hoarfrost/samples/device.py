"""Where images go before a model sees them, and in which memory format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..cuts import map_leaves

__all__ = ["OnDevice", "device_of"]


@dataclass(frozen=True)
class OnDevice:
    """Brings images to the model's device.

    Args:
        channels_last: in that memory format (faster convolutions on most devices).
    """

    device: torch.device
    channels_last: bool = False

    def __call__(self, batch: Any) -> Any:
        """A batch on the device, whatever it holds; images [B, C, H, W] in the memory format that the model is run
        with."""
        return self._placed(batch) if isinstance(batch, Tensor) else map_leaves(self._leaf, batch)

    def _leaf(self, leaf: Any) -> Any:
        return self._placed(leaf) if isinstance(leaf, Tensor) else leaf

    def _placed(self, images: Tensor) -> Tensor:
        # From pinned memory while the CPU goes on; from other memory torch waits for the copy all the same.
        images = images.to(self.device, non_blocking=images.device.type == "cpu")
        if self.channels_last and images.dim() == 4:
            images = images.contiguous(memory_format=torch.channels_last)
        return images


def device_of(model: nn.Module) -> torch.device:
    """Where the model's first parameter is."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
