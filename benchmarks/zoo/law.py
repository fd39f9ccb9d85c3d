"""The law of division, checked without Hoarfrost's own check.

A model, and a copy of it that was divided, run from the same random state. In eval the outputs must be equal bit for
bit; in train the prefix runs without gradients, and outputs, buffers afterwards and the gradients of all parameters
that act only in the suffix must be equal bit for bit.
"""

from __future__ import annotations

import dataclasses
import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .entry import Example

__all__ = ["Run", "chance", "difference", "divided", "is_dispatcher", "seed", "state", "values", "whole"]


@dataclass(frozen=True)
class Run:
    """One pass of a model: all that must not differ, by name."""

    output: dict[str, Any]
    gradients: dict[str, Tensor | None]
    buffers: dict[str, Tensor]

    def difference(self, other: Run) -> str | None:
        """What of the other differs from this, and by how much; None if nothing does."""
        return (
            difference("output", self.output, other.output)
            or difference("gradient", {name: self.gradients.get(name) for name in other.gradients}, other.gradients)
            or difference("buffer", self.buffers, other.buffers)
        )


def whole(model: nn.Module, example: Example, *, training: bool) -> Run:
    """The model on the example. In train its buffers may move: give a copy."""
    model.train(training)
    names = [name for name, p in _parameters(model) if p.requires_grad] if training else []
    seed()
    with torch.set_grad_enabled(training):
        output = _call(model, example)
    return _run(output, model, names)


def divided(
    model: nn.Module,
    prefix: nn.Module,
    suffix: nn.Module,
    example: Example,
    *,
    training: bool,
    recording: bool = False,
) -> Run:
    """The model's two parts on the example, with the gradients of what acts in the suffix only.

    The prefix runs without gradients; with `recording` it records them, and they end at the features.
    """
    prefix.train(training)
    suffix.train(training)
    front = {id(parameter) for parameter in prefix.parameters()}
    names = [n for n, p in _parameters(suffix) if p.requires_grad and id(p) not in front] if training else []
    seed()
    with torch.set_grad_enabled(recording):
        features = _detached(_call(prefix, example))
    with torch.set_grad_enabled(training):
        output = suffix(features)
    return _run(output, model, names)


def _detached(features: Any) -> Any:
    if isinstance(features, Tensor):
        return features.detach()
    return tuple(map(_detached, features)) if isinstance(features, tuple) else features


def _parameters(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """A tied one under each of its names."""
    return list(module.named_parameters(remove_duplicate=False))


def _call(module: nn.Module, example: Example) -> Any:
    if isinstance(example, dict):
        return module(**example)
    return module(*example) if isinstance(example, tuple) else module(example)


def _run(output: Any, model: nn.Module, names: Sequence[str]) -> Run:
    found = dict(_flattened(output))
    losses = [_weighted(leaf) for leaf in found.values() if isinstance(leaf, Tensor) and leaf.requires_grad]
    gradients: dict[str, Tensor | None] = dict.fromkeys(names)
    if losses and names:
        parameters = dict(_parameters(model))
        wanted = [parameters[name] for name in names]
        gradients |= zip(names, torch.autograd.grad(torch.stack(losses).sum(), wanted, allow_unused=True), strict=True)
    return Run(
        {path: leaf.detach().clone() if isinstance(leaf, Tensor) else leaf for path, leaf in found.items()},
        gradients,
        {name: buffer.detach().clone() for name, buffer in model.named_buffers()},
    )


def _weighted(leaf: Tensor) -> Tensor:
    """A loss in which no two entries count alike: a plain sum has no gradient through a softmax."""
    weights = torch.randn(leaf.shape, generator=torch.Generator().manual_seed(leaf.numel()))
    return (leaf * weights).sum().abs().float()


def _flattened(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested containers, each under its path; the type of a container is a leaf too."""
    if isinstance(value, Tensor) or value is None or isinstance(value, (bool, int, float, str)):
        yield path, value
        return
    yield f"type of {path or 'all'}", type(value).__qualname__
    if isinstance(value, Mapping):
        items: list[tuple[Any, Any]] = list(value.items())
    elif isinstance(value, (list, tuple)):
        items = list(enumerate(value))
    elif dataclasses.is_dataclass(value):
        items = [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    else:
        items = sorted(getattr(value, "__dict__", {}).items())
    for key, item in items:
        yield from _flattened(item, f"{path}.{key}" if path else str(key))


def difference(what: str, expected: Mapping[str, Any], got: Mapping[str, Any]) -> str | None:
    """The first entry that is not the same, bit for bit; None if all are."""
    if expected.keys() != got.keys():
        odd = sorted(expected.keys() ^ got.keys())
        return f"{what}: {len(odd)} of {len(expected)} are on one side only, first '{odd[0]}'"
    for name, value in expected.items():
        other = got[name]
        if isinstance(value, Tensor) and isinstance(other, Tensor):
            if value.shape != other.shape or value.dtype != other.dtype:
                return f"{what} '{name}' is {list(other.shape)} {other.dtype}, not {list(value.shape)} {value.dtype}"
            if not _same(value, other):
                return f"{what} '{name}' differs by up to {_by(value, other)}"
        elif isinstance(value, Tensor) or isinstance(other, Tensor) or value != other:
            return f"{what} '{name}' is {_short(other)}, not {_short(value)}"
    return None


def _same(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a, b) or bool(((a == b) | (a.isnan() & b.isnan())).all())


def _by(expected: Tensor, got: Tensor) -> str:
    wide = expected.to(torch.complex128)
    absolute, largest = (wide - got.to(torch.complex128)).abs().max().item(), wide.abs().max().item()
    return f"{absolute:.2g} ({absolute / largest:.2g} of the largest value)" if largest else f"{absolute:.2g}"


def _short(value: Any) -> str:
    return f"a tensor {list(value.shape)}" if isinstance(value, Tensor) else repr(value)[:80]


def state(model: nn.Module) -> dict[str, Any]:
    """All of a model that dividing it must leave alone, but for what answers its calls while it is divided."""
    found: dict[str, Any] = {}
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            if is_dispatcher(value):
                value = value.held  # what the model has there itself
                if value is None:
                    continue
            if value is None or isinstance(value, (bool, int, float, str)):
                found[f"{name}.{key}"] = value
            else:
                found[f"{name}.{key}"] = f"{type(value).__name__} of {len(value)}" if hasattr(value, "__len__") else ""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        found[f"values of {name}"] = _digest(tensor)
        found[f"gradient of {name}"] = tensor.grad is not None
    return found


def values(state: Mapping[str, Any]) -> dict[str, Any]:
    """What of it running the parts must leave alone: behind the cut they run the model's own modules."""
    return {key: value for key, value in state.items() if key.startswith(("values of ", "gradient of "))}


def is_dispatcher(value: Any) -> bool:
    return type(value).__name__ == "Dispatcher"


def chance() -> dict[str, Any]:
    """The random states."""
    return {"torch": torch.get_rng_state(), "numpy": repr(np.random.get_state()), "python": repr(random.getstate())}


def _digest(tensor: Tensor) -> str:
    values = tensor.detach().contiguous().reshape(-1).view(torch.uint8) if tensor.numel() else torch.empty(0)
    return hashlib.blake2b(values.numpy().data, digest_size=8).hexdigest()


def seed() -> None:
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
