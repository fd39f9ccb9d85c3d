"""Where features are stored: built within the disk budget, found again, dropped when deeper ones stand."""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from ..cache import Cache, CacheSpec, CacheWriter, Fingerprint, hash_tensors, to_store
from ..cuts import Cut
from ..errors import BudgetError, CacheDirectoryError, CorruptChunkError, StaleCacheError
from ..freezing.division import Division
from ..samples.dataset import Frame, Samples
from ..samples.derivation import Deriver, Way
from ..samples.order import Order
from ..samples.prefix_source import PrefixSource
from ..samples.renditions import Renditions
from ..settings import OverBudget, Views
from .calibration import Calibration
from .from_features import Onward, Origin, origin_of

__all__ = ["Storage", "Stored", "prepare_directory", "way_of"]

WRITES_AHEAD = 4
"""Chunks that may wait to be encoded while the prefix computes the next; bounds the memory of a build."""


@dataclass(frozen=True)
class Stored:
    """What was stored in the end.

    Attributes:
        plan: the calibration with the views and the rung that are stored.
        ways: the `OverBudget.ways` by which it is less than what was asked for.
        note: these in words, or "".
        remarks: likewise, and what else is to be said of the build.
        onward: how it was built from the earlier features; None: from images.
    """

    plan: Calibration
    ways: tuple[str, ...]
    note: str
    remarks: str
    onward: Onward | None


