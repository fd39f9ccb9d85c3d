"""Statistics of a front's batch norms, estimated anew before it freezes."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..cuts import Example, Prefix, called

__all__ = ["estimate_statistics", "norms_of", "standing_norms"]


def standing_norms(model: nn.Module) -> frozenset[str]:
    """Names of the batch norms that are in eval: somebody wants their statistics to stay."""
    return frozenset(name for name, m in model.named_modules() if isinstance(m, _BatchNorm) and not m.training)


def norms_of(model: nn.Module, among: Collection[str]) -> dict[str, _BatchNorm]:
    """Batch norms that have running statistics among the modules of these names."""
    norms = {name: m for name, m in model.named_modules() if name in among and isinstance(m, _BatchNorm)}
    return {name: norm for name, norm in norms.items() if norm.track_running_stats}


@torch.no_grad()
def estimate_statistics(prefix: Prefix, batches: Iterable[Example], known: Collection[str] = ()) -> int:
    """Running statistics of a prefix's batch norms as the mean over these batches, at the weights as they are.

    As `torch.optim.swa_utils.update_bn` does for a whole model (Izmailov et al. 2018, arXiv 1803.05407): all of them at
    once, each fed with what those in front of it normalise by the batch. Dropout draws nothing.

    Args:
        batches: what the model is called with; not asked for where there is nothing to estimate.
        known: names of modules whose statistics stand already.

    Returns:
        The number of batches that were run.
    """
    norms = list(norms_of(prefix, set(prefix.module_names) - set(known)).values())
    if not norms:
        return 0
    modes = [(module, module.training) for module in prefix.modules()]
    momenta = [norm.momentum for norm in norms]
    before = {norm: [buffer.clone() for buffer in norm.buffers()] for norm in norms}
    prefix.eval()
    count = 0
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum, norm.training = None, True
        for inputs in batches:
            with prefix.hooks_apart():
                called(prefix, inputs)
            count += 1
    except BaseException:
        # Of an estimate that was broken off nothing stays: a training may go on with what was there.
        for norm, buffers in before.items():
            for buffer, value in zip(norm.buffers(), buffers, strict=True):
                buffer.copy_(value)
        raise
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, mode in modes:
            module.training = mode
    return count
