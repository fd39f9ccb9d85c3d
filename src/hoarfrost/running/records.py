"""What is written down of a training beside what its Freezer tells: how it begins, where, and how it ends."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torchvision
from torch import nn

from ..freezer import Freezer
from .files import Journal

__all__ = ["Examine", "describe_machine", "write_end", "write_start"]

Examine = Callable[[nn.Module], dict[str, float]]


def write_start(journal: Journal, freezer: Freezer, about: Mapping[str, Any]) -> None:
    """Write the first record, and from now on what the freezer tells.

    Args:
        about: what the freezer does not know, such as the names of model and data.
    """
    journal.write(
        {
            "event": "start",
            **about,
            "epochs": freezer.epochs,
            "seed": freezer.seed,
            "policy": repr(freezer.policy),
            "cuts": [cut.label for cut in freezer.cuts],
            "transform": freezer.describe(),
        }
    )
    for record in freezer.history:  # of what it met before anyone listened
        journal.write(record)
    freezer.listener = journal.write


def write_end(journal: Journal, freezer: Freezer, plain: Examine, augmented: Examine, began: float) -> None:
    """Examine the trained model, on plain and on augmented images, and write the last record.

    Args:
        began: the `time.perf_counter` of the training's begin.
    """
    on_plain, on_augmented = plain(freezer.model), augmented(freezer.model)
    journal.write(
        {
            "event": "end",
            "seconds": freezer.training_seconds,
            "wall_seconds": time.perf_counter() - began,
            "test_loss": on_plain["loss"],
            "test_accuracy": on_plain["accuracy"],
            "augmented_accuracy": on_augmented["accuracy"],
        }
    )


def describe_machine() -> dict[str, Any]:
    """Hardware and versions."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "hardware": gpu or f"{platform.machine()} CPU, {torch.get_num_threads()} threads",
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
        },
    }
