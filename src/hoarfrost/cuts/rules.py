"""What makes a place a valid cut, judged on one trace; and in words, why another is none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from .cut import label
from .liveness import Origin, Storage, Trace, Value, Visit, storage_key
from .nested import tensors_in
from .survey import Survey

__all__ = ["Verdict", "judge"]


@dataclass(frozen=True)
class Verdict:
    """One visit on one trace: its only output tensor, or the rule that is broken."""

    visit: Visit
    features: Tensor | None
    broken: str | None
    mutated: bool = False

    @property
    def place(self) -> tuple[int, int]:
        """Equal for modules that end at the same tensor with no operator in between."""
        return (storage_key(self.features) if self.features is not None else 0, self.visit.operators)


def judge(survey: Survey, number: int) -> dict[tuple[str, int], Verdict]:
    """The verdict on each call of each module, in the order in which they end, for the trace of that number."""
    trace, last_ends = survey.traces[number], survey.last_ends[number]
    spans = [trace.uses[name] for name in survey.parameters if name in trace.uses]
    first_use = min((first for first, _ in spans), default=0)
    last_use = max((last for _, last in spans), default=-1)
    living = Living(trace)
    verdicts = {}
    for visit in trace.visits:
        alive = living.at(visit.end)
        features, broken = _output(trace, visit)
        if features is not None:
            broken = (
                _memory(trace, visit, features)
                or _crossing(trace, visit, features, alive)
                or _decided(trace, visit, last_ends)
            )
            if first_use > visit.end:
                broken = "no parameter is read in front of it"
            elif last_use <= visit.end:
                broken = "no parameter is read behind it"
        mutated = features is not None and any(
            time > visit.end for time in trace.storages[storage_key(features)].writes
        )
        verdicts[visit.name, visit.call] = Verdict(visit, features, broken, mutated)
    return verdicts


class Living:
    """The values that come from data or chance and are still read later: asked at rising times."""

    def __init__(self, trace: Trace) -> None:
        reached = [(self._birth(value, trace.storages), value) for value in trace.values.values() if value.reads]
        self.coming = sorted(reached, key=lambda pair: pair[0], reverse=True)
        self.alive: list[Value] = []

    @staticmethod
    def _birth(value: Value, storages: Mapping[int, Storage]) -> int:
        return max(value.made, storages[value.storage].reached)

    def at(self, time: int) -> list[Value]:
        while self.coming and self.coming[-1][0] <= time:
            self.alive.append(self.coming.pop()[1])
        self.alive = [value for value in self.alive if value.reads[-1][0] > time]
        return self.alive


def _output(trace: Trace, visit: Visit) -> tuple[Tensor | None, str | None]:
    tensors = tensors_in(visit.output)
    if len(tensors) != 1:
        return None, f"it gives {len(tensors)} tensors, a cut is a single one"
    features = tensors[0]
    if trace.origin(features) is not Origin.DATA:
        return None, "what it gives does not depend on the input"
    if not features.is_floating_point():
        return None, f"it gives {features.dtype}, a cut needs a floating type"
    if features.ndim == 0 or features.shape[0] != trace.rows:
        return None, f"it gives {list(features.shape)} for {trace.rows} samples: the first dimension is not the batch"
    return features, None


def _memory(trace: Trace, visit: Visit, features: Tensor) -> str | None:
    storage = trace.storages[storage_key(features)]
    if storage.given:
        return "what it gives lies in the memory of an input, a parameter or a buffer"
    if storage.made <= visit.start and not any(visit.start < time <= visit.end for time in storage.writes):
        return "it hands on a tensor that was made in front of it"
    return None


def _crossing(trace: Trace, visit: Visit, features: Tensor, alive: Iterable[Value]) -> str | None:
    own = trace.values[id(features)]
    others = [value for value in alive if value is not own]
    if not others:
        return None if own.reads else "nothing reads what it gives"
    told = []
    for value in others[:3]:
        what = {Origin.RANDOM: "random numbers"}.get(trace.storages[value.storage].origin, "a tensor")
        told.append(
            f"{what} {list(value.shape)} made in {_module(value.maker)} and read later in "
            f"{_module(value.reader_after(visit.end))}"
        )
    more = f" and {len(others) - 3} more" if len(others) > 3 else ""
    return f"besides what it gives, {len(others)} more cross it: {'; '.join(told)}{more}"


def _decided(trace: Trace, visit: Visit, last_ends: Mapping[str, int]) -> str | None:
    for decision in trace.decisions:
        if decision.time > visit.end:
            break
        # A module that is over is not run again, so a chance decision inside it stays there. What the data decided
        # may be kept as a number anywhere.
        over = any(last_ends.get(name, visit.end + 1) <= visit.end or name == visit.name for name in decision.stack)
        if decision.origin is Origin.DATA or not over:
            source = "the data" if decision.origin is Origin.DATA else "random numbers"
            where = _module(decision.stack[-1] if decision.stack else "")
            return f"in front of it {where} makes a Python value from {source} (as .item() or nonzero do)"
    return None


def _module(name: str | None) -> str:
    return f"'{name}'" if name else "the model's own forward"


def describe(name: str, call: int) -> str:
    """How messages speak of a place."""
    return f"'{label(name, call)}'"
