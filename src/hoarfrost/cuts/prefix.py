"""The front of a divided model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InvalidCutError
from .cut import Cut
from .nested import tensors_in
from .part import Part
from .plan import Plan
from .shadow import shadow

__all__ = ["Prefix"]


class Prefix(Part):
    """Everything in front of a cut: the model's own forward, stopped there.

    `prefix(x) -> features` takes what the model takes, [N, ...], for any N, and gives the features
    [N, *cut.shape], in the memory format that the model gives them. It holds the model's own parameters and
    buffers under their own names; its training flags are independent of the model's. When it is `frozen` (see
    `hoarfrost.freezing`) it stays in eval and records no gradients.

    Attributes:
        cut: where the model was divided.
        whole: the model that was divided.
        frozen: whether it is inert.
        parameter_names: parameters of the model that act only in front of the cut.
        buffer_names: buffers, likewise.
        module_names: modules, likewise.
        shared_parameters: parameters that act on both sides.
    """

    frozen: bool
    parameter_names: tuple[str, ...]
    buffer_names: tuple[str, ...]
    module_names: tuple[str, ...]
    shared_parameters: tuple[str, ...]

    def __init__(self, plan: Plan, model: nn.Module) -> None:
        body, clones = shadow(model, lambda name: plan.sides[name][0])
        super().__init__(plan.cut, model, body)
        self._stop = Stop(plan.cut)
        clones[model.get_submodule(plan.cut.name)].register_forward_hook(self._stop)
        only = [name for name, sides in plan.sides.items() if sides == (True, False)]
        parameters = set(plan.seen.parameters)
        self.frozen = False
        self.parameter_names = tuple(name for name in only if name in parameters)
        self.buffer_names = tuple(name for name in only if name not in parameters)
        self.module_names = plan.front_modules
        self.shared_parameters = plan.cut.shared_parameters

    def forward(self, *inputs: Any) -> Tensor:
        """The features of a batch.

        Args:
            inputs: what the model takes, [N, ...].

        Raises:
            InvalidCutError: the model ended without reaching the cut.
        """
        self._body.training = self.training
        self._stop.calls = 0
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            try:
                self._body(*inputs)
            except Reached as reached:
                return reached.features
        raise InvalidCutError(f"cut '{self.cut.label}': the model ended without reaching it")

    def train(self, mode: bool = True) -> Prefix:
        """As for any module, but a frozen prefix stays in eval."""
        super().train(mode and not self.frozen)
        return self

    def extra_repr(self) -> str:
        return f"up to '{self.cut.label}', features {self._features}"


class Reached(BaseException):
    """Leaves the model's forward at the cut; no `except Exception` on the way may hold it up."""

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        self.features = features


class Stop:
    """A forward hook that ends the pass after the cut's own call of its module."""

    def __init__(self, cut: Cut) -> None:
        self.last = cut.call
        self.calls = 0

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if self.calls == self.last:
            raise Reached(tensors_in(output)[0])
        self.calls += 1
