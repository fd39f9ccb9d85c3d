"""A training as it stands after a step, in a file, and put back from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CheckpointError
from ..freezer import Freezer
from ..freezing import held_back
from .checkpoints import load_tree, random_state, restore_random_state, save_tree

__all__ = ["Progress", "Tally", "resume_training", "save_training"]


class Tally:
    """Loss and right answers of an epoch so far; read from the device only when asked."""

    def __init__(self, loss: float = 0.0, right: float = 0.0, seen: int = 0) -> None:
        self._loss: Tensor | float = loss
        self._right: Tensor | float = right
        self.seen = seen

    def add(self, loss: Tensor, output: Any, targets: Tensor) -> None:
        count = len(targets)
        self._loss = self._loss + loss.detach().double() * count
        if isinstance(output, Tensor) and output.dim() == 2 and targets.dim() in (1, 2):
            # Of mixed samples the label counts that most of the sample has.
            labels = targets if targets.dim() == 1 else targets.argmax(1)
            self._right = self._right + (output.detach().argmax(1) == labels).sum()
        self.seen += count

    @property
    def loss(self) -> float:
        return float(self._loss)

    @property
    def right(self) -> float:
        return float(self._right)

    def metrics(self) -> dict[str, float]:
        return {"loss": self.loss / max(1, self.seen), "accuracy": self.right / max(1, self.seen)}


@dataclass
class Progress:
    """How far a training is: the epoch, the steps done in it, and what they came to."""

    epoch: int = 0
    step: int = 0
    tally: Tally = field(default_factory=Tally)


def save_training(
    checkpoint: Path,
    progress: Progress,
    freezer: Freezer,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    scaler: torch.amp.GradScaler,
    epochs: int,
) -> None:
    """Write all that `resume_training` puts back; one Ctrl-C meanwhile is held back."""
    tree = {
        "epochs": epochs,
        "epoch": progress.epoch,
        "step": progress.step,
        "tally": [progress.tally.loss, progress.tally.right, progress.tally.seen],
        "model": freezer.model.state_dict(),
        "optimizer_class": type(optimizer).__name__,
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "scaler": scaler.state_dict(),
        "freezer": freezer.state_dict(),
        "random": random_state(),
    }
    with held_back():
        save_tree(checkpoint, tree)


SAVED = ["epochs", "epoch", "step", "tally", "model", "optimizer_class", "optimizer", "schedule", "freezer", "random"]
"""What a checkpoint holds."""


def resume_training(
    checkpoint: Path | None,
    freezer: Freezer,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    scaler: torch.amp.GradScaler,
    epochs: int,
) -> Progress:
    """Put everything back: weights, then the surgery, then what depends on the parameter groups.

    Raises:
        CheckpointError: there is no checkpoint, or it is another run's.
    """
    if checkpoint is None:
        raise CheckpointError("resume needs to know the checkpoint's path")
    saved = load_tree(checkpoint)
    if lacking := [name for name in SAVED if name not in saved]:
        raise CheckpointError(
            f"the checkpoint {checkpoint} was made by another version of Hoarfrost: it lacks {', '.join(lacking)}; "
            "go on with that version, or begin again"
        )
    if saved["epochs"] != epochs:
        raise CheckpointError(
            f"the checkpoint {checkpoint} belongs to a run of {saved['epochs']} epochs, this one has {epochs}: "
            "the learning rate would not fit"
        )
    _check_names(checkpoint, saved["model"], freezer.model)
    mine = type(optimizer).__name__
    if saved["optimizer_class"] != mine:
        # Torch would take the state, and fail at the first step.
        raise CheckpointError(f"the checkpoint {checkpoint} was made with {saved['optimizer_class']}, not {mine}")
    freezer.model.load_state_dict(saved["model"])
    freezer.load_state_dict(saved["freezer"])
    try:
        optimizer.load_state_dict(saved["optimizer"])
    except ValueError as error:
        raise CheckpointError(f"the checkpoint {checkpoint} has other parameter groups: {error}") from error
    schedule.load_state_dict(saved["schedule"])
    if saved.get("scaler"):
        scaler.load_state_dict(saved["scaler"])
    restore_random_state(saved["random"])
    return Progress(saved["epoch"], saved["step"], Tally(*saved["tally"]))


def _check_names(checkpoint: Path, saved: dict[str, Tensor], model: nn.Module) -> None:
    """Raise CheckpointError for the first weight that the model does not have, or has in another shape."""
    mine = model.state_dict()
    for name in [*saved, *mine]:
        if name not in mine or name not in saved:
            where = "the checkpoint" if name in saved else "this model"
            raise CheckpointError(f"the checkpoint {checkpoint} is another model's: only {where} has {name!r}")
        if saved[name].shape != mine[name].shape:
            raise CheckpointError(
                f"the checkpoint {checkpoint} is another model's: {name!r} has the shape {list(saved[name].shape)}, "
                f"in this model {list(mine[name].shape)}"
            )
