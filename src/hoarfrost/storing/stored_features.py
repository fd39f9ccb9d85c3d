"""The stored features of one tensor as a run uses them: whatever becomes of their files, the run goes on.

A cache is strict: whatever is not as it should be is an error with a name. Here, and nowhere else, such an error
becomes what a run does instead. The features are computed again, by whoever asked for them; what was to be written or
removed is left; and the cause is said once.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor

from ..cache import Cache, Chunk
from ..codecs import Packed
from ..distributed import Ranks
from ..errors import ArgumentError, BudgetError, CacheBusyError, CacheDirectoryError, CacheError, CorruptChunkError

__all__ = ["Faults", "StoredFeatures"]

OTHERS_SECONDS = 60.0
"""For the other ranks to let a cache go that all of them have read."""


class Faults:
    """What befalls stored features in a run, said once for each kind and each build.

    Args:
        say: called with a `fault` record.
    """

    def __init__(self, say: Callable[[dict[str, Any]], None]) -> None:
        self._say = say
        self._told: set[tuple[str, type[Exception]]] = set()

    def begin(self) -> None:
        """Caches are built or opened anew: what befalls these is news."""
        self._told.clear()

    def tell(self, instead: str, error: Exception) -> None:
        """Say what happened, as a warning and as a record, and what is done instead."""
        kind = instead, type(error)
        if kind in self._told:
            return
        self._told.add(kind)
        self._say({"event": "fault", "kind": type(error).__name__, "reason": str(error), "instead": instead})
        warnings.warn(f"hoarfrost {instead}: {error}", stacklevel=3)

    @contextmanager
    def borne(self, instead: str) -> Iterator[None]:
        """Runs what a training can do without: an error of a cache ends the block, and is said."""
        try:
            yield
        except (CacheError, OSError) as error:
            self.tell(instead, error)


class StoredFeatures:
    """One cache of a run. Only `read` raises, and what it raises is a `CacheError`: then the prefix stands in.

    Args:
        budget_bytes: that the cache may take while records are drawn anew.
    """

    def __init__(self, cache: Cache, faults: Faults, budget_bytes: int | None = None) -> None:
        self.cache, self.faults, self.budget_bytes = cache, faults, budget_bytes
        self._writes = True

    @property
    def nbytes(self) -> int:
        """Bytes on disk; 0 where that cannot be told."""
        with self.faults.borne("goes on without the size of a cache"):
            return self.cache.nbytes if self.stands else 0
        return 0

    @property
    def stands(self) -> bool:
        """Whether it is still on disk."""
        try:
            return self.cache.path.is_dir()
        except OSError:
            return False

    def begin(self) -> tuple[int, ...]:
        """An epoch begins, and with it a new try to write; what changes when anyone writes to the files."""
        self._writes = True
        if not self.cache.whole:
            self.cache.refresh()  # other ranks record too
        return self.cache.written()

    def read(self, chunk: int, view: int, edition: int) -> Chunk:
        """One record in the rendition that an epoch is to see.

        Raises:
            CorruptChunkError, CacheDirectoryError: it has to be computed.
        """
        record = self.cache.read(chunk, view)
        if record.edition != edition:
            raise CorruptChunkError(
                f"chunk {chunk}, view {view} in {self.cache.path} shows rendition {record.edition} "
                f"in place of {edition}: another run has drawn it anew"
            )
        return record

    def put(
        self,
        chunk: int,
        view: int,
        edition: int,
        features: Tensor,
        *,
        targets: Tensor,
        sample_ids: Tensor,
        lengths: Tensor | None,
        digests: str | None = None,
        frames: Sequence[int] | None = None,
    ) -> Packed:
        """Write a record that is missing, outdated or damaged, if the cache takes it; it as it is read back.

        What is stored of the chunk's targets counts as long as it can be read: the data set may have others by now.

        Behind an error nothing more is written until the next epoch, but for want of room: another record may fit.
        """
        if self.cache.unfetched is not None:
            self.faults.tell("computes what cannot be fetched", self.cache.unfetched)
        if self._writes:
            try:
                write: Callable[..., Chunk] = partial(self.cache.heal, chunk, view, features, lengths=lengths)
                if self.cache.edition(chunk, view) != edition:
                    more: dict[str, Any] = {"budget_bytes": self.budget_bytes, "lengths": lengths}
                    more |= {"digests": digests, "frames": frames}
                    write = partial(self.cache.renew, chunk, view, edition, features, **more)
                try:
                    return write().packed
                except CorruptChunkError:
                    return write(targets=targets, sample_ids=sample_ids).packed
            except (CacheError, ArgumentError, OSError) as error:
                self._writes = isinstance(error, BudgetError)
                self.faults.tell("computes in each epoch what cannot be stored", error)
        spec = self.cache.spec
        codec = spec.codec_of(view, None if lengths is None else lengths.tolist())
        physical = spec.physical(features)
        payload = codec.encode(physical, spec.codec_axis)
        return codec.unpack(payload, physical.shape, spec.dtype, spec.codec_axis)

    def drop(self, ranks: Ranks | None = None) -> None:
        """Remove it from disk; what cannot be removed stays, and is said.

        Args:
            ranks: that read it together: one of them removes it, as soon as the others have let it go.
        """
        if ranks is not None and not ranks.leads:
            self.cache.release()
            return
        with self.faults.borne("leaves a cache that is no longer read"):
            until = time.monotonic() + (0.0 if ranks is None or ranks.alone else OTHERS_SECONDS)
            while True:
                try:
                    self.cache.drop()
                    return
                except CacheBusyError:
                    if time.monotonic() > until:
                        raise
                    time.sleep(0.02)

    def missed(self) -> None:
        """Say that it is no longer there, and is built anew."""
        self.faults.tell(
            "builds the cache again", CacheDirectoryError(f"the cache directory {self.cache.path} has vanished")
        )
