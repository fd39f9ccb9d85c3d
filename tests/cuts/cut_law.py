"""The law of division, written down once more and independently of the library: what every cut must satisfy."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from hoarfrost.cuts import Prefix, Suffix


def tensors(output: Any) -> list[Any]:
    return tree_leaves(output)


def assert_same(a: Any, b: Any) -> None:
    assert type(a) is type(b)
    for x, y in zip(tensors(a), tensors(b), strict=True):
        assert torch.equal(x, y) if isinstance(x, Tensor) else x == y


def loss_of(output: Any) -> Tensor:
    return torch.stack([(t.double().tanh() ** 2).sum() for t in tensors(output) if isinstance(t, Tensor)]).sum()


def copied(example: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(value.clone() if isinstance(value, Tensor) else value for value in example)


def assert_law(model: nn.Module, prefix: Prefix, suffix: Suffix, *example: Any) -> None:
    """suffix(prefix(*example)) is model(*example), in eval and in train, gradients and buffers too."""
    reference = copy.deepcopy(model)
    for training in (False, True):
        for part in (reference, prefix, suffix):
            part.train(training)
        with torch.set_grad_enabled(training):
            torch.manual_seed(7)
            expected = reference(*copied(example))
            torch.manual_seed(7)
            with torch.no_grad():
                features = prefix(*copied(example))
            kept = [t.clone() for t in tensors(features) if isinstance(t, Tensor)]
            got = suffix(features)
        assert_same(expected, got)
        assert all(map(torch.equal, kept, [t for t in tensors(features) if isinstance(t, Tensor)]))
    loss_of(expected).backward()
    loss_of(got).backward()
    theirs = dict(reference.named_parameters())
    for name, parameter in suffix.named_parameters():
        if name not in prefix.shared_parameters:
            grad = theirs[name].grad
            assert (grad is None) == (parameter.grad is None), name
            assert grad is None or torch.equal(grad, parameter.grad), name  # type: ignore[arg-type]
    for name, buffer in reference.named_buffers():
        assert torch.equal(buffer, model.get_buffer(name)), name
    model.zero_grad(set_to_none=True)
