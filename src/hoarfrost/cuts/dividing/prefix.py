"""The front of a divided model."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...errors import ArgumentError, InvalidCutError
from ..sandbox.arguments import Key, entries_of
from ..sandbox.clone import shadow
from .capture import Catch, Reached, Shown
from .part import Part
from .partition import Plan

__all__ = ["Prefix"]


class Prefix(Part):
    """Everything in front of a cut: the model's own forward, stopped there.

    `prefix(x) -> features` takes what the model takes, [N, ...], for any N, and gives the features
    [N, *cut.shape], in the memory format that the model gives them; where more than one tensor crosses the cut, a
    tuple with one entry for each of `cut.tensors`. It holds the model's own parameters and
    buffers under their own names; its training flags are independent of the model's. When it is `frozen` (see
    `hoarfrost.freezing`) it stays in eval and records no gradients.

    Attributes:
        cut: where the model was divided.
        whole: the model that was divided.
        frozen: whether it is inert.
        rounding: how far features that are made without gradients, as a frozen prefix makes them, are from those made
            with: the largest difference as a share of the largest value. 0 but where torch chooses other kernels
            (some attention and recurrent layers); None where the division was not verified.
        parameter_names: parameters of the model that act only in front of the cut.
        buffer_names: buffers, likewise.
        module_names: modules, likewise.
        shared_parameters: parameters that act on both sides.
        entries: of each argument that is a list of tensors, the shapes that the model was divided on.
    """

    frozen: bool
    rounding: float | None
    parameter_names: tuple[str, ...]
    buffer_names: tuple[str, ...]
    module_names: tuple[str, ...]
    shared_parameters: tuple[str, ...]
    entries: dict[Key, set[tuple[int, ...]]]

    def __init__(self, plan: Plan, model: nn.Module) -> None:
        _, clones = shadow(model, lambda name: plan.sides[name][0])
        super().__init__(plan.cut, model, clones)
        self._catch = Catch(plan.ports)
        for name in dict.fromkeys(name for name, _, _ in plan.ports):
            Shown.at(clones[model.get_submodule(name)], name, self._catch)
        only = [name for name, sides in plan.sides.items() if sides == (True, False)]
        parameters = set(plan.seen.parameters)
        self.frozen = False
        self.rounding = None
        self.parameter_names = tuple(name for name in only if name in parameters)
        self.buffer_names = tuple(name for name in only if name not in parameters)
        self.module_names = plan.front_modules
        self.shared_parameters = plan.cut.shared_parameters
        self.entries = entries_of(plan.seen.traces[0].inputs)

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        """The features of a batch.

        Args:
            inputs: what the model takes, [N, ...].
            keywords: likewise.

        Raises:
            ArgumentError: an argument that the suffix needs is missing.
            InvalidCutError: the model ended without reaching the cut.
        """
        self._body.training = self.training
        self._catch.clear()
        self._share()
        with self._autocast(), torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            try:
                self._body(*inputs, **keywords)
            except Reached:
                features = self._catch.features()
            else:
                raise InvalidCutError(f"cut '{self.cut.label}': the model ended without reaching it")
        self._share()
        if not self.cut.others:
            return features[0]
        return (*features, *(self._argument(c.source, inputs, keywords) for c in self.cut.others if c.is_argument))

    def _argument(self, key: Key, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        try:
            return inputs[key] if isinstance(key, int) else keywords[key]
        except LookupError:
            name = f"positional argument {key + 1}" if isinstance(key, int) else f"keyword argument '{key}'"
            raise ArgumentError(
                f"prefix: {name} is missing; the suffix behind '{self.cut.label}' needs it again, and the prefix is "
                f"called as in the example that divided the model"
            ) from None

    def train(self, mode: bool = True) -> Prefix:
        """As for any module, but a frozen prefix stays in eval."""
        super().train(mode and not self.frozen)
        return self

    def extra_repr(self) -> str:
        return f"up to '{self.cut.label}', features {self._features}"
