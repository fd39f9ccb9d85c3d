"""What a policy may have measured of the training itself: seconds spent, prices of depths, trials of freezes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

__all__ = ["Bench", "DepthPrice", "EpochTime", "Prices", "Trial"]


@dataclass(frozen=True)
class EpochTime:
    """An epoch that is done.

    Attributes:
        source: "images", "cache" or "recompute".
    """

    depth: int
    source: str
    seconds: float


@dataclass(frozen=True)
class DepthPrice:
    """What a depth costs, in seconds for all samples.

    Attributes:
        suffix: forward and backward of what still trains, and the step.
        prefix: forward of the frozen front.
        read: to decode its features.
        settle: once, to choose a rung and whether to store.
    """

    depth: int
    suffix: float
    prefix: float
    read: float
    settle: float


@dataclass(frozen=True)
class Prices:
    """What an epoch costs in full and at each candidate depth, timed on a few steps.

    Attributes:
        step: forward and backward of the whole model, for one epoch.
        images: to read and render the images of one epoch.
        views: that a freeze would store; 0: it recomputes.
    """

    step: float
    images: float
    views: int
    depths: tuple[DepthPrice, ...]

    @property
    def full(self) -> float:
        """Seconds of an epoch without freezing."""
        return self.step + self.images

    def frozen(self, depth: int, epochs: int) -> tuple[float, float]:
        """Seconds once, and of an epoch, with all up to `depth` frozen for so many epochs: the cheaper way."""
        price = next(price for price in self.depths if price.depth == depth)
        rendered = self.images + price.prefix
        ways = [(price.settle, rendered + price.suffix)]
        ways += [(price.settle + n * rendered, price.read + price.suffix) for n in range(1, self.views + 1)]
        # More views where they are paid for: as `costs.decide` does, each is to be seen three times or more.
        cheapest = min(ways[:2], key=lambda way: way[0] + epochs * way[1])
        return cheapest if cheapest == ways[0] else ways[max(1, min(self.views, epochs // 3))]

    def to_config(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Prices:
        """From `to_config()`."""
        return cls(**{**config, "depths": tuple(DepthPrice(**price) for price in config["depths"])})


@dataclass(frozen=True)
class Trial:
    """The same few steps on a copy of the model, once with all training that trains, once with more frozen.

    Attributes:
        steps: that each of both took.
        before, free, frozen: mean loss on images that these steps did not show, before and behind them.
        error: standard error of `frozen - free`, image by image.
    """

    steps: int
    before: float
    free: float
    frozen: float
    error: float

    def hurts(self, share: float) -> bool:
        """Whether the frozen model learned less than the other would have in its time, by two standard errors.

        Args:
            share: of the time of a step that a step takes with the front frozen.
        """
        return self.before - self.frozen + 2 * self.error < share * max(0.0, self.before - self.free)


class Bench(Protocol):
    """What the freezer measures for a policy when it is asked; model, optimizer and random state stay as they are."""

    def training(self) -> float:
        """Wall seconds of all epochs, builds and of what is measured here, so far."""
        ...

    def wall(self) -> float:
        """Wall seconds since the freezer was made, those of earlier processes included."""
        ...

    def epochs(self) -> Sequence[EpochTime]:
        """Of each epoch that is done."""
        ...

    def prices(self) -> Prices:
        """Time a few steps on a copy of the model."""
        ...

    def trial(self, depth: int, steps: int) -> Trial | None:
        """Freeze a copy of the model and train it for a few steps; None where labels or optimizer do not allow it."""
        ...
