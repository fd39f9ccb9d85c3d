"""A training as it stands after a step, in a file, and put back from it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoints import load_tree, random_state, restore_random_state, save_tree
from ..errors import CheckpointError, HoarfrostError
from ..freezer import Freezer
from ..freezing import held_back

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
    with _described(checkpoint):
        if not isinstance(saved, dict):
            raise TypeError(f"a {type(saved).__name__} in place of names with values")
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
        _check_alike("the schedule", saved["schedule"], schedule.state_dict())
        schedule.load_state_dict(saved["schedule"])
        if saved.get("scaler"):
            scaler.load_state_dict(saved["scaler"])
        _check_alike("the random state", saved["random"]["cpu"], random_state()["cpu"])
        restore_random_state(saved["random"])
        loss, right, seen = saved["tally"]
        counts = saved["epoch"], saved["step"], seen
        if not all(type(count) is int and count >= 0 for count in counts):
            raise ValueError(f"epoch, step and samples must be counts, not {counts}")
        return Progress(saved["epoch"], saved["step"], Tally(float(loss), float(right), seen))


@contextmanager
def _described(checkpoint: Path) -> Iterator[None]:
    """What a stranger put into a checkpoint fails somewhere below: it is told as what it is.

    Raises:
        CheckpointError: in place of what Python raises for values of a wrong kind.
    """
    try:
        yield
    except (HoarfrostError, torch.cuda.OutOfMemoryError):
        raise
    # A tensor in the place of a plain value is a RuntimeError of torch's.
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        told = f"{type(error).__name__}: {error}"[:400]
        raise CheckpointError(
            f"the checkpoint {checkpoint} holds what no run of this version wrote ({told})"
        ) from error


def _check_alike(what: str, saved: Any, mine: Any) -> None:
    """Raise TypeError where a saved state has not the form of the one that it takes the place of."""
    if isinstance(mine, dict) and isinstance(saved, dict) and set(mine) == set(saved):
        for name in mine:
            _check_alike(f"{what}'s {name}", saved[name], mine[name])
    elif isinstance(mine, list) and isinstance(saved, list) and len(mine) == len(saved):
        for number, pair in enumerate(zip(saved, mine, strict=True)):
            _check_alike(f"{what}[{number}]", *pair)
    elif isinstance(mine, Tensor) and isinstance(saved, Tensor):
        if (saved.shape, saved.dtype) != (mine.shape, mine.dtype):
            raise TypeError(f"{what} is {saved.dtype} of shape {list(saved.shape)}")
    elif isinstance(mine, int | float) and isinstance(saved, int | float):
        if not math.isfinite(saved):
            raise ValueError(f"{what} is {saved}")
    elif mine is not None and type(mine) is not type(saved):
        raise TypeError(f"{what} is {str(saved)[:60]!r}")
    elif isinstance(mine, dict | list):
        raise TypeError(f"{what} has other parts")


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
