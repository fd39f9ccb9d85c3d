"""The caches of one plan, found standing or built: by this process, or by all ranks that share the directory."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..cache import Cache, CacheSpec, CacheWriter, Fingerprint, begin_part, discard_parts, take_parts
from ..distributed import Ranks
from ..errors import CacheBusyError, CacheDirectoryError
from ..samples import TrainingData
from .fingerprint import Content
from .standing import Standing
from .stored_features import Faults

__all__ = ["SharedBuild"]

# For another run that is building the same features; then this one recomputes.
WAIT_SECONDS = 600.0

Fill = Callable[[dict[int, CacheWriter[Cache]], Collection[int] | None], None]


@dataclass
class SharedBuild:
    """One after the other: what is there is found, what lacks is shared out, written, and put together by one rank.

    Each rank writes whole chunks into a part of its own, so that no two write to a file. The rank that leads writes
    into the cache itself, takes the parts over and makes it visible. No collective waits for any of that.

    Attributes:
        ranks: that share the directory.
        usable: whether what stands may be read.
        whole: whether all records are written; else they are while epochs show them.
        begun: whether some of it was there.
        remarks: what is to be said of the build.
    """

    directory: Path
    data: TrainingData
    standing: Standing
    content: Content
    faults: Faults
    ranks: Ranks
    usable: Callable[[Cache], bool]
    whole: bool
    begun: bool = False
    remarks: list[str] = field(default_factory=list)

    def caches(
        self,
        wanted: Sequence[tuple[Fingerprint, CacheSpec]],
        budget_bytes: Sequence[int | None],
        fill: Fill,
    ) -> tuple[Cache, ...]:
        """The caches of these, such that stand already and new ones.

        Args:
            budget_bytes: of each.
            fill: writes the given chunks, or all, by the number of their cache.

        Raises:
            CacheError: as `Storage.store`; the same on all ranks.
        """
        standing: dict[int, Cache] = {}
        writers: dict[int, CacheWriter[Cache]] = {}
        try:
            if self.ranks.leads:
                return self._led(wanted, budget_bytes, fill, standing, writers)
            return self._joined(wanted, budget_bytes, fill, writers)
        except Exception:
            for writer in writers.values():
                with self.faults.borne("leaves a cache that could not be built"):
                    writer.abort()
            raise
        finally:
            # What an interrupt broke off is built on by the next call, which the lock must not keep out.
            for writer in writers.values():
                writer.close()

    def _led(
        self,
        wanted: Sequence[tuple[Fingerprint, CacheSpec]],
        budget_bytes: Sequence[int | None],
        fill: Fill,
        standing: dict[int, Cache],
        writers: dict[int, CacheWriter[Cache]],
    ) -> tuple[Cache, ...]:
        self.ranks.attempt("begin a cache", lambda: self._begin(wanted, budget_bytes, standing, writers))
        self.begun = bool(standing) or any(writer.done for writer in writers.values())
        shares = self._shares(writers)
        self.ranks.lead(
            "who builds what",
            lambda: {
                "keys": [fingerprint.key for fingerprint, _ in wanted],
                "lacking": sorted(writers),
                "shares": shares,
                "begun": self.begun,
            },
        )
        self._written(writers, fill, None if shares is None else shares[0])

        def commit() -> list[str]:
            # One after the other: a crash in between leaves whole caches, and the build of the others goes on.
            for number, writer in writers.items():
                take_parts(writer)
                discard_parts(self.directory, writer.fingerprint.key)
                standing[number] = writer.commit(whole=self.whole, unreadable=self.data.samples.unreadable.found)
            return [standing[number].path.name for number in range(len(wanted))]

        names = self.ranks.attempt("commit a cache", commit)
        self.ranks.lead("where the caches are", lambda: names)
        return tuple(standing[number] for number in range(len(wanted)))

    def _joined(
        self,
        wanted: Sequence[tuple[Fingerprint, CacheSpec]],
        budget_bytes: Sequence[int | None],
        fill: Fill,
        writers: dict[int, CacheWriter[Cache]],
    ) -> tuple[Cache, ...]:
        self.ranks.attempt("begin a cache", lambda: None)
        nothing: dict[str, Any] = {}
        told = self.ranks.lead("who builds what", lambda: nothing)
        self.begun = told["begun"]

        def begin() -> None:
            if told["keys"] != [fingerprint.key for fingerprint, _ in wanted]:
                raise CacheDirectoryError(
                    "its features are made from something else than those of the rank that leads: its weights, images "
                    "or code differ. Load the checkpoint on all ranks, or give each machine a cache_dir of its own"
                )
            for number in told["lacking"] if told["shares"] else ():
                fingerprint, spec = wanted[number]
                budget = budget_bytes[number]
                writers[number] = begin_part(self.directory, fingerprint, spec, self.ranks.rank, budget)

        share = told["shares"][self.ranks.rank] if told["shares"] else []
        self._written(writers, fill, share, begin)
        self.ranks.attempt("commit a cache", lambda: None)
        no_names: list[str] = []
        names = self.ranks.lead("where the caches are", lambda: no_names)
        return tuple(Cache.open(self.directory / name).hold() for name in names)

    def _begin(
        self,
        wanted: Sequence[tuple[Fingerprint, CacheSpec]],
        budget_bytes: Sequence[int | None],
        standing: dict[int, Cache],
        writers: dict[int, CacheWriter[Cache]],
    ) -> None:
        """See which stand, and begin the others."""
        for number, (mine, spec) in enumerate(wanted):
            found = self.standing.find(mine, spec, self.content, self.remarks)
            if found is not None and self.usable(found):
                standing[number] = found
                continue
            budget = budget_bytes[number]
            try:
                writers[number] = Cache.create(self.directory, mine, spec, budget_bytes=budget)
            except CacheBusyError as error:
                warnings.warn(f"hoarfrost waits up to {WAIT_SECONDS:.0f} s: {error}", stacklevel=2)
                writer = Cache.create(self.directory, mine, spec, budget_bytes=budget, wait_seconds=WAIT_SECONDS)
                found = self.standing.find(mine, spec, self.content, self.remarks)
                if found is None:
                    # It was broken off; what it has built is gone on with.
                    writers[number] = writer
                else:
                    writer.abort()
                    standing[number] = found
            if number in writers:
                take_parts(writers[number])  # what more ranks than now had built before they were killed

    def _shares(self, writers: dict[int, CacheWriter[Cache]]) -> list[list[int]] | None:
        """The chunks that each rank writes; None for one that is alone.

        A chunk of which a part is there is written by the rank that has it: further views may be derived from it.
        """
        if self.ranks.alone:
            return None
        size, chunks = self.ranks.world, range(self.data.order.chunks if self.whole else 1)
        begun = {chunk for writer in writers.values() for chunk, _ in writer.done}
        fresh = [chunk for chunk in chunks if chunk not in begun]
        shares = [fresh[rank::size] for rank in range(size)]
        return [sorted([*shares[0], *begun]), *shares[1:]]

    def _written(
        self,
        writers: dict[int, CacheWriter[Cache]],
        fill: Fill,
        share: Collection[int] | None,
        begin: Callable[[], None] = lambda: None,
    ) -> None:
        """Write a share, and wait until all are written."""

        def work() -> None:
            begin()
            if writers:
                fill(writers, share)
            if not self.ranks.leads:
                for writer in writers.values():
                    writer.close()

        self.ranks.attempt("chunks of a cache", work)
        samples = self.data.samples
        trusted = samples.identity.targets is None or samples.identity.today is not None
        samples.unreadable.share(self.ranks)
        if not all(self.ranks.gather("whether targets are trusted", trusted)) and trusted:
            samples.distrust_targets()
        self.standing.note(writers.values())
