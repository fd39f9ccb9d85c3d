"""From a frozen prefix to batches of features: calibrate, store or recompute, read, heal."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..cache import Cache, CacheSpec
from ..codecs import Ladder
from ..cuts import Cut
from ..errors import BudgetError, CacheBusyError, CacheDirectoryError, CorruptChunkError
from ..freezing.division import Division
from ..samples.dataset import Frame, Samples
from ..samples.derivation import Way
from ..samples.order import Order
from ..samples.prefix_source import PrefixSource, Together
from ..samples.renditions import Renditions
from ..settings import OverBudget, Views
from ..storing.calibration import Calibration, calibrate, derivable
from ..storing.from_features import Earlier, Onward, onward, origin_of
from ..storing.storage import Storage, way_of
from .cache_source import CacheSource
from .chunks_in_memory import Resident
from .loading import feature_batches

__all__ = ["Feeder"]


class Feeder:
    """Gives the features of a division: from the cache where that pays and fits, else from the prefix.

    Args:
        say: called with each record (`freeze`, `heal`).
    """

    def __init__(
        self,
        samples: Samples,
        order: Order,
        *,
        batch_size: int,
        views: Views,
        ladder: Ladder,
        tolerance: float,
        mode: str,
        cache_dir: Path,
        disk_budget: int | None,
        over_budget: OverBudget,
        memory_budget: int,
        build_from: str,
        seed: int,
        device: torch.device,
        channels_last: bool,
        frame: Frame | None,
        say: Callable[[dict[str, Any]], None],
    ) -> None:
        self._samples, self.order = samples, order
        self._batch_size = batch_size
        self._views, self._ladder, self._tolerance, self._mode = views, ladder, tolerance, mode
        self._device, self._channels_last, self._frame = device, channels_last, frame
        self._say, self._memory_budget, self._build_from = say, memory_budget, build_from
        self.renditions = Renditions(samples, seed)
        self._storage = Storage(
            cache_dir,
            disk_budget,
            samples=samples,
            order=order,
            renditions=self.renditions,
            views=views,
            frame=frame,
            device=device,
            over_budget=over_budget,
        )
        self.rung = 0
        """Position of the current rung in the ladder; the next cache does not start below it."""
        self.ways: dict[int, Way] = {}
        """How features were derived, by the epoch that began frozen: what is stored again is derived alike."""
        self._division: Division | None = None
        """Whose features the caches hold."""
        self._sources: tuple[tuple[PrefixSource | CacheSource, CacheSpec], ...] = ()

    @property
    def caches(self) -> tuple[Cache, ...]:
        """One for each tensor that crosses the cut; none when recomputing."""
        return self._storage.caches

    @property
    def cache(self) -> Cache | None:
        """The stored features, or None; what else crosses the cut is stored beside them."""
        return self.caches[0] if self.caches else None

    @property
    def nbytes(self) -> int:
        """Bytes on disk of all that crosses."""
        return self._storage.nbytes

    @property
    def room(self) -> int | None:
        """Bytes of the disk budget that these features will never take; None: there is no budget."""
        grows = self._views.refresh_every is not None or self._views.record == "shown"
        left = self._storage.left
        return 0 if grows and left is not None else left

    @property
    def ready(self) -> bool:
        """Whether `batches` can be called: a cache that has vanished from the disk has to be built again."""
        return bool(self._sources) and not self._storage.vanished

    def reset(self) -> None:
        """The division has changed: what was read so far is no longer what the suffix needs."""
        self._sources = ()

    def forget(self) -> None:
        """The division has changed within an epoch: no further cache is built from these features."""
        self.reset()
        self._storage.set_aside()
        self._division = None

    def drop(self) -> None:
        """Everything trains again: remove what was stored, and forget what was chosen for it."""
        self.reset()
        self._storage.set_aside()
        self._storage.drop_previous()
        self.rung, self.ways = 0, {}

    def batches(self, epoch: int, start: int = 0) -> Generator[tuple[Any, Tensor], None, None]:
        """One epoch of features [B, ...], or tuples of all that crosses, and targets [B, ...] on the device."""
        if not self._sources:
            raise RuntimeError("Feeder.batches before Feeder.settle")
        for source, _ in self._sources:
            if isinstance(source, CacheSource):
                source.begin()
        device = None if self._device.type == "cpu" else self._device
        # The order is a pure function of seed and epoch, so that the tensors of one batch belong together.
        columns = [
            feature_batches(source, self.order, spec, epoch, self._batch_size, start=start, device=device)
            for source, spec in self._sources
        ]
        for batches in zip(*columns, strict=True):
            features = tuple(batch.features for batch in batches)
            yield features if len(features) > 1 else features[0], batches[0].targets

    def settle(
        self,
        division: Division,
        epochs_left: int | None,
        policy: str,
        *,
        later: Sequence[Cut],
        deepen: Callable[[Cut], Division],
    ) -> None:
        """Measure, choose, store if that pays and fits, and say what was decided.

        Never raises for lack of room: it goes on with less or by recomputing, and says so.

        Args:
            later: the cuts behind this one.
            deepen: freezes up to one of them instead, where the disk budget asks for it.
        """
        division, views, calibration, instead, found = self._deepened(division, epochs_left, later, deepen)
        measured, choice, decision = calibration, calibration.decision.choice, calibration.decision.reason
        ways = ["cut"] if instead else []
        self._storage.set_aside()
        onward, build_seconds = None, 0.0
        if choice == "cache":
            began = time.perf_counter()
            source = self._prefix_source(division, calibration.spec)
            if isinstance(found, str):
                decision = f"{decision}; built from images: {found}"
                warnings.warn(f"hoarfrost builds the cache from images: {found}", stacklevel=2)
            elif found is not None:
                onward, calibration = found, calibration.at(calibration.spec.views, found.rung)
                measured = calibration
            try:
                stored = self._storage.store(division, calibration, source, onward)
            except (BudgetError, CacheDirectoryError, CacheBusyError) as error:
                choice, decision = "recompute", f"recomputed, because the features could not be stored: {error}"
                ways += ["recompute"] * isinstance(error, BudgetError)
                warnings.warn(f"hoarfrost goes on by recomputing: {error}", stacklevel=2)
            else:
                calibration, onward, ways = stored.plan, stored.onward, [*ways, *stored.ways]
                decision = "; ".join(filter(None, (decision, stored.remarks)))
                if stored.note:
                    warnings.warn(f"hoarfrost stores less than asked for: {stored.note}", stacklevel=2)
            build_seconds = time.perf_counter() - began
        self.ways = {division.event: calibration.way}
        # The floor of later freezes is what did no harm, not what the disk budget forced.
        if self.cache is not None and measured.rung is not None:
            self.rung = measured.rung.index
        planned = [calibration.spec, *(other.spec for other in calibration.beside)]
        specs = [cache.spec for cache in self.caches] or planned
        self._use(division, specs, views)
        self._storage.drop_previous()
        decision = "; ".join(filter(None, (instead, decision)))
        record = self._freeze_record(division, policy, calibration, choice, decision, build_seconds)
        built = None if onward is None else onward.to_record()
        self._say({**record, "over_budget": ways, "built_from": built})

    def _earlier(self, division: Division) -> Earlier | None:
        """The features of a shallower cut, where the cache is to be built from them."""
        cache, held = self.cache, self._division
        if self._build_from == "images" or cache is None or held is None or held.cut == division.cut:
            return None
        return Earlier(
            prefix=held.prefix,
            cache=cache,
            order=self.order,
            renditions=self.renditions,
            event=self._event(held, cache),
            base=self._views.base,
            deriver=self._storage.deriver(held.cut, way_of(cache), self._prefix_source(held, cache.spec)),
        )

    def _onward(self, division: Division, calibration: Calibration) -> Onward | str | None:
        """How to build from the earlier features, or why that is not done; None where it was not asked for."""
        earlier = self._earlier(division)
        if earlier is None or calibration.rung is None:
            return None
        if self._views.refresh_every is not None:
            return "views that are drawn anew need the images"
        rungs = [rung for rung in calibration.rungs if rung.index <= calibration.rung.index]
        spec, suffix = calibration.spec, division.suffix
        source = self._prefix_source(division, spec)
        try:
            return onward(earlier, source, suffix, spec, rungs, self._tolerance, calibration.chunks)
        except (CorruptChunkError, CacheDirectoryError) as error:
            return str(error)

    def _deepened(
        self,
        division: Division,
        epochs_left: int | None,
        later: Sequence[Cut],
        deepen: Callable[[Cut], Division],
    ) -> tuple[Division, Views, Calibration, str, Onward | str | None]:
        """The division that is to be fed, its calibration, and how to build onward: deeper where the budget asks."""
        asked, told = division.cut, ""
        while True:
            views = self._views_at(division)
            calibration = self._calibrated(division, views, epochs_left)
            found = self._onward(division, calibration)
            # Without room for both it will be built from images, and costs what that costs.
            if isinstance(found, Onward) and self._storage.room_beside(calibration) >= 0:
                calibration = calibration.built_in(found.view_seconds, epochs_left, self._mode)
            stores = calibration.decision.choice == "cache"
            cut = self._storage.deeper(division.cut, calibration, later) if stores else None
            if cut is None:
                return division, views, calibration, told, found
            division, later = deepen(cut), later[later.index(cut) + 1 :]
            told = f"frozen up to {cut.label!r} in place of {asked.label!r}, to stay within the disk budget"
            warnings.warn(f"hoarfrost: {told}", stacklevel=2)

    def _calibrated(self, division: Division, views: Views, epochs_left: int | None) -> Calibration:
        return calibrate(
            source=self._prefix_source(division, None),
            suffix=division.suffix,
            cut=division.cut,
            samples=self._samples,
            order=self.order,
            renditions=self.renditions,
            event=division.event,
            views=views,
            ladder=self._ladder,
            floor=self.rung,
            tolerance=self._tolerance,
            epochs_left=epochs_left,
            mode=self._mode,
            frame=self._frame,
            way=self.ways.get(division.event),
        )

    def _freeze_record(
        self,
        division: Division,
        policy: str,
        calibration: Calibration,
        choice: str,
        decision: str,
        build_seconds: float,
    ) -> dict[str, Any]:
        """What is said of a freeze (docs/design/rooms.md, Records)."""
        stored = None if self.cache is None else self.cache.spec.view_channels
        return {
            "event": "freeze",
            "epoch": division.event,
            "depth": division.cut.index + 1,
            "cut": division.cut.label,
            "policy": policy,
            "decision": decision,
            "choice": choice,
            "prefix_seconds": calibration.prefix_seconds,
            "read_seconds": calibration.read_seconds,
            "rungs": [
                {
                    "codec": str(rung.codec),
                    "kl": rung.harm,
                    "bytes_per_sample": rung.bytes_per_sample,
                    "chosen": rung is calibration.rung,
                }
                for rung in calibration.rungs
            ],
            "sensitivity": None if calibration.sensitivity is None else calibration.sensitivity.tolist(),
            "stored_channels": None if not stored or stored[-1] is None else list(stored[-1]),
            "further": {
                "codec": str(calibration.further.stored.codec or calibration.codec),
                "residual": calibration.further.stored.gains is not None,
                "kl": calibration.further.harm,
                "bytes_per_sample": calibration.further.bytes_per_sample,
            },
            "views": len(stored) if stored else 0,
            "record": self._views.record,
            "predicted_bytes": calibration.predicted_bytes,
            "build_seconds": build_seconds,
            "beside": [
                {
                    "tensor": str(crossing.source),
                    "codec": str(other.spec.codec),
                    "kl": None if other.rung is None else other.rung.harm,
                    "bytes_per_sample": other.bytes_per_sample,
                }
                for crossing, other in zip(division.cut.others, calibration.beside, strict=True)
            ],
            "cache_bytes": self.nbytes,
            "dense_bytes": sum(cache.dense_nbytes for cache in self.caches),
        }

    def reopen(self, division: Division, digests: Sequence[str]) -> bool:
        """Go on with the caches of an earlier process; False if one is gone or was made from something else."""
        if not self._storage.reopen(division, digests):
            return False
        self._use(division, [cache.spec for cache in self.caches], self._views_at(division))
        return True

    def _views_at(self, division: Division) -> Views:
        """The views asked for; as they are stored where nothing can be derived."""
        if not self._views.derived or (self._frame is not None and derivable(division.cut, self._samples)):
            return self._views
        warnings.warn(
            f"hoarfrost: features at cut {division.cut.label!r} have no feature-space augmentation (that needs feature "
            "maps or tokens of a grid, flips or padded crops, and images of one size); stored views are shown instead",
            stacklevel=2,
        )
        return replace(self._views, derived=0.0)

    def _use(self, division: Division, specs: Sequence[CacheSpec], views: Views) -> None:
        self._division = division
        together = Together(len(specs)) if len(specs) > 1 else None
        prefixes = [
            replace(self._prefix_source(division, spec), tensor=number, together=together)
            for number, spec in enumerate(specs)
        ]
        if not self.caches:
            self._sources = tuple(zip(prefixes, specs, strict=True))
            return
        read = [
            self._cache_source(division, cache, prefix, views, budget)
            for cache, prefix, budget in zip(self.caches, prefixes, self._storage.shares_left(), strict=True)
        ]
        self._sources = tuple(zip(read, specs, strict=True))

    def _cache_source(
        self, division: Division, cache: Cache, prefix: PrefixSource, views: Views, budget_bytes: int | None
    ) -> CacheSource:
        return CacheSource(
            cache=cache,
            order=self.order,
            views=views,
            event=self._event(division, cache),
            renditions=self.renditions,
            deriver=self._storage.deriver(division.cut, way_of(cache), prefix),
            healer=prefix,
            on_heal=lambda chunk, view, reason: self._say(
                {
                    "event": "heal",
                    "chunk": chunk,
                    "view": view,
                    "reason": reason,
                    "same_bits": origin_of(cache) is None,
                }
            ),
            budget_bytes=budget_bytes,
            resident=self._resident(cache),
        )

    def _resident(self, cache: Cache) -> Resident:
        """What of a cache stays in memory: as floats where they all fit and go to no other device."""
        share = self._memory_budget // len(self.caches)
        return Resident(share, floats=self._device.type == "cpu" and cache.spec.dense_nbytes <= share)

    def _event(self, division: Division, cache: Cache) -> int:
        """The epoch before which a cache's renditions were drawn."""
        origin = origin_of(cache)
        return division.event if origin is None else origin.event

    def _prefix_source(self, division: Division, spec: CacheSpec | None) -> PrefixSource:
        return PrefixSource(
            prefix=division.prefix,
            samples=self._samples,
            order=self.order,
            spec=spec,
            draw_for=lambda chunk, epoch: self.renditions.live(epoch),
            device=self._device,
            channels_last=self._channels_last,
        )
