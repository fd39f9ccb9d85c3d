"""A model in eval for a while, with nothing of it changed afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

__all__ = ["evaluating"]


@contextmanager
def evaluating(model: Callable[..., Any], gradients: bool = False) -> Iterator[None]:
    """Every module of `model` in eval for the length of the block; each one's own flag is restored, after errors too.

    The flags are set directly: a `train` of a module's own is not called, which might do more than could be undone.

    Args:
        model: a function that is no module is taken as it is.
        gradients: whether autograd records within the block, whatever it does outside; no parameter's `requires_grad`
            is touched.
    """
    flags = [(module, module.training) for module in model.modules()] if isinstance(model, nn.Module) else []
    try:
        for module, _ in flags:
            module.training = False
        with torch.set_grad_enabled(gradients):
            yield
    finally:
        for module, training in flags:
            module.training = training
