"""A training as it stands after a step, in a file, and put back from it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..checkpoints import load_tree, random_state, restore_random_state, save_tree
from ..distributed import Ranks
from ..errors import CheckpointError, HoarfrostError
from ..freezer import Freezer
from ..freezing import held_back, undistributed
from ..seeds import mix

__all__ = ["Progress", "Tally", "Training"]


class Tally:
    """Loss and right answers of an epoch so far; read from the device only when asked."""

    def __init__(self, loss: float = 0.0, right: float = 0.0, seen: int = 0) -> None:
        self._loss: Tensor | float = loss
        self._right: Tensor | float = right
        self.seen = seen

    @classmethod
    def of_all(cls, shares: Iterable[tuple[float, float, int]]) -> Tally:
        """What the `parts` of several come to."""
        loss, right, seen = (sum(column) for column in zip(*shares, strict=True))
        return cls(loss, right, seen)

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

    @property
    def parts(self) -> tuple[float, float, int]:
        """What a tally is made of."""
        return self.loss, self.right, self.seen

    def metrics(self) -> dict[str, float]:
        return {"loss": self.loss / max(1, self.seen), "accuracy": self.right / max(1, self.seen)}


@dataclass
class Progress:
    """How far a training is: the epoch, the steps done in it, and what they came to."""

    epoch: int = 0
    step: int = 0
    tally: Tally = field(default_factory=Tally)


SAVED = ["epochs", "epoch", "step", "tally", "model", "optimizer_class", "optimizer", "schedule", "freezer", "random"]
"""What a checkpoint holds; of several ranks `tally` and `random` are those of the one that leads."""


@dataclass(frozen=True)
class Training:
    """All that steps change, and that a checkpoint puts back.

    Args:
        ranks: that train together. One writes; what each has for itself, its random state and its tally, is told it.
    """

    freezer: Freezer
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    scaler: torch.amp.GradScaler
    epochs: int
    ranks: Ranks = field(default_factory=Ranks)

    @property
    def model(self) -> nn.Module:
        """The user's own, without what reduces its gradients."""
        return undistributed(self.freezer.model)

    def save(self, checkpoint: Path, progress: Progress) -> None:
        """Write all that `resume` puts back; one Ctrl-C meanwhile is held back."""
        own: dict[str, Any] = {"tally": progress.tally.parts, "random": _told_random()}
        own, *others = self.ranks.gather("a checkpoint", own)
        if not self.ranks.leads:
            return
        tree = {
            "epochs": self.epochs,
            "epoch": progress.epoch,
            "step": progress.step,
            "tally": list(own["tally"]),
            "model": self.model.state_dict(),
            "optimizer_class": type(self.optimizer).__name__,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "freezer": self.freezer.state_dict(),
            "random": random_state(),
            "others": [{"tally": other["tally"], "random": _random_from(other["random"])} for other in others],
        }
        with held_back():
            save_tree(checkpoint, tree)

    def resume(self, checkpoint: Path | None) -> Progress:
        """Put everything back: weights, then the surgery, then what depends on the parameter groups.

        Raises:
            CheckpointError: there is no checkpoint, or it is another run's.
        """
        if checkpoint is None:
            raise CheckpointError("resume needs to know the checkpoint's path")
        saved = load_tree(checkpoint)
        with _described(checkpoint):
            self._check(checkpoint, saved)
            whole = self.freezer.batches_per_epoch
            self.model.load_state_dict(saved["model"])
            self.freezer.load_state_dict(saved["freezer"])
            try:
                self.optimizer.load_state_dict(saved["optimizer"])
            except ValueError as error:
                raise CheckpointError(f"the checkpoint {checkpoint} has other parameter groups: {error}") from error
            _check_alike("the schedule", saved["schedule"], self.schedule.state_dict())
            self.schedule.load_state_dict(saved["schedule"])
            if saved.get("scaler"):
                self.scaler.load_state_dict(saved["scaler"])
            each = [saved, *saved.get("others", [])]
            as_many = len(each) == self.ranks.world
            if not as_many:
                # An epoch has another number of steps now; of the one that is on so many are to come.
                coming = self.freezer.batches_per_epoch - saved["step"]
                self.schedule.last_epoch = (saved["epoch"] + 1) * whole - coming
            if as_many or self.ranks.leads:
                mine = each[self.ranks.rank]
                _check_alike("the random state", mine["random"]["cpu"], random_state()["cpu"])
                restore_random_state(mine["random"])
            else:
                mine = {"tally": [0.0, 0.0, 0]}
                torch.manual_seed(mix(self.freezer.seed, saved["epoch"], saved["step"], self.ranks.rank))
            loss, right, seen = mine["tally"]
            if not as_many and self.ranks.leads:
                loss, right, seen = Tally.of_all(of_rank["tally"] for of_rank in each).parts
            counts = saved["epoch"], saved["step"], seen
            if not all(type(count) is int and count >= 0 for count in counts):
                raise ValueError(f"epoch, step and samples must be counts, not {counts}")
            return Progress(saved["epoch"], saved["step"], Tally(float(loss), float(right), seen))

    def _check(self, checkpoint: Path, saved: Any) -> None:
        """Raise CheckpointError where it is no checkpoint of this run, TypeError where it is none at all."""
        if not isinstance(saved, dict):
            raise TypeError(f"a {type(saved).__name__} in place of names with values")
        if lacking := [name for name in SAVED if name not in saved]:
            raise CheckpointError(
                f"the checkpoint {checkpoint} was made by another version of Hoarfrost: it lacks {', '.join(lacking)}; "
                "go on with that version, or begin again"
            )
        if saved["epochs"] != self.epochs:
            raise CheckpointError(
                f"the checkpoint {checkpoint} belongs to a run of {saved['epochs']} epochs, this one has "
                f"{self.epochs}: the learning rate would not fit"
            )
        _check_names(checkpoint, saved["model"], self.model)
        mine = type(self.optimizer).__name__
        if saved["optimizer_class"] != mine:
            # Torch would take the state, and fail at the first step.
            raise CheckpointError(f"the checkpoint {checkpoint} was made with {saved['optimizer_class']}, not {mine}")


def _told_random() -> dict[str, str]:
    """The random state as it is told: words are JSON."""
    return {name: state.numpy().tobytes().hex() for name, state in random_state().items()}


def _random_from(told: dict[str, str]) -> dict[str, Tensor]:
    return {name: torch.frombuffer(bytearray.fromhex(state), dtype=torch.uint8) for name, state in told.items()}


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
