"""Models as people write them: small, and each with one habit that makes dividing a model hard."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .entry import Entry, Example, Samples, images

__all__ = ["entries"]

WIDTH = 16
CLASSES = 5


def conv(inputs: int, outputs: int = WIDTH, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)


class Functional(nn.Module):
    """Activations, pooling and flattening are function calls between the layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = conv(3), conv(WIDTH), conv(WIDTH)
        self.dropout = 0.2
        self.fc1, self.fc2 = nn.Linear(WIDTH * 16, 32), nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.gelu(self.conv2(x)), 2)
        x = F.dropout(F.silu(self.conv3(x)), self.dropout, self.training)
        x = F.adaptive_avg_pool2d(x, 4).flatten(1)
        return F.log_softmax(self.fc2(torch.relu(self.fc1(x))), dim=-1)


class Skips(nn.Module):
    """Skips written out in the forward, one of them long."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3)
        self.layers = nn.ModuleList(conv(WIDTH) for _ in range(6))
        self.norms = nn.ModuleList(nn.BatchNorm2d(WIDTH) for _ in range(6))
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for number in range(0, 6, 2):
            inner = F.relu(self.norms[number](self.layers[number](x)))
            x = F.relu(x + self.norms[number + 1](self.layers[number + 1](inner)))
        return self.head(x.mean((2, 3)))


class SeveralInputs(nn.Module):
    """An image, a vector that joins late, and a flag."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(3), nn.ReLU(), conv(WIDTH), nn.ReLU(), conv(WIDTH), nn.ReLU())
        self.side = nn.Linear(4, WIDTH)
        self.mix = nn.Sequential(nn.Linear(2 * WIDTH, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
        self.head = nn.Linear(32, CLASSES)

    def forward(self, image: Tensor, facts: Tensor, normalise: bool = False) -> Tensor:
        x = self.body(image).mean((2, 3))
        x = self.mix(torch.cat([x, self.side(facts)], dim=1))
        return self.head(F.normalize(x) if normalise else x)


class CalledTwice(nn.Module):
    """One block is run twice, with other layers between."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.between, self.last = conv(3), conv(WIDTH), conv(WIDTH)
        self.block = nn.Sequential(conv(WIDTH), nn.BatchNorm2d(WIDTH), nn.ReLU())
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(self.stem(x))
        x = self.block(self.between(x))
        return self.head(self.last(x).mean((2, 3)))


class Lazy(nn.Module):
    """Position codes are worked out at the first call and kept in a plain attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 32, 4, stride=4)
        self.blocks = nn.ModuleList(nn.TransformerEncoderLayer(32, 4, 64, batch_first=True) for _ in range(3))
        self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, CLASSES)
        self.codes: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        if self.codes is None:
            steps = torch.arange(x.shape[1]).unsqueeze(1) / 10.0 ** torch.linspace(0, 4, x.shape[2])
            self.codes = steps.sin()
        x = x + self.codes
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


