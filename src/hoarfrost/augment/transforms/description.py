"""A transform as JSON: what it is and with which parameters, the same in every process."""

from __future__ import annotations

import enum
import functools
import hashlib
import re
from collections.abc import Mapping
from types import CodeType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .own_states import is_random_state

__all__ = ["describe_object"]

_MODULE_FIELDS = frozenset(nn.Module().__dict__)
_DEPTH = 8
# What albumentations' transforms keep of their last call, and what refers back to them.
_LAST_DRAWN = frozenset({"params", "_key2func", "processors", "seed", "random_generator", "py_random"})


def describe_object(value: Any, depth: int = _DEPTH) -> Any:
    """JSON that changes when the transform does: types, attributes, hashes of tensors and of code.

    Memory addresses are left out, so two processes agree. What a function reads from its module's globals is
    not seen.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else repr(value)
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, (type, torch.dtype, torch.device)):
        return _name(value) if isinstance(value, type) else str(value)
    if depth == 0:
        return _repr(value)
    if isinstance(value, (Tensor, np.ndarray)):
        array = value.detach().cpu().contiguous().numpy() if isinstance(value, Tensor) else value
        return {"array": str(array.dtype), "shape": list(array.shape), "sha256": _hash(array.tobytes())}
    if isinstance(value, (list, tuple)):
        return [describe_object(element, depth - 1) for element in value]
    if isinstance(value, (set, frozenset)):
        return sorted(str(describe_object(element, depth - 1)) for element in value)
    if isinstance(value, Mapping):
        return {str(describe_object(k, depth - 1)): describe_object(v, depth - 1) for k, v in value.items()}
    if is_random_state(value):
        # Where it stands belongs to the moment.
        return {"type": _name(type(value))}
    return {"type": _name(type(value)), **_parts(value, depth)}


def _parts(value: Any, depth: int) -> dict[str, Any]:
    if isinstance(value, FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or () if _filled(cell)]
        return {
            "name": _name(value),
            "code": _hash(repr(_code(value.__code__)).encode()),
            "values": describe_object([value.__defaults__, value.__kwdefaults__, cells], depth - 1),
        }
    if isinstance(value, MethodType):
        return {
            "function": describe_object(value.__func__, depth),
            "self": describe_object(value.__self__, depth - 1),
        }
    if isinstance(value, functools.partial):
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
    fields = {k: v for k, v in getattr(value, "__dict__", {}).items() if k not in _MODULE_FIELDS}
    if isinstance(value, nn.Module):
        fields |= {**value._parameters, **value._buffers, **value._modules}
    if not fields:
        return {"repr": _repr(value)}
    return {"parameters": {k: describe_object(v, depth - 1) for k, v in sorted(fields.items())}}


def _code(code: CodeType) -> tuple[Any, ...]:
    constants = [_code(part) if isinstance(part, CodeType) else _constant(part) for part in code.co_consts]
    return (code.co_code.hex(), code.co_names, constants)


def _constant(part: Any) -> str:
    # A set in a constant is ordered by hashes, which differ between processes.
    return str(sorted(map(repr, part))) if isinstance(part, frozenset) else repr(part)


def _filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _name(value: type | FunctionType) -> str:
    """What it is called: what is ours by its wing alone, so that no cache goes stale when a file is moved."""
    parts = value.__module__.split(".")
    module = ".".join(parts[:2]) if parts[0] == __name__.partition(".")[0] else value.__module__
    return f"{module}.{value.__qualname__}"


def _repr(value: Any) -> str:
    if repr(value) == object.__repr__(value):
        return f"<{_name(type(value))} object>"
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
