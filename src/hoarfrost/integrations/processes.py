"""Which of Accelerate's ways to train in several processes a front can be cut off in."""

from __future__ import annotations

from accelerate import Accelerator, DistributedType
from torch import distributed

from ..errors import ArgumentError

__all__ = ["WHOLE", "check_processes"]

SHARDED = (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM)

WHOLE = (
    "is not frozen: its modules have their parameters only while they are called whole, and what is behind a cut is "
    "called alone. Launch without it, and DistributedDataParallel trains in several processes"
)
"""Why, and what else."""


def check_processes(accelerator: Accelerator) -> None:
    """Raise ArgumentError where the processes have not the whole model each, or not batches of their own."""
    kind = accelerator.distributed_type
    if kind in SHARDED:
        raise ArgumentError(f"a model under {kind.value} {WHOLE}")
    plan = accelerator.parallelism_config
    for name in ("dp_shard", "tp", "cp", "sp"):
        if plan is not None and getattr(plan, f"{name}_size") > 1:
            raise ArgumentError(
                f"ParallelismConfig({name}_size={getattr(plan, f'{name}_size')}) splits a model or a sample among "
                "processes, and each has to have both whole: leave dp_replicate_size alone"
            )
    if accelerator.num_processes > 1 and not (distributed.is_available() and distributed.is_initialized()):
        raise ArgumentError(
            f"{accelerator.num_processes} processes train ({kind.value}) without a process group of torch.distributed, "
            "by which they would share the samples"
        )
