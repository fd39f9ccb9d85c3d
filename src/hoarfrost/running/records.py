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
from ..freezing import undistributed

__all__ = ["Examine", "Write", "describe_machine", "write_end", "write_start"]

Examine = Callable[[nn.Module], dict[str, float]]
Write = Callable[[dict[str, Any]], None]


def write_start(write: Write, freezer: Freezer, about: Mapping[str, Any]) -> None:
    """Write the first record, and from now on what the freezer tells.

    Args:
        about: what the freezer does not know, such as the names of model and data.
    """
    write(
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
        write(record)
    freezer.listener = write


def write_end(write: Write, freezer: Freezer, plain: Examine, augmented: Examine, began: float) -> None:
    """Examine the trained model, on plain and on augmented images, and write the last record.

    Args:
        began: the `time.perf_counter` of the training's begin.
    """
    model = undistributed(freezer.model)
    on_plain, on_augmented = plain(model), augmented(model)
    write(
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
    threads = torch.get_num_threads()
    return {
        "hardware": gpu or f"{platform.machine()} CPU, {threads} thread{'s' * (threads > 1)}",
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
        },
    }
