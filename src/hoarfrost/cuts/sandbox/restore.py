"""Leaving the user's model and the random states as they were, whatever its own code does while it runs."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .pytrees import tensors_in

__all__ = ["Originals", "borrowed", "preserved_randomness", "seed_randomness", "storage_key"]


def storage_key(tensor: Tensor) -> int:
    """One integer for each piece of memory."""
    return int(tensor.untyped_storage()._cdata)


class Originals:
    """Tensors that get back their contents and versions at the end.

    Args:
        tensors: all that could change.
        at_once: keep them all now, and not each as soon as `keep` tells that it is about to be written.
    """

    def __init__(self, tensors: Iterable[Tensor], *, at_once: bool = False) -> None:
        tensors = list(tensors)
        self.known: dict[int, list[Tensor]] = {}
        for tensor in tensors:
            self.known.setdefault(storage_key(tensor), []).append(tensor)
        self.kept: dict[int, list[tuple[Tensor, Tensor, int | None]]] = {}
        for tensor in tensors if at_once else ():
            self.keep(tensor)

    def keep(self, written: Tensor) -> None:
        """Something is about to write into this tensor."""
        key = storage_key(written)
        if key in self.known and key not in self.kept:
            self.kept[key] = [(tensor, tensor.detach().clone(), _version(tensor)) for tensor in self.known[key]]

    def __enter__(self) -> Originals:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for tensor, original, version in (entry for entries in self.kept.values() for entry in entries):
            tensor.detach().copy_(original)
            if version is not None:
                torch._C._autograd._unsafe_set_version_counter((tensor,), (version,))
        self.kept.clear()


def _version(tensor: Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version


@contextmanager
def borrowed(model: nn.Module, written: Iterable[Tensor]) -> Iterator[nn.Module]:
    """The model itself, to be run: flags, plain attributes, what they contain, and buffers come back afterwards.

    Args:
        model: the model.
        written: its parameters that its forward is known to write into.
    """
    attributes = [(module, dict(module.__dict__)) for module in model.modules()]
    containers = [
        (value, value.copy())
        for _, held in attributes
        for key, value in held.items()
        if isinstance(value, (list, set, dict))
    ]
    with Originals([*model.buffers(), *written], at_once=True):
        try:
            yield model
        finally:
            for value, contents in containers:
                _refill(value, contents)
            for module, held in attributes:
                module.__dict__.clear()
                module.__dict__.update(held)


def _refill(container: Any, contents: Any) -> None:
    container.clear()
    container.extend(contents) if isinstance(container, list) else container.update(contents)


@contextmanager
def preserved_randomness(inputs: Any) -> Iterator[None]:
    """Leave the random states of torch (CPU and the inputs' devices), Python and NumPy as they were."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=_gpus(inputs)):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def seed_randomness(seed: int, inputs: Any) -> None:
    """Seed what `preserved_randomness` preserves, and nothing else.

    `torch.manual_seed` seeds all devices, and those that are not in use yet as soon as they are.
    """
    torch.default_generator.manual_seed(seed)
    for gpu in _gpus(inputs):
        torch.cuda.default_generators[gpu].manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)


def _gpus(inputs: Any) -> list[int]:
    return sorted({t.device.index or 0 for t in tensors_in(inputs) if t.device.type == "cuda"})
