"""Generated small networks for the tests of the cuts, and the law for models of several arguments.

A network is a chain of steps with skips: each step reads the value before it, some read an older one too. So nothing
that it computes is in vain, and what is read is needed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from cut_law import loss_of
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

CHANNELS, SIDE, TOKENS = 4, 4, 16


@dataclass(frozen=True)
class Step:
    """One step: its kind, how far back its second operand lies, and which layer of that kind it uses.

    The same number is the same module again.
    """

    kind: str
    back: int = 1
    layer: int = 0


class Residual(nn.Module):
    """The sum and the activation are written in place."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.relu = layer, nn.LeakyReLU(0.2, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.layer(x)
        out += x
        return self.relu(out)


class Branches(nn.Module):
    """Two ways side by side, joined again."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(CHANNELS, 2, 1)
        self.right = nn.Sequential(nn.Conv2d(CHANNELS, 2, 3, padding=1), nn.SiLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.left(x), self.right(x)], 1)


class Fork(nn.Module):
    """Gives two tensors."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.layer(x)
        return x, F.leaky_relu(x, 0.3)


class Wrapped(nn.Module):
    """Takes a keyword and gives a dictionary with something else in it."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, *, hidden: Tensor) -> dict[str, Tensor | int | None]:
        return {"weights": None, "rows": hidden.shape[0], "hidden": self.layer(hidden).tanh()}


class Joined(nn.Module):
    """Two inputs; the result is written into the first."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.5))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a.mul_(self.weight).add_(b)


class Window(nn.Module):
    """Gives a part of another tensor's memory."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, x.neg()], 1)[:, 1 : 1 + x.shape[1]]


class Turned(nn.Module):
    """A view of its input."""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(-1, -2)


class Averaged(nn.Module):
    """Follows the mean of what it sees in a buffer, and subtracts it."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean.mul_(0.9).add_(0.1 * x.detach().mean())
        return x - self.mean


class Attention(nn.Module):
    """One head; keys that the mask leaves out get no weight."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(CHANNELS, 3 * CHANNELS), nn.Linear(CHANNELS, CHANNELS)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        weights = q @ k.transpose(-2, -1) / CHANNELS**0.5
        if mask is not None:
            weights = weights.masked_fill(mask[:, None, :] == 0, -1e4)
        return self.out(weights.softmax(-1) @ v)


class Encoder(nn.Module):
    """A block of a transformer: layer norm in front, dropout behind."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.attention, self.dropout = nn.LayerNorm(CHANNELS), Attention(), nn.Dropout(0.2)
        self.mlp = nn.Sequential(nn.LayerNorm(CHANNELS), nn.Linear(CHANNELS, 6), nn.GELU(), nn.Linear(6, CHANNELS))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = x + self.dropout(self.attention(self.norm(x), mask))
        return x + self.mlp(x)


def conv() -> nn.Module:
    return nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)


def linear() -> nn.Module:
    return nn.Linear(CHANNELS, CHANNELS)


ANYWHERE: dict[str, Callable[[], nn.Module]] = {
    "relu_": lambda: nn.LeakyReLU(0.1, inplace=True),
    "gelu": nn.GELU,
    "dropout": lambda: nn.Dropout(0.4),
    "identity": nn.Identity,
    "join": Joined,
    "averaged": Averaged,
}
ON_IMAGES: dict[str, Callable[[], nn.Module]] = ANYWHERE | {
    "conv": conv,
    "norm": lambda: nn.BatchNorm2d(CHANNELS),
    "block": lambda: nn.Sequential(conv(), nn.Dropout(0.3), nn.Hardswish(inplace=True)),
    "nested": lambda: nn.Sequential(
        nn.Sequential(conv(), nn.BatchNorm2d(CHANNELS)), nn.Sequential(nn.Identity(), Residual(nn.Sequential(conv())))
    ),
    "residual": lambda: Residual(conv()),
    "branches": Branches,
    "fork": lambda: Fork(conv()),
    "wrapped": lambda: Wrapped(conv()),
    "turned": Turned,
    "window": Window,
    "weight_norm": lambda: weight_norm(conv()),
    "spectral_norm": lambda: spectral_norm(nn.Conv2d(CHANNELS, CHANNELS, 1)),
}
ON_TOKENS: dict[str, Callable[[], nn.Module]] = ANYWHERE | {
    "linear": linear,
    "layer_norm": lambda: nn.LayerNorm(CHANNELS),
    "encoder": Encoder,
    "tokens_first": linear,
    "token_fork": lambda: Fork(linear()),
    "token_wrapped": lambda: Wrapped(nn.Sequential(linear(), nn.LayerNorm(CHANNELS))),
    "token_residual": lambda: Residual(linear()),
}
OPERATORS = (
    "add",
    "add_",
    "scale",
    "dropout()",
    "gate",
    "noise",
    "draw",
    "use_drawn",
    "chunks",
    "reshape",
    "mask",
    "context",
)


