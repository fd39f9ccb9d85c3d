"""One forward pass, watched: when each value is made, read and written, and which modules are running.

Every storage belongs to a class: constant, derived from parameters alone, derived from the model's arguments alone,
drawn at random, or features, in which arguments have met parameters or chance.
A value is one tensor object, so that two names for the same memory are told apart: what a module returns is handed
on as a fresh alias, and whoever reads the older object afterwards is seen to do so.
"""

from __future__ import annotations

import inspect
import random
import sys
import types
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from functools import reduce, wraps
from itertools import count
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import CheckpointFunction, checkpoint
from torch.utils.flop_counter import flop_registry

from ..sandbox.arguments import Arguments, Key
from ..sandbox.clone import has_hooks, own_forward
from ..sandbox.pytrees import map_leaves, tensors_in
from ..sandbox.restore import Originals, storage_key
from .geometry import Tracker

__all__ = ["NEVER_ENDS", "SHAPE_ONLY", "Origin", "Port", "Trace", "Value", "Visit", "preserved_randomness", "trace"]

NEVER_ENDS = 1 << 60

# One tensor that a module gives: the module's path, which call of it, and the tensor's number in the output.
Port = tuple[str, int, int]

# These take a tensor for its shape, dtype and device alone.
SHAPE_ONLY = frozenset(
    f"{stem}{kind}" for stem in ("zeros", "ones", "empty", "full", "rand", "randn") for kind in ("_like",)
) | {"new_zeros", "new_ones", "new_full", "new_empty", "new_empty_strided"}
WRITERS: dict[Any, bool] = {}  # whether an operator may write into an argument
NOTHING: frozenset[Key] = frozenset()
SHAPES_FROM_VALUES = {torch.Tag.dynamic_output_shape, torch.Tag.data_dependent_output}
DECISIONS = frozenset({"_local_scalar_dense", "is_nonzero", "equal", "nonzero", "unique_dim", "_unique2"})


class Origin(IntEnum):
    """What a storage's contents come from, from the weakest to the strongest."""

    CONSTANT = 0
    PARAMETERS = 1
    ARGUMENTS = 2
    RANDOM = 3
    DATA = 4

    def met(self, other: Origin) -> Origin:
        """What comes of the two."""
        if Origin.ARGUMENTS in (self, other) and {Origin.PARAMETERS, Origin.RANDOM} & {self, other}:
            return Origin.DATA
        return max(self, other)


@dataclass
class Value:
    """One tensor object: when it was made and by which module, when and by which modules it was read.

    `port` tells which tensor of which call's output it is, where it was handed on by a module.
    """

    made: int
    maker: str
    shape: tuple[int, ...]
    storage: int
    reads: list[tuple[int, str]] = field(default_factory=list)
    port: Port | None = None

    def reader_after(self, time: int) -> str | None:
        """The module that reads it first after `time`, if one does."""
        return next((reader for t, reader in self.reads if t > time), None)


@dataclass
class Storage:
    """A piece of memory: its origin, and when it was made, first reached by arguments or chance, and written.

    `roots` are the parameters, and `arguments` the model's arguments, that it was derived from, as long as it was
    derived from these alone.
    """

    made: int
    origin: Origin = Origin.CONSTANT
    reached: int = NEVER_ENDS
    roots: frozenset[int] = frozenset()
    arguments: frozenset[Key] = frozenset()
    writes: list[int] = field(default_factory=list)
    given: bool = False


@dataclass(frozen=True)
class Visit:
    """One call of one module, with what it gave, and the numbers of the checkpointed regions around it."""

    name: str
    call: int
    start: int
    end: int
    operators: int
    flops: int
    output: Any
    parents: tuple[str, ...]
    regions: tuple[int, ...]


@dataclass
class Region:
    """One call of `torch.utils.checkpoint`: whether it is reentrant, when it began, and operators when last seen.

    Of its modules the last one to end tells where it ends; what it computes behind that is not seen.
    """

    reentrant: bool
    start: int
    operators: int = 0


@dataclass(frozen=True)
class Decision:
    """A Python value taken from a tensor, or random numbers drawn: when, of which origin, in which modules."""

    time: int
    origin: Origin
    stack: tuple[str, ...]
    arguments: frozenset[Key] = frozenset()


