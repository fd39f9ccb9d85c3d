"""Where a model can be divided."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from ...errors import ArgumentError, NoCutError
from ..cut import Crossing, Cut, label, place
from ..sandbox.arguments import Example, Key
from ..sandbox.compiled import own_name
from ..sandbox.pytrees import tensors_in
from ..sandbox.synchronised import unsynchronised
from ..tracing.geometry import geometry_of, layout_of
from ..tracing.survey import Survey, survey
from ..tracing.trace import Port
from .lengths import OtherLengths, Sizes, lengths_of, ragged_cuts
from .rules import Seen, Verdict, judge, takes_room
from .stages import recommended

__all__ = ["cuts_of", "find_cuts", "require_cuts", "why_not"]

Place = tuple[str, int]


@unsynchronised()
def find_cuts(
    model: nn.Module, example: Example, *, max_tensors: int = 1, other: Example | OtherLengths | None = None
) -> list[Cut]:
    """All cuts of the model, from the front to the back.

    A cut is a call of a module whose output holds all that the model still computes with, in eval and in train mode,
    with parameters on both sides. What it does not hold may be worked out again behind the cut: from parameters, and
    from the model's arguments of integer or boolean type, such as attention masks, which are then handed on beside
    the features (`Cut.others`). With `max_tensors` above 1, cuts are offered that more tensors cross: outputs of
    earlier modules (the skips of a U-Net) and further floating arguments.

    The model runs on two and on three samples of the example, in both modes, without gradients; its parameters,
    buffers, training flags, hooks and the random states stay as they are.

    Args:
        model: any module.
        example: a batch of inputs [N, ...], a tuple of positional arguments that begins with one (or with a list of
            images), or a mapping of keyword arguments.
        max_tensors: how many tensors may cross; of the model's arguments only floating tensors are counted, no ids,
            masks, labels or lists of targets.
        other: another such batch, its inputs of another length, or `OtherLengths` that there are. Then the cuts are
            those at which any length can cross, and `Crossing.ragged` says how long which dimension is: told from the
            two lengths, or from as many of those that there are as it takes to tell.

    Returns:
        The cuts; an empty list where the model has none (`require_cuts` raises then). Cuts that a single tensor
        crosses are recommended before others.

    Raises:
        ArgumentError: the model or the example is of the wrong kind, or `max_tensors` below 1.
        NoCutError: a module of the model runs by a way on which it cannot be watched (a global variable).
        CutError: the model's own forward fails on the example; its error is chained.

    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> [(cut.label, cut.shape) for cut in find_cuts(model, torch.ones(5, 4))]
    [('0', (8,)), ('1', (8,))]
    """
    seen = survey(model, example)
    cuts = cuts_of(seen, _checked(max_tensors))
    others = None if other is None else OtherLengths.of(other)
    lengths = None if others is None else lengths_of(example, others.example)
    if others is None or lengths is None:
        return cuts
    theirs = cuts_of(survey(model, others.example), max_tensors)
    return ragged_cuts(cuts, theirs, lengths, Sizes(model, others, seen.written))


def require_cuts(model: nn.Module, example: Example, *, max_tensors: int = 1) -> list[Cut]:
    """As `find_cuts`, but a model without any cut raises.

    Raises:
        NoCutError: the model has no cut; the message tells why its largest parts are none.
    """
    seen = survey(model, example)
    cuts = cuts_of(seen, _checked(max_tensors))
    if not cuts:
        top = [(name, call) for name, call in judge(seen, 0) if name.count(".") == 0][:3]
        reasons = "".join(f"\n  {label(*at)}: {why_not(seen, at, max_tensors)}" for at in top)
        raise NoCutError(
            f"{type(seen.model).__name__} has no place where one tensor carries all that is still computed{reasons}"
        )
    return cuts


def why_not(seen: Survey, at: Place, max_tensors: int = 1) -> str | None:
    """The rule that forbids a cut after that call of that module; None if it is a cut."""
    return _Judgement.of(seen).passage((seen.path(at[0]), at[1]), max_tensors).broken


def cuts_of(seen: Survey, max_tensors: int = 1) -> list[Cut]:
    """The cuts of a model that was surveyed."""
    judgement = _Judgement.of(seen)
    groups: dict[tuple[tuple[int, int], ...], list[tuple[Place, Passage]]] = {}
    for at in judgement.verdicts[0]:
        passage = judgement.passage(at, max_tensors)
        if passage.broken is None:
            groups.setdefault(tuple(v[at].place for v in judgement.verdicts), []).append((at, passage))
    found = [judgement.cut(index, places) for index, places in enumerate(groups.values())]
    chosen = recommended(seen, found)
    return [replace(cut, recommended=cut.index in chosen) for cut in found]


def cut_at(seen: Survey, at: str, max_tensors: int) -> Cut:
    """The cut of that label or alias, named as asked."""
    found = next(cut for cut in cuts_of(seen, max_tensors) if at in (cut.label, *cut.aliases))
    if at == found.label:
        return found
    judgement, (name, call) = _Judgement.of(seen), place(at)
    inner_place = seen.path(name), call
    inner = judgement.cut(found.index, [(inner_place, judgement.passage(inner_place, max_tensors))])
    return replace(inner, recommended=found.recommended)


def _checked(max_tensors: int) -> int:
    if not isinstance(max_tensors, int) or max_tensors < 1:
        raise ArgumentError(f"max_tensors: a whole number from 1 on is needed, not {max_tensors!r}")
    return max_tensors


@dataclass(frozen=True)
class Passage:
    """What crosses one place in all traces; or why it is no cut."""

    broken: str | None
    ports: tuple[Port, ...] = ()
    arguments: tuple[Key, ...] = ()


@dataclass(frozen=True)
class _Judgement:
    """The verdicts on all four traces, taken together."""

    seen: Survey
    traces: tuple[Seen, ...]
    verdicts: tuple[dict[Place, Verdict], ...]

    @classmethod
    def of(cls, seen: Survey) -> _Judgement:
        numbers = range(len(seen.traces))
        return cls(seen, tuple(Seen(t) for t in seen.traces), tuple(judge(seen, number) for number in numbers))

    def passage(self, at: Place, max_tensors: int) -> Passage:
        for number, of_trace in enumerate(self.verdicts):
            mode = "eval" if number < 2 else "train"
            if at not in of_trace:
                return Passage(f"it does not run in {mode} mode")
            reason = of_trace[at].forbids(max_tensors)
            if reason is not None:
                return Passage(f"{reason} (in {mode} mode)")
        here = [v[at] for v in self.verdicts]
        ports = tuple(dict.fromkeys(port for verdict in here for port in verdict.ports))
        arguments = frozenset().union(*(verdict.arguments for verdict in here))
        if any(verdict.ports[0] != ports[0] for verdict in here):
            return Passage("another of its tensors is read in train mode than in eval mode")
        if len(ports) - 1 + sum(takes_room(self.seen.traces[0].inputs[key]) for key in arguments) >= max_tensors:
            return Passage(f"other tensors cross it in train mode than in eval mode, more than {max_tensors} in all")
        for port in ports[1:]:
            for trace, verdict in zip(self.traces, here, strict=True):
                fault = trace.no_port(port, verdict.visit)
                if fault is not None:
                    return Passage(fault)
        for port in ports:
            tensors = [trace.tensor(port) for trace in self.traces]
            if len({(t.shape[1:], t.dtype) for t in tensors if t is not None}) != 1:
                return Passage("the shape or type of a sample's features differs between runs")
        order = {key: number for number, (key, _) in enumerate(self.seen.traces[0].inputs.items())}
        return Passage(None, ports, tuple(sorted(arguments, key=order.__getitem__)))

    def cut(self, index: int, places: Sequence[tuple[Place, Passage]]) -> Cut:
        at, passage = places[-1]  # an outer module ends after those inside it
        here = [v[at] for v in self.verdicts]
        ends = tuple(verdict.visit.end for verdict in here)
        # Of the train traces: in eval torch's fused layers hide what they compute.
        small, large = here[2].visit.flops, here[3].visit.flops
        whole = self.seen.traces[3].flops - self.seen.traces[2].flops
        features = self._crossing(passage.ports[0], ends)
        tensor, tracker = self.traces[0].tensor(passage.ports[0]), self.seen.tracker
        assert tensor is not None, "only cuts come here"
        assert features.shape is not None, "the features are a tensor"
        assert features.dtype is not None, "the features are a tensor"
        return Cut(
            name=own_name(at[0]),
            call=at[1],
            index=index,
            shape=features.shape,
            dtype=features.dtype,
            layout=features.layout,
            prefix_flops=large - small,
            suffix_flops=whole - (large - small),
            shared_parameters=tuple(name for name in self.seen.parameters if all(self.seen.used(name, ends))),
            recommended=False,
            mutated=features.mutated,
            aliases=tuple(dict.fromkeys(label(*inner) for inner, _ in places[:-1] if label(*inner) != label(*at))),
            number=passage.ports[0][2],
            others=(
                *(self._crossing(port, ends) for port in passage.ports[1:]),
                *(self._argument(key, ends) for key in passage.arguments),
            ),
            geometry=geometry_of(tensor, features.layout, tracker.marks.get(id(tensor)), tracker.image),
        )

    def _crossing(self, port: Port, ends: Iterable[int]) -> Crossing:
        tensors = [trace.tensor(port) for trace in self.traces]
        first = tensors[0]
        assert first is not None, "a passage has its tensors in all traces"
        return Crossing(
            source=label(*port[:2]),
            number=port[2],
            shape=tuple(first.shape[1:]),
            dtype=first.dtype,
            layout=layout_of(first, self.seen.tracker.marks.get(id(first))),
            mutated=self._written(tensors, ends),
        )

    def _argument(self, key: Key, ends: Iterable[int]) -> Crossing:
        values = [trace.inputs[key] for trace in self.seen.traces]
        batched = all(
            isinstance(value, Tensor) and value.ndim > 0 and value.shape[0] == trace.rows
            for value, trace in zip(values, self.seen.traces, strict=True)
        )
        tensors = [tensors_in(value) for value in values]
        mutated = any(self._written(column, ends) for column in zip(*tensors, strict=False))
        if not batched:
            return Crossing(key, 0, None, None, "other", mutated, is_argument=True)
        first = values[0]
        layout = layout_of(first, None)
        return Crossing(key, 0, tuple(first.shape[1:]), first.dtype, layout, mutated, is_argument=True)

    def _written(self, tensors: Sequence[Tensor | None], ends: Iterable[int]) -> bool:
        triples = zip(self.traces, tensors, ends, strict=True)
        return any(tensor is not None and trace.written_after(tensor, end) for trace, tensor, end in triples)
