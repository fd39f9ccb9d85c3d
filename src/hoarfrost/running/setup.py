"""What a training needs beside the Freezer, made from what a run was told: data, transforms, model, optimizer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from ..data import Data, default_transforms, few, open_data
from ..distributed import Ranks
from ..models import resolve_model
from ..settings import Rendering
from .config import RunConfig
from .examination import Examination

__all__ = ["Setup", "make_optimizer", "placed"]


@dataclass(frozen=True)
class Setup:
    """Data and a fresh model on its device.

    Attributes:
        train_set: the part of the data to train on.
    """

    config: RunConfig
    data: Data
    train_set: Dataset[Any]
    train_transform: Callable[[Any], Any]
    test_transform: Callable[[Any], Any]
    model: nn.Module

    @classmethod
    def of(cls, config: RunConfig, data: Data | None = None) -> Setup:
        """Open the data and make the model; torch's random state is set by the seed.

        Args:
            data: in place of those that the configuration names.

        Raises:
            ArgumentError: no such model or data.
        """
        seed = config.rendering.seed
        torch.manual_seed(seed)
        if data is None:
            data = open_data(config.data, seed, image_size=config.image_size, background=config.background)
        train_transform, test_transform = default_transforms(data)
        model = resolve_model(
            config.model,
            classes=len(data.classes),
            channels=data.channels,
            pretrained=config.pretrained,
            image_size=data.image_size,
        )
        return cls(
            config=config,
            data=data,
            train_set=data.train if config.samples is None else few(data, config.samples, seed),
            train_transform=train_transform,
            test_transform=test_transform,
            model=placed(model, config.rendering),
        )

    def examination(self, transform: Callable[[Any], Any], ranks: Ranks | None = None) -> Examination:
        """Of the test set, as this transform renders it, shared among the ranks."""
        how = self.config.rendering
        return Examination(
            self.data.test,
            transform,
            channels_last=how.channels_last,
            workers=how.workers,
            seed=how.seed + 99,
            on_bad_sample=how.on_bad_sample,
            ranks=ranks,
        )


def placed(model: nn.Module, rendering: Rendering) -> nn.Module:
    """The model itself, on its device (a GPU if there is one and no other was named) and in its memory format."""
    model = model.to(torch.device(rendering.device or ("cuda" if torch.cuda.is_available() else "cpu")))
    return model.to(memory_format=torch.channels_last) if rendering.channels_last else model


def make_optimizer(config: RunConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer that the configuration names, over all parameters."""
    if config.optimizer == "adamw":
        return torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    return torch.optim.SGD(
        model.parameters(), lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay, nesterov=True
    )
