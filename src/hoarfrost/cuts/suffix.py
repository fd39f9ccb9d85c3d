"""The back of a divided model."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ArgumentError, InvalidCutError
from .cut import Cut
from .ghosts import Gate, Ghost
from .nested import tensors_in
from .outline import Outline
from .part import Part
from .plan import Plan
from .shadow import shadow

__all__ = ["Suffix"]


class Suffix(Part):
    """Everything behind a cut: the model's own forward, taken up there.

    `suffix(features) -> output` takes the features [N, *cut.shape] and gives what the model gives. The model's
    forward runs from its beginning, but modules that are over in front of the cut only hand on tensors without
    values, and the cut's module hands on the features. It holds the model's own parameters and buffers under
    their own names; its training flags are independent of the model's.

    Attributes:
        cut: where the model was divided.
        whole: the model that was divided.
    """

    _resumption: Resumption
    _inputs: Outline

    def __init__(self, plan: Plan, model: nn.Module) -> None:
        body, clones = shadow(model, lambda name: plan.sides[name][1])
        super().__init__(plan.cut, model, body)
        resumption = Resumption(plan.cut, restores_chance=plan.draws_in_front)
        for name, outlines in plan.replayed.items():
            clone = clones[model.get_submodule(name)]
            entry = plan.cut.call if name == plan.cut.name else None
            clone.__dict__["forward"] = Replay(clone, name, outlines, resumption, entry)
            if entry is None or name in plan.finished:
                for hooks in (clone._forward_hooks, clone._forward_pre_hooks):
                    hooks.clear()  # they ran in the prefix
        self._resumption = resumption
        self._inputs = plan.inputs

    def forward(self, features: Tensor) -> Any:
        """The model's output.

        Args:
            features: [N, *cut.shape]; never written to.

        Raises:
            ArgumentError: the features have another shape.
            InvalidCutError: the model reads something else from in front of the cut.
        """
        if features.shape[1:] != self.cut.shape:
            raise ArgumentError(
                f"suffix: features of {self._features} are needed at cut '{self.cut.label}', "
                f"not of {list(features.shape)}"
            )
        resumption, body = self._resumption, self._body
        body.training = self.training
        with resumption.of(features, self.training):
            output = body(*resumption.ghosts(self._inputs, "the model's input", None))
        for tensor in tensors_in(output):
            if isinstance(tensor, Ghost):
                raise InvalidCutError(
                    f"cut '{self.cut.label}': the model's output holds a tensor {list(tensor.shape)} from "
                    f"{tensor.source}, in front of the cut"
                )
        return output

    def extra_repr(self) -> str:
        return f"from '{self.cut.label}', features {self._features}"


class Resumption(Gate):
    """One suffix's call in progress: the features, and which calls were replayed."""

    def __init__(self, cut: Cut, *, restores_chance: bool) -> None:
        super().__init__(cut.label)
        self.mutated = cut.mutated
        self.restores_chance = restores_chance
        self.training = False
        self.features: Tensor | None = None
        self.calls: Counter[str] = Counter()
        self.chance: list[Tensor] = []
        self.known: dict[Any, Any] = {}

    def of(self, features: Tensor, training: bool) -> Resumption:
        self.features, self.training = features, training
        return self

    def __enter__(self) -> None:
        self.passed = False
        self.calls.clear()
        if self.restores_chance:
            self.chance = [torch.get_rng_state()]
            if self.features is not None and self.features.is_cuda:
                self.chance.append(torch.cuda.get_rng_state(self.features.device))

    def __exit__(self, *_: object) -> None:
        self.features = None
        self.passed = False

    def ghosts(self, outline: Outline, source: str, key: Any) -> Any:
        """The structure of an outline for this batch, with ghosts as tensors."""
        features = self._features()
        key = (key, features.shape[0], features.device)
        if key not in self.known:
            if len(self.known) > 1024:
                self.known.clear()
                self.worked_out.clear()
            device = features.device
            self.known[key] = outline.fill(features.shape[0], lambda meta: Ghost(meta, device, self, source))
        return self.known[key]

    def release(self, outline: Outline) -> Any:
        """The features, in the structure that the cut's module gives; the gate closes behind them."""
        features = self._features()
        self.passed = True
        if self.chance:
            torch.set_rng_state(self.chance[0])
            for state in self.chance[1:]:
                torch.cuda.set_rng_state(state, features.device)
        # The model writes into this tensor: a caller's features must survive it.
        return outline.with_tensor(features.shape[0], features.clone() if self.mutated else features)

    def _features(self) -> Tensor:
        if self.features is None:
            raise InvalidCutError(f"cut '{self.place}': part of the suffix runs outside of a call of it")
        return self.features

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "known": {}, "worked_out": {}, "chance": [], "features": None}


class Replay:
    """Stands in for a module's forward: hands on ghosts, at the cut the features, and behind it runs the module."""

    def __init__(
        self,
        module: nn.Module,
        name: str,
        outlines: dict[bool, list[Outline]],
        resumption: Resumption,
        entry: int | None,
    ) -> None:
        self.module = module
        self.name = name
        self.own_forward = module.__dict__.get("forward")
        self.outlines = outlines
        self.resumption = resumption
        self.entry = entry

    def __call__(self, *inputs: Any, **keywords: Any) -> Any:
        resumption = self.resumption
        call = resumption.calls[self.name]
        resumption.calls[self.name] = call + 1
        if self.entry is not None and call > self.entry:
            if self.own_forward is not None:
                return self.own_forward(*inputs, **keywords)
            return type(self.module).forward(self.module, *inputs, **keywords)
        training = resumption.training
        outlines = self.outlines[training]
        if call >= len(outlines):
            raise InvalidCutError(
                f"cut '{resumption.place}': '{self.name}' is called {call + 1} times, {len(outlines)} when the "
                f"model was divided"
            )
        if call == self.entry:
            return resumption.release(outlines[call])
        return resumption.ghosts(outlines[call], f"'{self.name}'", (self.name, call, training))
