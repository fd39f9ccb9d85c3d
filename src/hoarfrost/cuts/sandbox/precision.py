"""The autocast that a model runs under: told, or found around a call, and put around another."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import torch

from ...errors import ArgumentError
from .synchronised import unsynchronised

__all__ = ["Precision", "apart", "dtype_name", "without_autocast"]

T = TypeVar("T")

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Precision:
    """What a model computes in, on one kind of device.

    Attributes:
        device: "cpu", "cuda" and so on.
        dtype: of the autocast; None: there is none, and the model computes in what its weights are.
    """

    device: str
    dtype: torch.dtype | None = None

    @classmethod
    def of(cls, name: str, device: torch.device) -> Precision:
        """By its name: "bf16" or "fp16".

        Raises:
            ArgumentError: torch has no autocast for that device.
        """
        if not torch.amp.is_autocast_available(device.type):
            raise ArgumentError(f"precision={name!r}: torch has no autocast for {device.type!r}; leave it at None")
        return cls(device.type, DTYPES[name])

    @classmethod
    def around(cls, device: torch.device) -> Precision:
        """What the caller has put around this call."""
        kind = device.type
        known = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
        return cls(kind, torch.get_autocast_dtype(kind) if known else None)

    def autocast(self) -> AbstractContextManager[object]:
        """Runs a block so, whatever is around it; where it is so already, nothing is done."""
        return nullcontext() if Precision.around(torch.device(self.device)) == self else self._autocast()

    @contextmanager
    def anew(self) -> Iterator[None]:
        """Runs a block so, each weight cast when it is used.

        What the caller's autocast keeps of casts is neither used nor added to: a pass without gradients would leave
        weights in it that have none, and a trace would not see where they come from. Nor is what an autocast inside
        the model keeps: torch lets that go at the end of the outermost one only.
        """
        torch.clear_autocast_cache()
        try:
            with self._autocast():
                yield
        finally:
            torch.clear_autocast_cache()

    def _autocast(self) -> AbstractContextManager[object]:
        if not torch.amp.is_autocast_available(self.device):
            return nullcontext()
        return torch.autocast(self.device, self.dtype, enabled=self.dtype is not None, cache_enabled=False)

    def __str__(self) -> str:
        return "without autocast" if self.dtype is None else f"under autocast to {dtype_name(self.dtype)}"

    def plain(self) -> str | None:
        """As JSON takes it: the autocast's dtype, or None."""
        return None if self.dtype is None else dtype_name(self.dtype)


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


@contextmanager
def without_autocast(device: torch.device) -> Iterator[None]:
    """Runs a block that is not the model's own in what its tensors are, on the CPU and on `device`."""
    with Precision("cpu").autocast(), Precision(device.type).autocast():
        yield


def apart(items: Generator[T, None, None], device: torch.device) -> Iterator[T]:
    """The same, each made without the autocast that its taker has put around the loop, and without other processes.

    What that keeps of casts is let go each time: it would go on with the weights of the first step.
    """
    with closing(items):
        while True:
            torch.clear_autocast_cache()
            with without_autocast(device), unsynchronised():
                try:
                    item = next(items)
                except StopIteration:
                    return
            yield item
