"""The random decisions behind every rendition of a sample."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from ..augment import Draw, mirrored_seed
from ..seeds import mix
from ..settings import Views
from .dataset import Samples
from .order import Order

__all__ = ["Renditions"]

MADE_OF_OTHERS = 4
"""Draws that are made of others and kept: mirror images, and what a chunk shares."""


class Renditions:
    """The random decisions behind every rendition: pure functions of the seed and of what they are for.

    A live epoch has a draw of its own; so has each edition of each stored view of each freeze.

    Args:
        views: what is stored, and how it is moved.
        order: says which samples share a chunk, where they share a rendition.
    """

    LIVE, VIEW = 1, 2

    def __init__(self, samples: Samples, seed: int, views: Views | None = None, order: Order | None = None) -> None:
        self._samples, self._order = samples, order
        self.seed, self.views = seed, views or Views()
        self._held: dict[tuple[int, ...], Draw] = {}
        self._made: dict[tuple[str, int], Draw] = {}

    def live(self, epoch: int) -> Draw:
        """The renditions that an epoch on images sees."""
        return self._draw(self.LIVE, epoch)

    def moved(self, epoch: int) -> Draw:
        """The renditions that an epoch moves stored features to: those of a live epoch, or one for each chunk."""
        live, order = self.live(epoch), self._order
        if self.views.grain == "sample" or order is None:
            return live
        return self._made_of(live, "shared", lambda: live.shared(order.leaders))

    @property
    def mirrors(self) -> bool:
        """Whether view 1 is the mirror image of the base view."""
        return self.views.further == "mirrored" and self._samples.pipeline.can_mirror

    def view(self, event: int, view: int, edition: int = 0) -> Draw:
        """The renditions stored as a view after the freeze event before epoch `event`, when drawn so often anew."""
        if view == 1 and self.mirrors:
            base = self.view(event, 0, edition)
            return self._made_of(base, "mirrored", lambda: self._samples.pipeline.mirrored(base))
        if view == 0 and self.views.base == "clean":
            return self._still
        return self._draw(self.VIEW, event, view, *[edition] * (edition > 0))

    @cached_property
    def _still(self) -> Draw:
        return self._samples.pipeline.still(len(self._samples))

    def _draw(self, *purpose: int) -> Draw:
        # Reading threads ask too: one dictionary is replaced by another, never changed, and only the own draw is given.
        draw = self._held.get(purpose)
        if draw is None:
            draw = self._samples.pipeline.draw(len(self._samples), mix(self.seed, *purpose))
            old = [key for key in self._held if self._replaces(purpose, key)]
            for key in old:
                for seed in (self._held[key].seed, mirrored_seed(self._held[key].seed)):
                    self._samples.carried.forget(seed)
            self._held = {**{key: held for key, held in self._held.items() if key not in old}, purpose: draw}
        return draw

    def _made_of(self, draw: Draw, how: str, make: Callable[[], Draw]) -> Draw:
        """What is made of a draw, kept while it is asked for."""
        found = self._made.get((how, draw.seed))
        if found is None:
            found = make()
            self._made = {**dict(list(self._made.items())[1 - MADE_OF_OTHERS :]), (how, draw.seed): found}
        return found

    def _replaces(self, new: tuple[int, ...], old: tuple[int, ...]) -> bool:
        """Whether an older draw is no longer needed: of an earlier epoch or freeze, or two editions behind."""
        if new[0] != old[0]:
            return False
        if new[0] == self.LIVE or new[1] != old[1]:
            return True
        return new[2] == old[2] and sum(old[3:]) < sum(new[3:]) - 1
