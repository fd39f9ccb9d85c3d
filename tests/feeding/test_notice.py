"""A freezer says what it freezes and why, in words, where somebody listens."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hoarfrost import Freezer
from shared.images import images
from shared.nets import resnet


def test_what_is_frozen_and_thawed_is_said_with_the_reason(caplog: pytest.LogCaptureFixture) -> None:
    def said(verbose: bool) -> list[str]:
        caplog.clear()
        torch.manual_seed(0)
        told: dict[str, Any] = {
            "epochs": 3,
            "batch_size": 16,
            "policy": {1: "layer1"},
            "mode": "recompute",
            "verbose": verbose,
        }
        with caplog.at_level("INFO", "hoarfrost"), Freezer(resnet(), images(32), **told) as freezer:
            for epoch in range(3):
                for inputs, _ in freezer.batches(epoch):
                    freezer(inputs)
                freezer.end_epoch()
                if epoch == 1:
                    freezer.thaw()
        return [line for line in caplog.messages if line.startswith("epoch")]

    assert said(False) == []
    assert said(True) == [
        "epoch 1: frozen up to layer1; "
        "recomputed, as asked; batch norms keep their statistics: none of its weights has moved",
        "epoch 2: thawed, by hand",
    ]
