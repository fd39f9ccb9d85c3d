"""Things as JSON: what they are and with which parameters, the same in every process."""

from __future__ import annotations

import enum
import functools
import hashlib
import json
import random
import re
from collections.abc import Container, Mapping
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePath
from types import BuiltinFunctionType, CodeType, FunctionType, MappingProxyType, MethodType, SimpleNamespace
from typing import Any
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

import numpy as np
import torch
from torch import Tensor, nn

from .ownership import package_of

__all__ = [
    "MODULE_FIELDS",
    "RANDOM_STATES",
    "code_digest",
    "describe_module",
    "describe_object",
    "digest_of",
    "is_plain",
    "name_of",
    "registered",
]

RANDOM_STATES = (np.random.Generator, np.random.RandomState, random.Random, torch.Generator)
"""Where one of these stands belongs to the moment."""

_WEAK = (WeakKeyDictionary, WeakSet, WeakValueDictionary)
"""What they hold belongs to others, and to the moment."""
_HOUSE = __name__.partition(".")[0]
MODULE_FIELDS = frozenset({*nn.Module().__dict__, "_compiled_call_impl", "_is_torch_compile", "_compile_kwargs"})
"""What torch keeps in a module itself, its compiler too; the last is what Lightning notes of a `torch.compile`."""
_DEPTH = 8
_SPEAKING = (re.Pattern, PurePath, slice, range, complex, bytes, bytearray, Fraction, Decimal)
"""Of Python's own objects those that are all that their `repr` says; what others hold belongs to the moment."""
# What albumentations' transforms keep of their last call, and what refers back to them.
_LAST_DRAWN = frozenset({"params", "_key2func", "processors", "seed", "random_generator", "py_random"})


def is_plain(value: Any) -> bool:
    """Whether it is a value, not a thing that does something: numbers, texts, tensors, and lists and mappings of
    these."""
    if isinstance(value, (list, tuple, set, frozenset)):
        return all(map(is_plain, value))
    if isinstance(value, Mapping):
        return all(map(is_plain, value.values()))
    kinds = (bool, int, float, str, enum.Enum, Tensor, np.ndarray, np.generic, torch.dtype, torch.device, *_SPEAKING)
    return value is None or isinstance(value, kinds)


def describe_object(value: Any, depth: int = _DEPTH) -> Any:
    """JSON that changes when the thing does: types, attributes, hashes of tensors and of code.

    Memory addresses are left out, so two processes agree. What a function reads from its module's globals is not
    seen here: `code_of` follows that.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else repr(value)
    if isinstance(value, enum.Enum):
        named = f"{type(value).__name__}.{value.name}"
        # What a library's word stands for is told with its version.
        return named if package_of(type(value)) is not None else [named, describe_object(value.value, depth - 1)]
    if isinstance(value, (type, torch.dtype, torch.device)):
        return name_of(value) if isinstance(value, type) else str(value)
    if depth == 0:
        return _repr(value)
    if isinstance(value, (Tensor, np.ndarray)):
        return _array(value)
    if isinstance(value, (list, tuple)):
        return [describe_object(element, depth - 1) for element in value]
    if isinstance(value, (set, frozenset)):
        return sorted(str(describe_object(element, depth - 1)) for element in value)
    if isinstance(value, _WEAK):
        return {"type": name_of(type(value))}
    if isinstance(value, Mapping):
        return {str(describe_object(k, depth - 1)): describe_object(v, depth - 1) for k, v in value.items()}
    if isinstance(value, RANDOM_STATES):
        return {"type": name_of(type(value))}
    return {"type": name_of(type(value)), **_parts(value, depth)}


def describe_module(module: nn.Module, without: Container[str] = ()) -> dict[str, Any]:
    """A module of a model by its class and what it holds beside parameters, buffers and other modules: JSON by names of
    attributes.

    Of an object that it holds its own plain values are told; what lies deeper belongs to others.

    Args:
        without: attributes that are left out.
    """
    told: dict[str, Any] = {"class": name_of(type(module))}
    for key, value in module.__dict__.items():
        if key in MODULE_FIELDS or key in without or package_of(type(value)) == _HOUSE:
            continue
        if isinstance(value, FunctionType) and package_of(value) == _HOUSE:
            continue
        shown = _shallow(value)
        # In few bytes: a manifest holds them all, for a name in a message.
        text = json.dumps(shown, sort_keys=True)
        told[key] = shown if len(text) <= 80 else digest_of(text.encode())
    return told


def _shallow(value: Any, depth: int = 3) -> Any:
    if isinstance(value, nn.Module):
        return name_of(type(value))
    if isinstance(value, (list, tuple, set, frozenset)):
        parts = sorted(value, key=str) if isinstance(value, (set, frozenset)) else value
        return [_shallow(part, depth) for part in parts]
    if isinstance(value, Mapping):
        return {str(key): _shallow(part, depth) for key, part in value.items()}
    if is_plain(value) or isinstance(value, (type, FunctionType, functools.partial, BuiltinFunctionType)):
        return describe_object(value)
    if isinstance(value, MethodType):
        return {"function": describe_object(value.__func__)}
    if isinstance(value, nn.Parameter) or depth == 0:
        return name_of(type(value))
    held = getattr(value, "__dict__", {})
    shown = {key: _shallow(part, 0) for key, part in sorted(held.items()) if is_plain(part)}
    return {"type": name_of(type(value)), **shown}


def name_of(value: type | FunctionType) -> str:
    """What it is called: what is ours by its wing alone, so that no cache goes stale when a file is moved."""
    parts = value.__module__.split(".")
    module = ".".join(parts[:2]) if parts[0] == __name__.partition(".")[0] else value.__module__
    return f"{module}.{value.__qualname__}"


def code_digest(function: FunctionType) -> str:
    """Of what a function does: its bytecode, names and constants, without its docstring and its place in the file."""
    code = function.__code__
    constants = code.co_consts
    if constants and function.__doc__ is not None and constants[0] == function.__doc__:
        constants = constants[1:]
    return digest_of(repr(_code(code, constants)).encode())


def registered(function: FunctionType) -> dict[str, Any]:
    """What a `functools.singledispatch` function chooses from, by the name of the kind; nothing for any other."""
    registry = getattr(function, "registry", None)
    if not isinstance(registry, MappingProxyType) or not hasattr(function, "dispatch"):
        return {}
    return {name_of(kind): chosen for kind, chosen in registry.items()}


def digest_of(data: bytes | memoryview) -> str:
    """16 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()[:16]


