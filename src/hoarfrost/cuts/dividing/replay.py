"""What modules gave in front of a cut, given again without running them: fake tensors, and the features themselves."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import count
from typing import Any

import torch
from torch import Tensor

from ...errors import InvalidCutError
from ..sandbox.arguments import Key
from ..sandbox.compiled import bare, is_wrapper
from ..sandbox.dispatcher import Dispatcher
from ..sandbox.pytrees import map_leaves
from .fake_tensors import Gate, Ghost
from .script import Replayed, Script
from .symbolic_shapes import Outline

__all__ = ["Opened", "Replay", "Resumption"]


class Running(threading.local):
    """The call of a suffix that is in progress in this thread: the innermost one."""

    resumption: Resumption | None = None


running = Running()


class Resumption(Gate):
    """One suffix's call in progress: what was handed over, and which calls were replayed."""

    def __init__(self, script: Script) -> None:
        super().__init__(script.cut.label)
        crossings = script.cut.tensors
        self.mutated = tuple(crossing.mutated for crossing in crossings)
        self.entry = script.ports[0][:2]
        self.ruler = script.cut.ruler
        self.given_at: dict[tuple[str, int], dict[int, int]] = {}
        for place, (name, call, number) in enumerate(script.ports):
            self.given_at.setdefault((name, call), {})[number] = place
        self.given_as: dict[Key, int] = {c.source: n for n, c in enumerate(crossings) if c.is_argument}
        self.restores_chance = script.restores_chance
        self.skipped = script.skipped
        self.training = False
        self.around: Resumption | None = None
        self.features: tuple[Any, ...] | None = None
        self.calls: dict[str, int] = {}
        self.chance: list[Tensor] = []
        self.known: dict[Any, Any] = {}

    def of(self, features: tuple[Any, ...], training: bool) -> Resumption:
        self.features, self.training = features, training
        return self

    def __enter__(self) -> None:
        self.around, running.resumption = running.resumption, self
        self.passed, self.calls = False, {}
        if self.restores_chance:
            self.chance = [torch.get_rng_state()]
            if self._first.is_cuda:
                self.chance.append(torch.cuda.get_rng_state(self._first.device))

    def __exit__(self, *_: object) -> None:
        running.resumption, self.around = self.around, None
        self.features = None
        self.passed = True  # what is left of the call has no values either

    def argument(self, key: Key, outline: Outline) -> Any:
        """One of the model's arguments: ghosts, unless it was handed over."""
        place = self.given_as.get(key)
        return self.ghosts(outline, "the model's input", key) if place is None else self._own(place)

    def ghosts(self, outline: Outline, source: str, key: Any) -> Any:
        """The structure of an outline for this batch, with ghosts as tensors."""
        first = self._first
        samples, device = first.shape[0], first.device
        if torch.compiler.is_compiling():
            # Plain tensors in a graph: what nothing reads is no part of it.
            return outline.fill(samples, lambda meta: torch.empty_like(meta, device=device), self._length)
        key = (key, samples, self._length, device)
        if key not in self.known:
            if len(self.known) > 1024:
                self.known.clear()
                self.worked_out.clear()
            self.known[key] = outline.fill(samples, lambda meta: Ghost(meta, device, self, source), self._length)
        return self.known[key]

    def hand_on(self, outline: Outline, name: str, call: int) -> Any:
        """What a module gave in front of the cut; at the cut itself the gate closes behind it."""
        for inner, calls in self.skipped[self.training][name, call].items():
            self.calls[inner] = self.calls.get(inner, 0) + calls
        output = self.ghosts(outline, f"'{name}'", (name, call, self.training))
        return self.put_in(output, name, call) if (name, call) in self.given_at else output

    def put_in(self, output: Any, name: str, call: int) -> Any:
        """A module's output with the features in their places."""
        places = self.given_at.get((name, call), {})
        if (name, call) == self.entry:
            self.passed = True
            if self.chance:
                torch.set_rng_state(self.chance[0])
                for state in self.chance[1:]:
                    torch.cuda.set_rng_state(state, self._first.device)
        numbers = count()

        def leaf(known: Any) -> Any:
            if not isinstance(known, Tensor):
                return known
            place = places.get(next(numbers))
            return known if place is None else self._own(place)

        return map_leaves(leaf, output)

    def _own(self, place: int) -> Any:
        """One of what was handed over; a copy where the model writes into it: the caller's must survive."""
        given = self._all[place]
        return map_leaves(_cloned, given) if self.mutated[place] else given

    @property
    def _all(self) -> tuple[Any, ...]:
        if self.features is None:
            raise InvalidCutError(f"cut '{self.place}': part of the suffix runs outside of a call of it")
        return self.features

    @property
    def _first(self) -> Tensor:
        first: Tensor = self._all[0]
        return first

    @property
    def _length(self) -> int:
        """How long the tensor is that tells; 0 where none does."""
        if self.ruler is None:
            return 0
        number, ragged = self.ruler
        length: int = self._all[number].shape[1 + ragged.axis]
        return length

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "known": {}, "worked_out": {}, "chance": [], "features": None, "around": None}


def _cloned(leaf: Any) -> Any:
    return leaf.clone() if isinstance(leaf, Tensor) else leaf


class Replay:
    """Answers a module's calls while its suffix is called: hands on ghosts and features for those in front of the cut.

    The others run.
    """

    def __init__(self, name: str, part: Replayed, resumption: Resumption) -> None:
        self.name = name
        self.part = part
        self.resumption = resumption
        self.let_through = False

    @property
    def active(self) -> bool:
        """Whether a call of its suffix is in progress in this thread."""
        return running.resumption is self.resumption

    def __call__(self, dispatcher: Dispatcher, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        if self.let_through:  # counted already, when the module was called
            self.let_through = False
            return dispatcher.own(*inputs, **keywords)
        resumption, part = self.resumption, self.part
        call = resumption.calls.get(self.name, 0)
        resumption.calls[self.name] = call + 1
        if part.ended is not None and call not in part.ended[resumption.training]:
            return self._let(dispatcher.own, dispatcher.slot, inputs, keywords)
        if part.runs:
            # Without its hooks: they ran in front.
            run = dispatcher.own if dispatcher.slot == "forward" else dispatcher.module.forward
            return resumption.put_in(self._let(run, dispatcher.slot, inputs, keywords), self.name, call)
        outlines = part.outlines[resumption.training]
        if call >= len(outlines):
            raise InvalidCutError(
                f"cut '{resumption.place}': '{self.name}' is called {call + 1} times, {len(outlines)} when the "
                f"model was divided"
            )
        return resumption.hand_on(outlines[call], self.name, call)

    def _let(self, run: Callable[..., Any], slot: str, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        self.let_through = slot != "forward"
        try:
            return run(*inputs, **keywords)
        finally:
            self.let_through = False


class Opened:
    """Runs a compiled module that holds both sides as it is written, while its suffix is called.

    Its compiled code knows nothing of tensors without values.
    """

    def __init__(self, resumption: Resumption) -> None:
        self.resumption = resumption

    @property
    def active(self) -> bool:
        """Whether a call of its suffix is in progress in this thread."""
        return running.resumption is self.resumption

    def __call__(self, dispatcher: Dispatcher, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        module = dispatcher.module
        run: Any = bare(module) if is_wrapper(module) else module._call_impl
        return run(*inputs, **keywords)
