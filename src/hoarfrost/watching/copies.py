"""Copies of a model to measure on."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from ..cuts import deep_copied

__all__ = ["quantised", "unfrozen_copy"]


def unfrozen_copy(model: nn.Module) -> nn.Module:
    """A copy that trains where parameters may, without the stand-ins that keep frozen modules in eval."""
    (duplicate,) = deep_copied(model)
    for module in duplicate.modules():
        module.__dict__.pop("train", None)  # a frozen module's stand-in is bound to the original
    copied: nn.Module = duplicate
    return copied


def quantised(model: nn.Module) -> nn.Module:
    """A copy on the CPU whose linear layers compute in 8 bits (torch's dynamic quantisation), others in float32.

    Torch quantises no convolutions dynamically: of a convolutional network only the classifier changes.
    """
    duplicate = unfrozen_copy(model).cpu().float()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces that this function will move
        quantise: Any = torch.ao.quantization.quantize_dynamic
        smaller: nn.Module = quantise(duplicate.eval(), {nn.Linear}, dtype=torch.qint8, inplace=True)
    for module in smaller.modules():
        if isinstance(module, torch.ao.nn.quantized.dynamic.Linear):
            module.register_forward_pre_hook(_in_float32)
    return smaller


def _in_float32(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Torch's quantised layers take nothing else, and an autocast of the model's own gives them 16 bits."""
    return tuple(each.float() for each in inputs)
