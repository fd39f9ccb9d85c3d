"""How large the tensors are that modules give, seen in one pass that records nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from ..sandbox.arguments import Arguments, Example
from ..sandbox.clone import confined, shadow
from ..sandbox.pytrees import tensors_in
from ..sandbox.restore import Originals, preserved_randomness
from .forward_pass import watch
from .trace import Port

__all__ = ["sizes"]


@torch.inference_mode(False)
def sizes(model: nn.Module, example: Example, written: Iterable[nn.Parameter] = ()) -> dict[Port, tuple[int, ...]]:
    """The shape of one sample of each tensor that a module gives, in eval; nothing of the model changes.

    Args:
        written: parameters that the model's own forward writes into.
    """
    body, clones = shadow(model, copy_buffers=True)
    names = {clones[module]: name for name, module in model.named_modules()}
    found: dict[Port, tuple[int, ...]] = {}
    calls: Counter[str] = Counter()
    running: list[int] = []

    def enter(module: nn.Module, _: Any) -> None:
        running.append(calls[names[module]])
        calls[names[module]] += 1

    def leave(module: nn.Module, _: Any, output: Any) -> Any:
        call = running.pop()
        for number, tensor in enumerate(tensors_in(output)):
            found[names[module], call, number] = tuple(tensor.shape[1:])
        return output

    for module in names:
        if module is not body:
            watch(module, enter, leave)
    body.eval()
    inputs = Arguments.of(example).take(2)
    with (
        Originals(written, at_once=True),
        confined(clones, names),
        inputs.precision.anew(),
        torch.no_grad(),
        preserved_randomness(inputs),
    ):
        inputs.call(body)
    return found
