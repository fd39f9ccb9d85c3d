"""The back of a divided model."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import ArgumentError, InvalidCutError
from ..cut import Crossing, misshapen
from ..sandbox.clone import shadow
from ..sandbox.compiled import compiled_call, compiler_of, is_compiled, is_wrapper
from ..sandbox.dispatcher import COMPILED, SLOTS, Dispatcher, StandIn, dispatch
from ..sandbox.pytrees import tensors_in
from .behind import Behind
from .fake_tensors import Ghost
from .layers_in_front import LayersInFront
from .other_arguments import other_argument
from .replay import Opened, Replay, Resumption
from .script import Script

__all__ = ["Suffix"]

_numbers = itertools.count()


class Suffix(Behind):
    """Everything behind a cut: the model's own forward, taken up there.

    `suffix(features) -> output` takes the features [N, *cut.shape], or the tuple of all that crosses (see `Prefix`),
    and gives what the model gives. The model itself runs, from the beginning of its forward, but modules that are over
    in front of the cut only hand on tensors without values, and the cut's module hands on the features. So behind the
    cut the model's own modules run, as they are then: their hooks, training flags and attributes, and whatever has
    taken their place. As a module the suffix shows what is behind the cut, under the model's own names.

    The model is as it always was but for the length of a call: between calls, and for other threads, it runs whole.
    What answers for its modules during a call is taken out again with the suffix, or by `release`.

    Of a model that is compiled as a whole it runs compiled, with the same settings. Where modules are compiled, those
    behind the cut run so; one that the cut goes through runs as it is written.

    Attributes:
        cut: where the model was divided.
        whole: the model that was divided.
        compiler: compiles it as the model's wrapper is; None: as `whole.compile()` was told to, if it was.
    """

    compiler: Callable[[Any], Any] | None
    _known: tuple[Any, Callable[..., Any] | None] | None
    _resumption: Resumption
    _layers: LayersInFront | None
    _around: list[nn.Module]
    _finalizer: Any

    def __init__(self, script: Script, model: nn.Module, compiler: Callable[[Any], Any] | None = None) -> None:
        super().__init__(script, model)
        self.__dict__.update(_resumption=Resumption(script), _layers=None, _finalizer=None)
        self.__dict__.update(compiler=compiler, _known=None)
        self._take_up()

    def shadow(self) -> Suffix:
        """The same on a second body of the model, for measuring: what it runs leaves nothing behind on the model.

        It is not compiled.
        """
        other = Suffix(self._script, shadow(self.whole)[0])
        other.precision = self.precision
        return other

    def begun(self) -> Suffix | None:
        """A shadow in which matrices of nothing but zeros, as many heads begin with, are those of a layer just made.

        Behind such a head all outputs are alike, whatever the features, and say nothing of them. None where there is no
        such matrix.
        """
        other, drawing, drawn = self.shadow(), torch.Generator().manual_seed(0), False
        for module in other.modules():
            for name, held in list(module.named_parameters(recurse=False)):
                if held.dim() > 1 and held.numel() and not held.any():
                    values = torch.randn(held.shape, generator=drawing) / held[0].numel() ** 0.5
                    fresh = nn.Parameter(values.to(held), requires_grad=held.requires_grad)
                    module.__dict__["_parameters"] = {**module._parameters, name: fresh}  # the model has the other one
                    drawn = True
        return other if drawn else None

    def release(self) -> None:
        """Take out of the model what answers for its modules; a later call puts it in again."""
        if self._finalizer is not None:
            self._finalizer()
        self.__dict__.update(_finalizer=None, _layers=None, _known=None)

    def check_arguments(self, main: int | str, args: Sequence[Any], keywords: Mapping[str, Any]) -> None:
        """Of a call of the model, with features in the place of the argument `main`.

        Raises:
            ArgumentError: another argument is not as the model was divided with, so that the front has not seen it.
        """
        name = other_argument(self.whole, self._script.inputs, main, args, keywords)
        if name is not None:
            raise ArgumentError(
                f"behind cut '{self.cut.label}' the model goes on with the arguments that it was divided with, and "
                f"its argument '{name}' was not among them, or another: leave it out, or let the data set give it, or "
                "set it where the model is made"
            )

    def forward(self, features: Tensor | Sequence[Any]) -> Any:
        """The model's output.

        Args:
            features: [N, *cut.shape], or one entry for each of `cut.tensors`; never written to.

        Raises:
            ArgumentError: the features have another shape or number.
            FrontChangedError: a layer in front of the cut is another one now.
            InvalidCutError: the model reads something else from in front of the cut.
        """
        given = (features,) if isinstance(features, Tensor) else tuple(features)
        crossings = self.cut.tensors
        if len(given) != len(crossings) or any(map(_misshapen, given, crossings)):
            got = ", ".join(str(list(g.shape)) if isinstance(g, Tensor) else type(g).__name__ for g in given)
            raise ArgumentError(
                f"suffix: features of {self._features} are needed at cut '{self.cut.label}', not of {got}"
            )
        script = self._script
        if script.asks_gradients and torch.is_grad_enabled() and any(p.requires_grad for p in self.parameters()):
            given = tuple(map(_asking, given))
        layers = self._layers or self._take_up()
        if torch.compiler.is_compiling():
            return self._resumed(given)
        layers.check()
        compiled = self._compiled()
        with self._left_alone():
            output = self._resumed(given) if compiled is None else compiled(self, *given)
        for tensor in tensors_in(output):
            if isinstance(tensor, Ghost):
                raise InvalidCutError(
                    f"cut '{self.cut.label}': the model's output holds a tensor {list(tensor.shape)} from "
                    f"{tensor.source}, in front of the cut"
                )
        return output

    def _compiled(self) -> Callable[..., Any] | None:
        """`_resumed` as the model is compiled by now."""
        in_place = compiled_call(self.whole)
        if self._known is None or self._known[0] is not in_place:
            compiler = self.compiler or compiler_of(self.whole)
            self.__dict__["_known"] = in_place, None if compiler is None else compiler(_function())
        return self._known[1]  # type: ignore[index]

    def _resumed(self, given: tuple[Any, ...]) -> Any:
        resumption, model = self._resumption, self.whole
        # Past the model's own compiled code, which begins at its inputs.
        run: Any = model if compiled_call(model) is None else model._call_impl
        with self._autocast(), resumption.of(given, self.training):
            again = {key: resumption.argument(key, outline) for key, outline in self._script.inputs.items()}
            positional = [value for key, value in again.items() if isinstance(key, int)]
            return run(*positional, **{key: value for key, value in again.items() if isinstance(key, str)})

    @contextmanager
    def _left_alone(self) -> Iterator[None]:
        """What code in front of the cut sets on modules that hold both sides is what they had before the call."""
        before = [(module.__dict__, module.__dict__.copy()) for module in self._around]
        try:
            yield
        finally:
            for held, kept in before:
                for key in [key for key, value in held.items() if type(value) is Ghost]:
                    if key in kept:
                        held[key] = kept[key]
                    else:
                        del held[key]

    def _take_up(self) -> LayersInFront:
        """Answer for the modules in front of the cut, during calls of this suffix, as long as it is there."""
        script, model = self._script, self.whole
        around = [model.get_submodule(name) for name in script.around]
        stand_ins: list[tuple[nn.Module, StandIn]] = [
            (model.get_submodule(name), Replay(name, part, self._resumption))
            for name, part in script.parts.items()
            if not self._within_compiled(name)
        ]
        opened = Opened(self._resumption)
        stand_ins += [(module, opened) for module in around[1:] if is_compiled(module)]
        put = [
            (weakref.ref(there), stand_in)
            for module, stand_in in stand_ins
            for there in dispatch(module, stand_in, _slots(module, stand_in))
        ]
        finalizer = weakref.finalize(self, _withdraw, put)
        finalizer.atexit = False
        layers = LayersInFront(
            script.cut.label, dict(model.named_modules(remove_duplicate=False)), {*script.front, *script.parts}
        )
        self.__dict__.update(_finalizer=finalizer, _layers=layers, _around=around)
        return layers

    def _within_compiled(self, name: str) -> bool:
        """Whether it lies in a compiled module that is answered for: whose code stays as it was compiled."""
        parts, above = self._script.parts, name
        while above := above.rpartition(".")[0]:
            part = parts.get(above)
            if (
                part is not None
                and part.ended is None
                and not part.runs
                and is_compiled(self.whole.get_submodule(above))
            ):
                return True
        return False

    def __getstate__(self) -> dict[str, Any]:
        fresh = dict.fromkeys(("_layers", "_finalizer", "_compiled_call_impl", "compiler", "_known"))
        return {**self.__dict__, **fresh, "_around": []}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        if "_modules" in self.whole.__dict__:  # else it is part of what is being copied, and is taken up when called
            self._take_up()

    def extra_repr(self) -> str:
        return f"from '{self.cut.label}', features {self._features}"


def _function() -> Callable[..., Any]:
    """Runs a suffix. Each has code of its own: torch counts graphs by code, and learns by it which sizes change."""

    def behind(suffix: Suffix, *given: Any) -> Any:
        return suffix._resumed(given)

    behind.__code__ = behind.__code__.replace(co_name=f"behind_{next(_numbers)}")
    return behind


def _slots(module: nn.Module, stand_in: StandIn) -> tuple[str, ...]:
    """By which calls of a module it is to be met, so that compiled code stays as it is."""
    if compiled_call(module) is not None:
        return (COMPILED,)
    return ("forward",) if is_wrapper(module) and isinstance(stand_in, Opened) else SLOTS


def _withdraw(put: list[tuple[weakref.ref[Dispatcher], StandIn]]) -> None:
    for there, replay in put:
        if (dispatcher := there()) is not None:
            dispatcher.dismiss(replay)


def _misshapen(given: Any, crossing: Crossing) -> bool:
    return crossing.shape is not None and (not isinstance(given, Tensor) or misshapen(given.shape[1:], crossing))


def _asking(given: Any) -> Any:
    """A floating tensor that requires a gradient: without one a reentrant checkpoint gives none to parameters."""
    if not isinstance(given, Tensor) or given.requires_grad or not given.is_floating_point():
        return given
    return given.detach().requires_grad_()
