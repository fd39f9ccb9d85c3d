"""The processes of a run: one, or those that a launcher has started, on Accelerate."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from ..distributed import Ranks
from ..errors import ArgumentError, HoarfrostError
from .config import RunConfig
from .launcher import started

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["Processes"]


@dataclass(frozen=True)
class Processes:
    """Those that train together; one process needs no Accelerate.

    Attributes:
        ranks: which of them this one is, and what they tell each other.
        accelerator: that began their process group and knows this one's device; None for one process.
    """

    ranks: Ranks = field(default_factory=Ranks)
    accelerator: Accelerator | None = None

    @classmethod
    def of(cls, config: RunConfig) -> Processes:
        """Those that a launcher has started for a run; its process group begins where there is none yet.

        Raises:
            ArgumentError: it was told what a run in several processes cannot do.
            HoarfrostError: Accelerate is not there.
        """
        count = started(config.rendering.precision)
        if count == 1:
            return cls()
        try:
            from accelerate import Accelerator, DistributedType
        except ImportError as error:
            raise HoarfrostError(
                f"{count} processes were started, and training in several needs a package that cannot be imported "
                f"({error}): pip install 'hoarfrost[accelerate]'"
            ) from error
        asked = torch.device(config.rendering.device) if config.rendering.device else None
        if asked is not None and asked.index is not None:
            raise ArgumentError(
                f"device {str(asked)!r} is one device, and {count} processes train: say {asked.type!r}, and each has "
                "its own"
            )
        wants_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true"
        on_cpu = asked.type == "cpu" if asked is not None else wants_cpu or not torch.cuda.is_available()
        try:
            accelerator = Accelerator(cpu=on_cpu, mixed_precision="no")
        except (RuntimeError, ValueError) as error:
            raise HoarfrostError(
                f"{count} processes are said to be there, and they cannot find each other ({error}): start them with "
                "torchrun or accelerate launch; for one process unset WORLD_SIZE and its like"
            ) from error
        if accelerator.num_processes != count:
            raise ArgumentError(
                f"{count} processes were started, of which Accelerate finds {accelerator.num_processes}: start them "
                "with torchrun or accelerate launch"
            )
        kind = accelerator.distributed_type
        if not kind.name.startswith("MULTI_"):
            raise ArgumentError(
                f"accelerate launch was told {DistributedType(kind).value}, and a model that is sharded is not "
                "divided: launch it with --multi_gpu"
            )
        if asked is not None and accelerator.device.type != asked.type:
            raise ArgumentError(f"device {str(asked)!r} was asked for, and Accelerate trains on {accelerator.device}")
        return cls(Ranks.now(), accelerator)

    def placed(self, config: RunConfig) -> RunConfig:
        """The same, on this process's own device."""
        if self.accelerator is None:
            return config
        return replace(config, rendering=replace(config.rendering, device=str(self.accelerator.device)))

    def wrapped(self, model: nn.Module) -> nn.Module:
        """As it is trained: its gradients reduced over all processes."""
        if self.accelerator is None:
            return model
        return cast(nn.Module, self.accelerator.prepare_model(model))

    def end(self) -> None:
        """All of them are here, and none waits for another any more."""
        if self.accelerator is not None:
            self.ranks.gather("the end", 0)
            # What was told lies with one of them: nobody leaves before all have read it.
            self.ranks.at_once("the end", False)
