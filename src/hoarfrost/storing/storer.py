"""What is done behind a freeze: measure and decide; then, once a checkpoint may hold that, store it and say so."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..cache import Cache, CacheSpec
from ..cuts import Cut
from ..errors import BudgetError, CacheError, CutError, StaleCacheError
from ..freezing import Division
from ..samples import PrefixSource, TrainingData
from ..settings import Storing, Views
from .calibration import Calibration, calibrate
from .fingerprint import event_of, way_of
from .freeze_record import freeze_record, measured_record
from .from_features import EarlierFeatures, FromFeatures, MeasuredFeatures, from_features
from .further_view import why_not_derived
from .plan import Decided, Plan, precision_of
from .storage import Storage
from .stored_features import Faults

__all__ = ["Held", "Storer"]


@dataclass(frozen=True)
class Held:
    """What the features of a division are held as.

    Attributes:
        specs: of each tensor that crosses, at each call of the model, as it is stored or would be.
        views: as epochs see them.
    """

    division: Division
    specs: tuple[CacheSpec, ...]
    views: Views


@dataclass(frozen=True)
class _Measured:
    """A division with its calibration, and what building it from earlier features does, or why it is not."""

    division: Division
    calibration: Calibration
    instead: str
    found: MeasuredFeatures | str | None


class Storer:
    """Stores the features of one division after the other, deeper each time.

    `decide` measures and chooses, and touches nothing on the disk; `store` does what was decided. A state that is saved
    in between holds the decisions: a run that goes on from it does the same.

    Args:
        say: called with the record of each freeze.
    """

    def __init__(
        self, directory: Path, data: TrainingData, storing: Storing, say: Callable[[dict[str, Any]], None]
    ) -> None:
        self._data, self._storing, self._say = data, storing, say
        self.faults = Faults(say)
        self.storage = Storage(directory, data, storing, self.faults)
        self.rung = 0
        """Position of the current rung in the ladder; the next cache does not start below it."""
        self.decided: Decided | None = None
        self._held: Division | None = None
        """Whose features the caches hold, those that were set aside last too."""

    def forget(self) -> None:
        """No further cache is built from these features."""
        self.storage.set_aside()
        self._held, self.decided = None, None

    def drop(self) -> None:
        """Everything trains again: remove what was stored, and forget what was chosen for it."""
        self.forget()
        self.storage.drop_previous()
        self.rung = 0

    def decide(
        self,
        division: Division,
        epochs_left: int | None,
        policy: str,
        *,
        later: Sequence[Cut],
        deepen: Callable[[Cut], Division],
    ) -> None:
        """Measure, and choose how the features of a division are had; nothing on the disk changes.

        Args:
            policy: in a word, for the record.
            later: the cuts behind this one.
            deepen: freezes up to one of them instead, where the disk budget asks for it.
        """
        measured = self._deepened(division, epochs_left, later, deepen)
        division, calibration, found = measured.division, measured.calibration, measured.found
        stores, reason = calibration.decision.choice == "cache", calibration.decision.reason
        if stores and isinstance(found, str):
            reason = f"{reason}; built from images: {found}"
            warnings.warn(f"hoarfrost builds the cache from images: {found}", stacklevel=2)
        if not stores or not isinstance(found, MeasuredFeatures):
            found = None
        if found is not None:
            calibration = calibration.at(calibration.spec.views, found.rung)
        plans = self.storage.budget.plans(calibration, division) if stores else ()
        self.decided = Decided(
            cut=division.cut.label,
            event=division.event,
            precision=precision_of(division),
            choice=calibration.decision.choice,
            reason=reason,
            judged="; ".join(filter(None, (_judged(calibration), str(division.settled or "")))),
            plans=plans or (Plan.of(calibration, calibration, division),),
            way=calibration.way,
            origin=None if found is None else found.origin,
            built_from=None if found is None else found.to_record(),
            instead=measured.instead,
            record=measured_record(division, calibration, policy=policy, recorded=self._storing.views.record),
        )
        self.storage.set_aside()

    def take(self, decided: Decided) -> None:
        """What the rank that leads has decided."""
        self.decided = decided
        self.storage.set_aside()

    def store(self, division: Division) -> Held:
        """Do what was decided for a division: store its features if that pays and fits, and say so.

        What was stored once and has gone is stored as it was. Never raises for lack of room: it goes on with less or by
        recomputing, and says so.
        """
        decided, views = self.decided, self._views_at(division)
        if decided is None or not decided.fits(division):
            raise RuntimeError("Storer.store before Storer.decide")
        if decided.done and decided.choice == "recompute":
            return Held(division, decided.plans[0].specs, views)
        reason, ways, build_seconds = decided.reason, ["cut"] if decided.instead else [], 0.0
        self.storage.set_aside()
        if decided.choice == "cache":
            began = time.perf_counter()
            source = self._data.source(division.prefix, decided.plans[0].spec)
            earlier = self._built_from(decided, source)
            lost = "the earlier features are gone: built from images" if decided.origin and earlier is None else ""
            if lost:
                warnings.warn(f"hoarfrost: {lost}, whose bits may be others", stacklevel=2)
            try:
                stored = self.storage.store(division, decided, source, earlier)
            except StaleCacheError:
                raise  # as asked
            except CacheError as error:
                reason = f"recomputed, because the features could not be stored: {error}"
                ways += ["recompute"] * isinstance(error, BudgetError)
                decided = replace(decided, choice="recompute")
                warnings.warn(f"hoarfrost goes on by recomputing: {error}", stacklevel=2)
            else:
                ways += stored.plan.less
                built_from = None if stored.origin is None else decided.built_from
                reason = "; ".join(filter(None, (reason, lost, stored.remarks, _from(built_from))))
                # The floor of later freezes is what did no harm, not what the disk budget forced.
                self.rung = decided.plans[0].rung or 0
                decided = replace(decided, plans=(stored.plan,), origin=stored.origin, built_from=built_from)
                if stored.note:
                    warnings.warn(f"hoarfrost stores less than asked for: {stored.note}", stacklevel=2)
            build_seconds = time.perf_counter() - began
        caches = self.storage.caches
        self._held, self.decided = division, replace(decided, done=True)
        self.storage.drop_previous()
        self._say(
            freeze_record(
                self.decided,
                caches,
                cache_bytes=self.storage.nbytes,
                decision="; ".join(filter(None, (decided.instead, reason, decided.judged))),
                build_seconds=build_seconds,
                over_budget=ways,
            )
        )
        return Held(division, tuple(cache.spec for cache in caches) or decided.plans[0].specs, views)

    def reopen(self, division: Division, digests: Sequence[str]) -> Held | None:
        """Go on with the caches of an earlier process; None if one is gone or was made from something else."""
        if not self.storage.reopen(division, digests):
            return None
        self._held = division
        return Held(division, tuple(cache.spec for cache in self.storage.caches), self._views_at(division))

    def state_dict(self) -> dict[str, Any]:
        """JSON. The caches that it names stay until another state names others."""
        held, decided = self._held, self.decided
        caches = self.storage.caches
        earlier = None
        if decided is not None and decided.origin is not None and not decided.done and held is not None:
            found = self.storage.earlier(decided.origin.cache)
            if found is not None:
                caches, earlier = (found,), {"depth": held.cut.index + 1, "event": held.event}
        self.storage.keep(caches)
        return {
            "rung": self.rung,
            "decided": None if decided is None else decided.to_config(),
            "fingerprints": [cache.fingerprint.digest for cache in caches],
            "earlier": earlier,
        }

    def load_state_dict(self, state: Mapping[str, Any], earlier: Division | None) -> None:
        """Go on with what an earlier process decided.

        Args:
            earlier: whose features it was about to build from.
        """
        self.rung = int(state["rung"])
        self.decided = None if state["decided"] is None else Decided.from_config(state["decided"])
        if earlier is not None and self.storage.reopen(earlier, state["fingerprints"], aside=True):
            self._held = earlier

    def _deepened(
        self,
        division: Division,
        epochs_left: int | None,
        later: Sequence[Cut],
        deepen: Callable[[Cut], Division],
    ) -> _Measured:
        """The division that is to be fed, calibrated: a deeper one where the budget asks for that."""
        asked, told = division.cut, ""
        while True:
            before = self.decided
            with division.prefix.hooks_apart():
                calibration = calibrate(
                    division.shadow(),
                    self._data,
                    replace(self._storing, views=self._views_at(division, tell=True)),
                    floor=self.rung,
                    epochs_left=epochs_left,
                    # What is stored again, in another precision, is derived alike.
                    way=before.way if before is not None and before.event == division.event else None,
                    most_views=self.storage.caches[0].spec.views if self._builds_from_features(division) else None,
                )
                found = self._from_features(division, calibration)
            # Without room for both it will be built from images, and costs what that costs.
            beside = self.storage.room_beside(self.storage.features, calibration)
            if isinstance(found, MeasuredFeatures) and beside >= 0:
                calibration = calibration.built_in(found.view_seconds, epochs_left, self._storing.mode)
            stores = calibration.decision.choice == "cache"
            cut = self.storage.budget.deeper(division.cut, calibration, later) if stores else None
            if cut is None:
                return _Measured(division, calibration, told, found)
            division, later = deepen(cut), later[later.index(cut) + 1 :]
            told = f"frozen up to {cut.label!r} in place of {asked.label!r}, to stay within the disk budget"
            warnings.warn(f"hoarfrost: {told}", stacklevel=2)

    def _builds_from_features(self, division: Division) -> bool:
        """Whether that was asked for, and there are earlier features."""
        held = self._held
        asked = self._storing.build_from == "features"
        return asked and bool(self.storage.caches) and held is not None and held.cut != division.cut

    def _from_features(self, division: Division, calibration: Calibration) -> MeasuredFeatures | str | None:
        """What building from the earlier features does, or why that is not done; None where it was not asked for."""
        held, caches = self._held, self.storage.caches
        if held is None or calibration.rung is None or not self._builds_from_features(division):
            return None
        if self._storing.views.refresh_every is not None:
            return "views that are drawn anew need the images"
        rungs = [rung for rung in calibration.rungs if rung.index <= calibration.rung.index]
        spec = calibration.spec
        suffix = (division.suffix.begun() if calibration.drawn else None) or division.suffix.shadow()
        source, earlier = self._data.source(division.prefix, spec), self._earlier(held, caches[0])
        try:
            tolerance, chunks = self._storing.tolerance, calibration.chunks
            return from_features(earlier, source, suffix, spec, rungs, tolerance, chunks, calibration.task)
        except CacheError as error:
            return str(error)

    def _built_from(self, decided: Decided, source: PrefixSource) -> FromFeatures | None:
        """The earlier features that it was decided to build from, if they are still there."""
        held = self._held
        cache = None if decided.origin is None else self.storage.earlier(decided.origin.cache)
        if cache is None or held is None or held.cut.label == decided.cut:
            return None
        try:
            return FromFeatures.of(self._earlier(held, cache), source)
        except (CutError, CacheError):
            return None

    def _earlier(self, held: Division, cache: Cache) -> EarlierFeatures:
        """The features of a shallower cut."""
        source = self._data.source(held.prefix, cache.spec)
        return EarlierFeatures(
            prefix=held.prefix,
            cache=cache,
            data=self._data,
            event=event_of(held, cache),
            deriver=self.storage.deriver(held.cut, way_of(cache), source),
        )

    def _views_at(self, division: Division, *, tell: bool = False) -> Views:
        """The views asked for; as they are stored where nothing can be derived.

        Args:
            tell: that these are others than those asked for.
        """
        views, data = self._storing.views, self._data
        if views.further == "mirrored" and views.asked != 1 and not data.renditions.mirrors:
            views = replace(views, count=1)
            if tell:
                told = "no mirror image is stored: no step of the transform flips from side to side"
                warnings.warn(f"hoarfrost: {told}", stacklevel=2)
        reason = why_not_derived(division.cut, data) if views.derived else None
        if reason is None:
            return views
        if tell:
            warnings.warn(
                f"hoarfrost: features at cut {division.cut.label!r} have no feature-space augmentation, since "
                f"{reason}; stored views are shown instead",
                stacklevel=2,
            )
        return replace(views, derived=0.0)


def _judged(calibration: Calibration) -> str:
    """How harm was measured, where that is not what most expect of it."""
    task = calibration.task
    drawn = "harm measured with a drawn head, since with its zeros all outputs are alike" if calibration.drawn else ""
    described = "" if task is None or task.name == "classes" else task.described
    return "; ".join(filter(None, (described, drawn)))


def _from(built_from: Mapping[str, Any] | None) -> str:
    if built_from is None:
        return ""
    return (
        f"built from the stored features of {built_from['cut']!r}, with a harm of {built_from['kl']:.2g}, "
        f"{built_from['kl_stored']:.2g} once stored"
    )
