"""From a frozen prefix to batches of features: calibrate, store or recompute, read, heal."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
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
from .sources import CacheSource, PrefixSource, Renditions
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
        self.cache: Cache | None = None
        self.rung = 0
        """Position of the current rung in the ladder; the next cache does not start below it."""
        self._source: PrefixSource | CacheSource | None = None
        self._spec: CacheSpec | None = None

    @property
    def ready(self) -> bool:
        """Whether `batches` can be called: a cache that has vanished from the disk has to be built again."""
        return self._source is not None and (self.cache is None or self.cache.path.is_dir())

    def reset(self) -> None:
        """The division has changed: what was read so far is no longer what the suffix needs."""
        self._source = None

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch of features [B, ...] and targets [B, ...] on the device."""
        if self._source is None or self._spec is None:
            raise RuntimeError("Feeder.batches before Feeder.settle")
        device = None if self._device.type == "cpu" else self._device
        for batch in feature_batches(
            self._source, self.order, self._spec, epoch, self._batch_size, start=start, device=device
        ):
            yield batch.features, batch.targets

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
        decision, choice, spec = calibration.decision.reason, calibration.decision.choice, calibration.spec
        previous, self.cache = self.cache, None
        build_seconds = 0.0
        if choice == "cache":
            began = time.perf_counter()
            try:
                self.cache, note = self._stored_within_budget(division, calibration)
                spec = self.cache.spec
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
        self._use(division, spec, views)
        if previous is not None and (self.cache is None or previous.path != self.cache.path):
            previous.drop()
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
                "cache_bytes": self.cache.nbytes if self.cache else 0,
                "dense_bytes": self.cache.dense_nbytes if self.cache else 0,
            }
        )

    def reopen(self, division: Division, digest: str) -> bool:
        """Go on with the cache of an earlier process; False if it is gone or was made from something else."""
        try:
            cache = Cache.open(self._cache_dir / digest[:16])
            cache = Cache.open(cache.path, self._fingerprint(division, cache.spec, _border_of(cache)))
        except (StaleCacheError, CorruptChunkError) as error:
            warnings.warn(f"hoarfrost builds the cache again: {error}", stacklevel=2)
            return False
        except CacheDirectoryError:
            return False
        self.cache = cache
        self._use(division, cache.spec, self._views_at(division))
        return True

    # ------------------------------------------------------------------ storing

    def _stored_within_budget(self, division: Division, calibration: Calibration) -> tuple[Cache, str]:
        """The cache, and what had to be left out for it.

        What was predicted from a sample can turn out too small: then a view less is tried.
        """
        spec, note = self._within_budget(calibration, division.cut.label)
        while True:
            try:
                return self._stored(division, spec, calibration.border), note
            except BudgetError:
                count = len(spec.view_channels) - 1
                if not count:
                    raise
                spec = replace(spec, view_channels=spec.view_channels[:count])
                note = f"{count} of {len(calibration.spec.view_channels)} views, for more there was no room"

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

    def _within_budget(self, calibration: Calibration, label: str) -> tuple[CacheSpec, str]:
        """What can be stored under the disk budget: fewer views if need be.

        Raises:
            BudgetError: not even one view fits.
        """
        spec, needed, budget = calibration.spec, calibration.predicted_bytes, self._disk_budget
        if budget is None or needed <= budget:
            return spec, ""
        one = 0 if calibration.rung is None else round(calibration.rung.bytes_per_sample * self.order.samples)
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
        return replace(spec, view_channels=spec.view_channels[:count]), note

    def _stored(self, division: Division, spec: CacheSpec, border: Border) -> Cache:
        """The cache of this division: an identical one that stands already, or a new one."""
        fingerprint = self._fingerprint(division, spec, border)
        try:
            return Cache.open(self._cache_dir / fingerprint.key, fingerprint)
        except CacheDirectoryError:
            pass  # there is none yet
        except CorruptChunkError as error:
            warnings.warn(f"hoarfrost builds the cache again: {error}", stacklevel=2)
        writer = Cache.create(self._cache_dir, fingerprint, spec, budget_bytes=self._disk_budget)
        try:
            self._fill(writer, division, spec)
            return writer.commit()
        except Exception:
            writer.abort()
            raise

    def _fill(self, writer: CacheWriter, division: Division, spec: CacheSpec) -> None:
        """One pass of the prefix for each view; a thread encodes and writes what the prefix has computed."""
        source = self._prefix_source(division, spec)
        with ThreadPoolExecutor(1, "hoarfrost-write") as writing:
            pending: list[Future[int]] = []
            for view, channels in enumerate(spec.view_channels):
                draw = self.renditions.view(division.event, view, self._views.base)
                todo = [chunk for chunk in range(self.order.chunks) if (chunk, view) not in writer.done]
                members = [self.order.members(chunk) for chunk in todo]
                rendered = self._samples.stream(members, draw)
                for chunk, ids, (images, targets) in zip(todo, members, rendered, strict=True):
                    features = source.run(images)
                    if channels is not None:
                        features = features.index_select(spec.channel_axis, torch.tensor(channels))
                    if len(pending) >= WRITES_AHEAD:
                        pending.pop(0).result()
                    pending.append(writing.submit(writer.append, chunk, view, ids, targets, features))
            for waiting in pending:
                waiting.result()

    def _fingerprint(self, division: Division, spec: CacheSpec, border: Border) -> Fingerprint:
        return Fingerprint(
            {
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

    def _use(self, division: Division, spec: CacheSpec, views: Views) -> None:
        self._spec = spec
        prefix = self._prefix_source(division, spec)
        if self.cache is None:
            self._source = prefix
            return
        stored = len(spec.view_channels)
        self._source = CacheSource(
            cache=self.cache,
            order=self.order,
            views=views,
            stored_views=stored,
            draws=[self.renditions.view(division.event, view, views.base) for view in range(stored)],
            samples=self._samples,
            frame=self._frame,
            border=_border_of(self.cache),
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
