"""The epochs of one training: each as deep as the policy asks, on what can be had at that depth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..cuts import apart, unsynchronised, without_autocast
from ..errors import ArgumentError, CheckpointError
from ..freezing import Division
from ..settings import check_deciding
from .components import Components
from .depth_control import DepthControl
from .epoch_parts import EpochParts
from .feeder import Batches

__all__ = ["Epochs"]

STATE_VERSION = 5


class Epochs:
    """Gives the batches of one epoch after the other, each as deep as its control has made it by then.

    Args:
        epochs: how many there will be; None where that is not known.
    """

    def __init__(self, components: Components, epochs: int | None) -> None:
        self._data, self._asking, self._front = components.data, components.asking, components.front
        self._feeder, self._clock, self._say = components.feeder, components.clock, components.say
        self._epochs = epochs
        self._depth = DepthControl(components, self._leave)
        self._reading: Batches | None = None
        self._begun = 0
        """Iterators over epochs so far: only the last one is followed."""
        self._closed = False
        self._epoch = 0
        self._parts = EpochParts(self._data)
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
        return self.steps_of(self._epoch)

    def steps_of(self, epoch: int) -> int:
        """Batches of any epoch."""
        return len(self._data.bounds(epoch))

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
            self.begin(epoch, start)
            self._data.samples.check_count()
            self._depth.ask(epoch)
            self._depth.follow(epoch, 0, exactly=True)
            self._depth.decide(epoch)
            self._depth.settle()
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

    def begin(self, epoch: int, start: int = 0) -> None:
        """This is the epoch that comes now, from a batch on."""
        self._leave()
        self._begun += 1
        self._parts.begin(epoch, start)
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
                "spent_seconds": self._clock.total_seconds,
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
            self._depth.follow(self._epoch, 0)
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
            self._data.samples.check_count()
            self._depth.ask(self._epoch)
            self._depth.decide(self._epoch)
            if store:
                self._depth.settle()

    def state_dict(self) -> dict[str, Any]:
        """JSON, but for what the policy remembers: that may be tensors."""
        return {
            "version": STATE_VERSION,
            **self._belonging(),
            "settings": self._feeder.deciding,
            "epoch": self._epoch,
            "given": self.given,
            **self._parts.state_dict(self.given),
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
        depth, frozen = self._front.checked_depth(state), self._front.depth
        if depth < frozen and not self._asking.may_thaw:
            raise CheckpointError(f"the checkpoint has depth {depth}, but depth {frozen} is frozen already")
        check_deciding(state["settings"], self._feeder.deciding)
        self._parts.check(state, int(state["epoch"]))
        if depth < frozen:
            self._depth.thaw()
        with without_autocast(self._data.on_device.device), unsynchronised():
            self._front.precision.load_state_dict(state["front"]["precision"])
            earlier = self._earlier(state)
            if self._front.load_state_dict(state):
                self._feeder.reset()
            self._depth.watch()
            self._epoch, self.given = int(state["epoch"]), int(state.get("given", 0))
            self.resumed = bool(self.given)
            self._parts.load_state_dict(state, self._epoch)
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
                    self._depth.ask(epoch, step)
                if step > start:
                    self._depth.follow(epoch, step)
                if self._reading is None:
                    self._parts.shown(step, self._feeder.by_chunks)
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
            self._depth.thaw_by_hand(self._epoch, 0)

    def _leave(self) -> bool:
        """Read no further in what is being read; whether something was."""
        if self._reading is None:
            return False
        self._reading.close()
        self._reading = None
        return True
