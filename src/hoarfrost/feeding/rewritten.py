"""Inputs in memory that the loop writes into behind the build of a cache."""

from __future__ import annotations

from ..cache import Cache
from ..samples import Samples

__all__ = ["Rewritten"]


class Rewritten:
    """Remembers how often the tensor that inputs lie in was written to, as torch counts; values are looked at then."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples
        self._stamp: tuple[int, int] | None = None

    def look(self) -> None:
        """What is there now is what a cache was made from."""
        self._stamp = self._samples.identity.stamp

    def told(self, cache: Cache | None) -> str:
        """How inputs are not those of the cache any more, in words; "" if they are."""
        before = self._stamp
        self.look()
        memory = self._samples.identity.memory
        if self._stamp == before or cache is None or memory is None:
            return ""
        if self._samples.identity.look().data == cache.fingerprint.fields["data"]:
            return ""
        return f"'data': {memory.name!r} was written to since the cache was built"
