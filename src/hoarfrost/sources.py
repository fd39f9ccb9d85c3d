"""The two sources of a chunk's features: the prefix itself, and the cache that stands for it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .augment import Border, Draw, Grid, derive
from .cache import Cache, CacheSpec
from .codecs import Packed
from .errors import BudgetError, CacheBusyError, CacheDirectoryError, CorruptChunkError
from .loading import Block, Order
from .samples import Frame, Samples
from .seeds import mix
from .views import Views

__all__ = ["CacheSource", "PrefixSource", "Renditions", "Together"]


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

    def view(self, event: int, view: int, edition: int = 0, base: str = "random") -> Draw:
        """The renditions stored as a view after the freeze event before epoch `event`, when drawn so often anew."""
        if view == 0 and base == "clean":
            return self._samples.pipeline.still(len(self._samples))
        return self._draw(self.VIEW, event, view, *[edition] * (edition > 0))

    def _draw(self, *purpose: int) -> Draw:
        # Reading threads ask too: one dictionary is replaced by another, never changed, and only the own draw is given.
        draw = self._held.get(purpose)
        if draw is None:
            draw = self._samples.pipeline.draw(len(self._samples), mix(self._seed, *purpose))
            others = {key: held for key, held in self._held.items() if not self._replaces(purpose, key)}
            self._held = {**others, purpose: draw}
        return draw

    def _replaces(self, new: tuple[int, ...], old: tuple[int, ...]) -> bool:
        """Whether an older draw is no longer needed: of an earlier epoch or freeze, or two editions behind."""
        if new[0] != old[0]:
            return False
        if new[0] == self.LIVE or new[1] != old[1]:
            return True
        return new[2] == old[2] and sum(old[3:]) < sum(new[3:]) - 1


class Together:
    """What one pass of the prefix gave for a chunk, kept until the sources of all its tensors have taken their own."""

    def __init__(self, tensors: int) -> None:
        self._tensors = tensors
        self._held: dict[tuple[int, int], tuple[tuple[Tensor, ...], Tensor, set[int]]] = {}

    def take(
        self, chunk: int, epoch: int, tensor: int, compute: Callable[[], tuple[tuple[Tensor, ...], Tensor]]
    ) -> tuple[Tensor, Tensor]:
        key = chunk, epoch
        if key not in self._held:
            self._held[key] = (*compute(), set(range(self._tensors)))
        features, targets, waiting = self._held[key]
        waiting.discard(tensor)
        if not waiting:
            del self._held[key]
        return features[tensor], targets


@dataclass
class PrefixSource:
    """Runs the frozen prefix on freshly rendered images, a chunk at a time.

    Where several tensors cross the cut, each has a source; `tensor` says which one this gives.
    """

    prefix: nn.Module
    samples: Samples
    order: Order
    spec: CacheSpec | None
    draw_for: Callable[[int, int], Draw]
    """(chunk, epoch) -> the renditions to run."""
    device: torch.device
    channels_last: bool = False
    tensor: int = 0
    together: Together | None = None

    def ahead(self, chunk: int, epoch: int) -> bool:
        return False

    def load(self, chunk: int, epoch: int) -> Block:
        if self.spec is None:
            raise RuntimeError("PrefixSource.load needs the features' layout")
        draw = self.draw_for(chunk, epoch)
        if self.together is None:
            features, targets = self.features(chunk, draw)
        else:
            features, targets = self.together.take(chunk, epoch, self.tensor, lambda: self.tensors(chunk, draw))
        return Block(dense_block(features, self.spec), targets)

    def recover(self, chunk: int, epoch: int, reason: Exception) -> Block:
        raise reason

    def features(self, chunk: int, draw: Draw) -> tuple[Tensor, Tensor]:
        """Features [n, ...] of a chunk's samples under a draw, and targets [n, ...]."""
        tensors, targets = self.tensors(chunk, draw)
        return tensors[self.tensor], targets

    def tensors(self, chunk: int, draw: Draw) -> tuple[tuple[Tensor, ...], Tensor]:
        """All that crosses the cut for a chunk's samples, and targets [n, ...]."""
        images, targets = self.samples.images(self.order.members(chunk), draw)
        return self.run(images), targets

    def run(self, images: Tensor) -> tuple[Tensor, ...]:
        """All that crosses, each [n, ...], of images [n, C, H, W]: on the CPU, in the prefix's own memory format."""
        with torch.no_grad():
            images = images.to(self.device)
            if self.channels_last and images.dim() == 4:
                images = images.contiguous(memory_format=torch.channels_last)
            features = self.prefix(images)
            tensors = (features,) if isinstance(features, Tensor) else features
            return tuple(tensor.to("cpu") for tensor in tensors)


def dense_block(features: Tensor, spec: CacheSpec) -> Packed:
    """Float features as a block of the window: physical order, nothing to dequantise."""
    return Packed(spec.physical(features), None, None, features.dtype, spec.codec_axis)


