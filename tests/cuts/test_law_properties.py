"""Random small networks: whatever cut is offered satisfies the law."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from cut_law import assert_law
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from hoarfrost.cuts import divide, find_cuts

CHANNELS = 4
LAYERS = {
    "conv": lambda: nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
    "norm": lambda: nn.BatchNorm2d(CHANNELS),
    "relu": nn.ReLU,
    "relu_": lambda: nn.ReLU(inplace=True),
    "dropout": lambda: nn.Dropout(0.4),
    "identity": nn.Identity,
    "block": lambda: nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 1), nn.Dropout(0.3), nn.Hardswish(inplace=True)),
}
OPERATORS = ("add", "add_", "scale", "shuffle", "halves", "dropout", "gate", "noise")


@dataclass(frozen=True)
class Node:
    """One step: a layer or a functional operator, and how far back its inputs lie."""

    kind: str
    back: tuple[int, int]
    layer: int = 0  # which layer of that kind: the same number is the same module again


class Net(nn.Module):
    def __init__(self, nodes: list[Node]) -> None:
        super().__init__()
        self.nodes = nodes
        self.stem = nn.Conv2d(3, CHANNELS, 3, padding=1)
        self.layers = nn.ModuleDict({f"{n.kind}{n.layer}": LAYERS[n.kind]() for n in nodes if n.kind in LAYERS})
        self.scale = nn.Parameter(torch.full((CHANNELS, 1, 1), 0.7))
        self.head = nn.Linear(CHANNELS, 3)

    def forward(self, x: Tensor) -> Tensor:
        values = [self.stem(x)]
        for node in self.nodes:
            a, b = (values[max(len(values) - 1 - back, 0)] for back in node.back)
            values.append(self.step(node, a, b))
        return self.head(values[-1].mean((2, 3)))

    def step(self, node: Node, a: Tensor, b: Tensor) -> Tensor:
        if node.kind in LAYERS:
            return self.layers[f"{node.kind}{node.layer}"](a)
        if node.kind == "add":
            return a + b
        if node.kind == "add_":
            return a.add_(b)
        if node.kind == "scale":
            return a * self.scale.sigmoid()
        if node.kind == "shuffle":
            n, _, h, w = a.shape
            return a.view(n, 2, CHANNELS // 2, h, w).transpose(1, 2).reshape(n, CHANNELS, h, w)
        if node.kind == "halves":
            left, right = a.chunk(2, 1)
            return torch.cat([F.relu(right), left], 1)
        if node.kind == "dropout":
            return F.dropout(a, 0.4, self.training)
        if node.kind == "noise":
            return a * torch.rand(a.shape[0], 1, 1, 1)
        return a * b.mean((2, 3), keepdim=True).sigmoid()


nodes = st.builds(
    Node,
    st.sampled_from([*LAYERS, "conv", "norm", "block", *OPERATORS]),
    st.tuples(st.sampled_from([0, 0, 0, 1, 2]), st.integers(0, 4)),
    st.integers(0, 3),
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.filter_too_much], derandomize=True)
@given(st.lists(nodes, min_size=1, max_size=9))
def test_every_cut_that_is_offered_satisfies_the_law(plan: list[Node]) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, x = Net(plan), torch.randn(3, 3, 4, 4)
    try:
        model(x).sum().backward()
    except RuntimeError:
        assume(False)  # an in-place step has spoiled what the backward pass needs
    model.zero_grad()
    for cut in find_cuts(model, x):
        prefix, suffix = divide(model, cut, x, verify=True)
        assert_law(model, prefix, suffix, x)
