"""The mean of a front's weights over an epoch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Averages"]


class Averages:
    """The mean of parameters over the steps since `restart`: of the weights that each was taken with.

    Takes as much memory as the parameters. (Izmailov et al. 2018, arXiv 1803.05407, average over epochs.)

    Args:
        parameters: by name; those that need no gradient are left out.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        self._parameters = dict(parameters)
        self._means: dict[str, Tensor] = {}
        self._steps = 0

    @torch.no_grad()
    def add(self) -> None:
        """Count the weights as they are now."""
        training = {name: p.detach() for name, p in self._parameters.items() if p.requires_grad}
        self._steps += 1
        if self._means.keys() != training.keys():
            # The first step, or the first behind a freeze.
            self._means = {name: self._means.get(name, p).clone() for name, p in training.items()}
        if training:
            torch._foreach_lerp_(list(self._means.values()), list(training.values()), 1 / self._steps)

    @torch.no_grad()
    def put(self, names: Iterable[str]) -> None:
        """Give these parameters their means, where there are any."""
        for name in names:
            if name in self._means:
                self._parameters[name].copy_(self._means[name])

    def restart(self) -> None:
        """Begin anew."""
        self._means, self._steps = {}, 0

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self._steps, "means": {name: mean.clone() for name, mean in self._means.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._steps = int(state["steps"])
        self._means = {name: mean.to(self._parameters[name].device, copy=True) for name, mean in state["means"].items()}
