"""The reference loop: what a careful user would write around a Freezer, with checkpoints and exact resume."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from ..errors import ArgumentError, CheckpointError
from ..freezer import Freezer
from .checkpoints import load_tree, random_state, restore_random_state, save_tree

__all__ = ["cosine", "fit", "held_back", "interruptible"]

SIGNALS = signal.SIGINT, signal.SIGTERM


def cosine(warmup: float = 0.15) -> Callable[[float], float]:
    """The share of the peak rate at a share of the training: a linear rise, then half a cosine down to zero."""

    def rate(done: float) -> float:
        if done < warmup:
            return done / warmup
        return 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))

    return rate


@contextmanager
def interruptible(heard: Callable[[], None] | None = None) -> Iterator[Callable[[], bool]]:
    """Turns the first Ctrl-C (or SIGTERM) into a question that the loop asks between two steps.

    A second one interrupts at once. Outside the main thread nothing is caught.

    Args:
        heard: called at the first one, in the signal handler.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        if heard is not None:
            heard()

    previous = {number: signal.signal(number, ask) for number in SIGNALS}
    try:
        yield lambda: asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def held_back() -> Iterator[None]:
    """Holds back one Ctrl-C (or SIGTERM) until the block ends, so that what it writes is written; a second one passes.

    Outside the main thread nothing is caught.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        held.append(number)
        if len(held) > 1:
            let_through()

    def let_through() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)
        while held:
            signal.raise_signal(held.pop(0))

    previous = {number: signal.signal(number, hold) for number in SIGNALS}
    try:
        yield
    finally:
        let_through()


def fit(
    freezer: Freezer,
    optimizer: torch.optim.Optimizer,
    *,
    epochs: int,
    rate: Callable[[float], float] | None = None,
    criterion: Callable[[Any, Tensor], Tensor] = F.cross_entropy,
    evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
    evaluate_every: int = 1,
    checkpoint: Path | None = None,
    resume: bool = False,
    stop: Callable[[], bool] = lambda: False,
    on_step: Callable[[int, int], None] | None = None,
    accelerator: Accelerator | None = None,
) -> bool:
    """Train `freezer.model` for `epochs` epochs, or on from its checkpoint.

    A run that was killed and resumed ends with the weights of one that was not: the checkpoint holds weights,
    optimizer, rate, random state, freeze depth, and the place within the epoch.

    Args:
        rate: share of the peak learning rate at a share of the training; None: `cosine()`.
        evaluate: its values go into the records as `test_...`.
        evaluate_every: epochs from one evaluation to the next; the last epoch is always evaluated.
        checkpoint: written at the end of each epoch, and where `stop` breaks the epoch off.
        stop: asked after every step; True leaves a checkpoint and returns.
        on_step: called with the number of steps done in this epoch, and of those there are.

    Returns:
        True if all epochs ran, False if `stop` broke them off.

    Raises:
        CheckpointError: resume without a checkpoint, or with another run's.
    """
    accelerator = accelerator or Accelerator(cpu=freezer.device.type == "cpu")
    if accelerator.num_processes > 1:
        raise ArgumentError("this release trains in one process; start it without a distributed launcher")
    steps = freezer.batches_per_epoch
    shape = rate or cosine()
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: shape(done / (epochs * steps)))
    epoch, step, tally = 0, 0, Tally()
    if resume:
        epoch, step, tally = _resume(checkpoint, freezer, optimizer, schedule, epochs)
        if freezer.listener is not None and epoch < epochs:
            freezer.listener({"event": "resume", "epoch": epoch, "step": step})

    def save() -> None:
        if checkpoint is None:
            return
        tree = {
            "epochs": epochs,
            "epoch": epoch,
            "step": step,
            "tally": [tally.loss, tally.right, tally.seen],
            "model": freezer.model.state_dict(),
            "optimizer_class": type(optimizer).__name__,
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
            "freezer": freezer.state_dict(),
            "random": random_state(),
        }
        with held_back():
            save_tree(checkpoint, tree)

    flops: dict[tuple[int, str], int] = {}
    while epoch < epochs:
        freezer.model.train()
        for inputs, targets in freezer.batches(epoch, step):
            output = freezer(inputs)
            loss = criterion(output, targets)
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
            schedule.step()
            step += 1
            tally.add(loss, output, targets)
            if on_step is not None:
                on_step(step, steps)
            if stop():
                save()
                return False
        state = freezer.depth, freezer.source
        if state not in flops:
            flops[state] = freezer.step_flops()
        metrics = {**tally.metrics(), "train_flops": flops[state] * tally.seen}
        if evaluate is not None and ((epoch + 1) % evaluate_every == 0 or epoch + 1 == epochs):
            metrics |= {f"test_{name}": value for name, value in evaluate(freezer.model).items()}
        freezer.end_epoch(metrics)
        epoch, step, tally = epoch + 1, 0, Tally()
        save()
    return True


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


SAVED = ["epochs", "epoch", "step", "tally", "model", "optimizer_class", "optimizer", "schedule", "freezer", "random"]
"""What a checkpoint holds."""


def _resume(
    checkpoint: Path | None, freezer: Freezer, optimizer: torch.optim.Optimizer, schedule: Any, epochs: int
) -> tuple[int, int, Tally]:
    """Put everything back: weights, then the surgery, then what depends on the parameter groups."""
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
    restore_random_state(saved["random"])
    return saved["epoch"], saved["step"], Tally(*saved["tally"])


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
