"""What is seen in one forward pass: when each value is made, read and written, and which modules are running.

Every storage belongs to a class: constant, derived from parameters alone, derived from the model's arguments alone,
drawn at random, or features, in which arguments have met parameters or chance.
A value is one tensor object, so that two names for the same memory are told apart: what a module returns is handed
on as a fresh alias, and whoever reads the older object afterwards is seen to do so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from torch import Tensor

from ..sandbox.arguments import Arguments, Key
from ..sandbox.restore import storage_key
from .geometry import Tracker

__all__ = ["NEVER_ENDS", "Decision", "Origin", "Port", "Region", "Storage", "Trace", "Value", "Visit"]

NEVER_ENDS = 1 << 60

# One tensor that a module gives: the module's path, which call of it, and the tensor's number in the output.
Port = tuple[str, int, int]


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
    mode_reads: dict[str, int] = field(default_factory=dict)  # when a module's mode was last asked for
    replaced: dict[str, int] = field(default_factory=dict)  # buffers that are another tensor now: made when
    flops: int = 0  # counted in train alone
    output: Any = None
    tracker: Tracker | None = None

    def origin(self, tensor: Tensor) -> Origin:
        """What the tensor's contents come from."""
        storage = self.storages.get(storage_key(tensor))
        return storage.origin if storage else Origin.CONSTANT
