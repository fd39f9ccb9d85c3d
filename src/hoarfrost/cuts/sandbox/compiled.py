"""Models that `torch.compile` was told to compile, whole or in parts: their own names, and running them uncompiled."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from .dispatcher import own_value

__all__ = ["Uncompiled", "bare", "compiled_call", "compiler_of", "is_compiled", "is_wrapper", "own_name", "uncompiled"]

WRAPPED = "_orig_mod"
DYNAMO = "torch._dynamo.eval_frame"


def own_name(path: str) -> str:
    """A module's path as it is without the wrappers of `torch.compile(module)`.

    >>> own_name("layer1._orig_mod.0")
    'layer1.0'
    """
    return ".".join(part for part in path.split(".") if part != WRAPPED) if WRAPPED in path else path


def is_wrapper(module: nn.Module) -> bool:
    """Whether it is what `torch.compile(module)` gave, and no module of the model's own."""
    # Nothing is compiled before torch's compiler is imported, which takes a second or two.
    dynamo = sys.modules.get(DYNAMO)
    return dynamo is not None and isinstance(module, dynamo.OptimizedModule)


def bare(module: nn.Module) -> nn.Module:
    """The module inside such wrappers, or itself."""
    while is_wrapper(module):
        module = module._modules[WRAPPED]  # type: ignore[assignment]
    return module


def compiled_call(module: nn.Module) -> Any:
    """What runs in the place of a module's call behind `module.compile()`; None where it is not compiled so."""
    return own_value(module.__dict__.get("_compiled_call_impl"))


def is_compiled(module: nn.Module) -> bool:
    """Whether a call of it runs compiled code."""
    return is_wrapper(module) or compiled_call(module) is not None


def compiler_of(module: nn.Module) -> Callable[[Any], Any] | None:
    """What compiles other functions as the module is compiled, by `torch.compile(module)` or `module.compile()`.

    None where it is not.
    """
    if is_wrapper(module):
        compiler: Callable[[Any], Any] = module.__dict__["dynamo_ctx"]
        return compiler
    # `torch.compile` keeps what it was told in what it gives.
    told = getattr(compiled_call(module), "get_compiler_config", None)
    return None if told is None else inspect.getclosurevars(told).nonlocals.get("self")


@contextmanager
def uncompiled() -> Iterator[None]:
    """Runs a block without compiling anything, and what was compiled as it was written."""
    stance = getattr(torch.compiler, "set_stance", None) if DYNAMO in sys.modules else None  # torch 2.6
    if stance is None:
        yield
        return
    with stance("force_eager"):
        yield


class Uncompiled(nn.Module):
    """Stands in a clone of a model where that has a wrapper of `torch.compile(module)`: calls the module."""

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        """As the module's."""
        return self._modules[WRAPPED](*inputs, **keywords)  # type: ignore[misc]

    @property
    def training(self) -> bool:
        """The module's own."""
        return bool(self._modules[WRAPPED].training)  # type: ignore[union-attr]

    @training.setter
    def training(self, mode: bool) -> None:
        self._modules[WRAPPED].training = mode  # type: ignore[union-attr]

    def __getattr__(self, name: str) -> Any:
        module = self.__dict__["_modules"][WRAPPED]
        return module if name == WRAPPED else getattr(module, name)
