"""The caches of one run: built within the disk budget, found again, dropped when deeper ones stand and no saved state
needs them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..cache import Cache, CacheWriter
from ..cuts import Cut
from ..errors import BudgetError, CacheBusyError, CacheDirectoryError, CorruptChunkError
from ..freezing import Division
from ..samples import Deriver, PrefixSource, TrainingData, Way
from ..settings import Storing
from .budget import Budget
from .build import fill
from .calibration import Calibration
from .fingerprint import Content, Origin, fingerprint_of, origin_of, way_of
from .from_features import FromFeatures
from .plan import Decided, Plan
from .sample_check import SampleCheck
from .standing import Standing
from .stored_features import Faults, StoredFeatures

__all__ = ["Storage", "Stored"]

# For another run that is building the same features; then this one recomputes.
WAIT_SECONDS = 600.0


@dataclass(frozen=True)
class Stored:
    """What was stored in the end.

    Attributes:
        note: what of it is less than what was asked for, in words, or "".
        remarks: likewise, and what else is to be said of the build.
        origin: whose features it was built from; None: from images.
    """

    plan: Plan
    note: str
    remarks: str
    origin: Origin | None


class Storage:
    """The caches of one run in its directory: those being read, and earlier ones as long as somebody needs them.

    A state that was saved names the caches that it goes on with (`keep`). These stay until a later state names others,
    whatever is frozen meanwhile: a run that is killed goes on from the state that it has. The disk budget comes first.
    """

    def __init__(self, directory: Path, data: TrainingData, storing: Storing, faults: Faults) -> None:
        self._directory, self._data, self._views = directory, data, storing.views
        self.budget = Budget(storing.disk_budget, storing.over_budget)
        self._standing = Standing(directory, data, storing.stale)
        self.check: SampleCheck | None = None
        """Of the samples behind a cache that was found built; None: it was built by this process."""
        self.faults = faults
        self.features: tuple[StoredFeatures, ...] = ()
        """Of each tensor that crosses the cut; none when recomputing."""
        self._previous: tuple[StoredFeatures, ...] = ()
        self._kept: frozenset[Path] = frozenset()

    @property
    def caches(self) -> tuple[Cache, ...]:
        """They are stored in."""
        return tuple(stored.cache for stored in self.features)

    @property
    def nbytes(self) -> int:
        """Bytes on disk of what is being read."""
        return sum(stored.nbytes for stored in self.features)

    @property
    def left(self) -> int | None:
        """Bytes of the disk budget that are not used; None: there is no budget."""
        return self.budget.left(self._used((*self._previous, *self.features)))

    @property
    def vanished(self) -> bool:
        """Whether a cache that is being read is no longer on disk."""
        return not all(stored.stands for stored in self.features)

    def room_beside(self, features: Sequence[StoredFeatures], plan: Calibration | Plan) -> float:
        """Bytes of the disk budget that would be left beside these features and this plan."""
        return self.budget.beside(self._used(features), plan)

    def deriver(self, cut: Cut, way: Way, source: PrefixSource) -> Deriver | None:
        """What makes features of one rendition from another's; None where features or images allow none."""
        return self._data.deriver(cut, way, source.blank)

    def distrust(self) -> None:
        """What is being read turned out stale: it is not read again."""
        self._standing.distrusted = frozenset(cache.path for cache in self.caches)

    def set_aside(self) -> None:
        """The caches belong to a shallower cut from now on; `drop_previous` removes them."""
        for stored in self.features:
            if not stored.stands:
                stored.missed()
        self._previous, self.features = (*self._previous, *self.features), ()

    def earlier(self, digest: str) -> Cache | None:
        """The cache of that digest among those that were set aside."""
        return next((s.cache for s in self._previous if s.cache.fingerprint.digest == digest), None)

    def store(
        self, division: Division, decided: Decided, source: PrefixSource, from_features: FromFeatures | None = None
    ) -> Stored:
        """Build the caches of a division, or find them built, with no more left out than the disk budget asks for.

        What was predicted from a sample can turn out too small: then the next plan that should be smaller is tried.

        Args:
            from_features: what to build from in place of images. Where these features have to make room, or turn out
                damaged, it is built from images after all.

        Raises:
            BudgetError: nothing that may be left out makes it fit.
            CacheDirectoryError: nothing can be written.
            CacheBusyError: another run is writing the same, and was not done in `WAIT_SECONDS`.
            StaleCacheError: a cache of this is there, but was made from something else, and that is to be an error.
        """
        content = Content.now(division, self._data)
        remarks: list[str] = []
        refused: Plan | None = None

        def make_room(plan: Plan | None = None) -> None:
            """What nobody builds from goes first; where that is not enough for the plan, all of it."""
            nonlocal from_features
            read = None if from_features is None else from_features.earlier.cache
            source = [stored for stored in self._previous if stored.cache is read]
            if 0 < len(source) < len(self._previous) and (plan is None or self.room_beside(source, plan) >= 0):
                self._drop(but=source)
                return
            remarks.append("the earlier features were removed first, since there was no room for both")
            from_features = None
            self._drop()

        for plan in self.budget.fitting(decided.plans, division.cut.label):
            if refused is not None and plan.predicted_bytes >= refused.predicted_bytes:
                continue
            if self._previous and self.room_beside(self._previous, plan) < 0:
                make_room(plan)
            if from_features is not None and plan.rung != decided.plans[0].rung:
                remarks.append("built from images, since the harm was measured with another rung")
                from_features = None
            while True:
                try:
                    caches, found = self._stored(division, plan, decided.way, source, from_features, content)
                    self._take(caches)
                except BudgetError as error:
                    if self._previous:
                        make_room()
                        continue
                    refused, last = plan, error
                    break
                except (CorruptChunkError, CacheDirectoryError) as error:
                    if from_features is None:
                        raise
                    from_features = None
                    remarks.append(f"built from images: {error}")
                    continue
                note = self.budget.left_out(plan, predicted=refused is None)
                told = "; ".join(filter(None, [note, *remarks, *found]))
                return Stored(plan, note, told, None if from_features is None else from_features.origin)
        raise last

    def keep(self, caches: Sequence[Cache]) -> None:
        """A state goes on with these caches: they stay until another one goes on with others."""
        self._kept = frozenset(cache.path for cache in caches)

    def drop_previous(self) -> None:
        """Remove the features of shallower cuts, but for those that a saved state goes on with."""
        self._drop(but=[stored for stored in self._previous if stored.cache.path in self._kept])

    def _drop(self, but: Sequence[StoredFeatures] = ()) -> None:
        """Remove what was set aside; what is read again by now is not set aside any more."""
        read = [cache.path for cache in self.caches]
        for stored in self._previous:
            if stored not in but and stored.cache.path not in read:
                stored.drop()
        self._previous = tuple(stored for stored in but if stored.cache.path not in read)

    def reopen(self, division: Division, digests: Sequence[str], *, aside: bool = False) -> bool:
        """Go on with the caches of an earlier process; False if one is gone or was made from something else.

        Args:
            aside: they are not read; what is built next is built from them.

        Raises:
            StaleCacheError: one was made from something else, where that is to be an error.
        """
        crossing = len(division.cut.rows)
        if len(digests) != crossing * len(self._data.samples.form.mains):
            return False
        found: list[Cache] = []
        remarks: list[str] = []
        content = Content.now(division, self._data)
        for tensor, digest in enumerate(digests):
            cache = self._standing.opened(self._directory / digest[:16])
            if cache is None or not self._takes(cache):
                return False
            call, which = divmod(tensor, crossing)
            way, origin, base = way_of(cache), origin_of(cache), self._views.base
            mine = fingerprint_of(division, self._data, cache.spec, way, base, which, origin, call, content)
            if not self._standing.usable(mine, cache, cache.spec, content, remarks):
                return False
            found.append(cache)
        self.check = None if aside else self._standing.check(found[0], content)
        self._take(found)
        self.keep(found)
        if aside:
            self.set_aside()
        return True

    def _take(self, caches: Sequence[Cache]) -> None:
        """Read these from now on; each may take its share of what is left of the disk budget, while views are drawn
        anew."""
        self.faults.begin()
        calls = len(self._data.samples.form.mains)
        for number, cache in enumerate(caches):
            self._learn(cache, number * calls // len(caches))
        self.features = tuple(StoredFeatures(cache.hold(), self.faults) for cache in caches)
        room = self.left
        if room is not None:
            for stored in self.features:
                stored.budget_bytes = stored.nbytes + room // len(caches)

    def _learn(self, cache: Cache, call: int) -> None:
        """What the cache tells of the samples' images, which this process may never read."""
        for chunk in range(self._data.order.chunks):
            told = cache.frames(chunk)
            if told is not None:
                self._data.samples.frames.learn(self._data.order.members(chunk), told, call)

    def _takes(self, cache: Cache) -> bool:
        """Whether what stands may be read: in place of samples that could not be read it shows others."""
        unreadable = self._data.samples.unreadable
        if cache.unreadable and unreadable.then == "error":
            few = "; ".join(list(cache.unreadable.values())[:3])
            warnings.warn(f"hoarfrost builds the cache again, which lacks samples: {few}", stacklevel=2)
            return False
        unreadable.note(cache.unreadable)
        return True

    def _used(self, features: Sequence[StoredFeatures]) -> int:
        """Bytes on disk, where somebody counts them."""
        return 0 if self.budget.nbytes is None else sum(stored.nbytes for stored in features)

    def _stored(
        self,
        division: Division,
        plan: Plan,
        way: Way,
        source: PrefixSource,
        from_features: FromFeatures | None,
        content: Content,
    ) -> tuple[tuple[Cache, ...], list[str]]:
        """The caches of this division, such that stand already and new ones; and what is to be said of them."""
        origin = None if from_features is None else from_features.origin
        specs, crossing = plan.specs, len(division.cut.rows)
        standing: dict[int, Cache] = {}
        writers: dict[int, CacheWriter[Cache]] = {}
        remarks: list[str] = []
        shares = self.budget.shares(plan, self._used(self._previous))
        try:
            for tensor, spec in enumerate(specs):
                call, which = divmod(tensor, crossing)
                base = self._views.base
                mine = fingerprint_of(division, self._data, spec, way, base, which, origin, call, content)
                found = self._standing.find(mine, spec, content, remarks)
                if found is not None and self._takes(found):
                    standing[tensor] = found
                    continue
                try:
                    writers[tensor] = Cache.create(self._directory, mine, spec, budget_bytes=shares[tensor])
                except CacheBusyError as error:
                    warnings.warn(f"hoarfrost waits up to {WAIT_SECONDS:.0f} s: {error}", stacklevel=2)
                    writer = Cache.create(
                        self._directory, mine, spec, budget_bytes=shares[tensor], wait_seconds=WAIT_SECONDS
                    )
                    found = self._standing.find(mine, spec, content, remarks)
                    if found is None:
                        # It was broken off; what it has built is gone on with.
                        writers[tensor] = writer
                    else:
                        writer.abort()
                        standing[tensor] = found
            begun = any(writer.done for writer in writers.values())
            if writers:
                deriver = self.deriver(division.cut, way, source)
                fill(writers, division, self._data, self._views, specs, source, deriver, from_features)
                self._standing.note(writers.values())
            # One after the other: a crash in between leaves whole caches, and the build of the others goes on.
            whole = self._views.record == "ahead"
            unread = self._data.samples.unreadable.found
            caches = tuple(
                standing[n] if n in standing else writers[n].commit(whole=whole, unreadable=unread)
                for n in range(len(specs))
            )
        except Exception:
            for writer in writers.values():
                with self.faults.borne("leaves a cache that could not be built"):
                    writer.abort()
            raise
        finally:
            # What an interrupt broke off is built on by the next call, which the lock must not keep out.
            for writer in writers.values():
                writer.close()
        self._standing.distrusted = frozenset()
        self.check = self._standing.check(caches[0], content) if standing or begun else None
        return caches, list(dict.fromkeys(remarks))

    def release(self) -> None:
        """Nothing more is read: others may remove it, and its samples are no longer looked at."""
        if self.check is not None:
            self.check.end()
        for stored in (*self._previous, *self.features):
            stored.cache.release()
