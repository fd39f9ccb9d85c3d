"""How deep a training is frozen: as the policy asks, and as its user changes the front."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import CutError, FrontChangedError
from ..freezing import Division
from .agreement import decided_by_one, seen_by_all
from .components import Components
from .front_guard import FrontGuard
from .front_layers import FrontLayers

__all__ = ["DepthControl"]


class DepthControl:
    """Freezes and thaws where the policy says so, and sees to it that no stale features are fed.

    Args:
        leave: ends the reading of an epoch that is on; says whether one was.
    """

    def __init__(self, components: Components, leave: Callable[[], bool]) -> None:
        self._data, self._cuts, self._asking = components.data, components.cuts, components.asking
        self._front, self._feeder, self._clock = components.front, components.feeder, components.clock
        self._say, self._leave, self._on_changed_front = components.say, leave, components.on_changed_front
        self._watching: tuple[FrontGuard, FrontLayers] | None = None

    def ask(self, epoch: int, step: int = 0) -> None:
        """Ask the policy once for each epoch, or so many steps, and freeze what it names."""
        before = self._front.depth
        answer = self._asking.ask(epoch, step, before)
        if answer is None:
            return
        if answer.why:
            self._say({"event": "decision", **self._change(epoch, step), "depth": answer.depth, "why": answer.why})
        if answer.depth < answer.before:
            self._say({"event": "thaw", **self._change(epoch, step), "before": before, "depth": answer.depth})
            self.thaw()
        if answer.depth > self._front.depth:
            with self._clock.building():
                self._freeze(answer.depth, epoch + (step > 0))
        self._asking.done()
        if step and self._front.depth != before:
            self._leave()
            self._feeder.midway = True
            if self._front.depth:
                self._feeder.forget()
                self._say({"event": "midway", **self._change(epoch, step), "depth": self._front.depth})

    def follow(self, epoch: int, step: int, *, exactly: bool = False) -> None:
        """Somebody has unfrozen layers of the front, or written into it: see to it that no stale features are fed.

        Args:
            exactly: look at all values of the front.

        Raises:
            FrontChangedError: it was written into, and that is to be an error.
            StaleCacheError: samples are not as they were when the cache was built, likewise.
        """
        division = self._front.division
        if division is None:
            return
        # A freeze that was interrupted left it unwatched.
        guard, layers = self._watching or self._watch(division)
        seen = seen_by_all(self._data.ranks, self._feeder, guard, layers, step, exactly)
        if seen.unlike:
            warnings.warn(f"hoarfrost builds the cache again: {seen.unlike}", stacklevel=2)
            self._build_again(epoch, step, {"event": "stale", "why": seen.unlike})
            return
        if seen.unfrozen:
            wanted = {name: parameter.requires_grad for name, parameter in self._front.parameters.items()}
            self.thaw_by_hand(epoch, step)
            for name, parameter in self._front.parameters.items():
                parameter.requires_grad_(wanted[name])
            return
        changed = (*seen.layers, *seen.changed)
        if not changed:
            return
        if self._on_changed_front == "error":
            raise FrontChangedError(
                f"{_named(changed)} in front of cut {division.cut.label!r} changed behind its freeze: its stored "
                'features are stale. Change it before the freeze, thaw() first, or say on_changed_front="rebuild"'
            )
        self._build_again(epoch, step, {"event": "changed", "names": list(changed)})
        if seen.layers:
            self._divide_again(division, seen.layers)

    def decide(self, epoch: int) -> None:
        """See to it that it is known how the features of the current depth are had."""
        depth, division = self._front.depth, self._front.division
        if self._front.outdated and division is not None:
            # The same front, of the same event, in what steps compute in by now.
            with self._clock.building():
                self._freeze(depth, division.event, settled=True)
        if not depth or self._feeder.midway or self._feeder.decided:
            return

        def decide(freeze: Callable[[int], Division]) -> None:
            self._feeder.decide(
                self._asking.epochs_left(epoch, depth),
                self._asking.name,
                later=self._cuts[depth:],
                deepen=lambda cut: freeze(self._cuts.index(cut) + 1),
            )

        with self._clock.building():
            decided_by_one(self._data.ranks, self._feeder, decide, lambda deeper: self._freeze(deeper, epoch))

    def settle(self) -> None:
        """Store what was decided to be stored, where it is not there yet."""
        if not self._front.depth or self._feeder.midway:
            return
        if not self._data.ranks.any("who lacks features", not self._feeder.ready):
            return
        with self._clock.building():
            self._feeder.settle()

    def thaw_by_hand(self, epoch: int, step: int) -> None:
        """Everything trains again, from the next batch on, whatever the policy says."""
        change = self._change(epoch, step) | {"policy": "by hand"}
        self._say({"event": "thaw", **change, "before": self._front.depth, "depth": 0})
        within = self.thaw()
        self._asking.overrule()
        self._feeder.midway = within

    def thaw(self) -> bool:
        """Everything trains again, on images; what was stored is removed. Whether an epoch was being read."""
        within = self._leave()
        self._front.thaw()
        self._watching = None
        self._feeder.drop()
        return within

    def watch(self) -> None:
        """What is changed from now on in front of the cut is noticed, whoever made the freeze."""
        self._watching = None
        if self._front.division is not None:
            self._watch(self._front.division)

    def _watch(self, division: Division) -> tuple[FrontGuard, FrontLayers]:
        self._watching = FrontGuard(division.prefix), FrontLayers(division.prefix, self._data.example)
        return self._watching

    def _freeze(self, depth: int, event: int, settled: bool = False) -> Division:
        """The surgery. What feeds the suffix follows in `decide` and `settle`.

        Args:
            settled: the front was settled when it froze, and is divided anew.
        """
        inputs = None if settled else (inputs for inputs, _ in self._data.live_inputs(event))
        self._feeder.reset()  # first: an interrupt must not leave a deeper front with the features of this one
        self._watching = None
        ranks = self._data.ranks
        division = self._front.freeze(depth, event, inputs if ranks.leads else None)
        if not settled:
            # Estimated by one rank; what statistics the others' own steps left is none of all.
            ranks.same([*division.prefix.parameters(), *division.prefix.buffers()])
        self._watch(division)
        return division

    def _divide_again(self, division: Division, changed: Sequence[str]) -> None:
        """The same front, of the same event, with its layers as they are by now."""
        try:
            with self._clock.building():
                self._freeze(self._front.depth, division.event, settled=True)
        except CutError as error:
            raise FrontChangedError(
                f"{_named(changed)} in front of cut {division.cut.label!r} changed behind its freeze, and the model "
                f"cannot be divided there any more: {error}"
            ) from error

    def _build_again(self, epoch: int, step: int, record: dict[str, Any]) -> None:
        """What is stored is stale: the rest of an epoch is rendered, and before the next it is built anew."""
        within = self._leave()
        self._say({**record, **self._change(epoch, step)})
        self._feeder.drop()
        self._feeder.midway = within

    def _change(self, epoch: int, step: int) -> dict[str, Any]:
        """Where a depth changes, and who wants it."""
        label = self._front.cut.label if self._front.cut else None
        return {"epoch": epoch, "step": step, "cut": label, "policy": self._asking.name}


def _named(names: Sequence[str]) -> str:
    """The first few of them."""
    few = ", ".join(map(repr, names[:3]))
    return few if len(names) <= 3 else f"{few} and {len(names) - 3} more"
