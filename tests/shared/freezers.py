"""Freezers of a small model on a few images, and what they give and record."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hoarfrost import Freezer
from hoarfrost.storing.build import fill
from shared.images import RANDOM, images
from shared.nets import resnet

N = 150


def freezer_of(model: nn.Module | None = None, data: Any = None, **options: Any) -> Freezer:
    given = {"batch_size": 50, "epochs": 4, "mode": "cache", "ladder": "exact", "policy": {1: "layer1"}, **options}
    return Freezer(model or resnet(), data if data is not None else images(N, RANDOM), **given)


def run_epoch(freezer: Freezer, epoch: int) -> list[tuple[Tensor, Tensor]]:
    batches = [*freezer.batches(epoch)]
    end_epoch(freezer)
    return batches


def end_epoch(freezer: Freezer) -> None:
    """End the epoch, and store now what the next one's first batch would."""
    freezer.end_epoch()
    freezer.decide(store=True)


def frozen(data: Any = None, model: nn.Module | None = None, **options: Any) -> Freezer:
    """A freezer that froze before the first epoch, its cache not built yet."""
    return freezer_of(model, data, **{"policy": {0: "layer1"}, "epochs": 9, **options})


def epoch_of(freezer: Freezer, epoch: int = 0) -> list[tuple[Tensor, Tensor]]:
    return [*freezer.batches(epoch)]


def record(freezer: Freezer, event: str = "freeze") -> dict[str, Any]:
    return [entry for entry in freezer.history if entry["event"] == event][-1]


def same(one: list[tuple[Tensor, Tensor]], other: list[tuple[Tensor, Tensor]]) -> bool:
    return all(torch.equal(a, b) and torch.equal(s, t) for (a, s), (b, t) in zip(one, other, strict=True))


def count_prefix_runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the batches that a prefix ran on behind the calibration."""
    runs: list[int] = []

    def counted(writers: Any, division: Any, *rest: Any) -> None:
        handle = division.prefix.register_forward_hook(lambda module, args, output: runs.append(len(output)))
        fill(writers, division, *rest)
        handle.remove()

    monkeypatch.setattr("hoarfrost.storing.storage.fill", counted)
    return runs