def _array(value: Any) -> dict[str, Any]:
    if isinstance(value, Tensor):
        kind, shape = str(value.dtype).removeprefix("torch."), list(value.shape)
        if value.layout != torch.strided or value.is_meta or value.is_quantized:
            return {"tensor": kind, "shape": shape, "layout": str(value.layout)}
        flat = value.detach().resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
        return {"array": kind, "shape": shape, "sha256": digest_of(flat.view(torch.uint8).numpy().data)}
    data = repr(value.tolist()).encode() if value.dtype.hasobject else np.ascontiguousarray(value).tobytes()
    return {"array": str(value.dtype), "shape": list(value.shape), "sha256": digest_of(data)}


def _parts(value: Any, depth: int) -> dict[str, Any]:
    if isinstance(value, FunctionType) and registered(value):
        # What stands around them remembers which kinds it has met.
        return {"name": name_of(value), "dispatches": describe_object(registered(value), depth - 1)}
    if isinstance(value, FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or () if _filled(cell)]
        return {
            "name": name_of(value),
            "code": code_digest(value),
            "values": describe_object([value.__defaults__, value.__kwdefaults__, cells], depth - 1),
        }
    if isinstance(value, MethodType):
        return {
            "function": describe_object(value.__func__, depth),
            "self": describe_object(value.__self__, depth - 1),
        }
    if isinstance(value, (functools.partial, functools.partialmethod)):
        parts = (value.func, value.args, value.keywords)
        return {"partial": [describe_object(part, depth - 1) for part in parts]}
    library = type(value).__module__.split(".")[0]
    if library == "albumentations" and hasattr(value, "to_dict"):
        # Its attributes hold the last decisions too. What cannot be serialised (a Lambda without a name) is read as is.
        try:
            return {"parameters": describe_object(value.to_dict(), depth + _DEPTH)}
        except (NotImplementedError, ValueError):
            fields = {k: v for k, v in vars(value).items() if k not in _LAST_DRAWN}
            return {"parameters": {k: describe_object(v, depth - 1) for k, v in sorted(fields.items())}}
    if library == "kornia":
        return {"repr": _repr(value)}
    fields = {k: v for k, v in getattr(value, "__dict__", {}).items() if k not in MODULE_FIELDS}
    slots = (slot for base in type(value).__mro__ for slot in _slots(base) if hasattr(value, slot))
    fields |= {slot: getattr(value, slot) for slot in slots if package_of(type(value)) is None}
    if isinstance(value, nn.Module):
        fields |= {**value._parameters, **value._buffers, **value._modules}
    elif package_of(type(value)) == "" and fields and not callable(value) and not isinstance(value, SimpleNamespace):
        return {}  # a logger, a lock, a path's cache: what it holds belongs to the moment
    if not fields:
        return {"repr": _repr(value)}
    return {"parameters": {k: describe_object(v, depth - 1) for k, v in sorted(fields.items())}}


def _code(code: CodeType, constants: tuple[Any, ...] | None = None) -> tuple[Any, ...]:
    held = [
        _code(part) if isinstance(part, CodeType) else _constant(part)
        for part in (code.co_consts if constants is None else constants)
    ]
    return (code.co_code.hex(), code.co_names, held)


def _constant(part: Any) -> str:
    # A set in a constant is ordered by hashes, which differ between processes.
    return str(sorted(map(repr, part))) if isinstance(part, frozenset) else repr(part)


def _slots(cls: type) -> tuple[str, ...]:
    told = vars(cls).get("__slots__", ())
    return (told,) if isinstance(told, str) else tuple(told)


def _filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _repr(value: Any) -> str:
    if repr(value) == object.__repr__(value):
        return f"<{name_of(type(value))} object>"
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))
