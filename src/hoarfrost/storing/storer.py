"""What is done behind a freeze: measure, choose, store if that pays and fits, and say what was decided."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..cache import CacheSpec
from ..cuts import Cut
from ..errors import BudgetError, CacheError
from ..freezing import Division
from ..samples import TrainingData, Way
from ..settings import Storing, Views
from .calibration import Calibration, calibrate
from .fingerprint import event_of, way_of
from .freeze_record import freeze_record
from .from_features import EarlierFeatures, FromFeatures, from_features
from .further_view import derivable
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
    """A division with its calibration, and how to build it from earlier features, or why not."""

    division: Division
    views: Views
    calibration: Calibration
    instead: str
    found: FromFeatures | str | None


class Storer:
    """Stores the features of one division after the other, deeper each time.

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
        self.ways: dict[int, Way] = {}
        """How features were derived, by the epoch that began frozen: what is stored again is derived alike."""
        self._held: Division | None = None
        """Whose features the caches hold."""

    def forget(self) -> None:
        """No further cache is built from these features."""
        self.storage.set_aside()
        self._held = None

    def drop(self) -> None:
        """Everything trains again: remove what was stored, and forget what was chosen for it."""
        self.storage.set_aside()
        self.storage.drop_previous()
        self.rung, self.ways = 0, {}

    def store(
        self,
        division: Division,
        epochs_left: int | None,
        policy: str,
        *,
        later: Sequence[Cut],
        deepen: Callable[[Cut], Division],
    ) -> Held:
        """Measure, choose, store if that pays and fits, and say what was decided.

        Never raises for lack of room: it goes on with less or by recomputing, and says so.

        Args:
            policy: in a word, for the record.
            later: the cuts behind this one.
            deepen: freezes up to one of them instead, where the disk budget asks for it.
        """
        measured = self._deepened(division, epochs_left, later, deepen)
        division, calibration, found = measured.division, measured.calibration, measured.found
        choice, decision = calibration.decision.choice, calibration.decision.reason
        ways = ["cut"] if measured.instead else []
        rung, built, build_seconds = calibration.rung, None, 0.0
        self.storage.set_aside()
        if choice == "cache":
            began = time.perf_counter()
            source = self._data.source(division.prefix, calibration.spec)
            if isinstance(found, str):
                decision = f"{decision}; built from images: {found}"
                warnings.warn(f"hoarfrost builds the cache from images: {found}", stacklevel=2)
                found = None
            elif found is not None:
                calibration = calibration.at(calibration.spec.views, found.rung)
                rung = calibration.rung
            try:
                stored = self.storage.store(division, calibration, source, found)
            except CacheError as error:
                choice, decision = "recompute", f"recomputed, because the features could not be stored: {error}"
                ways += ["recompute"] * isinstance(error, BudgetError)
                built = found
                warnings.warn(f"hoarfrost goes on by recomputing: {error}", stacklevel=2)
            else:
                calibration, built, ways = stored.plan, stored.from_features, [*ways, *stored.ways]
                decision = "; ".join(filter(None, (decision, stored.remarks)))
                if stored.note:
                    warnings.warn(f"hoarfrost stores less than asked for: {stored.note}", stacklevel=2)
            build_seconds = time.perf_counter() - began
        self.ways = {division.event: calibration.way}
        caches = self.storage.caches
        # The floor of later freezes is what did no harm, not what the disk budget forced.
        if caches and rung is not None:
            self.rung = rung.index
        self._held = division
        self.storage.drop_previous()
        self._say(
            freeze_record(
                division,
                calibration,
                caches,
                policy=policy,
                cache_bytes=self.storage.nbytes,
                choice=choice,
                decision="; ".join(filter(None, (measured.instead, decision, _judged(calibration)))),
                recorded=self._storing.views.record,
                build_seconds=build_seconds,
                over_budget=ways,
                built_from=built,
            )
        )
        return Held(division, tuple(cache.spec for cache in caches) or calibration.specs, measured.views)

    def reopen(self, division: Division, digests: Sequence[str]) -> Held | None:
        """Go on with the caches of an earlier process; None if one is gone or was made from something else."""
        if not self.storage.reopen(division, digests):
            return None
        self._held = division
        return Held(division, tuple(cache.spec for cache in self.storage.caches), self._views_at(division))

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
            views = self._views_at(division)
            calibration = calibrate(
                division.shadow(),
                self._data,
                replace(self._storing, views=views),
                floor=self.rung,
                epochs_left=epochs_left,
                way=self.ways.get(division.event),
            )
            found = self._from_features(division, calibration)
            # Without room for both it will be built from images, and costs what that costs.
            if isinstance(found, FromFeatures) and self.storage.room_beside(calibration) >= 0:
                calibration = calibration.built_in(found.view_seconds, epochs_left, self._storing.mode)
            stores = calibration.decision.choice == "cache"
            cut = self.storage.budget.deeper(division.cut, calibration, later) if stores else None
            if cut is None:
                return _Measured(division, views, calibration, told, found)
            division, later = deepen(cut), later[later.index(cut) + 1 :]
            told = f"frozen up to {cut.label!r} in place of {asked.label!r}, to stay within the disk budget"
            warnings.warn(f"hoarfrost: {told}", stacklevel=2)

    def _from_features(self, division: Division, calibration: Calibration) -> FromFeatures | str | None:
        """How to build from the earlier features, or why that is not done; None where it was not asked for."""
        earlier = self._earlier(division)
        if earlier is None or calibration.rung is None:
            return None
        if self._storing.views.refresh_every is not None:
            return "views that are drawn anew need the images"
        rungs = [rung for rung in calibration.rungs if rung.index <= calibration.rung.index]
        spec, suffix = calibration.spec, division.suffix.shadow()
        source = self._data.source(division.prefix, spec)
        try:
            tolerance, chunks = self._storing.tolerance, calibration.chunks
            return from_features(earlier, source, suffix, spec, rungs, tolerance, chunks, calibration.task)
        except CacheError as error:
            return str(error)

    def _earlier(self, division: Division) -> EarlierFeatures | None:
        """The features of a shallower cut, where the cache is to be built from them."""
        held, caches = self._held, self.storage.caches
        if self._storing.build_from == "images" or not caches or held is None or held.cut == division.cut:
            return None
        cache, source = caches[0], self._data.source(held.prefix, caches[0].spec)
        return EarlierFeatures(
            prefix=held.prefix,
            cache=cache,
            data=self._data,
            event=event_of(held, cache),
            base=self._storing.views.base,
            deriver=self.storage.deriver(held.cut, way_of(cache), source),
        )

    def _views_at(self, division: Division) -> Views:
        """The views asked for; as they are stored where nothing can be derived."""
        views, data = self._storing.views, self._data
        if not views.derived or (data.frame is not None and derivable(division.cut, data.samples)):
            return views
        warnings.warn(
            f"hoarfrost: features at cut {division.cut.label!r} have no feature-space augmentation (that needs feature "
            "maps or tokens of a grid, flips or padded crops, and images of one size); stored views are shown instead",
            stacklevel=2,
        )
        return replace(views, derived=0.0)


def _judged(calibration: Calibration) -> str:
    """How harm was measured, where that is not what most expect of it."""
    task = calibration.task
    return "" if task is None or task.name == "classes" else task.described
