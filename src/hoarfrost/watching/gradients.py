"""Gradients, summed over an interval by hooks on the parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .segments import Segment

__all__ = ["GradientSums"]


class GradientSums:
    """The sum of all gradients of each parameter since `restart`; one addition a parameter and backward pass.

    Takes as much memory as the parameters. The hook sees the gradient of each backward pass by itself, so a loop that
    collects several before a step is summed correctly.
    """

    def __init__(self, model: nn.Module) -> None:
        self._sums: dict[str, Tensor] = {}
        watched: list[tuple[str, Any]] = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self._watched = dict(watched)
        self._handles = [parameter.register_hook(self._adder(name)) for name, parameter in watched]

    def _adder(self, name: str) -> Callable[[Tensor], None]:
        def add(gradient: Tensor) -> None:
            with torch.no_grad():
                if name in self._sums:
                    self._sums[name].add_(gradient)
                else:
                    self._sums[name] = gradient.detach().clone()

        return add

    def sums(self) -> list[Tensor]:
        """Of each parameter that was watched from the beginning, to be written into; zeros where nothing came."""
        for name, parameter in self._watched.items():
            if name not in self._sums:
                self._sums[name] = torch.zeros_like(parameter)
        return [self._sums[name] for name in self._watched]

    def norms(self, segments: Sequence[Segment]) -> tuple[float, ...]:
        """The L1 norm of each segment's summed gradient; 0 where nothing trained."""
        return tuple(
            sum(float(self._sums[name].abs().sum()) for name in segment.names if name in self._sums)
            for segment in segments
        )

    def close(self) -> None:
        """Take the hooks away."""
        for handle in self._handles:
            handle.remove()

    def restart(self) -> None:
        """Begin a new interval."""
        self._sums.clear()

    def state_dict(self) -> dict[str, Tensor]:
        return {name: total.clone() for name, total in self._sums.items()}

    def load_state_dict(self, state: Mapping[str, Tensor], device: torch.device) -> None:
        self._sums = {name: total.to(device, copy=True) for name, total in state.items()}
