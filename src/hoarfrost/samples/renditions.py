"""The random decisions behind every rendition of a sample."""

from __future__ import annotations

from ..augment import Draw
from ..seeds import mix
from .dataset import Samples

__all__ = ["Renditions"]


class Renditions:
    """The random decisions behind every rendition: pure functions of the seed and of what they are for.

    A live epoch has a draw of its own; so has each edition of each stored view of each freeze.
    """

    LIVE, VIEW = 1, 2

    def __init__(self, samples: Samples, seed: int) -> None:
        self._samples = samples
        self.seed = seed
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
            draw = self._samples.pipeline.draw(len(self._samples), mix(self.seed, *purpose))
            old = [key for key in self._held if self._replaces(purpose, key)]
            for key in old:
                self._samples.carried.forget(self._held[key].seed)
            self._held = {**{key: held for key, held in self._held.items() if key not in old}, purpose: draw}
        return draw

    def _replaces(self, new: tuple[int, ...], old: tuple[int, ...]) -> bool:
        """Whether an older draw is no longer needed: of an earlier epoch or freeze, or two editions behind."""
        if new[0] != old[0]:
            return False
        if new[0] == self.LIVE or new[1] != old[1]:
            return True
        return new[2] == old[2] and sum(old[3:]) < sum(new[3:]) - 1
