"""FLOPs of a training step, counted as it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from ..cuts import tensors_in, unsynchronised

__all__ = ["sum_of", "training_flops"]


@unsynchronised()
def training_flops(
    module: nn.Module,
    inputs: Any,
    samples: int,
    call: Callable[[nn.Module, Any], Any] = lambda module, inputs: module(inputs),
) -> int:
    """FLOPs of one training step on `inputs` of so many samples, forward and backward, per sample.

    Counted by torch's FlopCounterMode over the operations that run. They run on stand-ins of parameters and buffers:
    no gradient, and no hook on one, tells of it. The random state is put back.
    """
    step = _Step(module, call)
    stand_ins = {name: p.detach().requires_grad_(p.requires_grad) for name, p in step.named_parameters()}
    buffers = {name: buffer.clone() for name, buffer in step.named_buffers()}
    counter = FlopCounterMode(display=False)
    with torch.random.fork_rng(_cuda_devices(inputs)), counter, torch.enable_grad():
        functional_call(step, {**stand_ins, **buffers}, (inputs,))
    return int(counter.get_total_flops()) // samples


class _Step(nn.Module):
    """Forward and backward in one call: what is run again in the backward pass meets the same stand-ins."""

    def __init__(self, module: nn.Module, call: Callable[[nn.Module, Any], Any]) -> None:
        super().__init__()
        self.module, self._call = module, call

    def forward(self, inputs: Any) -> None:
        torch.autograd.backward(sum_of(self._call(self.module, inputs)))


def _cuda_devices(inputs: Any) -> list[int]:
    return sorted({t.device.index for t in tensors_in(inputs) if t.is_cuda and t.device.index is not None})


def sum_of(output: object) -> Tensor:
    """Something to call backward on, from whatever a model returns."""
    floats = [tensor.float().sum() for tensor in tensors_in(output) if tensor.is_floating_point()]
    return floats[0] if len(floats) == 1 else torch.stack(floats).sum()