class Net(nn.Module):
    """Steps on images, then on tokens."""

    def __init__(self, images: Sequence[Step], on_tokens: Sequence[Step] = ()) -> None:
        super().__init__()
        self.images, self.on_tokens = tuple(images), tuple(on_tokens)
        self.stem = nn.Conv2d(3, CHANNELS, 3, padding=1)
        self.image_layers = self._layers(self.images, ON_IMAGES)
        self.token_layers = self._layers(self.on_tokens, ON_TOKENS)
        self.scale = nn.Parameter(torch.linspace(-0.5, 0.8, CHANNELS))
        self.head = nn.Linear(CHANNELS, 3)

    @staticmethod
    def _layers(steps: Sequence[Step], kinds: dict[str, Callable[[], nn.Module]]) -> nn.ModuleDict:
        return nn.ModuleDict({f"{s.kind}_{s.layer}": kinds[s.kind]() for s in steps if s.kind in kinds})

    def forward(self, x: Tensor, mask: Tensor | None = None, context: Tensor | None = None) -> Any:
        values = [self.stem(x)]
        drawn = torch.ones(x.shape[0], 1, dtype=x.dtype)
        for step in self.images:
            a, b = values[-1], values[max(len(values) - 1 - step.back, 0)]
            if step.kind == "draw":
                drawn = torch.rand(x.shape[0], 1, dtype=x.dtype)
            else:
                values.append(self.step(step, self.image_layers, a, b, (mask, context, drawn)))
        if not self.on_tokens:
            return self.head(values[-1].mean((2, 3)))
        values = [values[-1].flatten(2).transpose(1, 2)]
        for step in self.on_tokens:
            a, b = values[-1], values[max(len(values) - 1 - step.back, 0)]
            if step.kind == "draw":
                drawn = torch.rand(x.shape[0], 1, dtype=x.dtype)
            else:
                values.append(self.step(step, self.token_layers, a, b, (mask, context, drawn)))
        return {"logits": self.head(values[-1].mean(1)), "rows": x.shape[0]}

    def step(self, step: Step, layers: nn.ModuleDict, a: Tensor, b: Tensor, beside: tuple[Any, ...]) -> Tensor:
        mask, context, drawn = beside
        kind, is_image = step.kind, a.ndim == 4
        if kind in ("encoder",):
            return layers[f"{kind}_{step.layer}"](a, mask)
        if kind == "join":
            return layers[f"{kind}_{step.layer}"](a, b)
        if kind == "tokens_first":
            return layers[f"{kind}_{step.layer}"](a.transpose(0, 1).contiguous()).transpose(0, 1)
        if kind.endswith("fork"):
            left, right = layers[f"{kind}_{step.layer}"](a)
            return left if step.back == 0 else right if step.back == 1 else left * right
        if kind.endswith("wrapped"):
            return layers[f"{kind}_{step.layer}"](hidden=a)["hidden"]
        if f"{kind}_{step.layer}" in layers:
            return layers[f"{kind}_{step.layer}"](a)
        if kind == "add":
            return a + b
        if kind == "add_":
            return a.add_(b)
        if kind == "scale":
            scale = self.scale.sigmoid()
            return a * (scale[:, None, None] if is_image else scale)
        if kind == "dropout()":
            return F.dropout(a, 0.4, self.training)
        if kind == "gate":
            return a * b.mean((1, 2), keepdim=True).sigmoid()
        if kind == "noise":
            return a * torch.rand_like(a)
        if kind == "use_drawn":
            return a * drawn.reshape(-1, *[1] * (a.ndim - 1))
        if kind == "chunks":
            left, right = a.chunk(2, 1)
            return torch.cat([torch.tanh(right), left], 1)
        if kind == "reshape":
            return a.reshape(a.shape[0], 2, -1).transpose(1, 2).reshape(a.shape)
        if kind == "mask":
            return a if mask is None else a * mask.to(a.dtype).reshape(-1, *((1, 4, 4) if is_image else (TOKENS, 1)))
        if kind == "context":
            return a if context is None else a + context.reshape(-1, *[1] * (a.ndim - 1))
        raise ValueError(kind)


@dataclass(frozen=True)
class Program:
    """What makes a network and the call of it."""

    images: tuple[Step, ...]
    on_tokens: tuple[Step, ...] = ()
    mask: bool = False
    context: bool = False

    def model(self) -> nn.Module:
        torch.manual_seed(0)
        return Net(self.images, self.on_tokens)

    def unshared(self) -> Program:
        """The same with another module at each step."""
        images, on_tokens = (
            tuple(replace(step, layer=number) for number, step in enumerate(steps))
            for steps in (self.images, self.on_tokens)
        )
        return replace(self, images=images, on_tokens=on_tokens)

    def example(self, rows: int = 4, seed: int = 1, dtype: torch.dtype = torch.float32) -> tuple[Any, ...]:
        """The arguments; the mask is the same for every seed."""
        chance = torch.Generator().manual_seed(seed)
        x = torch.randn(rows, 3, SIDE, SIDE, generator=chance, dtype=dtype)
        context = torch.randn(rows, 1, generator=chance, dtype=dtype) if self.context else None
        mask = (torch.arange(rows * TOKENS).reshape(rows, TOKENS) % 5 > 0).long() if self.mask else None
        return (x, mask, context)


def _steps(kinds: Sequence[str]) -> st.SearchStrategy[Step]:
    return st.builds(Step, st.sampled_from(kinds), st.sampled_from([0, 1, 1, 2, 3]), st.integers(0, 1))


IMAGE_STEPS = _steps([*ON_IMAGES, *OPERATORS, "conv", "norm", "residual"])
TOKEN_STEPS = _steps([*ON_TOKENS, *OPERATORS, "linear", "encoder"])


def programs(longest: int = 6) -> st.SearchStrategy[Program]:
    """Networks of up to so many steps on images and, mostly, on tokens."""
    return st.builds(
        Program,
        st.lists(IMAGE_STEPS, min_size=1, max_size=longest).map(tuple),
        st.lists(TOKEN_STEPS, max_size=longest).map(tuple),
        st.booleans(),
        st.booleans(),
    )


def learns(model: nn.Module, example: tuple[Any, ...]) -> bool:
    """Whether a backward pass runs: an in-place step may have spoiled what it needs."""
    try:
        loss_of(copy.deepcopy(model).train()(*example)).backward()
    except RuntimeError:
        return False
    return True
