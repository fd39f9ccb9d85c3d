"""One forward pass, recorded: modules as they begin and end, operators in between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps
from typing import Any

import torch
from torch import nn

from ..sandbox.arguments import Arguments
from ..sandbox.clone import own_forward
from ..sandbox.hooks import has_hooks
from ..sandbox.pytrees import tensors_in
from ..sandbox.restore import Originals, preserved_randomness, storage_key
from .checkpoints import Checkpoints
from .geometry import Tracker
from .modes import mode_reads
from .recorder import Recorder
from .trace import NEVER_ENDS, Origin, Trace, Visit

__all__ = ["trace", "watch"]


def trace(
    body: nn.Module,
    names: dict[nn.Module, str],
    inputs: Arguments,
    rows: int,
    originals: Originals,
    *,
    training: bool,
    tracker: Tracker | None = None,
) -> Trace:
    """Run `body` once without gradients and record it.

    Args:
        body: a shadow of the model with copied buffers; of no use afterwards.
        names: the path of each of its modules.
        inputs: arguments with `rows` samples.
        originals: the tensors of the model itself.
        tracker: follows where the features lie on the image.
    """
    record = Trace(rows, training, inputs, tracker=tracker)
    roots: dict[int, list[str]] = {}
    tensors = [*body.named_parameters(remove_duplicate=False), *body.named_buffers(remove_duplicate=False)]
    for name, tensor in tensors:
        roots.setdefault(storage_key(tensor), []).append(name)
    recorder = Recorder(record, roots, originals)
    given = dict(tensors)
    for tensor in given.values():
        recorder.parameter(tensor)
    for key, argument in inputs.items():
        for tensor in tensors_in(argument):
            recorder.argument(tensor, key)
    calls: Counter[str] = Counter()
    starts: list[tuple[int, int, tuple[int, ...]]] = []
    checkpoints = Checkpoints(record.regions)

    def enter(module: nn.Module, _: Any) -> None:
        name = names[module]
        recorder.time += 1
        starts.append((recorder.time, calls[name], checkpoints.around(recorder.time)))
        calls[name] += 1
        recorder.stack.append(name)

    def leave(module: nn.Module, _: Any, output: Any) -> Any:
        start, call, regions = starts.pop()
        recorder.time += 1
        name = recorder.stack[-1]
        fresh = recorder.handed_on(output, name, call)
        recorder.stack.pop()
        for number in regions:
            record.regions[number].operators = recorder.operators
        where = (tuple(recorder.stack), regions)
        record.visits.append(Visit(name, call, start, recorder.time, recorder.operators, record.flops, fresh, *where))
        return fresh

    def note_mode(module: nn.Module) -> None:
        if module in names:
            record.mode_reads[names[module]] = recorder.time

    for module in names:
        if module is not body:
            watch(module, enter, leave)
    body.train(training)
    undisturbed = (originals, inputs.precision.anew(), torch.no_grad(), preserved_randomness(inputs))
    with ExitStack() as around:
        for context in (*undisturbed, recorder, mode_reads(note_mode)):
            around.enter_context(context)
        record.output = inputs.call(body)
    for name, buffer in body.named_buffers(remove_duplicate=False):
        if buffer is not given.get(name):
            record.replaced[name] = recorder.value(buffer).made
    for tensor in tensors_in(record.output):
        recorder.value(tensor).reads.append((NEVER_ENDS, ""))
        recorder.time = NEVER_ENDS
        recorder.use(recorder.storage(tensor).roots if record.origin(tensor) < Origin.RANDOM else frozenset())
    return record


def watch(module: nn.Module, enter: Callable[..., None], leave: Callable[..., Any]) -> None:
    """Call `enter` and `leave` around a module's forward.

    Not by hooks where the module has none: torch's fused transformer layers take another way, with other bits, as soon
    as a hook is in them.
    """
    if has_hooks(module):
        module.register_forward_pre_hook(enter, prepend=True)
        module.register_forward_hook(leave)
        return
    forward = own_forward(module)

    @wraps(forward)
    def watched(*args: Any, **keywords: Any) -> Any:
        enter(module, args)
        return leave(module, args, forward(*args, **keywords))

    module.__dict__["forward"] = watched
