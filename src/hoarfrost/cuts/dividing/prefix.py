"""The front of a divided model."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import ArgumentError, InvalidCutError
from ..cut import Cut
from ..sandbox.arguments import Key, entries_of
from ..sandbox.clone import shadow
from ..sandbox.hooks import hooks_apart
from .capture import Catch, Reached, Shown
from .part import Part
from .partition import Plan

__all__ = ["Prefix"]


class Share:
    """Tensors of one module of which a part has some: each dictionary hears of what is assigned in the other."""

    def __init__(self, theirs: dict[str, Any], clone: nn.Module, kind: str) -> None:
        self.theirs = theirs
        self.clone = clone
        self.kind = kind
        self.known = dict(theirs)

    @classmethod
    def of(cls, clones: Mapping[nn.Module, nn.Module]) -> tuple[Share, ...]:
        """For the modules whose dictionaries a clone does not have as a whole."""
        return tuple(
            cls(module.__dict__[kind], clone, kind)
            for module, clone in clones.items()
            for kind in ("_parameters", "_buffers")
            if clone.__dict__[kind] is not module.__dict__[kind]
        )

    def both_ways(self) -> None:
        mine = self.clone.__dict__[self.kind]
        for name, known in self.known.items():
            if name in mine and mine[name] is not known:
                self.theirs[name] = mine[name]
            elif (now := self.theirs.get(name)) is not known:
                (mine if name in mine else self.clone.__dict__)[name] = now
            self.known[name] = self.theirs.get(name)


class Prefix(Part):
    """Everything in front of a cut: the model's own forward, stopped there.

    It runs on a second body of the model (see `shadow`), which is no child, so that no name gets longer.

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
        heeded_names: those of them whose mode is read behind the cut.
        shared_parameters: parameters that act on both sides.
        entries: of each argument that is a list of tensors, the shapes that the model was divided on.
        resized: the same cut, as it is on inputs of other sizes that the prefix is to take too.
    """

    _body: nn.Module
    _shares: tuple[Share, ...]
    frozen: bool
    rounding: float | None
    parameter_names: tuple[str, ...]
    buffer_names: tuple[str, ...]
    module_names: tuple[str, ...]
    heeded_names: frozenset[str]
    shared_parameters: tuple[str, ...]
    entries: dict[Key, set[tuple[int, ...]]]
    resized: tuple[Cut, ...]

    def __init__(self, plan: Plan, model: nn.Module) -> None:
        body, clones = shadow(model, lambda name: plan.sides[name][0], hooks_apart=False)
        super().__init__(plan.cut, model, body)
        self.__dict__.update(_body=body, _shares=Share.of(clones), training=model.training)
        self._catch = Catch(plan.ports)
        for name in dict.fromkeys(name for name, _, _ in plan.ports):
            Shown.at(clones[model.get_submodule(name)], name, self._catch)
        only = [name for name, sides in plan.sides.items() if sides == (True, False)]
        parameters = set(plan.seen.parameters)
        self.frozen = False
        self.rounding = None
        self.resized = ()
        self.parameter_names = tuple(name for name in only if name in parameters)
        self.buffer_names = tuple(name for name in only if name not in parameters)
        self.module_names = plan.front_modules
        self.heeded_names = plan.heeded
        self.shared_parameters = plan.cut.shared_parameters
        self.entries = entries_of(plan.seen.traces[0].inputs)

    @property
    def body(self) -> nn.Module:
        """The model's second body, which runs in front of the cut."""
        return self._body

    @contextmanager
    def hooks_apart(self) -> Iterator[None]:
        """For measuring: what hooks in front count or collect meanwhile is forgotten."""
        with hooks_apart(self._body, self.whole):
            yield

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

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As for any module.

        A state without versions (from safetensors, say) is taken for one of today: batch norms would otherwise add
        counters to it that belong to the other part.
        """
        versioned = OrderedDict(state_dict)
        versioned._metadata = getattr(state_dict, "_metadata", None) or self.state_dict()._metadata  # type: ignore[attr-defined]
        with self._shared():
            return super().load_state_dict(versioned, strict, assign)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """As for any module."""
        with self._shared():
            return super().state_dict(*args, **kwargs)

    def _named_members(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, Any]]:
        with self._shared():
            yield from super()._named_members(*args, **kwargs)

    def get_parameter(self, target: str) -> nn.Parameter:
        """As for any module."""
        self._share()
        return super().get_parameter(target)

    def get_buffer(self, target: str) -> Tensor:
        """As for any module."""
        self._share()
        return super().get_buffer(target)

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        with self._shared():
            return super()._apply(*args, **kwargs)  # type: ignore[no-untyped-call]

    @contextmanager
    def _shared(self) -> Iterator[None]:
        """Before and after: what the model or the part has put in the place of a tensor, both have."""
        self._share()
        try:
            yield
        finally:
            self._share()

    def _share(self) -> None:
        for share in self._shares:
            share.both_ways()

    def extra_repr(self) -> str:
        return f"up to '{self.cut.label}', features {self._features}"
