"""What belongs to which side of a cut."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

from ...errors import InvalidCutError
from ..cut import Cut, place
from ..sandbox.arguments import Key
from ..sandbox.pytrees import tensors_in
from ..sandbox.restore import storage_key
from ..tracing.survey import Survey
from ..tracing.trace import Origin, Port, Trace, Visit
from .symbolic_shapes import Outline

__all__ = ["Plan"]


@dataclass(frozen=True)
class Plan:
    """A surveyed model and a cut. All names are the model's, so a plan serves any model of the same make.

    Attributes:
        longer: the model seen with inputs of another length; None where there is one length.
        lengths: of the inputs of both.
    """

    seen: Survey
    cut: Cut
    longer: Survey | None = None
    lengths: tuple[int, int] | None = None

    @cached_property
    def times(self) -> tuple[int, ...]:
        """For each trace, when the cut is reached."""
        return self.seen.ends(self.cut.name, self.cut.call)

    @cached_property
    def ports(self) -> tuple[Port, ...]:
        """The tensors that modules give and that cross, the features first."""
        places = [
            (*place(c.source), c.number) for c in self.cut.tensors if isinstance(c.source, str) and not c.is_argument
        ]
        return tuple((self.seen.path(name), call, number) for name, call, number in places)

    @cached_property
    def finished(self) -> frozenset[str]:
        """Modules whose calls all end in front of the cut, in every trace."""
        over: dict[str, bool] = {}
        for ends, time in zip(self.seen.last_ends, self.times, strict=True):
            for name, end in ends.items():
                over[name] = over.get(name, True) and end <= time
        return frozenset(name for name, is_over in over.items() if is_over)

    @cached_property
    def front_modules(self) -> tuple[str, ...]:
        """Modules in use only in front of the cut: the finished ones, and what is never called but lies in them."""
        first_names = {module: name for name, module in reversed(list(self.seen.model.named_modules()))}
        called = {visit.name for trace in self.seen.traces for visit in trace.visits}
        front = {"": False}
        names = [name for name, _ in self.seen.model.named_modules() if name]
        for name in names:
            parent = first_names[self.seen.model.get_submodule(name.rpartition(".")[0])]
            front[name] = name in self.finished if name in called else front[parent]
        for name in reversed(names):
            children = [first_names[child] for child in self.seen.model.get_submodule(name).children()]
            if name not in called and children:
                front[name] = all(front[child] for child in children)
        return tuple(name for name in names if front[name])

    @cached_property
    def heeded(self) -> frozenset[str]:
        """Those of them whose mode is asked for behind the cut: a detector's transform, say, takes boxes back to the
        image's scale in eval alone.

        One with tensors of its own is not: a batch norm in front keeps still, whoever asks.
        """
        pairs = zip(self.seen.traces, self.times, strict=True)
        asked = {name for trace, time in pairs for name, read in trace.mode_reads.items() if read >= time}
        modules = {name: self.seen.model.get_submodule(name) for name in asked.intersection(self.front_modules)}
        return frozenset(name for name, module in modules.items() if not module._parameters and not module._buffers)

    @cached_property
    def sides(self) -> dict[str, tuple[bool, bool]]:
        """For each parameter and buffer, whether the prefix and whether the suffix has it.

        One that never acts on the data goes with the module that owns it.
        """
        model = self.seen.model
        front = {model.get_submodule(name) for name in self.front_modules}
        sides = {}
        for kind in (model.named_parameters, model.named_buffers):
            for name, _ in kind(remove_duplicate=False):
                owned = model.get_submodule(name.rpartition(".")[0]) in front
                used = self.seen.used(name, self.times)
                sides[name] = used if any(used) else (owned, not owned)
        return sides

    @cached_property
    def replayed(self) -> dict[str, dict[bool, list[Outline]]]:
        """For each finished module that gives tensors from the data alone, its outputs' outlines: mode -> calls.

        What depends on parameters or arguments alone and is finished in front may be read behind: that is computed
        again.
        """
        outlines: dict[str, dict[bool, list[Outline]]] = {}
        sources = {name for name, _, _ in self.ports}
        for name in self.finished | sources:
            visits = _visits(self.seen, name)
            pairs = zip(self.seen.traces, visits, strict=True)
            if name in sources or all(_from_data(trace, visit) for trace, vs in pairs for visit in vs):
                try:
                    outlines[name] = {mode: self._outlines(name, mode) for mode in (False, True)}
                except InvalidCutError:
                    # Not to be foretold; where it lies in a module that is, it is never called.
                    if name in sources:
                        raise
        return outlines

    def ended(self, name: str) -> dict[bool, frozenset[int]]:
        """For each mode, which calls of a module that crosses are over at the cut, up to the last that crosses."""
        last = max(call for port, call, _ in self.ports if port == name)
        return {
            trace.training: frozenset(
                v.call for v in trace.visits if v.name == name and v.end <= time and v.call <= last
            )
            for trace, time in zip(self.seen.traces, self.times, strict=True)
        }

    @cached_property
    def skipped(self) -> dict[bool, dict[tuple[str, int], Counter[str]]]:
        """For each mode and each call of a replayed module, the calls of replayed modules inside it."""
        found: dict[bool, dict[tuple[str, int], Counter[str]]] = {}
        for trace in self.seen.traces:
            visits = [visit for visit in trace.visits if visit.name in self.replayed]
            found[trace.training] = {
                (outer.name, outer.call): Counter(v.name for v in visits if outer.start < v.start and v.end < outer.end)
                for outer in visits
            }
        return found

    @cached_property
    def reentrant_behind(self) -> bool:
        """Whether a reentrant checkpoint begins behind the cut: it gives no gradients unless its input asks for one."""
        pairs = zip(self.seen.traces, self.times, strict=True)
        return any(region.reentrant and region.start > time for trace, time in pairs for region in trace.regions)

    @cached_property
    def recomputed_in_front(self) -> bool:
        """Whether a checkpoint lies in front of the cut: a backward pass through it runs its modules once more."""
        pairs = zip(self.seen.traces, self.times, strict=True)
        return any(region.start <= time for trace, time in pairs for region in trace.regions)

    @cached_property
    def rerun(self) -> frozenset[str]:
        """Modules that give features and, beside them, what is worked out again from parameters or arguments.

        They run in the suffix too, on tensors without values, and the features take their places in the output.
        """

        def gives_more(trace: Trace, visit: Visit) -> bool:
            tensors = tensors_in(visit.output)
            read = [t for t in tensors if trace.values[id(t)].reader_after(visit.end) is not None]
            return any(trace.origin(tensor) < Origin.RANDOM for tensor in read)

        sources = {name for name, _, _ in self.ports}
        return frozenset(
            visit.name
            for trace in self.seen.traces
            for visit in trace.visits
            if visit.name in sources and gives_more(trace, visit)
        )

    @cached_property
    def around(self) -> tuple[str, ...]:
        """Modules whose own code the suffix runs in front of the cut too: the model, and what holds both sides."""
        replaced = self.replayed.keys() - self.rerun
        names = {
            visit.name: None
            for trace, time in zip(self.seen.traces, self.times, strict=True)
            for visit in trace.visits
            if visit.start < time and not replaced.intersection((visit.name, *visit.parents))
        }
        return ("", *names)

    def _outlines(self, name: str, training: bool) -> list[Outline]:
        def seen_in(survey: Survey) -> list[Outline]:
            small, large = _visits(survey, name)[2 * training :][:2]
            rows = (survey.traces[0].rows, survey.traces[1].rows)
            return [Outline.between(rows, a.output, b.output) for a, b in zip(small, large, strict=True)]

        try:
            near = seen_in(self.seen)
            if self.longer is None or self._sizes is None:
                return near
            pairs = zip(near, seen_in(self.longer), strict=True)
            return [Outline.across(self._sizes, *pair) for pair in pairs]
        except ValueError as error:
            raise InvalidCutError(
                f"cut '{self.cut.label}': what '{name}' gives cannot be foretold for any batch size: {error}"
            ) from error

    @cached_property
    def inputs(self) -> dict[Key, Outline]:
        """The outlines of the model's own arguments."""

        def seen_in(survey: Survey) -> dict[Key, Outline]:
            small, large = survey.traces[:2]
            rows = (small.rows, large.rows)
            return {key: Outline.between(rows, value, large.inputs[key]) for key, value in small.inputs.items()}

        near = seen_in(self.seen)
        if self.longer is None or self._sizes is None:
            return near
        far = seen_in(self.longer)
        return {key: Outline.across(self._sizes, outline, far[key]) for key, outline in near.items()}

    @cached_property
    def _sizes(self) -> tuple[int, int] | None:
        """How long the tensor is that tells the suffix the length, in the two surveys; None where none tells."""
        if self.lengths is None or self.cut.ruler is None:
            return None
        _, ragged = self.cut.ruler
        return ragged.of(self.lengths[0]), ragged.of(self.lengths[1])

    @cached_property
    def draws_in_front(self) -> bool:
        """Whether code that the suffix runs again draws random numbers in front of the cut."""
        replaced = self.replayed.keys() - self.rerun
        return any(
            draw.time <= time and not any(name in replaced for name in draw.stack)
            for trace, time in zip(self.seen.traces, self.times, strict=True)
            for draw in trace.draws
        )


def _visits(survey: Survey, name: str) -> list[list[Visit]]:
    """The visits of a module in each trace."""
    return [[visit for visit in trace.visits if visit.name == name] for trace in survey.traces]


def _from_data(trace: Trace, visit: Visit) -> bool:
    tensors = tensors_in(visit.output)
    storages = [trace.storages[storage_key(tensor)] for tensor in tensors]
    return bool(tensors) and all(s.origin is Origin.DATA and s.reached <= visit.end for s in storages)
