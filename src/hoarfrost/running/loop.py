"""The reference loop: what a careful user would write around a Freezer, with checkpoints and exact resume."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ArgumentError
from ..freezer import Freezer
from .learning_rate import cosine
from .resuming import Progress, resume_training, save_training

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["fit"]


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

    Forward pass and loss run under the freezer's `precision`, gradients in float16 are scaled.

    A run that was killed and resumed ends with the weights of one that was not: the checkpoint holds weights,
    optimizer, rate, random state, all that the freezer decided, and the place within the epoch.

    Args:
        rate: share of the peak learning rate at a share of the training; None: `cosine()`.
        evaluate: its values go into the records as `test_...`.
        evaluate_every: epochs from one evaluation to the next; the last epoch is always evaluated.
        checkpoint: written before the first epoch and at the end of each, before what was decided is done, and where
            `stop` breaks the epoch off.
        stop: asked after every step; True leaves a checkpoint and returns.
        on_step: called with the number of steps done in this epoch, and of those there are.

    Returns:
        True if all epochs ran, False if `stop` broke them off.

    Raises:
        CheckpointError: resume without a checkpoint, or with another run's.
    """
    # Kept for those who train: it alone takes longer to import than torch.
    from accelerate import Accelerator

    accelerator = accelerator or Accelerator(cpu=freezer.device.type == "cpu")
    if accelerator.num_processes > 1:
        raise ArgumentError(
            "the command's loop trains in one process: start it without a distributed launcher, or write a loop of "
            "your own around a Freezer, which trains in several"
        )
    steps = freezer.batches_per_epoch
    shape = rate or cosine()
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: shape(done / (epochs * steps)))
    scaler = torch.amp.GradScaler(freezer.device.type, enabled=freezer.precision == "fp16")
    progress = Progress()
    if resume:
        progress = resume_training(checkpoint, freezer, optimizer, schedule, scaler, epochs)
        if freezer.listener is not None and progress.epoch < epochs:
            freezer.listener({"event": "resume", "epoch": progress.epoch, "step": progress.step})

    def save() -> None:
        if checkpoint is not None:
            save_training(checkpoint, progress, freezer, optimizer, schedule, scaler, epochs)

    if checkpoint is not None and not resume:
        freezer.decide()
        save()
    flops: dict[tuple[int, str], int] = {}
    while progress.epoch < epochs:
        freezer.model.train()
        for inputs, targets in freezer.batches(progress.epoch, progress.step):
            with freezer.autocast():
                output = freezer(inputs)
                loss = criterion(output, targets)
            optimizer.zero_grad()
            accelerator.backward(scaler.scale(loss))
            scaler.step(optimizer)
            scaler.update()
            schedule.step()
            progress.step += 1
            progress.tally.add(loss, output, targets)
            if on_step is not None:
                on_step(progress.step, steps)
            if stop():
                save()
                return False
        state = freezer.depth, freezer.source
        if state not in flops:
            flops[state] = freezer.step_flops()
        metrics = {**progress.tally.metrics(), "train_flops": flops[state] * progress.tally.seen}
        done = progress.epoch + 1
        if evaluate is not None and (done % evaluate_every == 0 or done == epochs):
            with freezer.autocast():
                metrics |= {f"test_{name}": value for name, value in evaluate(freezer.model).items()}
        freezer.end_epoch(metrics)
        progress = Progress(done)
        save()
    return True
