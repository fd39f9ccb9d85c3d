"""The cut that the outputs of several named layers cross, for a head that takes them all."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import replace

from torch import Tensor, nn

from ...errors import ArgumentError, InvalidCutError, UnknownCutError
from ..cut import Cut, label, place
from ..sandbox.arguments import Example
from ..sandbox.compiled import own_name
from ..sandbox.pytrees import tensors_in
from ..sandbox.restore import storage_key
from ..sandbox.synchronised import unsynchronised
from ..tracing.survey import Survey, survey
from ..tracing.trace import Trace, Visit
from .find import cuts_of, why_not
from .lengths import OtherLengths, Sizes, lengths_of, ragged_cuts

__all__ = ["cut_behind"]


@unsynchronised()
def cut_behind(
    model: nn.Module, example: Example, layers: str | Sequence[str], *, other: Example | OtherLengths | None = None
) -> Cut:
    """The cut that the outputs of these layers cross, and no other tensor; it lies where the last of them ends.

    What depends on integer or boolean arguments alone may cross beside them, as at any cut.

    Args:
        model, example, other: as for `find_cuts`.
        layers: labels of module calls, as in `blocks.3` or `block#1`. Of one that gives several tensors those cross
            that are read later.

    Returns:
        The cut, as the only one of the model: its index is 0, and it is recommended. The last layer's label is among
        its names.

    Raises:
        UnknownCutError: the model runs no module of that name; the near ones are listed.
        InvalidCutError: something else crosses too, a layer's output is not read later, or the model cannot be divided
            there; the message says what, and where it is read.
        ArgumentError, NoCutError, CutError: as for `find_cuts`.
    """
    told = (layers,) if isinstance(layers, str) else tuple(layers)
    names = tuple(own_name(name) for name in told if isinstance(name, str))
    if not told or len(set(names)) < len(told):
        raise ArgumentError(f"layers must be names of modules, each once, not {layers!r}")
    seen = survey(model, example)
    others = None if other is None else OtherLengths.of(other)
    lengths = None if others is None else lengths_of(example, others.example)
    if others is None or lengths is None:
        return _cut_behind(model, seen, names)
    theirs = _cut_behind(model, survey(model, others.example), names)
    found = ragged_cuts([_cut_behind(model, seen, names)], [theirs], lengths, Sizes(model, others, seen.written))
    if not found:
        raise InvalidCutError(
            f"the cut behind {', '.join(map(repr, names))}: inputs differ in length, and what these layers give does "
            "not grow with it as behind convolutions and poolings, or is not all laid out alike"
        )
    return found[0]


def _cut_behind(model: nn.Module, seen: Survey, names: Sequence[str]) -> Cut:
    trace = seen.traces[0]
    visits = {name: _visit(trace, name, seen.model) for name in names}
    last = max(visits.values(), key=lambda visit: visit.end)
    most = sum(len(tensors_in(visit.output)) for visit in visits.values())
    for cut in cuts_of(seen, most):
        end = seen.ends(cut.name, cut.call)[0]
        wanted = {name: _read_after(trace, visit, end) for name, visit in visits.items()}
        if end >= last.end and all(wanted.values()) and _crossing(trace, cut) == set().union(*wanted.values()):
            named = label(last.name, last.call)
            aliases = cut.aliases if named in (cut.label, *cut.aliases) else (*cut.aliases, named)
            return replace(cut, index=0, recommended=True, aliases=aliases)
    raise InvalidCutError(f"the cut behind {', '.join(map(repr, names))}: {_reason(seen, visits, last, most)}")


def _visit(trace: Trace, name: str, model: nn.Module) -> Visit:
    known = {label(visit.name, visit.call): visit for visit in trace.visits}
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=4, cutoff=0.5) or list(known)[:4]
    modules = {own_name(path) for path, _ in model.named_modules()}
    runs = "does not run" if place(name)[0] in modules else "is no module of it"
    raise UnknownCutError(f"{name!r} {runs} in {type(model).__name__}; near it: {', '.join(near)}")


def _read_after(trace: Trace, visit: Visit, end: int) -> set[int]:
    """The memory of a visit's tensors that something reads behind `end`, under whatever name."""
    memory = {storage_key(tensor) for tensor in tensors_in(visit.output)}
    return memory & {value.storage for value in trace.values.values() if value.reader_after(end) is not None}


def _crossing(trace: Trace, cut: Cut) -> set[int]:
    """The memory of all that crosses and takes room; that of a floating argument belongs to no layer."""
    calls = {label(visit.name, visit.call): visit for visit in trace.visits}
    given = [crossing for crossing in cut.tensors if not crossing.is_argument]
    tensors = [tensors_in(calls[str(crossing.source)].output)[crossing.number] for crossing in given]
    arguments = [trace.inputs[c.source] for c in cut.others if c.is_argument and c.dtype and c.dtype.is_floating_point]
    return _memory([*tensors, *arguments])


def _memory(tensors: Iterable[Tensor]) -> set[int]:
    return {storage_key(tensor) for tensor in tensors}


def _reason(seen: Survey, visits: dict[str, Visit], last: Visit, most: int) -> str:
    """Why no cut is crossed by just these."""
    trace, at = seen.traces[0], (last.name, last.call)
    unread = [name for name, visit in visits.items() if not _read_after(trace, visit, last.end)]
    if unread:
        return f"nothing reads what {', '.join(map(repr, unread))} gives behind {label(*at)!r}; leave it out"
    reachable = len(trace.values)
    forbidden = why_not(seen, at, reachable)
    if forbidden is not None:
        ends = seen.ends(*at)
        trains = any(seen.used(name, ends)[1] for name in seen.parameters)
        whole = "" if trains else "; make one model of it and what takes them, torch.nn.Sequential(model, head) say"
        return f"{why_not(seen, at, most) or forbidden}{whole}"
    cut = next(cut for cut in cuts_of(seen, reachable) if label(*at) in (cut.label, *cut.aliases))
    named = set().union(*(_memory(tensors_in(visit.output)) for visit in visits.values()))
    calls = {label(visit.name, visit.call): visit for visit in trace.visits}
    others = [
        f"what {crossing.source!r} gives {list(crossing.shape or ())}"
        for crossing in cut.tensors
        if not crossing.is_argument
        and storage_key(tensors_in(calls[str(crossing.source)].output)[crossing.number]) not in named
    ]
    others += [
        f"the model's argument {crossing.source!r} {list(crossing.shape or ())}"
        for crossing in cut.others
        if crossing.is_argument and crossing.dtype is not None and crossing.dtype.is_floating_point
    ]
    return (
        f"the rest of the model needs {' and '.join(others)} too; name it as well, or give "
        f"max_tensors={len(cut.tensors)} in the place of names"
    )
