"""Copies of a model to measure on."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
from torch import nn

__all__ = ["quantised", "unfrozen_copy"]


def unfrozen_copy(model: nn.Module) -> nn.Module:
    """A copy that trains where parameters may, without the stand-ins that keep frozen modules in eval."""
    duplicate = copy.deepcopy(model)
    for module in duplicate.modules():
        module.__dict__.pop("train", None)  # a frozen module's stand-in is bound to the original
    return duplicate


def quantised(model: nn.Module) -> nn.Module:
    """A copy on the CPU whose linear layers compute in 8 bits (torch's dynamic quantisation); others stay as they are.

    Torch quantises no convolutions dynamically: of a convolutional network only the classifier changes.
    """
    duplicate = unfrozen_copy(model).cpu()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces that this function will move
        quantise: Any = torch.ao.quantization.quantize_dynamic
        smaller: nn.Module = quantise(duplicate.eval(), {nn.Linear}, dtype=torch.qint8)
    return smaller
