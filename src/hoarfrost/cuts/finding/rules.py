"""What makes a place a valid cut, judged on one trace; and in words, why another is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor

from ..cut import label
from ..sandbox.arguments import Key
from ..sandbox.compiled import own_name
from ..sandbox.pytrees import tensors_in
from ..sandbox.restore import storage_key
from ..tracing.survey import Survey
from ..tracing.trace import Origin, Port, Storage, Trace, Value, Visit

__all__ = ["Seen", "Verdict", "judge", "takes_room"]

SHOWN = 3  # of what crosses, in messages


@dataclass(frozen=True)
class Verdict:
    """One visit on one trace.

    Attributes:
        visit: the visit.
        features: its output tensor that is read later, the first one of a floating type.
        broken: the rule that forbids a cut whatever may cross it; None if none does.
        ports: what crosses, the features first.
        arguments: the model's arguments that are needed again behind it.
        beside: what crosses besides the features and takes room, in words.
        stuck: why some of that cannot be handed on; None if all can.
    """

    visit: Visit
    features: Tensor | None = None
    broken: str | None = None
    ports: tuple[Port, ...] = ()
    arguments: frozenset[Key] = frozenset()
    beside: tuple[str, ...] = ()
    stuck: str | None = None

    @property
    def place(self) -> tuple[int, int]:
        """Equal for modules that end at the same tensor with no operator in between."""
        return (storage_key(self.features) if self.features is not None else 0, self.visit.operators)

    def forbids(self, max_tensors: int) -> str | None:
        """Why it is no cut that at most so many tensors cross; None if it is one."""
        if self.broken is not None:
            return self.broken
        if len(self.beside) < max_tensors and self.stuck is None:
            return None
        more = f" and {len(self.beside) - SHOWN} more" if len(self.beside) > SHOWN else ""
        reason = f"besides what it gives, {len(self.beside)} more cross it: {'; '.join(self.beside[:SHOWN])}{more}"
        return f"{reason}; {self.stuck}" if self.stuck is not None and max_tensors > 1 else reason


class Seen:
    """One trace, with what the rules look up in it."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.visits = {(visit.name, visit.call): visit for visit in trace.visits}

    @cached_property
    def calls(self) -> dict[str, list[Visit]]:
        """The visits of each module."""
        found: dict[str, list[Visit]] = {}
        for visit in self.trace.visits:
            found.setdefault(visit.name, []).append(visit)
        return found

    def tensor(self, port: Port) -> Tensor | None:
        """What that port gave, if it exists in this trace."""
        visit = self.visits.get(port[:2])
        tensors = tensors_in(visit.output) if visit is not None else []
        return tensors[port[2]] if port[2] < len(tensors) else None

    def storage(self, tensor: Tensor) -> Storage:
        return self.trace.storages[storage_key(tensor)]

    def written_after(self, tensor: Tensor, time: int) -> bool:
        return any(written > time for written in self.storage(tensor).writes)

    def no_port(self, port: Port, cut: Visit) -> str | None:
        """Why the suffix could not hand that tensor on where the module gave it; None if it can."""
        tensor, visit = self.tensor(port), self.visits.get(port[:2])
        where = f"what '{label(*port[:2])}' gives"
        if tensor is None or visit is None or visit.end > cut.end:
            return f"{where} is not there in every mode"
        if tensor.is_nested:
            return f"{where} is a nested tensor"
        if tensor.ndim == 0 or tensor.shape[0] != self.trace.rows:
            return (
                f"{where} is {list(tensor.shape)} for {self.trace.rows} samples: its first dimension is not the batch"
            )
        storage = self.storage(tensor)
        if storage.given:
            return f"{where} lies in the memory of an input, a parameter or a buffer"
        if any(self.trace.regions[number].reentrant for number in visit.regions):
            return f"{where} is made in a reentrant checkpoint"
        if any(visit.end < written <= cut.end for written in storage.writes):
            return f"{where} is written into before '{label(cut.name, cut.call)}' ends"
        for parent in visit.parents:
            around = next(v for v in self.calls.get(parent, ()) if v.start < visit.start and visit.end <= v.end)
            if around.end <= cut.end:
                return f"{where} leaves '{parent}' by another way than its output"
        return None


