"""What a front freezes as: which statistics its batch norms keep, and which weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from ..cuts import Example, Prefix, count_of
from .averages import Averages
from .movement import Movement
from .statistics import estimate_statistics, norms_of, standing_norms

__all__ = ["Settled", "Settler"]

ESTIMATED = 1024
"""Images that batch norms' statistics are estimated from."""

TOLD = {
    "last": "batch norms keep their statistics",
    "statistics": "statistics of batch norms estimated anew",
    "average": "weights averaged over the last epoch",
}


@dataclass(frozen=True)
class Settled:
    """What a front froze as, for its record.

    Attributes:
        way: "last", "statistics" or "average".
        why: one line.
    """

    way: str
    why: str

    def __str__(self) -> str:
        return f"{TOLD[self.way]}: {self.why}"

    def to_config(self) -> dict[str, str]:
        """As JSON takes it."""
        return asdict(self)


class Settler:
    """Watches the steps in front of a freeze, and settles what freezes.

    Args:
        way: "auto", "last", "statistics" or "average", as in `Freezer`.
        reachable: gives the parameters that a freeze may reach, by name.
    """

    def __init__(self, way: str, model: nn.Module, reachable: Callable[[], Mapping[str, nn.Parameter]]) -> None:
        self._way, self._model = way, model
        self._averages = Averages(reachable()) if way == "average" else None
        has_norms = bool(norms_of(model, dict(model.named_modules())))
        self._movement = Movement(model) if way == "auto" and has_norms else None
        self._standing, self._noted = standing_norms(model), False
        self.settled: Settled | None = None
        """How the front was settled last; None: nothing of it could be."""

    def begin(self) -> None:
        """A batch is about to be trained on."""
        if self._movement is not None:
            self._movement.begin()

    def note_step(self) -> None:
        """What a freeze will want to know of the steps in front of it."""
        if not self._noted:
            self._standing, self._noted = standing_norms(self._model), True
        if self._averages is not None:
            self._averages.add()

    def end_epoch(self) -> None:
        """What is known of the epoch's steps belongs to the past."""
        self._noted = False
        if self._averages is not None:
            self._averages.restart()

    def settle(self, prefix: Prefix, inputs: Iterator[Example], frozen: Prefix | None) -> None:
        """Give a prefix the weights and statistics that it freezes with.

        Args:
            inputs: batches to estimate on.
            frozen: the front of it that is frozen already, and stays as it is.
        """
        inner = frozen.module_names if frozen is not None else ()
        # A model in eval may have just been evaluated: then it counts what stood in the last steps.
        standing = standing_norms(self._model) if self._model.training else self._standing
        norms = norms_of(prefix, set(prefix.module_names) - set(inner))
        way, why = self._way, "as asked"
        if self._averages is not None:
            self._averages.put(_weights(prefix))
        elif norms and not norms.keys() - standing:
            way, why = "last", "its batch norms are kept in eval"
        elif self._movement is not None:
            names = set(_weights(prefix)) - set(() if frozen is None else _weights(frozen))
            moved = self._movement.moved(names)
            way, why = ("statistics", "its weights have moved") if moved else ("last", "none of its weights has moved")
        self.settled = Settled(way, why) if norms or way == "average" else None
        if self.settled is not None and way != "last":
            estimate_statistics(prefix, _as_many(inputs, ESTIMATED), standing.union(inner))

    def state_dict(self) -> dict[str, Any]:
        return {
            "averages": None if self._averages is None else self._averages.state_dict(),
            "movement": None if self._movement is None else self._movement.state_dict(),
            "standing": sorted(self._standing),
            "settled": None if self.settled is None else self.settled.to_config(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._standing = frozenset(state["standing"])
        self.settled = None if state["settled"] is None else Settled(**state["settled"])
        if self._averages is not None and state["averages"] is not None:
            self._averages.load_state_dict(state["averages"])
        if self._movement is not None and state["movement"] is not None:
            self._movement.load_state_dict(state["movement"])


def _weights(prefix: Prefix) -> tuple[str, ...]:
    return (*prefix.parameter_names, *prefix.shared_parameters)


def _as_many(batches: Iterator[Example], samples: int) -> Iterator[Example]:
    """Whole batches, until there are so many samples."""
    total = 0
    for batch in batches:
        yield batch
        total += count_of(batch)
        if total >= samples:
            return
