"""The cache as a source of a chunk's features; the prefix stands in for what it lacks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..augment import Draw
from ..cache import Cache, assembled, to_store
from ..errors import CacheError
from ..samples import Block, Deriver, Order, PrefixSource, Renditions, dense_block
from ..settings import Views
from ..storing import StoredFeatures
from .chunks_in_memory import ChunksInMemory

__all__ = ["CacheSource"]


@dataclass
class CacheSource:
    """Reads stored views; what is not stored of a view is derived, what is missing, outdated or damaged is computed.

    Attributes:
        stored: where the features lie.
        event: the epoch before which the views were first drawn.
        healer: the prefix, for what has to be computed.
        on_heal: called with (chunk, view, reason) for each damaged record.
        deriver: makes what is not stored of a view from view 0; None where nothing can be derived.
        resident: keeps chunks in memory that are shown as they are stored.
        alone: held while samples are read: another thread may be reading some, to see whether they are as they were.
    """

    stored: StoredFeatures
    order: Order
    views: Views
    event: int
    renditions: Renditions
    deriver: Deriver | None
    healer: PrefixSource
    on_heal: Callable[[int, int, str], None]
    resident: ChunksInMemory = field(default_factory=lambda: ChunksInMemory(0))
    alone: AbstractContextManager[object] = field(default_factory=nullcontext)

    def begin(self) -> None:
        """An epoch begins: what was kept in memory counts only if the files are still the same."""
        self.resident.current(self.stored.begin())

    def expect(self, epoch: int) -> None:
        """What the epoch reads comes ahead of it, in its order, where it is neither in memory nor on this disk."""
        if self.cache.fetches:
            every = (chunk for window, _ in self.order.windows(epoch) for chunk in window)
            chunks = (chunk for chunk in every if self.kept(chunk, epoch) is None)
            self.cache.expect([(chunk, view) for chunk in chunks for view in self._needed(chunk, epoch)])

    @property
    def cache(self) -> Cache:
        return self.stored.cache

    def ahead(self, chunk: int, epoch: int) -> bool:
        edition = self.views.edition(chunk, epoch, self.event)
        return not any(self._due(chunk, view, edition) for view in self._needed(chunk, epoch))

    def load(self, chunk: int, epoch: int) -> Block:
        computed = False

        def read(view: int, edition: int, derived: Tensor | None = None) -> Block:
            nonlocal computed
            if self._due(chunk, view, edition):
                computed = True
                return self._computed(chunk, view, edition, derived)
            if self.views.derived < 1:
                return self._stored(chunk, view, edition)
            # Never shown as it is, so that nothing else is kept of it.
            place = chunk, view, edition
            return self.resident.find(place) or self.resident.keep(place, self._stored(chunk, view, edition))

        block, place = self._shown(chunk, epoch, read), self._as_stored(chunk, epoch)
        return block if computed or place is None else self.resident.keep(place, block)

    def kept(self, chunk: int, epoch: int) -> Block | None:
        place = self._as_stored(chunk, epoch)
        return None if place is None else self.resident.find(place)

    def _as_stored(self, chunk: int, epoch: int) -> tuple[int, int, int] | None:
        """(chunk, view, edition) of the record that is all that the epoch shows of a chunk; None where it is moved or
        derived."""
        view = self.views.shown(chunk, epoch, self.cache.spec.views)
        if self.views.moved(chunk, epoch) or not self.cache.spec.stored[view].alone:
            return None
        return chunk, view, self.views.edition(chunk, epoch, self.event)

    def recover(self, chunk: int, epoch: int, reason: Exception) -> Block:
        """Compute a damaged chunk again, store it where that is still possible, and go on with it."""
        healed: dict[int, str] = {}

        def read(view: int, edition: int, derived: Tensor | None = None) -> Block:
            try:
                return self._stored(chunk, view, edition)
            except CacheError as error:
                healed[view] = str(error)
                return self._computed(chunk, view, edition, derived)

        block = self._shown(chunk, epoch, read)
        for view, found in healed.items() or {self._needed(chunk, epoch)[-1]: str(reason)}.items():
            self.on_heal(chunk, view, found)
        return block

    def _needed(self, chunk: int, epoch: int) -> tuple[int, ...]:
        """The views that an epoch reads of a chunk: the one shown, and in front of it what it is derived from."""
        view = self.views.shown(chunk, epoch, self.cache.spec.views)
        if self.views.moved(chunk, epoch) and self._has_mirror:
            turned = self._turned(chunk, epoch, self.views.edition(chunk, epoch, self.event))
            if not turned.any():
                return (0,)
            return (1,) if turned.all() and self.cache.spec.stored[1].alone else (0, 1)
        if self.cache.spec.stored[view].alone:
            return (view,)
        # What is moved as a whole comes from a whole view.
        return (0,) if self.views.moved(chunk, epoch) else (0, view)

    @property
    def _has_mirror(self) -> bool:
        """Whether the mirror image of the base view is stored, or some of it."""
        return self.renditions.mirrors and self.cache.spec.views > 1 and self.deriver is not None

    def _turned(self, chunk: int, epoch: int, edition: int) -> Tensor:
        """Which of a chunk's samples the epoch moves to where the base view's mirror image is nearer: bool [n]."""
        if self.deriver is None:
            raise RuntimeError("features are derived only where images have a size")
        return self.deriver.turned(chunk, self._draw(0, edition), self.renditions.moved(epoch))

    def _due(self, chunk: int, view: int, edition: int) -> bool:
        """Whether a record has to be computed as a matter of course: drawn anew, or not recorded yet."""
        found = self.cache.edition(chunk, view)
        return not self.cache.whole if found is None else found != edition

    def _shown(self, chunk: int, epoch: int, read: Callable[..., Block]) -> Block:
        """What the epoch sees of a chunk, from the records that `read(view, edition, derived)` gives."""
        edition, spec, under = self.views.edition(chunk, epoch, self.event), self.cache.spec, self.healer.samples.under
        first, *further = self._needed(chunk, epoch)
        base = read(first, edition)
        source, moved = self._draw(first, edition), self.views.moved(chunk, epoch)
        if not further and not moved:
            return replace(base, targets=under(base.targets, source))
        shown = spec.dense(base.features)
        target = self.renditions.moved(epoch) if moved else self._draw(further[0], edition)
        for view in further:
            own = self._draw(view, edition)
            derived = self._derived(chunk, shown, source, own)
            record = spec.dense(read(view, edition, derived).features)
            other = assembled(spec.stored[view], spec.channel_axis, record, derived)
            if not moved:
                return Block(dense_block(other, spec), under(base.targets, target))
            there, turned = self._derived(chunk, other, own, target), self._turned(chunk, epoch, edition)
            if turned.all():
                return Block(dense_block(there, spec), under(base.targets, target))
            here = self._derived(chunk, shown, source, target)
            mixed = torch.where(turned.view(-1, *[1] * (here.dim() - 1)), there, here)
            return Block(dense_block(mixed, spec), under(base.targets, target))
        return Block(dense_block(self._derived(chunk, shown, source, target), spec), under(base.targets, target))

    def _draw(self, view: int, edition: int) -> Draw:
        return self.renditions.view(self.event, view, edition)

    def _stored(self, chunk: int, view: int, edition: int) -> Block:
        record = self.stored.read(chunk, view, edition)
        return Block(record.packed, record.targets, record.lengths)

    def _computed(self, chunk: int, view: int, edition: int, derived: Tensor | None) -> Block:
        """A record computed by the prefix, and stored if the cache takes it.

        It has the bits that the cache holds, but where that was built from a shallower cut's features: there it is
        nearer to the exact ones than the record that it replaces.
        """
        with self.alone:
            features, targets, digests = self.healer.told(chunk, self._draw(view, edition))
        spec, ids = self.cache.spec, self.order.members(chunk)
        lengths = self.healer.lengths(ids)
        features = to_store(spec.stored[view], spec.channel_axis, features, derived)
        packed = self.stored.put(
            *(chunk, view, edition, features),
            targets=targets,
            sample_ids=ids,
            lengths=lengths,
            digests=digests,
            frames=self.healer.samples.frames.told(ids, self.healer.call),
        )
        return Block(packed, targets, lengths)

    def _derived(self, chunk: int, shown: Tensor, source: Draw, target: Draw) -> Tensor:
        if self.deriver is None:
            raise RuntimeError("features are derived only where images have a size")
        return self.deriver.derive(shown, chunk, source, target)
