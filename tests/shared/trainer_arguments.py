"""What the tests of Trainers say to each of them."""

from __future__ import annotations

from typing import Any

__all__ = ["ARGUMENTS"]

ARGUMENTS: dict[str, Any] = {
    "per_device_train_batch_size": 8,
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": [],
    "use_cpu": True,
    "disable_tqdm": True,
}
"""Small batches, each logged, on the CPU; nothing is saved or shown."""