@dataclass
class Crossing:
    """What is alive behind a visit, sorted by how the suffix can come by it."""

    ports: list[Port] = field(default_factory=list)
    arguments: dict[Key, str] = field(default_factory=dict)  # with what they are needed for
    beside: list[str] = field(default_factory=list)
    stuck: str | None = None


def judge(survey: Survey, number: int) -> dict[tuple[str, int], Verdict]:
    """The verdict on each call of each module, in the order in which they end, for the trace of that number."""
    trace, last_ends = survey.traces[number], survey.last_ends[number]
    spans = [trace.uses[name] for name in survey.parameters if name in trace.uses]
    first_use = min((first for first, _ in spans), default=0)
    last_use = max((last for _, last in spans), default=-1)
    living, seen = Living(trace), Seen(trace)
    verdicts = {}
    for visit in trace.visits:
        verdict = _judged(seen, visit, living.at(visit.end), last_ends)
        if verdict.features is not None:
            if first_use > visit.end:
                verdict = Verdict(visit, verdict.features, "no parameter is read in front of it")
            elif last_use <= visit.end:
                verdict = Verdict(visit, verdict.features, "no parameter is read behind it")
        verdicts[visit.name, visit.call] = verdict
    return verdicts


class Living:
    """The values that come from arguments or chance and are still read later: asked at rising times."""

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


def _judged(seen: Seen, visit: Visit, alive: Sequence[Value], last_ends: Mapping[str, int]) -> Verdict:
    trace = seen.trace
    port, broken = _features(seen, visit)
    if port is None:
        return Verdict(visit, broken=broken)
    features = tensors_in(visit.output)[port[2]]
    broken = _memory(trace, visit, features) or _torn(trace, visit)
    if broken is None and trace.values[id(features)].reader_after(visit.end) is None:
        broken = "nothing reads what it gives"
    if broken is not None:
        return Verdict(visit, features, broken)
    crossing = _crossing(seen, visit, port, alive)
    decided = _decided(trace, visit, last_ends, crossing)
    for key in sorted(crossing.arguments, key=str):
        tensors = tensors_in(trace.inputs[key])
        if any(written <= visit.end for tensor in tensors for written in seen.storage(tensor).writes):
            decided = f"the model writes into its {_argument(key)} in front of it and reads it behind"
        value = trace.inputs[key]
        if takes_room(value):
            crossing.beside.append(f"the model's {_argument(key)} {list(value.shape)}, {crossing.arguments[key]}")
    ports = (port, *(p for p in crossing.ports if p != port))
    arguments, beside = frozenset(crossing.arguments), tuple(crossing.beside)
    return Verdict(visit, features, decided, ports, arguments, beside, crossing.stuck)


def _features(seen: Seen, visit: Visit) -> tuple[Port | None, str | None]:
    """The tensor in a visit's output that a cut there would be named for; else why there is none."""
    trace = seen.trace
    tensors = tensors_in(visit.output)
    read = [n for n, t in enumerate(tensors) if trace.values[id(t)].reader_after(visit.end) is not None]
    chosen = read or list(range(len(tensors)))
    floating = [n for n in chosen if tensors[n].is_floating_point()]
    if not tensors:
        return None, "it gives no tensor"
    if len(chosen) > 1 and not read:
        return None, "nothing reads what it gives"
    from_data = [n for n in floating or chosen if trace.origin(tensors[n]) is Origin.DATA]
    if not from_data:
        only = any(trace.origin(tensors[n]) is Origin.ARGUMENTS for n in chosen)
        return None, "no parameter is read in front of it" if only else "what it gives does not depend on the input"
    number = from_data[0]
    features = tensors[number]
    if not features.is_floating_point():
        return None, f"it gives {features.dtype}, a cut needs a floating type"
    if features.is_nested:
        return None, "it gives a nested tensor"
    if features.ndim == 0 or features.shape[0] != trace.rows:
        return None, f"it gives {list(features.shape)} for {trace.rows} samples: the first dimension is not the batch"
    return (visit.name, visit.call, number), None