class UNet(nn.Module):
    """Down, up, and skips that are held in a list."""

    def __init__(self) -> None:
        super().__init__()
        widths = [8, 16, 32]
        self.down = nn.ModuleList(conv(a, b) for a, b in zip([3, *widths[:-1]], widths, strict=True))
        self.middle = nn.Sequential(conv(32, 32), nn.ReLU(), conv(32, 32), nn.ReLU())
        self.up = nn.ModuleList(conv(2 * b, a) for a, b in zip([8, *widths[:-1]], widths, strict=True))
        self.tail = nn.Sequential(conv(8, 8), nn.BatchNorm2d(8), nn.ReLU(), conv(8, 8), nn.ReLU())
        self.head = nn.Conv2d(8, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for layer in self.down:
            kept.append(F.relu(layer(x)))
            x = F.max_pool2d(kept[-1], 2)
        x = self.middle(x)
        for layer in reversed(self.up):
            x = F.relu(layer(torch.cat([F.interpolate(x, scale_factor=2.0), kept.pop()], dim=1)))
        return self.head(self.tail(x))


class TwoTowers(nn.Module):
    """Two images through towers of their own, then layers on both."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Sequential(conv(3), nn.ReLU(), conv(WIDTH), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.right = nn.Sequential(conv(3), nn.ReLU(), conv(WIDTH), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.join = nn.Sequential(nn.Linear(2 * WIDTH, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
        self.head = nn.Linear(32, 1)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.head(self.join(torch.cat([self.left(left), self.right(right)], dim=1))).squeeze(1)


class InAndOutByName(nn.Module):
    """Takes keywords, gives a dictionary with a nested one."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 32)
        self.blocks = nn.Sequential(*(nn.Sequential(nn.Linear(32, 32), nn.GELU(), nn.Dropout(0.1)) for _ in range(3)))
        self.heads = nn.ModuleDict({"topic": nn.Linear(32, CLASSES), "mood": nn.Linear(32, 2)})

    def forward(self, *, tokens: Tensor, mask: Tensor) -> dict[str, Any]:
        x = self.blocks(self.embed(tokens))
        kept = mask.unsqueeze(-1).to(x.dtype)
        pooled = (x * kept).sum(1) / kept.sum(1)
        return {"scores": {name: head(pooled) for name, head in self.heads.items()}, "pooled": pooled}


class Tied(nn.Module):
    """The embedding's weight is the output layer's."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 32)
        self.blocks = nn.ModuleList(nn.TransformerEncoderLayer(32, 4, 64, batch_first=True) for _ in range(3))
        self.norm = nn.LayerNorm(32)
        self.out = nn.Linear(32, 50, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        causal = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        for block in self.blocks:
            x = block(x, src_mask=causal, is_causal=True)
        return self.out(self.norm(x))


class StochasticDepth(nn.Module):
    """Blocks of a list are left out at random in training, sample by sample."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3)
        self.blocks = nn.ModuleList(nn.Sequential(conv(WIDTH), nn.BatchNorm2d(WIDTH), nn.ReLU()) for _ in range(4))
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for number, block in enumerate(self.blocks):
            step = block(x)
            if self.training:
                survives = 1 - 0.1 * number
                step = step * torch.empty(x.shape[0], 1, 1, 1).bernoulli_(survives) / survives
            x = x + step
        return self.head(x.mean((2, 3)))


class InPlace(nn.Module):
    """Writes into what its layers give."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([conv(3), *(conv(WIDTH) for _ in range(4))])
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
            x.clamp_(min=-3.0, max=3.0)
            x += 0.1
            x = x.mul_(F.relu(x).sign())
        return self.head(x.mean((2, 3)))


class Recurrent(nn.Module):
    """Recurrent layers over tokens; the last state decides."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 16)
        self.first = nn.GRU(16, 24, batch_first=True)
        self.second = nn.LSTM(24, 24, batch_first=True, bidirectional=True)
        self.norm, self.head = nn.LayerNorm(48), nn.Linear(48, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        x, _ = self.first(self.embed(tokens))
        x, _ = self.second(x)
        return self.head(self.norm(x[:, -1]))


class Item(nn.Module):
    """A number is taken out of a tensor half-way and decides what is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Sequential(conv(3), nn.ReLU(), conv(WIDTH), nn.ReLU())
        self.back = nn.Sequential(conv(WIDTH), nn.ReLU(), conv(WIDTH), nn.ReLU())
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.front(x)
        scale = x.abs().mean().item()
        x = x / scale if scale > 1e-3 else x
        return self.head(self.back(x).mean((2, 3)))


def tokens(length: int = 12) -> Samples:
    """Batches of token numbers [N, length]."""
    return lambda rows: torch.randint(0, 50, (rows, length))


def padded(rows: int) -> Example:
    """Token numbers and a mask whose last entries are padding."""
    lengths = 12 - torch.arange(rows) % 5
    return {"tokens": torch.randint(0, 50, (rows, 12)), "mask": torch.arange(12) < lengths.unsqueeze(1)}


MODELS: dict[str, tuple[Callable[[], nn.Module], Samples]] = {
    "functional": (Functional, images(32)),
    "skips": (Skips, images(16)),
    "several_inputs": (SeveralInputs, lambda n: (torch.randn(n, 3, 16, 16), torch.randn(n, 4), True)),
    "called_twice": (CalledTwice, images(16)),
    "lazy": (Lazy, images(16)),
    "unet": (UNet, images(16)),
    "two_towers": (TwoTowers, lambda n: (torch.randn(n, 3, 16, 16), torch.randn(n, 3, 16, 16))),
    "in_and_out_by_name": (InAndOutByName, padded),
    "tied": (Tied, tokens()),
    "stochastic_depth": (StochasticDepth, images(16)),
    "in_place": (InPlace, images(16)),
    "recurrent": (Recurrent, tokens()),
    "item": (Item, images(16)),
}


def entries() -> list[Entry]:
    return [Entry("user", name, partial(build, name)) for name in MODELS]


def build(name: str) -> tuple[nn.Module, Samples]:
    maker, samples = MODELS[name]
    return maker(), samples