class Storage:
    """The caches of one run in its directory: those being read, and the shallower cut's while deeper ones are built.

    Args:
        budget: bytes that all of them may take; None: no limit.
        over_budget: what is left out where that is too little.
    """

    def __init__(
        self,
        directory: Path,
        budget: int | None,
        *,
        samples: Samples,
        order: Order,
        renditions: Renditions,
        views: Views,
        frame: Frame | None,
        device: torch.device,
        over_budget: OverBudget,
    ) -> None:
        self._directory, self._budget, self._over_budget = directory, budget, over_budget
        self._samples, self._order, self._renditions = samples, order, renditions
        self._views, self._frame, self._device = views, frame, device
        self.caches: tuple[Cache, ...] = ()
        """One for each tensor that crosses the cut; none when recomputing."""
        self._previous: tuple[Cache, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes on disk of what is being read."""
        return sum(cache.nbytes for cache in self.caches)

    @property
    def left(self) -> int | None:
        """Bytes of the disk budget that are not used; None: there is no budget."""
        return None if self._budget is None else max(0, self._budget - self.nbytes)

    @property
    def vanished(self) -> bool:
        """Whether a cache that is being read is no longer on disk."""
        return not all(cache.path.is_dir() for cache in self.caches)

    def deriver(self, cut: Cut, way: Way, source: PrefixSource) -> Deriver | None:
        """What makes features of one rendition from another's; None where features or images allow none."""
        return Deriver.of(cut, self._samples, self._order, self._frame, way, source.blank)

    def set_aside(self) -> None:
        """The caches belong to a shallower cut from now on; `drop_previous` removes them."""
        self._previous, self.caches = (*self._previous, *self.caches), ()

    def store(
        self, division: Division, calibration: Calibration, source: PrefixSource, onward: Onward | None = None
    ) -> Stored:
        """Build the caches of a division, or find them built, with no more left out than the disk budget asks for.

        What was predicted from a sample can turn out too small: then the next that should be smaller is tried.

        Args:
            onward: how to build from the earlier features. Where these have to make room, or turn out damaged, it is
                built from images after all.

        Raises:
            BudgetError: nothing that may be left out makes it fit.
            CacheDirectoryError, CacheBusyError: nothing can be written, or another run is writing the same.
        """
        remarks: list[str] = []
        refused: Calibration | None = None

        def make_room() -> Onward | None:
            remarks.append("the earlier features were removed first, since there was no room for both")
            self.drop_previous()
            return None

        for plan in self._fitting(calibration, division.cut.label):
            if refused is not None and plan.predicted_bytes >= refused.predicted_bytes:
                continue
            if self._previous and self.room_beside(plan) < 0:
                onward = make_room()
            if onward is not None and plan.rung is not calibration.rung:
                remarks.append("built from images, since the harm was measured with another rung")
                onward = None
            while True:
                try:
                    self.caches = self._stored(division, plan, source, onward)
                except BudgetError as error:
                    if self._previous:
                        onward = make_room()
                        continue
                    refused, last = plan, error
                    break
                except CorruptChunkError as error:
                    if onward is None:
                        raise
                    onward = None
                    remarks.append(f"built from images: {error}")
                    continue
                ways, note = self._left_out(calibration, plan, predicted=refused is None)
                remarks = [note, *remarks, "" if onward is None else onward.note]
                return Stored(plan, ways, note, "; ".join(filter(None, remarks)), onward)
        raise last

    def plans(self, calibration: Calibration, over_budget: OverBudget) -> list[Calibration]:
        """What may be stored, from all that is asked for to the least that `over_budget` allows."""
        rungs = calibration.stronger
        offers = over_budget.offers(len(calibration.spec.stored), len(rungs))
        return [calibration.at(views, rungs[up]) for views, up in offers]

    def _fitting(self, calibration: Calibration, label: str) -> list[Calibration]:
        """The plans that should fit the disk budget.

        Raises:
            BudgetError: there is none.
        """
        plans = self.plans(calibration, self._over_budget)
        if self._budget is None:
            return plans
        fitting = [plan for plan in plans if plan.predicted_bytes <= self._budget]
        if not fitting:
            least = min(plans, key=lambda plan: plan.predicted_bytes)
            views = len(least.spec.stored)
            at = "rung that does no harm" if least.spec.codec == calibration.spec.codec else "rung of the ladder"
            raise BudgetError(
                f"the disk budget is {self._budget:,} bytes, {'one view' if views == 1 else f'{views} views'} of "
                f"{self._order.samples:,} samples at cut {label!r} needs about {least.predicted_bytes:,} at the "
                f"strongest {at}; a deeper cut or a larger budget would do"
            )
        return fitting

    def _left_out(self, asked: Calibration, plan: Calibration, predicted: bool) -> tuple[tuple[str, ...], str]:
        """The ways by which a plan is less than what was asked for, and the same in words."""
        views, wanted = len(plan.spec.stored), len(asked.spec.stored)
        told = {}
        if views < wanted:
            told["views"] = f"{views} of {wanted} views"
        if plan.rung is not None and asked.rung is not None and plan.rung is not asked.rung:
            told["rung"] = (
                f"{plan.rung.codec} in place of {asked.rung.codec}, with a harm of {plan.rung.harm:.2g} "
                f"in place of {asked.rung.harm:.2g}"
            )
        if not told:
            return (), ""
        why = f"to stay within the disk budget of {self._budget:,} bytes" if predicted else "for more there was no room"
        return tuple(told), f"{' and '.join(told.values())}, {why}"

    def room_beside(self, plan: Calibration) -> float:
        """Bytes of the disk budget that would be left beside the features that stand already and this plan."""
        if self._budget is None:
            return math.inf
        return self._budget - sum(cache.nbytes for cache in (*self._previous, *self.caches)) - plan.predicted_bytes

    def deeper(self, cut: Cut, calibration: Calibration, later: Sequence[Cut]) -> Cut | None:
        """The first recommended cut of `later` to freeze instead, where `over_budget` asks for that before it is
        content with less, and where features should fit that take as many bytes a value as those at `cut`."""
        if self._budget is None or not self._over_budget.deepens:
            return None
        least = min(plan.predicted_bytes for plan in self.plans(calibration, self._over_budget.before_deepening))
        if least <= self._budget:
            return None
        fits = self._budget * cut.bytes_per_sample / least
        return next((other for other in later if other.recommended and other.bytes_per_sample <= fits), None)

    def drop_previous(self) -> None:
        """Remove the features of the shallower cut."""
        for cache in self._previous:
            if cache.path not in [kept.path for kept in self.caches]:
                cache.drop()
        self._previous = ()

    def reopen(self, division: Division, digests: Sequence[str]) -> bool:
        """Go on with the caches of an earlier process; False if one is gone or was made from something else."""
        if len(digests) != len(division.cut.tensors):
            return False
        found = []
        try:
            for tensor, digest in enumerate(digests):
                cache = Cache.open(self._directory / digest[:16])
                mine = self._fingerprint(division, cache.spec, way_of(cache), tensor, origin_of(cache))
                found.append(Cache.open(cache.path, mine))
        except (StaleCacheError, CorruptChunkError) as error:
            warnings.warn(f"hoarfrost builds the cache again: {error}", stacklevel=2)
            return False
        except CacheDirectoryError:
            return False
        self.caches = tuple(found)
        return True

    def _stored(
        self, division: Division, plan: Calibration, source: PrefixSource, onward: Onward | None
    ) -> tuple[Cache, ...]:
        """The caches of this division: identical ones that stand already, and new ones."""
        origin = None if onward is None else onward.origin
        specs = [plan.spec, *(other.spec for other in plan.beside)]
        standing: dict[int, Cache] = {}
        writers: dict[int, CacheWriter[Cache]] = {}
        shares = self._shares(plan)
        try:
            for tensor, spec in enumerate(specs):
                fingerprint = self._fingerprint(division, spec, plan.way, tensor, origin)
                try:
                    standing[tensor] = Cache.open(self._directory / fingerprint.key, fingerprint)
                    continue
                except CacheDirectoryError:
                    pass  # there is none yet
                except CorruptChunkError as error:
                    warnings.warn(f"hoarfrost builds the cache again: {error}", stacklevel=2)
                writers[tensor] = Cache.create(self._directory, fingerprint, spec, budget_bytes=shares[tensor])
            if writers:
                deriver = self.deriver(division.cut, plan.way, source)
                self._fill(writers, division, specs, source, deriver, onward)
            # One after the other: a crash in between leaves whole caches, and the build of the others goes on.
            whole = self._views.record == "ahead"
            return tuple(standing[n] if n in standing else writers[n].commit(whole=whole) for n in range(len(specs)))
        except Exception:
            for writer in writers.values():
                writer.abort()
            raise

    def shares_left(self) -> tuple[int | None, ...]:
        """What each of the caches may take at most of the disk budget, while views are drawn anew."""
        room = self.left
        if room is None:
            return (None,) * len(self.caches)
        return tuple(cache.nbytes + room // len(self.caches) for cache in self.caches)

    def _shares(self, plan: Calibration) -> list[int | None]:
        """What the earlier features leave of the disk budget, divided between the tensors as their bytes will be."""
        if self._budget is None:
            return [None] * (1 + len(plan.beside))
        budget = max(0, self._budget - sum(cache.nbytes for cache in self._previous))
        if not plan.beside:
            return [budget]
        others = [round(other.bytes_per_sample * self._order.samples) for other in plan.beside]
        sizes = [plan.view_bytes - sum(others), *others]
        return [budget * size // max(1, plan.view_bytes) for size in sizes]

    def _fill(
        self,
        writers: Mapping[int, CacheWriter[Cache]],
        division: Division,
        specs: Sequence[CacheSpec],
        source: PrefixSource,
        deriver: Deriver | None,
        onward: Onward | None,
    ) -> None:
        """One pass of the prefix, or of the newly frozen layers, for each view; a thread encodes and writes.

        What is recorded while epochs show it begins with a single record, which says what the targets are.
        """
        event = division.event if onward is None else onward.origin.event
        views, chunks = (specs[0].views, self._order.chunks) if self._views.record == "ahead" else (1, 1)
        with ThreadPoolExecutor(1, "hoarfrost-write") as writing:
            pending: list[Future[int]] = []
            first = self._renditions.view(event, 0, base=self._views.base)
            for view in range(views):
                draw = self._renditions.view(event, view, base=self._views.base)
                todo = [
                    chunk
                    for chunk in range(chunks)
                    if any((chunk, view) not in writer.done for writer in writers.values())
                ]
                members = [self._order.members(chunk) for chunk in todo]
                given = self._samples.stream(members, draw) if onward is None else onward.earlier.stream(todo, view)
                run = source.run if onward is None else onward.source.run
                for chunk, ids, (inputs, targets) in zip(todo, members, given, strict=True):
                    tensors = run(inputs)
                    for number, writer in writers.items():
                        if (chunk, view) in writer.done:
                            continue
                        stored, derived = specs[number].stored[view], None
                        if stored.gains is not None and deriver is not None:
                            base = specs[number].dense(writer.packed(chunk, 0))
                            derived = deriver.derive(base, chunk, first, draw)
                        features = to_store(stored, specs[number].channel_axis, tensors[number], derived)
                        if len(pending) >= WRITES_AHEAD:
                            pending.pop(0).result()
                        pending.append(writing.submit(writer.append, chunk, view, ids, targets, features))
                # A further view may be stored as its difference to the base view: that one is written by then.
                while pending:
                    pending.pop(0).result()

    def _fingerprint(
        self, division: Division, spec: CacheSpec, way: Way, tensor: int = 0, origin: Origin | None = None
    ) -> Fingerprint:
        crossing = division.cut.tensors[tensor]
        event = division.event if origin is None else origin.event
        which = {"tensor": {"source": str(crossing.source), "number": crossing.number}} if tensor else {}
        return Fingerprint(
            {
                **which,
                **({} if origin is None else {"built": asdict(origin)}),
                "prefix": hash_tensors(division.prefix.state_dict()),
                "cut": division.cut.label,
                "samples": len(self._samples),
                "data": self._samples.identity,
                "transform": self._samples.pipeline.to_config(),
                "order": {"seed": self._order.seed, "chunk_size": self._order.chunk_size},
                "views": {
                    "event": event if self._samples.pipeline.is_random else 0,
                    "base": self._views.base,
                    "border": way.border,
                    "form": way.form,
                    "stored": [view.to_config() for view in spec.stored],
                },
                "codec": spec.codec.to_config(),
                "precision": {
                    "dtype": str(spec.dtype),
                    "autocast": torch.is_autocast_enabled(self._device.type),
                    "device": self._device.type,
                    "channels_last": spec.channels_last,
                },
            }
        )


def way_of(cache: Cache) -> Way:
    """How the cache's derived views are made."""
    views = cache.fingerprint.fields["views"]
    return Way(views["border"], views["form"])


def prepare_directory(directory: Path) -> Path:
    """Make the cache directory, and see that it can be written to.

    Raises:
        CacheDirectoryError: it is a file, or cannot be made or written.
    """
    if directory.exists() and not directory.is_dir():
        raise CacheDirectoryError(f"cache_dir {directory} is a file; name a directory")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise CacheDirectoryError(f"cache_dir {directory} cannot be written: {error.strerror}") from error
    return directory
