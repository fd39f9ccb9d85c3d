"""Random states that a transform holds itself, beside the process's own: found, seeded for a sample, and put back."""

from __future__ import annotations

import functools
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...provenance import RANDOM_STATES
from ...seeds import mix

__all__ = ["find_states", "is_random_state", "read_state", "seed_state", "write_state"]

_KINDS = RANDOM_STATES
# A transform, the list that it holds, what is in it, its sampler, that one's generator, and a list or two between.
_DEPTH = 7
_CLOSED = (str, bytes, int, float, complex, Tensor, np.ndarray, type, ModuleType, torch.dtype, torch.device)


def is_random_state(value: object) -> bool:
    """Whether something is a generator of random numbers, of numpy, torch or Python."""
    return isinstance(value, _KINDS)


def find_states(transform: Any) -> list[Any]:
    """The random states in a transform, each once, in an order of their own.

    Looked through are attributes, lists, tuples and dictionaries, the modules of a module, what a function closes over,
    its defaults, the globals that it names where they are random states, and a partial's parts. What hides elsewhere
    (in an extension module, behind a property) is not found; `check_repeatable` shows that it is there.
    """
    found: dict[int, Any] = {}
    seen: dict[int, Any] = {}
    _search(transform, _DEPTH, found, seen)
    # The process's own are seeded anyway.
    ours = {id(torch.default_generator), id(np.random.mtrand._rand), id(getattr(random, "_inst", None))}
    return [state for key, state in found.items() if key not in ours]


def seed_state(states: list[Any], seed: int) -> None:
    """Seed all, each differently; the first of its kind with the seed itself, as its library would be by hand."""
    count: Counter[type] = Counter()
    for state in states:
        kind = next(kind for kind in _KINDS if isinstance(state, kind))
        own = seed if count[kind] == 0 else mix(seed, count[kind])
        count[kind] += 1
        if isinstance(state, np.random.Generator):
            state.bit_generator.state = type(state.bit_generator)(own).state
        elif isinstance(state, np.random.RandomState):
            state.seed(own & 0xFFFFFFFF)
        elif isinstance(state, random.Random):
            state.seed(own)
        else:
            state.manual_seed(own)


def read_state(state: Any) -> Any:
    """Where a random state stands, for `write_state`; None for one that has no such place (the system's)."""
    if isinstance(state, np.random.Generator):
        return state.bit_generator.state
    if isinstance(state, np.random.RandomState):
        return state.get_state()
    if isinstance(state, random.Random):
        return None if isinstance(state, random.SystemRandom) else state.getstate()
    return state.get_state()


def write_state(state: Any, value: Any) -> None:
    """Put a random state back to where `read_state` found it."""
    if value is None:
        return
    if isinstance(state, np.random.Generator):
        state.bit_generator.state = value
    elif isinstance(state, random.Random):
        state.setstate(value)
    else:
        state.set_state(value)


def _search(value: Any, depth: int, found: dict[int, Any], seen: dict[int, Any]) -> None:
    if is_random_state(value):
        found.setdefault(id(value), value)
        return
    if depth == 0 or value is None or isinstance(value, _CLOSED) or id(value) in seen:
        return
    seen[id(value)] = value
    for part in _parts(value):
        _search(part, depth - 1, found, seen)


def _parts(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple, set, frozenset)):
        yield from value
    elif isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, functools.partial):
        yield from (value.func, value.args, value.keywords)
    elif isinstance(value, MethodType):
        yield from (value.__self__, value.__func__)
    elif isinstance(value, FunctionType):
        yield from _held_by_function(value)
    else:
        yield from list(getattr(value, "__dict__", {}).values())
        for name in (name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ()) or ()):
            yield getattr(value, name, None)
        for name, member in list(vars(type(value)).items()):
            if is_random_state(member):
                yield member
            elif isinstance(member, FunctionType) and (name == "__call__" or not name.startswith("__")):
                yield from _named_globals(member, member.__code__)
        if isinstance(value, nn.Module):
            yield from value.children()


def _held_by_function(function: FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:
            continue
    yield from (function.__defaults__, function.__kwdefaults__)
    yield from _named_globals(function, function.__code__)


def _named_globals(function: FunctionType, code: CodeType) -> Iterator[Any]:
    """Random states among the globals that a function, or one written inside it, names."""
    for name in code.co_names:
        if is_random_state(function.__globals__.get(name)):
            yield function.__globals__[name]
    for part in code.co_consts:
        if isinstance(part, CodeType):
            yield from _named_globals(function, part)
