"""Batch norms that take their statistics over all processes of a training, where one of them runs the model alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["unsynchronised"]


@contextmanager
def unsynchronised() -> Iterator[None]:
    """In the block a SyncBatchNorm that trains takes the statistics of its own process, as in a training of one.

    What is measured is measured by one process, and no other is there for an exchange.
    """
    forward: Any = nn.SyncBatchNorm.forward
    nn.SyncBatchNorm.forward = cast(Any, _alone)  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.SyncBatchNorm.forward = forward  # type: ignore[method-assign]


def _alone(module: nn.SyncBatchNorm, input: Tensor) -> Tensor:
    return _BatchNorm.forward(module, input)
