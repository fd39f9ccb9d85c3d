"""What a model gives in training, seen without training it."""

from __future__ import annotations

from typing import Any

from torch import nn

from .restore import Originals, preserved_randomness, seed_randomness

__all__ = ["InTraining"]

SEED = 0


class InTraining(nn.Module):
    """A model that gives what it gives in training, in whatever mode it is: detection models, say, give losses there.

    Each call draws the same random numbers, so that what two calls give differs by their inputs alone. The model's
    buffers and flags and the random states stay as they are.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *args: Any, **keywords: Any) -> Any:
        """As the model's."""
        flags = [(module, module.training) for module in self.model.modules()]
        try:
            with preserved_randomness((args, keywords)), Originals(self.model.buffers(), at_once=True):
                seed_randomness(SEED, (args, keywords))
                self.model.train()
                return self.model(*args, **keywords)
        finally:
            for module, training in flags:
                module.training = training
