"""Seeing the features at some cuts while a forward pass runs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..cuts import Cut, Example, first_tensor, hooks_apart, own_name, tensors_in, uncompiled

__all__ = ["at_cuts", "cuda_devices"]


@contextmanager
def at_cuts(model: nn.Module, cuts: Sequence[Cut], seen: Callable[[int, Tensor], None]) -> Iterator[None]:
    """Call `seen(number, features)` at `cuts[number]` in the one forward pass of the block.

    The features are the model's own tensor, before it goes on and may write into it. What the user's hooks keep of that
    pass is forgotten.
    """
    paths = reversed(list(model.named_modules(remove_duplicate=False)))
    modules = {own_name(path): module for path, module in paths}  # of a module and its wrapper, the wrapper
    with ExitStack() as undo:
        undo.enter_context(uncompiled())
        undo.enter_context(hooks_apart(model))
        for number, cut in enumerate(cuts):
            undo.callback(modules[cut.name].register_forward_hook(_hook(number, cut, seen)).remove)
        yield


def _hook(number: int, cut: Cut, seen: Callable[[int, Tensor], None]) -> Callable[[nn.Module, Any, Any], None]:
    calls = itertools.count()

    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        if next(calls) == cut.call:
            seen(number, tensors_in(output)[cut.number])

    return hook


def cuda_devices(inputs: Example) -> list[torch.device]:
    """Where a batch lies, as `torch.random.fork_rng` takes it."""
    device = first_tensor(inputs).device
    return [device] if device.type == "cuda" else []
