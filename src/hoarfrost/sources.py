"""The two sources of a chunk's features: the prefix itself, and the cache that stands for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .augment import Border, Draw, Grid, derive
from .cache import Cache, CacheSpec
from .codecs import Packed
from .loading import Block, Order, mix
from .samples import Frame, Samples
from .views import Views

__all__ = ["CacheSource", "PrefixSource", "Renditions"]


class Renditions:
    """The random decisions behind every rendition: pure functions of the seed and of what they are for.

    A live epoch has a draw of its own; so has each stored view of each freeze.
    """

    LIVE, VIEW = 1, 2

    def __init__(self, samples: Samples, seed: int) -> None:
        self._samples = samples
        self._seed = seed
        self._held: dict[tuple[int, ...], Draw] = {}

    def live(self, epoch: int) -> Draw:
        """The renditions that an epoch on images sees."""
        return self._draw(self.LIVE, epoch)

    def view(self, event: int, view: int, base: str = "random") -> Draw:
        """The renditions stored as a view after the freeze event before epoch `event`."""
        if view == 0 and base == "clean":
            return self._samples.pipeline.still(len(self._samples))
        return self._draw(self.VIEW, event, view)

    def _draw(self, *purpose: int) -> Draw:
        if purpose not in self._held:
            if purpose[0] == self.LIVE:
                self._held = {key: draw for key, draw in self._held.items() if key[0] != self.LIVE}
            self._held[purpose] = self._samples.pipeline.draw(len(self._samples), mix(self._seed, *purpose))
        return self._held[purpose]


@dataclass
class PrefixSource:
    """Runs the frozen prefix on freshly rendered images, a chunk at a time."""

    prefix: nn.Module
    samples: Samples
    order: Order
    spec: CacheSpec | None
    draw_for: Callable[[int, int], Draw]
    """(chunk, epoch) -> the renditions to run."""
    device: torch.device
    channels_last: bool = False
    concurrent: bool = False

    def load(self, chunk: int, epoch: int) -> Block:
        if self.spec is None:
            raise RuntimeError("PrefixSource.load needs the features' layout")
        features, targets = self.features(chunk, self.draw_for(chunk, epoch))
        return Block(dense_block(features, self.spec), targets)

    def recover(self, chunk: int, epoch: int, reason: Exception) -> Block:
        raise reason

    def features(self, chunk: int, draw: Draw) -> tuple[Tensor, Tensor]:
        """Features [n, ...] of a chunk's samples under a draw, and targets [n, ...]."""
        images, targets = self.samples.images(self.order.members(chunk), draw)
        return self.run(images), targets

    def run(self, images: Tensor) -> Tensor:
        """Features [n, ...] of images [n, C, H, W], on the CPU, in the memory format that the prefix gives."""
        with torch.no_grad():
            images = images.to(self.device)
            if self.channels_last and images.dim() == 4:
                images = images.contiguous(memory_format=torch.channels_last)
            features: Tensor = self.prefix(images)
            return features.to("cpu")


def dense_block(features: Tensor, spec: CacheSpec) -> Packed:
    """Float features as a block of the window: physical order, nothing to dequantise."""
    return Packed(spec.physical(features), None, None, features.dtype, spec.codec_axis)


@dataclass
class CacheSource:
    """Reads stored views; what is not stored of a view is derived, and what is damaged is computed again."""

    cache: Cache
    order: Order
    views: Views
    stored_views: int
    draws: list[Draw]
    samples: Samples
    frame: Frame | None
    border: Border
    healer: PrefixSource
    live_draw: Callable[[int], Draw]
    on_heal: Callable[[int, int, str], None]
    concurrent: bool = True

    def load(self, chunk: int, epoch: int) -> Block:
        view = self.views.shown(chunk, epoch, self.stored_views)
        spec = self.cache.spec
        stored = spec.view_channels[view]
        if self.views.feature_space:
            base = self.cache.read(chunk, 0)
            moved = self._derived(chunk, base.packed, self.live_draw(epoch))
            return Block(dense_block(moved, spec), base.targets)
        if stored is None:
            read = self.cache.read(chunk, view)
            return Block(read.packed, read.targets)
        base = self.cache.read(chunk, 0)
        block = dense_block(self._derived(chunk, base.packed, self.draws[view]), spec)
        exact = self.cache.read(chunk, view).packed.dense()
        block.values.index_copy_(spec.codec_axis, torch.tensor(stored), exact)
        return Block(block, base.targets)

    def recover(self, chunk: int, epoch: int, reason: Exception) -> Block:
        """Compute a damaged chunk again, store it, and go on with it."""
        view = self.views.shown(chunk, epoch, self.stored_views)
        spec = self.cache.spec
        needs_base = self.views.feature_space or spec.view_channels[view] is not None
        for number in sorted({0, view} if needs_base else {view}):
            features, targets = self.healer.features(chunk, self.draws[number])
            kept = spec.view_channels[number]
            if kept is not None:
                features = features.index_select(spec.channel_axis, torch.tensor(kept))
            self.cache.heal(chunk, number, features, targets=targets, sample_ids=self.order.members(chunk))
        self.on_heal(chunk, view, str(reason))
        return self.load(chunk, epoch)

    def _derived(self, chunk: int, base: Packed, draw: Draw) -> Tensor:
        """Features of the rendition `draw`, from the base view's, in feature space [n, ...]."""
        spec = self.cache.spec
        ids = self.order.members(chunk)
        if self.frame is None:
            raise RuntimeError("features are derived only where images have a size")
        place = self.samples.pipeline.placement
        return derive(
            spec.logical(base.dense()),
            place(self.draws[0], ids, self.frame.raw),
            place(draw, ids, self.frame.raw),
            Grid(self.frame.rendered, (spec.shape[-2], spec.shape[-1])),
            self.border,
        )
