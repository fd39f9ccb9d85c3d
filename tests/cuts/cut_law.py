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


def assert_law(model: nn.Module, prefix: Prefix, suffix: Suffix, x: Tensor) -> None:
    """suffix(prefix(x)) is model(x), in eval and in train, gradients and buffers too."""
    reference = copy.deepcopy(model)
    for part in (reference, prefix, suffix):
        part.eval()
    with torch.no_grad():
        torch.manual_seed(7)
        expected = reference(x.clone())
        torch.manual_seed(7)
        assert_same(expected, suffix(prefix(x.clone())))
    for part in (reference, prefix, suffix):
        part.train()
    torch.manual_seed(7)
    expected = reference(x.clone())
    torch.manual_seed(7)
    with torch.no_grad():
        features = prefix(x.clone())
    kept = features.clone()
    got = suffix(features)
    assert_same(expected, got)
    assert torch.equal(features, kept)
    for output in (expected, got):
        loss = sum((t.double().tanh() ** 2).sum() for t in tensors(output) if isinstance(t, Tensor))
        loss.backward()  # type: ignore[union-attr]
    theirs = dict(reference.named_parameters())
    for name, parameter in suffix.named_parameters():
        if name not in prefix.shared_parameters:
            grad = theirs[name].grad
            assert (grad is None) == (parameter.grad is None), name
            assert grad is None or torch.equal(grad, parameter.grad), name  # type: ignore[arg-type]
    for name, buffer in reference.named_buffers():
        assert torch.equal(buffer, model.get_buffer(name)), name
    model.zero_grad(set_to_none=True)