@dataclass
class Trace:
    """All that was seen in one forward pass of `rows` samples."""

    rows: int
    training: bool
    inputs: Arguments
    visits: list[Visit] = field(default_factory=list)
    values: dict[int, Value] = field(default_factory=dict)
    storages: dict[int, Storage] = field(default_factory=dict)
    uses: dict[str, tuple[int, int]] = field(default_factory=dict)
    decisions: list[Decision] = field(default_factory=list)
    draws: list[Decision] = field(default_factory=list)
    regions: list[Region] = field(default_factory=list)
    replaced: dict[str, int] = field(default_factory=dict)  # buffers that are another tensor now: made when
    flops: int = 0
    output: Any = None
    tracker: Tracker | None = None

    def origin(self, tensor: Tensor) -> Origin:
        """What the tensor's contents come from."""
        storage = self.storages.get(storage_key(tensor))
        return storage.origin if storage else Origin.CONSTANT


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
        for tensor in _written(func, args, kwargs):
            self.originals.keep(tensor)
        out = func(*args, **kwargs)
        if not self.paused:
            self.time += 1
            self.operators += 1
            self._operator(func, args, kwargs, out)
        return out

    def _operator(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        packet = func._overloadpacket
        if packet in flop_registry:
            self.record.flops += flop_registry[packet](*args, **kwargs, out_val=out)
        outputs = _among((out,))
        name = packet.__name__
        is_random = torch.Tag.nondeterministic_seeded in func.tags
        inputs = _among((*args, *kwargs.values())) if kwargs else _among(args)
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
        for tensor in _written(func, args, kwargs):
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
        return self.record.storages.setdefault(storage_key(tensor), Storage(self.time))

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


class Checkpoints:
    """Tells from the calling frames which checkpoints are running: without gradients nothing else does."""

    REENTRANT = CheckpointFunction.forward.__code__
    PLAIN = inspect.unwrap(checkpoint).__code__  # the frame around a reentrant one too

    def __init__(self, regions: list[Region]) -> None:
        self.regions = regions
        self.numbers: dict[types.FrameType, int] = {}  # holds the frames, so that none is taken for another

    def around(self, time: int) -> tuple[int, ...]:
        """The numbers of the regions around the caller, the innermost first."""
        found: list[int] = []
        frame: types.FrameType | None = sys._getframe(1)
        reentrant = False
        while frame is not None:
            if frame.f_code is self.REENTRANT or (frame.f_code is self.PLAIN and not reentrant):
                reentrant = frame.f_code is self.REENTRANT
                if frame not in self.numbers:
                    self.numbers[frame] = len(self.regions)
                    self.regions.append(Region(reentrant, time))
                found.append(self.numbers[frame])
            elif frame.f_code is self.PLAIN:
                reentrant = False
            frame = frame.f_back
        return tuple(found)


def trace(
    body: nn.Module,
    names: dict[nn.Module, str],
    inputs: Arguments,
    rows: int,
    originals: Originals,
    *,
    training: bool,
    tracker: Tracker | None = None,
) -> Trace:
    """Run `body` once without gradients and record it.

    Args:
        body: a shadow of the model with copied buffers; of no use afterwards.
        names: the path of each of its modules.
        inputs: arguments with `rows` samples.
        originals: the tensors of the model itself.
        tracker: follows where the features lie on the image.
    """
    record = Trace(rows, training, inputs, tracker=tracker)
    roots: dict[int, list[str]] = {}
    tensors = [*body.named_parameters(remove_duplicate=False), *body.named_buffers(remove_duplicate=False)]
    for name, tensor in tensors:
        roots.setdefault(storage_key(tensor), []).append(name)
    recorder = Recorder(record, roots, originals)
    given = dict(tensors)
    for tensor in given.values():
        recorder.parameter(tensor)
    for key, argument in inputs.items():
        for tensor in tensors_in(argument):
            recorder.argument(tensor, key)
    calls: Counter[str] = Counter()
    starts: list[tuple[int, int, tuple[int, ...]]] = []
    checkpoints = Checkpoints(record.regions)

    def enter(module: nn.Module, _: Any) -> None:
        name = names[module]
        recorder.time += 1
        starts.append((recorder.time, calls[name], checkpoints.around(recorder.time)))
        calls[name] += 1
        recorder.stack.append(name)

    def leave(module: nn.Module, _: Any, output: Any) -> Any:
        start, call, regions = starts.pop()
        recorder.time += 1
        name = recorder.stack[-1]
        fresh = recorder.handed_on(output, name, call)
        recorder.stack.pop()
        for number in regions:
            record.regions[number].operators = recorder.operators
        where = (tuple(recorder.stack), regions)
        record.visits.append(Visit(name, call, start, recorder.time, recorder.operators, record.flops, fresh, *where))
        return fresh

    for module in names:
        if module is not body:
            _watch(module, enter, leave)
    body.train(training)
    with originals, torch.no_grad(), preserved_randomness(inputs), recorder:
        record.output = inputs.call(body)
    for name, buffer in body.named_buffers(remove_duplicate=False):
        if buffer is not given.get(name):
            record.replaced[name] = recorder.value(buffer).made
    for tensor in tensors_in(record.output):
        recorder.value(tensor).reads.append((NEVER_ENDS, ""))
        recorder.time = NEVER_ENDS
        recorder.use(recorder.storage(tensor).roots if record.origin(tensor) < Origin.RANDOM else frozenset())
    return record


def _watch(module: nn.Module, enter: Callable[..., None], leave: Callable[..., Any]) -> None:
    """Call `enter` and `leave` around a module's forward.

    Not by hooks where the module has none: torch's fused transformer layers take another way, with other bits, as soon
    as a hook is in them.
    """
    if has_hooks(module):
        module.register_forward_pre_hook(enter, prepend=True)
        module.register_forward_hook(leave)
        return
    forward = own_forward(module)

    @wraps(forward)
    def watched(*args: Any, **keywords: Any) -> Any:
        enter(module, args)
        return leave(module, args, forward(*args, **keywords))

    module.__dict__["forward"] = watched


def _among(values: Iterable[Any]) -> list[Tensor]:
    """The tensors among an operator's arguments or results, which nest at most once."""
    found = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += [item for item in value if isinstance(item, Tensor)]
    return found


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Tensor]:
    if func not in WRITERS:
        WRITERS[func] = any(
            (argument.alias_info is not None and argument.alias_info.is_write) or argument.name == "running_mean"
            for argument in func._schema.arguments
        )
    if not WRITERS[func]:
        return
    schema = func._schema.arguments
    given = {a.name: args[n] if n < len(args) else kwargs.get(a.name) for n, a in enumerate(schema)}
    # Batch norms write their running statistics without declaring it.
    trains = given.get("training") or given.get("train")
    for argument in schema:
        declared = argument.alias_info is not None and argument.alias_info.is_write
        if declared or (trains and argument.name in ("running_mean", "running_var")):
            yield from _among((given[argument.name],))


@contextmanager
def preserved_randomness(inputs: Any) -> Iterator[None]:
    """Leave the random states of torch (CPU and the inputs' devices), Python and NumPy as they were."""
    devices = {t.device for t in tensors_in(inputs) if t.device.type == "cuda"}
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[d.index or 0 for d in devices]):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
