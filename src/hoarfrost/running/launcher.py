"""What a launcher has started, read from the environment: nothing is imported to know it."""

from __future__ import annotations

import os

from ..errors import ArgumentError

__all__ = ["process_number", "started"]

COUNTS = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
"""Where torchrun and accelerate launch, and mpirun of three makers, say how many processes there are."""

NUMBERS = ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "MV2_COMM_WORLD_RANK")
"""And likewise which of them this one is."""


def started(precision: str | None = None) -> int:
    """How many processes train, this one among them.

    Args:
        precision: that the run was told.

    Raises:
        ArgumentError: `accelerate launch` was told what it has not done, or what the run is not told.
    """
    count = _count()
    asked = os.environ.get("ACCELERATE_MIXED_PRECISION", "no").lower()
    if asked not in ("no", "", precision):
        raise ArgumentError(f"accelerate launch was told --mixed_precision {asked}: say --precision {asked} to the run")
    if count == 1 and os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true" and "MASTER_PORT" in os.environ:
        raise ArgumentError(
            "accelerate launch --cpu starts one process, however many it is told, where no --mpirun_hostfile is named: "
            "say accelerate launch --multi_gpu --num_processes N -m hoarfrost train ... --device cpu, or "
            "torchrun --nproc-per-node N -m hoarfrost train ... --device cpu"
        )
    return count


def process_number() -> int:
    """Which of the processes that a launcher has started this one is; 0 where there is one."""
    told = [os.environ.get(name, "") for name in NUMBERS]
    return next((int(word) for word in told if word.isdigit()), 0) if _count() > 1 else 0


def _count() -> int:
    return max(_number(name) for name in COUNTS)


def _number(name: str) -> int:
    told = os.environ.get(name, "1")
    return int(told) if told.isdigit() and told != "0" else 1
