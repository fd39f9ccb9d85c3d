"""FLOPs of a training step, counted as it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..cuts import tensors_in

__all__ = ["sum_of", "training_flops"]


def training_flops(
    module: nn.Module,
    inputs: Any,
    samples: int,
    call: Callable[[nn.Module, Any], Any] = lambda module, inputs: module(inputs),
) -> int:
    """FLOPs of one training step on `inputs` of so many samples, forward and backward, per sample.

    Counted by torch's FlopCounterMode over the operations that run: buffers, gradients and random state of `module`
    are put back.
    """
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    gradients = {name: p.grad for name, p in module.named_parameters()}
    counter = FlopCounterMode(display=False)
    try:
        # Set aside, not only remembered: backward would add to them in place.
        for parameter in module.parameters():
            parameter.grad = None
        with torch.random.fork_rng(_cuda_devices(inputs)), counter, torch.enable_grad():
            torch.autograd.backward(sum_of(call(module, inputs)))
    finally:
        with torch.no_grad():
            for name, buffer in module.named_buffers():
                buffer.copy_(buffers[name])
        for name, parameter in module.named_parameters():
            parameter.grad = gradients[name]
    return int(counter.get_total_flops()) // samples


def _cuda_devices(inputs: Any) -> list[int]:
    return sorted({t.device.index for t in tensors_in(inputs) if t.is_cuda and t.device.index is not None})


def sum_of(output: object) -> Tensor:
    """Something to call backward on, from whatever a model returns."""
    floats = [tensor.float().sum() for tensor in tensors_in(output) if tensor.is_floating_point()]
    return floats[0] if len(floats) == 1 else torch.stack(floats).sum()
