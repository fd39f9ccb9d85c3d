"""The back of a divided model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import ArgumentError, InvalidCutError
from ..cut import Crossing
from ..sandbox.arguments import Key
from ..sandbox.clone import shadow
from ..sandbox.pytrees import tensors_in
from .fake_tensors import Ghost
from .part import Part
from .partition import Plan
from .replay import Replay, Resumption
from .symbolic_shapes import Outline

__all__ = ["Suffix"]


class Suffix(Part):
    """Everything behind a cut: the model's own forward, taken up there.

    `suffix(features) -> output` takes the features [N, *cut.shape], or the tuple of all that crosses (see `Prefix`),
    and gives what the model gives. The model's
    forward runs from its beginning, but modules that are over in front of the cut only hand on tensors without
    values, and the cut's module hands on the features. It holds the model's own parameters and buffers under
    their own names; its training flags are independent of the model's.

    Attributes:
        cut: where the model was divided.
        whole: the model that was divided.
    """

    _resumption: Resumption
    _inputs: dict[Key, Outline]
    _asks_gradients: bool

    def __init__(self, plan: Plan, model: nn.Module) -> None:
        _, clones = shadow(model, lambda name: plan.sides[name][1])
        super().__init__(plan.cut, model, clones)
        resumption = Resumption(plan)
        for name, outlines in plan.replayed.items():
            clone = clones[model.get_submodule(name)]
            is_over = name in plan.finished
            ended = None if is_over else plan.ended(name)
            clone.__dict__["forward"] = Replay(clone, name, outlines, resumption, ended, name in plan.rerun)
            if is_over or name != plan.cut.name:
                for hooks in (clone._forward_hooks, clone._forward_pre_hooks):
                    hooks.clear()  # they ran in the prefix
        self._resumption = resumption
        self._inputs = plan.inputs
        self._asks_gradients = plan.reentrant_behind

    def forward(self, features: Tensor | Sequence[Any]) -> Any:
        """The model's output.

        Args:
            features: [N, *cut.shape], or one entry for each of `cut.tensors`; never written to.

        Raises:
            ArgumentError: the features have another shape or number.
            InvalidCutError: the model reads something else from in front of the cut.
        """
        given = (features,) if isinstance(features, Tensor) else tuple(features)
        crossings = self.cut.tensors
        if len(given) != len(crossings) or any(map(_misshapen, given, crossings)):
            got = ", ".join(str(list(g.shape)) if isinstance(g, Tensor) else type(g).__name__ for g in given)
            raise ArgumentError(
                f"suffix: features of {self._features} are needed at cut '{self.cut.label}', not of {got}"
            )
        if self._asks_gradients and torch.is_grad_enabled() and any(p.requires_grad for p in self.parameters()):
            given = tuple(map(_asking, given))
        resumption, body = self._resumption, self._body
        body.training = self.training
        self._share()
        with self._autocast(), resumption.of(given, self.training):
            given_again = {key: resumption.argument(key, outline) for key, outline in self._inputs.items()}
            positional = [value for key, value in given_again.items() if isinstance(key, int)]
            output = body(*positional, **{key: v for key, v in given_again.items() if isinstance(key, str)})
        self._share()
        for tensor in tensors_in(output):
            if isinstance(tensor, Ghost):
                raise InvalidCutError(
                    f"cut '{self.cut.label}': the model's output holds a tensor {list(tensor.shape)} from "
                    f"{tensor.source}, in front of the cut"
                )
        return output

    def extra_repr(self) -> str:
        return f"from '{self.cut.label}', features {self._features}"


def _misshapen(given: Any, crossing: Crossing) -> bool:
    return crossing.shape is not None and (not isinstance(given, Tensor) or given.shape[1:] != crossing.shape)


def _asking(given: Any) -> Any:
    """A floating tensor that requires a gradient: without one a reentrant checkpoint gives none to parameters."""
    if not isinstance(given, Tensor) or given.requires_grad or not given.is_floating_point():
        return given
    return given.detach().requires_grad_()
