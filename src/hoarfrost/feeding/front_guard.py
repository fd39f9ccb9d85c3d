"""A frozen front that somebody changes all the same, noticed before the next batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..cache import hash_tensors
from ..cuts import Prefix
from ..freezing import sums_of_bits

__all__ = ["FrontGuard"]


@dataclass
class _Known:
    """A tensor of the front, where its module keeps it, and the state that it was last seen in."""

    name: str
    key: str
    kept_in: dict[str, Tensor | None]
    tensor: Tensor | None
    version: int | None

    def look(self) -> None:
        self.tensor = self.kept_in.get(self.key)
        self.version = _version(self.tensor)


class FrontGuard:
    """Remembers a frozen front's tensors: which they are, how often each was written to, and a hash of all values.

    Looking at them costs a hundred nanoseconds a tensor. What was written with the same values (an average of the
    weights, swapped in for an evaluation and out again) is no change. Writes by way of `.data` are not counted by
    torch; they show where values are looked at, `exactly`, by sums of their bits.
    """

    def __init__(self, prefix: Prefix) -> None:
        self.prefix = prefix
        self._known = list(_tensors_of(prefix))
        self._digest, self._totals = self._hash(), self._sums()

    def unfrozen(self) -> tuple[str, ...]:
        """Names of parameters that somebody wants gradients of."""
        return tuple(known.name for known in self._known if known.tensor is not None and known.tensor.requires_grad)

    def changed(self, *, exactly: bool = False) -> tuple[str, ...]:
        """Names of the tensors that were written to or replaced since they were last looked at, if values differ.

        Args:
            exactly: look at all values; a pass over the front's memory.
        """
        # In front of each step, over all tensors: no calls of one's own, which would take longer than a small suffix.
        touched = [
            known
            for known in self._known
            if known.kept_in.get(known.key) is not known.tensor
            or (known.version is not None and known.tensor._version != known.version)  # type: ignore[union-attr]
        ]
        if exactly and not touched:
            now = self._sums()
            touched = [known for known, a, b in zip(self._known, self._totals, now, strict=True) if a != b]
        if not touched:
            return ()
        for known in touched:
            known.look()
        before, self._digest, self._totals = self._digest, self._hash(), self._sums()
        return () if before == self._digest else tuple(known.name for known in touched)

    def _sums(self) -> list[int]:
        """Of the bits of each tensor."""
        return sums_of_bits([known.tensor for known in self._known])

    def _hash(self) -> str:
        return hash_tensors((known.name, known.tensor) for known in self._known if known.tensor is not None)


def _tensors_of(prefix: Prefix) -> Iterator[_Known]:
    names = (*prefix.parameter_names, *prefix.shared_parameters, *prefix.buffer_names)
    for name in names:
        owner, _, key = name.rpartition(".")
        module: Any = prefix.whole.get_submodule(owner)
        kept_in = module._parameters if key in module._parameters else module._buffers
        tensor = kept_in.get(key)
        yield _Known(name, key, kept_in, tensor, _version(tensor))


def _version(tensor: Tensor | None) -> int | None:
    return None if tensor is None or tensor.is_inference() else tensor._version