def _memory(trace: Trace, visit: Visit, features: Tensor) -> str | None:
    storage = trace.storages[storage_key(features)]
    if storage.given:
        return "what it gives lies in the memory of an input, a parameter or a buffer"
    if storage.made <= visit.start and not any(visit.start < time <= visit.end for time in storage.writes):
        return "it hands on a tensor that was made in front of it"
    return None


def _torn(trace: Trace, visit: Visit) -> str | None:
    """Why the model's forward cannot be taken up there in the midst of what it does."""
    for region in (trace.regions[number] for number in visit.regions):
        if region.reentrant:
            return "it lies in a reentrant checkpoint, which passes no gradient on; use_reentrant=False does"
        if region.operators > visit.operators:
            return "a checkpoint goes round it, and would run what is in front of it again in the backward pass"
    calls = {v.name: v for v in trace.visits}  # the last of each
    for name, made in trace.replaced.items():
        owner = name.rpartition(".")[0]
        if made <= visit.end and (owner not in calls or calls[owner].end > visit.end):
            return f"in front of it the model replaces its buffer '{name}' in {_module(owner)}, which goes on behind"
    return None


def _crossing(seen: Seen, visit: Visit, own: Port, alive: Sequence[Value]) -> Crossing:
    """Sort what is alive: tensors that a module gives, what is worked out again from arguments, and the rest."""
    trace = seen.trace
    found = Crossing(ports=[own])
    for value in alive:
        storage = trace.storages[value.storage]
        if value.port == own:
            continue
        if storage.origin is Origin.ARGUMENTS:
            needed = f"read later in {_module(value.reader_after(visit.end))}"
            found.arguments |= dict.fromkeys(storage.arguments, needed)
            continue
        told = _told(value, storage, visit.end) if len(found.beside) < SHOWN else "another"
        found.beside.append(told)
        if value.port is None or storage.origin is Origin.RANDOM:
            found.stuck = found.stuck or f"{told} is nothing that a module gives, so it cannot be handed on"
            continue
        found.ports.append(value.port)
    tensors = [tensor for port in found.ports if (tensor := seen.tensor(port)) is not None]
    memory = [storage_key(tensor) for tensor in tensors]
    if len(set(memory)) < len(memory) and any(seen.written_after(tensor, visit.end) for tensor in tensors):
        found.stuck = found.stuck or "two of them lie in one memory, and it is written into later"
    return found


def _told(value: Value, storage: Storage, time: int) -> str:
    what = "random numbers" if storage.origin is Origin.RANDOM else "a tensor"
    reader = _module(value.reader_after(time))
    return f"{what} {list(value.shape)} made in {_module(value.maker)} and read later in {reader}"


def _decided(trace: Trace, visit: Visit, last_ends: Mapping[str, int], crossing: Crossing) -> str | None:
    """Decisions in front of the visit: those on arguments are made again behind it, others forbid the cut."""
    for decision in trace.decisions:
        if decision.time > visit.end:
            break
        where = _module(decision.stack[-1] if decision.stack else "")
        if decision.origin is Origin.ARGUMENTS:
            needed = f"of which {where} makes a Python value (as .item() or nonzero do)"
            crossing.arguments = dict.fromkeys(decision.arguments, needed) | crossing.arguments
            continue
        # A module that is over is not run again, so a chance decision inside it stays there. What the data decided
        # may be kept as a number anywhere.
        over = any(last_ends.get(name, visit.end + 1) <= visit.end or name == visit.name for name in decision.stack)
        if decision.origin is Origin.DATA or not over:
            source = "the data" if decision.origin is Origin.DATA else "random numbers"
            return f"in front of it {where} makes a Python value from {source} (as .item() or nonzero do)"
    return None


def takes_room(argument: Any) -> bool:
    """Whether an argument that is handed on counts as a tensor: ids, masks, labels and lists of targets do not."""
    return isinstance(argument, Tensor) and argument.is_floating_point()


def _module(name: str | None) -> str:
    return f"'{own_name(name)}'" if name else "the model's own forward"


def _argument(key: Key) -> str:
    return f"argument {key + 1}" if isinstance(key, int) else f"argument '{key}'"
