"""The model seen four times: in eval and in train, with two samples and with three.

Two batch sizes tell which dimensions are the batch and which are not; two modes, because layers such as dropout make
and read other tensors in train.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter

from ...errors import ArgumentError, CutError, NoCutError
from ..sandbox.arguments import Arguments, Example
from ..sandbox.clone import StrayError, confined, shadow
from ..sandbox.compiled import bare, own_name, uncompiled
from ..sandbox.precision import dtype_name
from ..sandbox.pytrees import tensors_in
from ..sandbox.restore import Originals, storage_key
from .forward_pass import trace
from .geometry import Tracker
from .trace import Trace

__all__ = ["Survey", "survey"]

ROWS = (2, 3)


@dataclass(frozen=True)
class Survey:
    """The traces: eval with two and three samples, then train with two and three; the first was tracked."""

    model: nn.Module
    traces: tuple[Trace, Trace, Trace, Trace]
    tracker: Tracker

    @cached_property
    def parameters(self) -> dict[str, nn.Parameter]:
        """By name; a tied parameter under each of its names."""
        return dict(self.model.named_parameters(remove_duplicate=False))

    @cached_property
    def written(self) -> list[nn.Parameter]:
        """The parameters that the model's own forward writes into."""
        touched = {key for trace in self.traces for key, storage in trace.storages.items() if storage.writes}
        return [parameter for parameter in self.model.parameters() if storage_key(parameter) in touched]

    @cached_property
    def last_ends(self) -> tuple[dict[str, int], ...]:
        """For each trace, when each module's last call ended."""
        return tuple({visit.name: visit.end for visit in t.visits} for t in self.traces)

    @cached_property
    def _paths(self) -> dict[str, str]:
        names = [name for name, _ in self.model.named_modules(remove_duplicate=False)]
        return {own_name(name): name for name in reversed(names)}  # of a module and its wrapper, the wrapper

    def path(self, name: str) -> str:
        """The path of a module that is called so, whether what holds it is compiled or not."""
        return self._paths.get(name, name)

    def ends(self, name: str, call: int) -> tuple[int, ...]:
        """For each trace, when that call ended."""
        key = (self.path(name), call)
        return tuple(next(v.end for v in t.visits if (v.name, v.call) == key) for t in self.traces)

    def used(self, name: str, times: tuple[int, ...]) -> tuple[bool, bool]:
        """Whether the parameter or buffer acts on data before and after these times, one for each trace."""
        spans = [(t.uses[name], time) for t, time in zip(self.traces, times, strict=True) if name in t.uses]
        return any(first <= time for (first, _), time in spans), any(last > time for (_, last), time in spans)


@torch.inference_mode(False)
def survey(model: nn.Module, example: Example) -> Survey:
    """Trace the model on a few samples of the example, uncompiled; nothing of the model changes.

    Raises:
        ArgumentError: the model or the example is of the wrong kind.
        NoCutError: modules of the model run by a way on which they cannot be watched.
        CutError: the model's own forward fails; its error is chained.
    """
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"model: a torch.nn.Module is needed, not {type(model).__name__}")
    model = bare(model)
    unready = [name for name, p in model.named_parameters() if isinstance(p, UninitializedParameter)]
    if unready:
        raise ArgumentError(f"model: {unready[0]} is not initialised yet; run the model once first")
    scripted = [name for name, module in model.named_modules() if isinstance(module, torch.jit.ScriptModule)]
    if scripted:
        raise ArgumentError(
            f"model: '{scripted[0]}' is a ScriptModule, into which nothing can look; divide the model before it is "
            f"scripted or traced"
        )
    arguments = Arguments.of(example)
    tracker = Tracker()
    kinds = [(mode, rows) for mode in (False, True) for rows in ROWS]
    traces = [_watch(model, arguments, rows, mode, tracker if n == 0 else None) for n, (mode, rows) in enumerate(kinds)]
    if not tensors_in(traces[0].output):
        raise CutError(f"the model's output holds no tensor: it is a {type(traces[0].output).__name__}")
    return Survey(model, (traces[0], traces[1], traces[2], traces[3]), tracker)


def _watch(model: nn.Module, arguments: Arguments, rows: int, training: bool, tracker: Tracker | None) -> Trace:
    body, clones = shadow(model, copy_buffers=True)
    names = {clones[module]: name for name, module in model.named_modules()}
    inputs, originals = arguments.take(rows), Originals([*model.parameters(), *model.buffers()])
    try:
        with confined(clones, names), uncompiled():
            return trace(body, names, inputs, rows, originals, training=training, tracker=tracker)
    except StrayError as error:
        raise NoCutError(
            f"{type(model).__name__} calls its module '{error.name}' by way of something that is not its own, a "
            f"global variable, say, so that it cannot be watched without changing the model"
        ) from None
    except CutError:
        raise
    except Exception as error:
        mode = "train" if training else "eval"
        raise CutError(
            f"the model's own forward fails in {mode} mode on {rows} samples of the example ({inputs.described()}): "
            f"{type(error).__name__}: {error}{_other_types(model, inputs)}"
        ) from error


def _other_types(model: nn.Module, inputs: Arguments) -> str:
    """What to do about weights of another type than the inputs, the likely reason of a failure."""
    weights = next((p.dtype for p in model.parameters() if p.is_floating_point()), None)
    given = {t.dtype for t in tensors_in(inputs) if t.is_floating_point()}
    if weights is None or not given or weights in given:
        return ""
    kind = dtype_name(weights)
    return f". Its weights are {kind}: bring the inputs to that type, by v2.ToDtype(torch.{kind}) in the transform, say"
