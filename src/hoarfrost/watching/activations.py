"""What a model's features are on a fixed batch of images, at the cuts."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..cuts import Cut

__all__ = ["Summary", "features_at", "quantised"]

Summary = Callable[[Cut, Tensor], Tensor]
"""What is kept of a cut's features [N, ...]."""


def features_at(
    model: nn.Module, cuts: Sequence[Cut], images: Tensor, summary: Summary | None = None
) -> tuple[Tensor, ...]:
    """The features [N, ...] at each cut, or what `summary` keeps of them, in one forward pass in eval mode.

    Neither training flags nor buffers nor the random state of the model change.
    """
    found: dict[int, Tensor] = {}
    with ExitStack() as undo, torch.no_grad():
        undo.enter_context(torch.random.fork_rng(devices=[images.device] if images.is_cuda else []))
        undo.enter_context(in_eval(model))
        # Torch's fused attention reads weights past the modules, and does not know quantised ones.
        undo.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
        torch.backends.mha.set_fastpath_enabled(False)
        modules = dict(model.named_modules(remove_duplicate=False))
        for cut in cuts:
            hook = Recorder(cut, summary, found)
            undo.callback(modules[cut.name].register_forward_hook(hook).remove)
        model(images)
    return tuple(found[cut.index] for cut in cuts)


class Recorder:
    """A forward hook that keeps the features of one cut, before the model goes on to write into them."""

    def __init__(self, cut: Cut, summary: Summary | None, found: dict[int, Tensor]) -> None:
        self._cut, self._summary, self._found, self._calls = cut, summary, found, 0

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._calls += 1
        if self._calls - 1 != self._cut.call:
            return
        features = tensors_of(output)[self._cut.number]
        self._found[self._cut.index] = features.clone() if self._summary is None else self._summary(self._cut, features)


def tensors_of(output: Any) -> list[Tensor]:
    """The tensors of a module's output, in order."""
    if isinstance(output, Tensor):
        return [output]
    leaves, _ = torch.utils._pytree.tree_flatten(output)
    return [leaf for leaf in leaves if isinstance(leaf, Tensor)]


@contextmanager
def in_eval(model: nn.Module) -> Iterator[None]:
    """Eval mode for the length of the block; each module then has its own flag back."""
    flags = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in flags:
            module.training = False
        yield
    finally:
        for module, flag in flags:
            module.training = flag


def quantised(model: nn.Module) -> nn.Module:
    """A copy on the CPU whose linear layers compute in 8 bits (torch's dynamic quantisation); others stay as they are.

    Torch quantises no convolutions dynamically: of a convolutional network only the classifier changes.
    """
    duplicate = copy.deepcopy(model).cpu()
    for module in duplicate.modules():
        module.__dict__.pop("train", None)  # a frozen module's stand-in is bound to the original
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces that this function will move
        quantise: Any = torch.ao.quantization.quantize_dynamic
        smaller: nn.Module = quantise(duplicate.eval(), {nn.Linear}, dtype=torch.qint8)
    return smaller
