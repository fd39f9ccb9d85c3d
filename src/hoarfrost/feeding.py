"""From a frozen prefix to batches of features: calibrate, store or recompute, read, heal."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .augment import Border
from .cache import Cache, CacheSpec, CacheWriter, Fingerprint, hash_tensors
from .calibration import Calibration, calibrate, derivable, suffix_in_eval
from .codecs import Ladder
from .cuts import Cut
from .errors import BudgetError, CacheBusyError, CacheDirectoryError, CorruptChunkError, StaleCacheError
from .loading import Order, feature_batches
from .samples import Frame, Samples
from .sources import CacheSource, PrefixSource, Renditions, Together
from .views import Views

__all__ = ["Division", "Feeder"]

WRITES_AHEAD = 4
"""Chunks that may wait to be encoded while the prefix computes the next; bounds the memory of a build."""


@dataclass(frozen=True)
class Division:
    """A model divided at a frozen cut.

    Attributes:
        event: the epoch before which it was frozen; the stored views' random decisions belong to it.
        twins: modules of the suffix, each with the module of the model that it stands for.
    """

    cut: Cut
    prefix: nn.Module
    suffix: nn.Module
    event: int
    twins: tuple[tuple[nn.Module, nn.Module], ...]


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
        seed: int,
        device: torch.device,
        channels_last: bool,
        frame: Frame | None,
        say: Callable[[dict[str, Any]], None],
    ) -> None:
        self._samples, self.order = samples, order
        self._batch_size = batch_size
        self._views, self._ladder, self._tolerance, self._mode = views, ladder, tolerance, mode
        self._cache_dir, self._disk_budget = cache_dir, disk_budget
        self._device, self._channels_last, self._frame = device, channels_last, frame
        self._say = say
        self.renditions = Renditions(samples, seed)
        self.caches: tuple[Cache, ...] = ()
        """One for each tensor that crosses the cut; none when recomputing."""
        self.rung = 0
        """Position of the current rung in the ladder; the next cache does not start below it."""
        self._previous: tuple[Cache, ...] = ()
        """The features of the shallower cut, while those of the deeper one are stored."""
        self._sources: tuple[tuple[PrefixSource | CacheSource, CacheSpec], ...] = ()

    @property
    def cache(self) -> Cache | None:
        """The stored features, or None; what else crosses the cut is stored beside them."""
        return self.caches[0] if self.caches else None

    @property
    def nbytes(self) -> int:
        """Bytes on disk of all that crosses."""
        return sum(cache.nbytes for cache in self.caches)

    @property
    def ready(self) -> bool:
        """Whether `batches` can be called: a cache that has vanished from the disk has to be built again."""
        return bool(self._sources) and all(cache.path.is_dir() for cache in self.caches)

    def reset(self) -> None:
        """The division has changed: what was read so far is no longer what the suffix needs."""
        self._sources = ()

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Any, Tensor]]:
        """One epoch of features [B, ...], or tuples of all that crosses, and targets [B, ...] on the device."""
        if not self._sources:
            raise RuntimeError("Feeder.batches before Feeder.settle")
        device = None if self._device.type == "cpu" else self._device
        # The order is a pure function of seed and epoch, so that the tensors of one batch belong together.
        columns = [
            feature_batches(source, self.order, spec, epoch, self._batch_size, start=start, device=device)
            for source, spec in self._sources
        ]
        for batches in zip(*columns, strict=True):
            features = tuple(batch.features for batch in batches)
            yield features if len(features) > 1 else features[0], batches[0].targets

    def settle(self, division: Division, epochs_left: int | None, policy: str) -> None:
        """Measure, choose, store if that pays and fits, and say what was decided.

        Never raises for lack of room: it goes on by recomputing, and says so.
        """
        views = self._views_at(division)
        calibration = calibrate(
            source=self._prefix_source(division, None),
            suffix=suffix_in_eval(division.suffix),
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
        )
        decision, choice = calibration.decision.reason, calibration.decision.choice
        specs = [calibration.spec, *(other.spec for other in calibration.beside)]
        self._previous, self.caches = self.caches, ()
        build_seconds = 0.0
        if choice == "cache":
            began = time.perf_counter()
            try:
                self.caches, note = self._stored_within_budget(division, calibration)
                specs = [cache.spec for cache in self.caches]
                decision = "; ".join(filter(None, (decision, note)))
            except (BudgetError, CacheDirectoryError, CacheBusyError) as error:
                choice, decision = (
                    "recompute",
                    f"recomputed, because the features could not be stored: {error}",
                )
                warnings.warn(f"hoarfrost goes on by recomputing: {error}", stacklevel=2)
            build_seconds = time.perf_counter() - began
        if self.cache is not None and calibration.rung is not None:
            self.rung = calibration.rung.index
        self._use(division, specs, views)
        self._drop_previous()
        stored = None if self.cache is None else self.cache.spec.view_channels
        self._say(
            {
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
                "views": len(stored) if stored else 0,
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
        )

    def reopen(self, division: Division, digests: Sequence[str]) -> bool:
        """Go on with the caches of an earlier process; False if one is gone or was made from something else."""
        if len(digests) != len(division.cut.tensors):
            return False
        found = []
        try:
            for tensor, digest in enumerate(digests):
                cache = Cache.open(self._cache_dir / digest[:16])
                found.append(Cache.open(cache.path, self._fingerprint(division, cache.spec, _border_of(cache), tensor)))
        except (StaleCacheError, CorruptChunkError) as error:
            warnings.warn(f"hoarfrost builds the cache again: {error}", stacklevel=2)
            return False
        except CacheDirectoryError:
            return False
        self.caches = tuple(found)
        self._use(division, [cache.spec for cache in found], self._views_at(division))
        return True

    # ------------------------------------------------------------------ storing

    def _stored_within_budget(self, division: Division, calibration: Calibration) -> tuple[tuple[Cache, ...], str]:
        """The caches, and what had to be left out for it.

        What was predicted from a sample can turn out too small: then a view less is tried.
        """
        specs = [calibration.spec, *(other.spec for other in calibration.beside)]
        count, note = self._within_budget(calibration, division.cut.label)
        first = ""
        while True:
            if self._previous and self._room(count, calibration) < 0:
                first = "the earlier features were removed first, since there was no room for both"
                self._drop_previous()
            fewer = [replace(spec, view_channels=spec.view_channels[:count]) for spec in specs]
            try:
                return self._stored(division, fewer, calibration), "; ".join(filter(None, (note, first)))
            except BudgetError:
                if self._previous:
                    first = "the earlier features were removed, since there was no room for both"
                    self._drop_previous()
                    continue
                count -= 1
                if not count:
                    raise
                note = f"{count} of {len(calibration.spec.view_channels)} views, for more there was no room"

    def _room(self, views: int, calibration: Calibration) -> float:
        """Bytes of the disk budget that would be left beside the earlier features and so many views."""
        if self._disk_budget is None:
            return math.inf
        needed = calibration.predicted_bytes * views / len(calibration.spec.view_channels)
        return self._disk_budget - sum(cache.nbytes for cache in self._previous) - needed

    def _drop_previous(self) -> None:
        """Remove the features of the shallower cut."""
        for cache in self._previous:
            if cache.path not in [kept.path for kept in self.caches]:
                cache.drop()
        self._previous = ()

    def _views_at(self, division: Division) -> Views:
        """The views asked for; stored ones instead of feature space where nothing can be derived."""
        if not self._views.feature_space or (self._frame is not None and derivable(division.cut, self._samples)):
            return self._views
        warnings.warn(
            f"hoarfrost: features at cut {division.cut.label!r} have no feature-space augmentation (that needs feature "
            "maps, flips or padded crops, and images of one size); stored views are shown instead",
            stacklevel=2,
        )
        return replace(self._views, feature_space=False)

    def _within_budget(self, calibration: Calibration, label: str) -> tuple[int, str]:
        """How many views can be stored under the disk budget.

        Raises:
            BudgetError: not even one view fits.
        """
        spec, needed, budget = calibration.spec, calibration.predicted_bytes, self._disk_budget
        if budget is None or needed <= budget:
            return len(spec.view_channels), ""
        one = calibration.view_bytes
        if one > budget:
            raise BudgetError(
                f"the disk budget is {budget:,} bytes, one view of {self.order.samples:,} samples at cut {label!r} "
                f"needs about {one:,} at the strongest rung that does no harm; a deeper cut or a larger budget would do"
            )
        count = next(
            n
            for n in range(len(spec.view_channels) - 1, 0, -1)
            if n == 1 or needed * n / len(spec.view_channels) <= budget
        )
        note = f"{count} of {len(spec.view_channels)} views, to stay within the disk budget of {budget:,} bytes"
        return count, note

    def _stored(self, division: Division, specs: Sequence[CacheSpec], calibration: Calibration) -> tuple[Cache, ...]:
        """The caches of this division: identical ones that stand already, and new ones."""
        standing: dict[int, Cache] = {}
        writers: dict[int, CacheWriter] = {}
        shares = self._shares(calibration)
        try:
            for tensor, spec in enumerate(specs):
                fingerprint = self._fingerprint(division, spec, calibration.border, tensor)
                try:
                    standing[tensor] = Cache.open(self._cache_dir / fingerprint.key, fingerprint)
                    continue
                except CacheDirectoryError:
                    pass  # there is none yet
                except CorruptChunkError as error:
                    warnings.warn(f"hoarfrost builds the cache again: {error}", stacklevel=2)
                writers[tensor] = Cache.create(self._cache_dir, fingerprint, spec, budget_bytes=shares[tensor])
            if writers:
                self._fill(writers, division, specs)
            # One after the other: a crash in between leaves whole caches, and the build of the others goes on.
            return tuple(standing[n] if n in standing else writers[n].commit() for n in range(len(specs)))
        except Exception:
            for writer in writers.values():
                writer.abort()
            raise

    def _shares(self, calibration: Calibration) -> list[int | None]:
        """What the earlier features leave of the disk budget, divided between the tensors as their bytes will be."""
        if self._disk_budget is None:
            return [None] * (1 + len(calibration.beside))
        budget = max(0, self._disk_budget - sum(cache.nbytes for cache in self._previous))
        if not calibration.beside:
            return [budget]
        others = [round(other.bytes_per_sample * self.order.samples) for other in calibration.beside]
        sizes = [calibration.view_bytes - sum(others), *others]
        return [budget * size // max(1, calibration.view_bytes) for size in sizes]

    def _fill(self, writers: Mapping[int, CacheWriter], division: Division, specs: Sequence[CacheSpec]) -> None:
        """One pass of the prefix for each view; a thread encodes and writes what the prefix has computed."""
        source = self._prefix_source(division, specs[0])
        with ThreadPoolExecutor(1, "hoarfrost-write") as writing:
            pending: list[Future[int]] = []
            for view in range(len(specs[0].view_channels)):
                draw = self.renditions.view(division.event, view, self._views.base)
                todo = [
                    chunk
                    for chunk in range(self.order.chunks)
                    if any((chunk, view) not in writer.done for writer in writers.values())
                ]
                members = [self.order.members(chunk) for chunk in todo]
                rendered = self._samples.stream(members, draw)
                for chunk, ids, (images, targets) in zip(todo, members, rendered, strict=True):
                    tensors = source.run(images)
                    for number, writer in writers.items():
                        if (chunk, view) in writer.done:
                            continue
                        features, channels = tensors[number], specs[number].view_channels[view]
                        if channels is not None:
                            features = features.index_select(specs[number].channel_axis, torch.tensor(channels))
                        if len(pending) >= WRITES_AHEAD:
                            pending.pop(0).result()
                        pending.append(writing.submit(writer.append, chunk, view, ids, targets, features))
            for waiting in pending:
                waiting.result()

    def _fingerprint(self, division: Division, spec: CacheSpec, border: Border, tensor: int = 0) -> Fingerprint:
        crossing = division.cut.tensors[tensor]
        which = {"tensor": {"source": str(crossing.source), "number": crossing.number}} if tensor else {}
        return Fingerprint(
            {
                **which,
                "prefix": hash_tensors(division.prefix.state_dict()),
                "cut": division.cut.label,
                "samples": len(self._samples),
                "data": self._samples.identity,
                "transform": self._samples.pipeline.to_config(),
                "order": {"seed": self.order.seed, "chunk_size": self.order.chunk_size},
                "views": {
                    "event": division.event if self._samples.pipeline.is_random else 0,
                    "base": self._views.base,
                    "border": border,
                    "channels": [None if c is None else list(c) for c in spec.view_channels],
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

    # ------------------------------------------------------------------ reading

    def _use(self, division: Division, specs: Sequence[CacheSpec], views: Views) -> None:
        together = Together(len(specs)) if len(specs) > 1 else None
        prefixes = [
            replace(self._prefix_source(division, spec), tensor=number, together=together)
            for number, spec in enumerate(specs)
        ]
        if not self.caches:
            self._sources = tuple(zip(prefixes, specs, strict=True))
            return
        read = [self._cache_source(division, *pair, views) for pair in zip(self.caches, prefixes, strict=True)]
        self._sources = tuple(zip(read, specs, strict=True))

    def _cache_source(self, division: Division, cache: Cache, prefix: PrefixSource, views: Views) -> CacheSource:
        stored = len(cache.spec.view_channels)
        return CacheSource(
            cache=cache,
            order=self.order,
            views=views,
            stored_views=stored,
            draws=[self.renditions.view(division.event, view, views.base) for view in range(stored)],
            samples=self._samples,
            frame=self._frame,
            border=_border_of(cache),
            healer=prefix,
            live_draw=self.renditions.live,
            on_heal=lambda chunk, view, reason: self._say(
                {"event": "heal", "chunk": chunk, "view": view, "reason": reason}
            ),
        )

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


def _border_of(cache: Cache) -> Border:
    """What the cache's derived views show where the base view has nothing."""
    border: Border = cache.fingerprint.fields["views"]["border"]
    return border
