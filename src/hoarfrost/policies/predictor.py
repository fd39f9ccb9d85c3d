"""The attention predictor of SmartFRZ: from how weights have moved to whether they have settled."""

from __future__ import annotations

import functools
from importlib.resources import files

import torch
from safetensors.torch import load
from torch import Tensor, nn

__all__ = ["FEATURES", "HISTORY", "TRAINED", "Predictor", "tokens", "trained_predictor"]

HISTORY = 30
"""Snapshots that are looked at; published."""

FEATURES = 5
TRAINED = "smartfrz.safetensors"

TINY = 1e-6


def tokens(snapshots: Tensor, interval: float) -> Tensor:
    """What is told of each snapshot of a segment's weights: nothing that depends on their order, number or scale.

    Args:
        snapshots: [S, P], oldest first.
        interval: share of the training between two of them.

    Returns:
        [S, 5]: logarithms of the distance to the last snapshot and to the one before, relative to the last one's norm;
        the cosine between this step and the last one; the age, in snapshots; the logarithm of the interval.
    """
    now = snapshots[-1]
    size = now.norm().clamp_min(TINY)
    steps = torch.diff(snapshots, dim=0, prepend=snapshots[:1])
    lengths = steps.norm(dim=1)
    cosines = steps @ steps[-1] / (lengths * lengths[-1]).clamp_min(TINY**2)
    age = torch.arange(len(snapshots) - 1, -1, -1, dtype=torch.float32) / HISTORY
    return torch.stack(
        [
            ((snapshots - now).norm(dim=1) / size + TINY).log(),
            (lengths / size + TINY).log(),
            cosines,
            age,
            torch.full((len(snapshots),), max(interval, TINY)).log(),
        ],
        dim=1,
    )


class Predictor(nn.Module):
    """The last snapshot asks, the others answer: scaled dot-product attention, then two logits, train on or freeze."""

    mean: Tensor
    scale: Tensor

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("scale", torch.ones(FEATURES))
        self.embed = nn.Sequential(nn.Linear(FEATURES, width), nn.ReLU())
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.head = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, 2))

    def forward(self, histories: Tensor, known: Tensor) -> Tensor:
        """Logits [B, 2] of histories [B, S, 5], the newest last; `known` [B, S] is False for what pads their fronts."""
        embedded = self.embed((histories - self.mean) / self.scale)
        asked = self.query(embedded[:, -1:])
        earlier = known[:, None, :-1]
        told = nn.functional.scaled_dot_product_attention(
            asked, self.key(embedded[:, :-1]), self.value(embedded[:, :-1]), attn_mask=earlier
        )
        logits: Tensor = self.head(torch.cat([told[:, 0], embedded[:, -1]], dim=1))
        return logits

    @torch.no_grad()
    def settled(self, snapshots: Tensor, interval: float) -> float:
        """The probability that weights with this history [S, P] have settled."""
        history = tokens(snapshots[-HISTORY:].float(), interval)[None]
        logits = self(history, torch.ones(history.shape[:2], dtype=torch.bool))
        return float(logits.softmax(1)[0, 1])


@functools.cache
def trained_predictor() -> Predictor:
    """With the parameters that come with Hoarfrost (benchmarks/smartfrz.py makes them)."""
    stored = load(files(__package__).joinpath(TRAINED).read_bytes())
    predictor = Predictor(width=len(stored["query.bias"]))
    predictor.load_state_dict(stored)
    return predictor.eval()
