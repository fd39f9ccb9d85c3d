"""Fit a model's first convolution to images with another number of channels."""

from __future__ import annotations

import torch
from torch import nn

from ..errors import ArgumentError

__all__ = ["adapt_input"]


def adapt_input(model: nn.Module, channels: int, *, keep_weights: bool) -> None:
    """Make the model's first convolution take `channels` channels, in place.

    With `keep_weights`, a grey image gives what the same image repeated over three channels gave before: for
    one channel the kernels are summed. For other numbers they are repeated and scaled, so that sums keep
    their size. Without it the convolution is drawn anew, by PyTorch's default for its class.

    Raises:
        ArgumentError: the model has no convolution to adapt, or it is grouped.
    """
    conv = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    if conv is None or conv.groups != 1:
        raise ArgumentError(
            f"{type(model).__name__} has no plain first convolution to fit to {channels}-channel images"
        )
    before = conv.in_channels
    if before == channels:
        return
    with torch.no_grad():
        old = conv.weight
        shape = (conv.out_channels, channels, *conv.kernel_size)
        if not keep_weights:
            conv.weight = nn.Parameter(old.new_empty(shape))
            conv.in_channels = channels
            conv.reset_parameters()
        elif channels == 1:
            conv.weight = nn.Parameter(old.sum(1, keepdim=True))
        else:
            source = torch.arange(channels, device=old.device) % before
            conv.weight = nn.Parameter(old[:, source] * (before / channels))
    conv.in_channels = channels