@dataclass
class CacheSource:
    """Reads stored views; what is not stored of a view is derived, what is missing, outdated or damaged is computed.

    Attributes:
        event: the epoch before which the views were first drawn.
        healer: the prefix, for what has to be computed.
        on_heal: called with (chunk, view, reason) for each damaged record.
        budget_bytes: that the cache may take; a record that has no room is computed in every epoch.
    """

    cache: Cache
    order: Order
    views: Views
    event: int
    renditions: Renditions
    samples: Samples
    frame: Frame | None
    border: Border
    healer: PrefixSource
    on_heal: Callable[[int, int, str], None]
    budget_bytes: int | None = None

    def ahead(self, chunk: int, epoch: int) -> bool:
        edition = self.views.edition(chunk, epoch, self.event)
        return not any(self._due(chunk, view, edition) for view in self._needed(chunk, epoch))

    def load(self, chunk: int, epoch: int) -> Block:
        def read(view: int, edition: int) -> tuple[Packed, Tensor]:
            due = self._due(chunk, view, edition)
            return self._computed(chunk, view, edition) if due else self._stored(chunk, view, edition)

        return self._shown(chunk, epoch, read)

    def recover(self, chunk: int, epoch: int, reason: Exception) -> Block:
        """Compute a damaged chunk again, store it where that is still possible, and go on with it."""
        healed: dict[int, str] = {}

        def read(view: int, edition: int) -> tuple[Packed, Tensor]:
            try:
                return self._stored(chunk, view, edition)
            except (CorruptChunkError, CacheDirectoryError) as error:
                healed[view] = str(error)
                return self._computed(chunk, view, edition)

        block = self._shown(chunk, epoch, read)
        for view, found in healed.items() or {self._needed(chunk, epoch)[-1]: str(reason)}.items():
            self.on_heal(chunk, view, found)
        return block

    def _needed(self, chunk: int, epoch: int) -> tuple[int, ...]:
        """The views that an epoch reads of a chunk: the one shown, and in front of it what it is derived from."""
        view = self.views.shown(chunk, epoch, self.cache.spec.views)
        if self.cache.spec.view_channels[view] is None:
            return (view,)
        # What is moved as a whole comes from a whole view.
        return (0,) if self.views.moved(chunk, epoch) else (0, view)

    def _due(self, chunk: int, view: int, edition: int) -> bool:
        """Whether a record has to be computed as a matter of course: drawn anew, or not recorded yet."""
        found = self.cache.edition(chunk, view)
        return not self.cache.whole if found is None else found != edition

    def _shown(self, chunk: int, epoch: int, read: Callable[[int, int], tuple[Packed, Tensor]]) -> Block:
        """What the epoch sees of a chunk, from the records that `read(view, edition)` gives."""
        edition, spec = self.views.edition(chunk, epoch, self.event), self.cache.spec
        first, *further = self._needed(chunk, epoch)
        packed, targets = read(first, edition)
        if further:
            (view,) = further
            block = dense_block(self._derived(chunk, packed, *(self._draw(v, edition) for v in (first, view))), spec)
            stored = torch.tensor(spec.view_channels[view])
            block.values.index_copy_(spec.codec_axis, stored, read(view, edition)[0].dense())
            return Block(block, targets)
        if self.views.moved(chunk, epoch):
            moved = self._derived(chunk, packed, self._draw(first, edition), self.renditions.live(epoch))
            return Block(dense_block(moved, spec), targets)
        return Block(packed, targets)

    def _draw(self, view: int, edition: int) -> Draw:
        return self.renditions.view(self.event, view, edition, self.views.base)

    def _stored(self, chunk: int, view: int, edition: int) -> tuple[Packed, Tensor]:
        record = self.cache.read(chunk, view)
        if record.edition != edition:
            raise CorruptChunkError(
                f"chunk {chunk}, view {view} in {self.cache.path} shows rendition {record.edition} "
                f"in place of {edition}: another run has drawn it anew"
            )
        return record.packed, record.targets

    def _computed(self, chunk: int, view: int, edition: int) -> tuple[Packed, Tensor]:
        """A record computed by the prefix, with the bits that the cache holds, and stored if the cache takes it."""
        features, targets = self.healer.features(chunk, self._draw(view, edition))
        spec, ids = self.cache.spec, self.order.members(chunk)
        kept = spec.view_channels[view]
        if kept is not None:
            features = features.index_select(spec.channel_axis, torch.tensor(kept))
        # The training goes on without the record: the next epoch finds it missing and computes it again.
        with suppress(CacheDirectoryError, CacheBusyError, BudgetError):
            if self.cache.edition(chunk, view) == edition:
                record = self.cache.heal(chunk, view, features, targets=targets, sample_ids=ids)
            else:
                record = self.cache.renew(
                    chunk, view, edition, features, targets=targets, sample_ids=ids, budget_bytes=self.budget_bytes
                )
            return record.packed, targets
        payload = spec.codec.encode(spec.physical(features), spec.codec_axis)
        shape = spec.physical_shape(chunk, view)
        return spec.codec.unpack(payload, shape, spec.dtype, spec.codec_axis), targets

    def _derived(self, chunk: int, shown: Packed, source: Draw, target: Draw) -> Tensor:
        """Features of the rendition `target`, from those of `source`, in feature space [n, ...]."""
        spec = self.cache.spec
        ids = self.order.members(chunk)
        if self.frame is None:
            raise RuntimeError("features are derived only where images have a size")
        place = self.samples.pipeline.placement
        return derive(
            spec.logical(shown.dense()),
            place(source, ids, self.frame.raw),
            place(target, ids, self.frame.raw),
            Grid(self.frame.rendered, (spec.shape[-2], spec.shape[-1])),
            self.border,
        )
