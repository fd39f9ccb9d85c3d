"""Writes each operator of a forward pass into a trace, as it is dispatched."""

from __future__ import annotations

from functools import reduce
from itertools import count
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ..sandbox.arguments import Key
from ..sandbox.pytrees import map_leaves
from ..sandbox.restore import Originals, storage_key
from .operators import DECISIONS, SHAPE_ONLY, SHAPES_FROM_VALUES, tensors_among, written
from .trace import Decision, Origin, Storage, Trace, Value

__all__ = ["Recorder"]

NOTHING: frozenset[Key] = frozenset()


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes each operator into a trace."""

    def __init__(self, record: Trace, names: dict[int, list[str]], originals: Originals) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.record = record
        self.names = names
        self.originals = originals
        self.time = 0
        self.operators = 0
        self.stack: list[str] = []
        self.paused = False
        self.kept: list[Tensor] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        for tensor in written(func, args, kwargs):
            self.originals.keep(tensor)
        out = func(*args, **kwargs)
        if not self.paused:
            self.time += 1
            self.operators += 1
            self._operator(func, args, kwargs, out)
        return out

    def _operator(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        packet = func._overloadpacket
        if self.record.training and packet in flop_registry:
            self.record.flops += flop_registry[packet](*args, **kwargs, out_val=out)
        outputs = tensors_among((out,))
        name = packet.__name__
        is_random = torch.Tag.nondeterministic_seeded in func.tags
        inputs = tensors_among((*args, *kwargs.values())) if kwargs else tensors_among(args)
        storages = [] if name in SHAPE_ONLY else [self.read(tensor) for tensor in inputs]
        origin = reduce(Origin.met, (s.origin for s in storages), Origin.CONSTANT)
        arguments = frozenset().union(*(s.arguments for s in storages)) if origin is Origin.ARGUMENTS else NOTHING
        if origin >= Origin.ARGUMENTS and (name in DECISIONS or SHAPES_FROM_VALUES & set(func.tags)):
            self.record.decisions.append(Decision(self.time, origin, tuple(self.stack), arguments))
        if is_random:
            origin = origin.met(Origin.RANDOM)
            self.record.draws.append(Decision(self.time, origin, tuple(self.stack)))
        roots: frozenset[int] = frozenset().union(*(s.roots for s in storages))
        if origin >= Origin.RANDOM:
            self.use(roots)
        for tensor in written(func, args, kwargs):
            storage = self.storage(tensor)
            storage.writes.append(self.time)
            self._fill(storage, origin, roots, arguments)
        for tensor in outputs:
            storage = self.storage(tensor)
            if not storage.given:
                self._fill(storage, origin, roots, arguments)
            self.value(tensor)
        if self.record.tracker is not None:
            self.record.tracker.operator(name, args, inputs, outputs)

    def _fill(self, storage: Storage, origin: Origin, roots: frozenset[int], arguments: frozenset[Key]) -> None:
        storage.origin = storage.origin.met(origin)
        if storage.origin >= Origin.ARGUMENTS:
            storage.reached = min(storage.reached, self.time)
        storage.arguments = storage.arguments | arguments if storage.origin is Origin.ARGUMENTS else NOTHING
        if not storage.given:
            # Once parameters have acted on the data they have been used; what reads the result does not use them.
            storage.roots = storage.roots | roots if storage.origin < Origin.RANDOM else frozenset()

    def storage(self, tensor: Tensor) -> Storage:
        key = storage_key(tensor)
        found = self.record.storages.get(key)
        if found is None:
            found = self.record.storages[key] = Storage(self.time)
        return found

    def value(self, tensor: Tensor) -> Value:
        found = self.record.values.get(id(tensor))
        if found is None:
            self.kept.append(tensor)  # an id is the tensor's own only while it lives
            maker = self.stack[-1] if self.stack else ""
            shape = () if tensor.is_nested else tuple(tensor.shape)  # a nested one has no shape
            found = Value(self.time, maker, shape, storage_key(tensor))
            self.record.values[id(tensor)] = found
        return found

    def read(self, tensor: Tensor) -> Storage:
        reader = self.stack[-1] if self.stack else ""
        storage = self.storage(tensor)
        self.value(tensor).reads.append((self.time, reader))
        return storage

    def use(self, roots: frozenset[int]) -> None:
        for root in roots:
            for name in self.names[root]:
                first, _ = self.record.uses.get(name, (self.time, self.time))
                self.record.uses[name] = (first, self.time)

    def parameter(self, tensor: Tensor) -> None:
        """A parameter or buffer, there before the first operator."""
        key = storage_key(tensor)
        self.record.storages[key] = Storage(0, Origin.PARAMETERS, roots=frozenset({key}), given=True)
        self.value(tensor)

    def argument(self, tensor: Tensor, key: Key) -> None:
        """A tensor in one of the model's arguments."""
        arguments = frozenset({key})
        self.record.storages[storage_key(tensor)] = Storage(
            0, Origin.ARGUMENTS, reached=0, arguments=arguments, given=True
        )
        if self.record.tracker is not None:
            self.record.tracker.argument(tensor)
        self.value(tensor)

    def handed_on(self, output: Any, name: str, call: int) -> Any:
        """Fresh objects for the tensors of a module's output, so that readers of the older ones can be told apart."""
        numbers = count()

        def alias(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor):
                return leaf
            self.read(leaf)
            fresh = torch.ops.aten.alias(leaf)
            if self.record.tracker is not None:
                self.record.tracker.operator("alias", (leaf,), [leaf], [fresh])
            self.value(fresh).port = (name, call, next(numbers))
            return fresh

        self.paused = True
        fresh = map_leaves(alias, output)
        self.paused = False
        return fresh
