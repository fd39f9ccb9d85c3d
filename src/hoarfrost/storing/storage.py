"""The caches of one run: built within the disk budget, found again, dropped when deeper ones stand and no saved state
needs them."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..cache import Cache, CacheWriter, RemoteCaches
from ..cuts import Cut
from ..distributed import failure
from ..errors import BudgetError, CacheDirectoryError, CacheError, CorruptChunkError
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
from .shared_build import SharedBuild
from .standing import Standing
from .stored_features import Faults, StoredFeatures

__all__ = ["Storage", "Stored"]


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
        self._beside = data.ranks.beside(directory)
        self.budget = Budget(storing.disk_budget, storing.over_budget)
        self._remote = None if storing.url is None else RemoteCaches(storing.url)
        self._local_budget = storing.local_budget
        self._standing = Standing(directory, data, storing.stale, faults, self._remote)
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
        if not self._data.ranks.leads:
            return self._followed(division, decided, source, from_features)
        try:
            stored = self._chosen(division, decided, source, from_features)
        except CacheError as error:
            self._tell({"failed": [type(error).__name__, str(error)]})
            raise
        origin = None if stored.origin is None else asdict(stored.origin)
        self._tell({"plan": stored.plan.to_config(), "note": stored.note, "remarks": stored.remarks, "origin": origin})
        return stored

    def _tell(self, word: dict[str, Any]) -> dict[str, Any]:
        """What the rank that leads does next: the others do it too."""
        return self._data.ranks.lead("storing", lambda: word)

    def _followed(
        self, division: Division, decided: Decided, source: PrefixSource, from_features: FromFeatures | None
    ) -> Stored:
        """What the rank that leads does in `_chosen`."""
        content = Content.now(division, self._data)
        while True:
            told = self._tell({})
            if "failed" in told:
                raise failure(told["failed"], 0)
            if "note" in told:
                origin = None if told["origin"] is None else Origin(**told["origin"])
                return Stored(Plan.from_config(told["plan"]), told["note"], told["remarks"], origin)
            if "keep" in told:
                self._drop(but=[stored for stored in self._previous if stored.cache.path.name == told["keep"]])
                continue
            # A failure is told to all by then; what follows from it is the other's to say.
            with suppress(CacheError):
                caches, _ = self._stored(
                    *(division, Plan.from_config(told["build"]), decided.way, source),
                    *(from_features if told["from_features"] else None, content),
                )
                self._take(caches)

    def _chosen(
        self, division: Division, decided: Decided, source: PrefixSource, from_features: FromFeatures | None
    ) -> Stored:
        content = Content.now(division, self._data)
        remarks: list[str] = []
        refused: Plan | None = None

        def make_room(plan: Plan | None = None) -> None:
            """What nobody builds from goes first; where that is not enough for the plan, all of it."""
            nonlocal from_features
            read = None if from_features is None else from_features.earlier.cache
            source = [stored for stored in self._previous if stored.cache is read]
            if 0 < len(source) < len(self._previous) and (plan is None or self.room_beside(source, plan) >= 0):
                self._tell({"keep": source[0].cache.path.name})
                self._drop(but=source)
                return
            remarks.append("the earlier features were removed first, since there was no room for both")
            from_features = None
            self._tell({"keep": None})
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
                    self._tell({"build": plan.to_config(), "from_features": from_features is not None})
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
                stored.drop(self._beside)
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
        self._take(self._published(tuple(found)))
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
            if self._remote is not None:
                cache.fetch_from(self._remote, self._local_budget)
        self.features = tuple(StoredFeatures(cache.hold(), self.faults) for cache in caches)
        room = self.left
        if room is not None:
            for stored in self.features:
                stored.budget_bytes = stored.nbytes + room // len(caches)

    def _published(self, caches: tuple[Cache, ...]) -> tuple[Cache, ...]:
        """The same, at the URL too, if there is one. By one rank, while the others wait at no collective."""
        if self._remote is not None and self._data.ranks.leads:
            for cache in caches:
                with self.faults.borne("goes on without publishing a cache"):
                    cache.publish(self._remote)
        return caches

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
        specs, crossing, base = plan.specs, len(division.cut.rows), self._views.base
        # Of these images the earlier features were made, whatever the files' times are by now.
        seen = {} if from_features is None else from_features.earlier.cache.fingerprint.noted
        noted = {"times": seen["times"]} if "times" in seen else {}
        wanted = [
            (fingerprint_of(division, self._data, spec, way, base, which, origin, call, content).noting(**noted), spec)
            for spec, (call, which) in ((spec, divmod(tensor, crossing)) for tensor, spec in enumerate(specs))
        ]
        deriver = self.deriver(division.cut, way, source)

        def write(writers: dict[int, CacheWriter[Cache]], share: Collection[int] | None) -> None:
            fill(writers, division, self._data, self._views, specs, source, deriver, from_features, share)

        build = SharedBuild(
            *(self._directory, self._data, self._standing, content, self.faults, self._beside, self._takes),
            whole=self._views.record == "ahead",
        )
        shares = self.budget.shares(plan, self._used(self._previous))
        caches = self._data.ranks.attempt("caches", lambda: self._published(build.caches(wanted, shares, write)))
        self._standing.distrusted = frozenset()
        self.check = self._standing.check(caches[0], content) if build.begun else None
        return caches, list(dict.fromkeys([*build.remarks, *self.sharing]))

    @property
    def sharing(self) -> list[str]:
        """Which ranks have one cache, where there are several."""
        ranks, beside = self._data.ranks, self._beside
        if ranks.alone:
            return []
        if beside.world == ranks.world:
            return [f"one cache for all {ranks.world} ranks, built by all"]
        return [f"a cache for each directory that ranks share, this one for {beside.world} of {ranks.world}"]

    def release(self) -> None:
        """Nothing more is read: others may remove it, and its samples are no longer looked at."""
        if self.check is not None:
            self.check.end()
        for stored in (*self._previous, *self.features):
            stored.cache.release()
