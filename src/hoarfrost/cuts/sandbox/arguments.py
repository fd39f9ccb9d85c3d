"""What a model is called with."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import ArgumentError
from .precision import Precision, dtype_name
from .pytrees import map_leaves, tensors_in

__all__ = [
    "Arguments",
    "Example",
    "Key",
    "arguments_of",
    "call_of",
    "called",
    "count_of",
    "entries_of",
    "first_tensor",
    "taken",
]

Key = int | str
Example = Tensor | tuple[Any, ...] | Mapping[str, Any]


@dataclass(frozen=True)
class Arguments:
    """Positional and keyword arguments of one call, all with one number of samples.

    The samples lie along the first dimension of the tensors. Where the first argument is a list of tensors (as
    detection models take images of their own sizes), each entry is a sample, and so it is in other lists of that
    length.
    """

    positional: tuple[Any, ...]
    keywords: dict[str, Any]

    @classmethod
    def of(cls, example: Any) -> Arguments:
        """Read an example: a tensor, a tuple of positional arguments, or a mapping of keyword arguments.

        Raises:
            ArgumentError: it is of another kind, or holds no batch of at least one sample.
        """
        if isinstance(example, Mapping):
            arguments, kind = cls((), dict(example)), "a mapping without a tensor"
        elif isinstance(example, tuple):
            first = type(example[0]).__name__ if example else "nothing"
            arguments, kind = cls(example, {}), f"a tuple that begins with {first}"
        else:
            arguments, kind = cls((example,), {}), repr(type(example))
        begins = next(iter(tensors_in(arguments)), None)
        opening = example[0] if isinstance(example, tuple) and example else example
        if begins is None or not (isinstance(example, Mapping) or tensors_in(opening)):
            raise ArgumentError(
                f"example: a batch of inputs [N, ...] is needed, a tuple of positional arguments that begins with "
                f"one, or a mapping of keyword arguments, not {kind}"
            )
        if not arguments.listed and (begins.ndim == 0 or begins.shape[0] == 0):
            raise ArgumentError(f"example: at least one sample is needed, its shape is {list(begins.shape)}")
        return arguments

    @property
    def listed(self) -> bool:
        """Whether samples are the entries of a list."""
        first = next((value for _, value in self.items()), None)
        return isinstance(first, list) and all(isinstance(entry, Tensor) for entry in first)

    @property
    def samples(self) -> int:
        """How many there are."""
        first = next(value for _, value in self.items() if tensors_in(value))
        return len(first) if self.listed else int(tensors_in(first)[0].shape[0])

    @property
    def precision(self) -> Precision:
        """What the caller would run a model in that is called with them."""
        return Precision.around(first_tensor(self).device)

    def items(self) -> Iterator[tuple[Key, Any]]:
        """Each argument under its position or its keyword."""
        yield from enumerate(self.positional)
        yield from self.keywords.items()

    def __getitem__(self, key: Key) -> Any:
        return self.positional[key] if isinstance(key, int) else self.keywords[key]

    def replaced(self, values: Mapping[Key, Any]) -> Arguments:
        """The same call with other values for some arguments."""
        positional = tuple(values.get(n, value) for n, value in enumerate(self.positional))
        return Arguments(positional, {name: values.get(name, value) for name, value in self.keywords.items()})

    def take(self, rows: int) -> Arguments:
        """The same arguments with `rows` samples: copies, repeated from the start where there are too few."""
        samples, listed = self.samples, self.listed

        def row(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor) or listed or leaf.ndim == 0 or leaf.shape[0] != samples:
                return leaf.clone() if isinstance(leaf, Tensor) else leaf
            taken = leaf.detach()[torch.arange(rows, device=leaf.device) % samples]
            if leaf.ndim == 4 and leaf.is_contiguous(memory_format=torch.channels_last):
                taken = taken.contiguous(memory_format=torch.channels_last)
            return taken

        def argument(value: Any) -> Any:
            if listed and isinstance(value, list) and len(value) == samples:
                value = [value[number % samples] for number in range(rows)]
            return map_leaves(row, value)

        return self.replaced({key: argument(value) for key, value in self.items()})

    def call(self, module: nn.Module) -> Any:
        """What the module gives for them."""
        return module(*self.positional, **self.keywords)

    def described(self) -> str:
        """Shapes and types, for messages."""
        return ", ".join(f"{list(t.shape)} {dtype_name(t.dtype)}" for t in tensors_in(self))


def called(module: nn.Module, example: Example) -> Any:
    """What a module gives for a batch: a tensor, a tuple of positional arguments, or a mapping of keywords."""
    if isinstance(example, Mapping):
        return module(**example)
    return module(*example) if isinstance(example, tuple) else module(example)


def call_of(module: nn.Module, args: Sequence[Any], keywords: Mapping[str, Any]) -> dict[int | str, Any]:
    """What a call of a module gives, under its position and under its name; defaults for what it leaves out."""
    given: dict[Key, Any] = dict(enumerate(args))
    given.update(keywords)
    try:
        bound = inspect.signature(module.forward).bind(*args, **keywords)
    except (TypeError, ValueError):
        return given
    bound.apply_defaults()
    found: dict[Key, Any] = {}
    if not any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in bound.signature.parameters.values()):
        found.update(enumerate(bound.arguments.values()))
    found.update(bound.arguments.items())
    return found | given


def entries_of(example: Example | Arguments) -> dict[Key, set[tuple[int, ...]]]:
    """For each argument that is a list of tensors, one a sample: the shapes of its entries."""
    arguments = example if isinstance(example, Arguments) else Arguments.of(example)
    listed = {key: value for key, value in arguments.items() if isinstance(value, list) and value}
    return {
        key: {tuple(entry.shape) for entry in value}
        for key, value in listed.items()
        if all(isinstance(entry, Tensor) for entry in value)
    }


def taken(example: Example, rows: int) -> Example:
    """A batch of the first `rows` samples."""
    if isinstance(example, Tensor):
        return example[:rows]
    arguments = Arguments.of(example).take(rows)
    return arguments.keywords or arguments.positional


def arguments_of(example: Example) -> dict[Key, Any]:
    """What a batch calls with, under positions and names."""
    return dict(Arguments.of(example).items())


def count_of(example: Example) -> int:
    """How many samples a batch has."""
    return Arguments.of(example).samples


def first_tensor(example: Any) -> Tensor:
    """The first tensor of a batch; whose device is the batch's."""
    return tensors_in(example)[0]
