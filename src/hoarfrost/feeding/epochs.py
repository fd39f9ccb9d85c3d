"""The epochs of one training: each as deep as the policy asks, on what can be had at that depth."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..costs import Clock
from ..cuts import Cut, apart, unsynchronised, without_autocast
from ..errors import ArgumentError, CheckpointError, CutError, FrontChangedError
from ..freezing import Division, Front
from ..policies import Asking
from ..samples import TrainingData
from ..settings import check_deciding
from .agreement import check_shares, decided_by_one, seen_by_all
from .feeder import Batches, Feeder
from .front_guard import FrontGuard
from .front_layers import FrontLayers

__all__ = ["Epochs"]

STATE_VERSION = 4


class Epochs:
    """Asks the policy, freezes and thaws, and gives the batches of one epoch after the other.

    Args:
        epochs: how many there will be; None where that is not known.
        say: called with each record (`epoch`, `decision`, `midway`, `thaw`, `changed`).
        on_changed_front: as in `hoarfrost.settings.Freezing`.
    """

    def __init__(
        self,
        data: TrainingData,
        cuts: tuple[Cut, ...],
        asking: Asking,
        front: Front,
        feeder: Feeder,
        clock: Clock,
        epochs: int | None,
        say: Callable[[dict[str, Any]], None],
        on_changed_front: str = "rebuild",
    ) -> None:
        self._data, self._cuts, self._asking, self._front, self._feeder = data, cuts, asking, front, feeder
        self._clock, self._epochs, self._say = clock, epochs, say
        self._on_changed_front = on_changed_front
        self._watching: tuple[FrontGuard, FrontLayers] | None = None
        self._reading: Batches | None = None
        self._begun = 0
        """Iterators over epochs so far: only the last one is followed."""
        self._closed = False
        self._epoch = 0
        self.given = 0
        """Batches of the epoch that were given so far, those skipped included; 0 once it has been ended."""
        self.resumed = False
        """Whether an earlier process gave them, and the epoch is to go on behind them."""

    @property
    def source(self) -> str:
        """What an epoch is made of now: "images", "cache", or "recompute"."""
        return "images" if not self._front.depth else "cache" if self._feeder.stores else "recompute"

    @property
    def epoch(self) -> int:
        """The one that comes, or is on."""
        return self._epoch

    @property
    def steps(self) -> int:
        """Batches of the epoch that comes, or is on."""
        return len(self._data.bounds(self._epoch))

    def batches(self, epoch: int, start: int) -> Iterator[Any]:
        """The epoch's batches from one on; what is frozen changes in front of it, and within where the policy says."""
        for name, value in (("epoch", epoch), ("start", start)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ArgumentError(f"{name} must be a whole number from 0 on, not {value!r}")
        if self._front.superseded:
            raise ArgumentError("another Freezer has been made for this model since: take its batches")
        if self._closed:
            raise ArgumentError("the freezer is closed: the data set has its transform back, and the cache may be gone")
        self._front.precision.look()
        yield from apart(self._batches(epoch, start), self._data.on_device.device)

    def _batches(self, epoch: int, start: int) -> Batches:
        with self._data.ranks.telling():
            self.begin(epoch)
            self._ask(epoch)
            self._follow(epoch, 0, exactly=True)
            self._decide(epoch)
            self._settle()
            self._feeder.tidy()
            self._front.begin()
        with self._data.ranks.telling(), self._clock.training(live=not self._front.depth):
            yield from self._asking.observer.counted(self._asked_between(epoch, start), epoch, start)

    def close(self) -> None:
        """No more batches."""
        self._leave()
        if not self._closed:
            self._feeder.tidy(over=self._epochs is not None and self._epoch >= self._epochs)
        self._closed = True

    def begin(self, epoch: int) -> None:
        """This is the epoch that comes now, from its beginning."""
        self._leave()
        self._begun += 1
        self.given, self.resumed = 0, False
        if epoch != self._epoch:
            self._epoch, self._feeder.midway = epoch, False

    def end(self, metrics: Mapping[str, Any], *, last: bool = False) -> None:
        """Close the epoch: record it, ask the policy, freeze if it says so, and decide what is stored.

        Args:
            last: no other will follow.
        """
        if self._closed:
            raise ArgumentError("the freezer is closed: there is no epoch to end")
        if not isinstance(metrics, Mapping):
            raise ArgumentError(f"end_epoch takes metrics by name, {{'val_loss': ...}}, not {metrics!r}")
        seconds, samples = self._clock.epoch_seconds, len(self._data.samples)
        # Losses are often tensors, and accuracies numpy's: records are JSON.
        known = {name: number.item() if hasattr(number, "item") else number for name, number in metrics.items()}
        self._say(
            {
                "event": "epoch",
                "epoch": self._epoch,
                "depth": self._front.depth,
                "cut": self._front.cut.label if self._front.cut else None,
                "source": self.source,
                "seconds": seconds,
                "images_per_second": samples / seconds if seconds else None,
                "cache_bytes": self._feeder.nbytes,
                "saved_seconds": self._clock.saved_seconds(),
                "watch_seconds": self._asking.observer.seconds,
                **known,
            }
        )
        self._asking.metrics.append(known)
        with self._data.ranks.telling():
            self._data.samples.unreadable.share(self._data.ranks)
        if last:
            return
        self._leave()
        self._feeder.end_check()
        self._epoch, self.given, self._feeder.midway = self._epoch + 1, 0, False
        with self._data.ranks.telling():
            self._follow(self._epoch, 0)
        self.decide()
        self._front.end_epoch()

    def decide(self, *, store: bool = False) -> None:
        """Ask the policy for the epoch that comes, freeze if it says so, and decide what is stored.

        A state that is saved then holds all of that.

        Args:
            store: store it now; else the next batch does.
        """
        if self._epochs is not None and self._epoch >= self._epochs:
            return
        self._front.precision.look()
        with self._data.ranks.telling(), without_autocast(self._data.on_device.device), unsynchronised():
            self._ask(self._epoch)
            self._decide(self._epoch)
            if store:
                self._settle()

    def state_dict(self) -> dict[str, Any]:
        """JSON, but for what the policy remembers: that may be tensors."""
        return {
            "version": STATE_VERSION,
            **self._belonging(),
            "settings": self._feeder.deciding,
            "epoch": self._epoch,
            "given": self.given,
            "ranks": self._data.ranks.world,
            "clock": self._clock.state_dict(),
            **self._front.state_dict(),
            **self._asking.state_dict(),
            **self._feeder.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`: freeze as deep as it says, and read what was stored.

        Raises:
            CheckpointError: the state belongs to another model, data set or seed, was decided by other settings, less
                is frozen there than here, or it is none.
        """
        version = state.get("version") if isinstance(state, Mapping) else None
        if version != STATE_VERSION or not isinstance(state.get("history"), list):
            told = f"{version!r}" if isinstance(state, Mapping) else f"none: it is a {type(state).__name__}"
            raise CheckpointError(f"a freezer's state of version {STATE_VERSION} is needed, this one has {told}")
        for field, mine in self._belonging().items():
            if state[field] != mine:
                raise CheckpointError(f"the checkpoint was made with {field} {state[field]}, this run has {mine}")
        check_shares(state, self._data.ranks)
        depth, frozen = self._front.checked_depth(state), self._front.depth
        if depth < frozen and not self._asking.may_thaw:
            raise CheckpointError(f"the checkpoint has depth {depth}, but depth {frozen} is frozen already")
        check_deciding(state["settings"], self._feeder.deciding)
        if depth < frozen:
            self._thaw()
        with without_autocast(self._data.on_device.device), unsynchronised():
            self._front.precision.load_state_dict(state["front"]["precision"])
            earlier = self._earlier(state)
            if self._front.load_state_dict(state):
                self._feeder.reset()
            division, self._watching = self._front.division, None
            if division is not None:
                self._watch(division)
            self._epoch, self.given = int(state["epoch"]), int(state.get("given", 0))
            self.resumed = bool(self.given)
            self._clock.load_state_dict(state["clock"])
            self._asking.load_state_dict(state)
            self._feeder.load_state_dict(state, earlier)

    def _earlier(self, state: Mapping[str, Any]) -> Division | None:
        """The shallower freeze whose features the caches of a state are to be built from, done again."""
        earlier = state["earlier"]
        if earlier is None or earlier["depth"] <= self._front.depth:
            return None
        return self._front.freeze(earlier["depth"], earlier["event"], None)

    def _belonging(self) -> dict[str, int]:
        """What a state must have been made with."""
        return {"seed": self._data.renditions.seed, "samples": len(self._data.samples)}

    def _asked_between(self, epoch: int, start: int) -> Batches:
        """The epoch's batches. Where what is frozen changes on the way, the others come as it is then."""
        mine = self._begun
        try:
            for step in range(start, len(self._data.bounds(epoch))):
                if self._begun != mine:
                    raise ArgumentError(f"epoch {self._epoch} was begun while this one was on: take the batches of one")
                if self._asking.due(epoch, step):
                    self._ask(epoch, step)
                if step > start:
                    self._follow(epoch, step)
                if self._reading is None:
                    self._reading = self._feeder.batches(epoch, step)
                self.given = step + 1
                batch = next(self._reading)
                if batch is not None:
                    yield batch
        finally:
            # Broken off, too: the threads that read end here.
            if self._begun == mine:
                self._leave()

    def thaw(self) -> None:
        """Everything trains again, from the next batch on."""
        if self._front.depth:
            self._thaw_by_hand(self._epoch, 0)

    def _thaw_by_hand(self, epoch: int, step: int) -> None:
        change = self._change(epoch, step) | {"policy": "by hand"}
        self._say({"event": "thaw", **change, "before": self._front.depth, "depth": 0})
        within = self._reading is not None
        self._thaw()
        self._asking.overrule()
        self._feeder.midway = within

    def _follow(self, epoch: int, step: int, *, exactly: bool = False) -> None:
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
            self._thaw_by_hand(epoch, step)
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

    def _watch(self, division: Division) -> tuple[FrontGuard, FrontLayers]:
        """From now on what is changed in front of it is noticed."""
        self._watching = FrontGuard(division.prefix), FrontLayers(division.prefix, self._data.example)
        return self._watching

    def _build_again(self, epoch: int, step: int, record: dict[str, Any]) -> None:
        """What is stored is stale: the rest of an epoch is rendered, and before the next it is built anew."""
        within = self._reading is not None
        self._leave()
        self._say({**record, **self._change(epoch, step)})
        self._feeder.drop()
        self._feeder.midway = within

    def _leave(self) -> None:
        """Read no further in what is being read."""
        if self._reading is not None:
            self._reading.close()
            self._reading = None

    def _ask(self, epoch: int, step: int = 0) -> None:
        """Ask the policy once for each epoch, or so many steps, and freeze what it names."""
        before = self._front.depth
        answer = self._asking.ask(epoch, step, before)
        if answer is None:
            return
        if answer.why:
            self._say({"event": "decision", **self._change(epoch, step), "depth": answer.depth, "why": answer.why})
        if answer.depth < answer.before:
            self._say({"event": "thaw", **self._change(epoch, step), "before": before, "depth": answer.depth})
            self._thaw()
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

    def _change(self, epoch: int, step: int) -> dict[str, Any]:
        """Where a depth changes, and who wants it."""
        label = self._front.cut.label if self._front.cut else None
        return {"epoch": epoch, "step": step, "cut": label, "policy": self._asking.name}

    def _freeze(self, depth: int, event: int, settled: bool = False) -> Division:
        """The surgery. What feeds the suffix follows in `_decide` and `_settle`.

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

    def _thaw(self) -> None:
        """Everything trains again, on images; what was stored is removed."""
        self._leave()
        self._front.thaw()
        self._watching = None
        self._feeder.drop()

    def _decide(self, epoch: int) -> None:
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

    def _settle(self) -> None:
        """Store what was decided to be stored, where it is not there yet."""
        if not self._front.depth or self._feeder.midway:
            return
        if not self._data.ranks.any("who lacks features", not self._feeder.ready):
            return
        with self._clock.building():
            self._feeder.settle()


def _named(names: Sequence[str]) -> str:
    """The first few of them."""
    few = ", ".join(map(repr, names[:3]))
    return few if len(names) <= 3 else f"{few} and {len(names) - 3} more"
