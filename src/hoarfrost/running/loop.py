"""The reference loop: what a careful user would write around a Freezer, with checkpoints and exact resume."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..distributed import Ranks
from ..freezer import Freezer
from .learning_rate import cosine
from .resuming import Progress, Tally, Training

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
    on_begin: Callable[[], None] = lambda: None,
    on_step: Callable[[int, int], None] | None = None,
    ranks: Ranks | None = None,
) -> bool:
    """Train `freezer.model` for `epochs` epochs, or on from its checkpoint.

    Forward pass and loss run under the freezer's `precision`, gradients in float16 are scaled.

    A run that was killed and resumed ends with the weights of one that was not: the checkpoint holds weights,
    optimizer, rate, random state, all that the freezer decided, and the place within the epoch.

    In several processes all call it, with the model wrapped in DistributedDataParallel: loss and accuracy are those of
    all of them, one writes the checkpoint, and all stop behind the step at which one was told to.

    Args:
        rate: share of the peak learning rate at a share of the training; None: `cosine()`.
        evaluate: its values go into the records as `test_...`.
        evaluate_every: epochs from one evaluation to the next; the last epoch is always evaluated.
        checkpoint: written before the first epoch and at the end of each, before what was decided is done, and where
            `stop` breaks the epoch off.
        stop: asked after every step; True leaves a checkpoint and returns.
        ranks: that train together; None: those of torch's process group, if there is one.
        on_begin: called before anything is told, once a checkpoint is put back.
        on_step: called with the number of steps done in this epoch, and of those there are.

    Returns:
        True if all epochs ran, False if `stop` broke them off.

    Raises:
        CheckpointError: resume without a checkpoint, or with another run's.
    """
    ranks = ranks or Ranks.now()
    steps = freezer.batches_per_epoch
    shape = rate or cosine()
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: shape(done / (epochs * steps)))
    scaler = torch.amp.GradScaler(freezer.device.type, enabled=freezer.precision == "fp16")
    training = Training(freezer, optimizer, schedule, scaler, epochs, ranks)
    progress = Progress()
    if resume:
        progress = training.resume(checkpoint)
    on_begin()
    if resume:
        if freezer.listener is not None and progress.epoch < epochs:
            freezer.listener({"event": "resume", "epoch": progress.epoch, "step": progress.step})
    elif checkpoint is not None:
        freezer.decide()
        training.save(checkpoint, progress)
    told = len(freezer.history)
    flops: dict[tuple[int, str], int] = {}
    while progress.epoch < epochs:
        freezer.model.train()
        given = freezer.batches_per_epoch
        for inputs, targets in freezer.batches(progress.epoch, progress.step):
            with ranks.exchanging(f"step {progress.step + 1} of epoch {progress.epoch + 1}"):
                with freezer.autocast():
                    output = freezer(inputs)
                    loss = criterion(output, targets)
                optimizer.zero_grad()
                scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
                scaler.step(optimizer)
            scaler.update()
            schedule.step()
            progress.step += 1
            progress.tally.add(loss, output, targets)
            if on_step is not None:
                on_step(progress.step, given)
            if ranks.at_once("whether to stop", stop()):
                if checkpoint is not None:
                    training.save(checkpoint, progress)
                return False
        tally, told = _of_all(ranks, progress.tally, freezer.history[told:], freezer.listener), len(freezer.history)
        # Each has kept statistics of its own share since the last step, and what is evaluated and saved is one model.
        ranks.same(training.model.buffers())
        state = freezer.depth, freezer.source
        if state not in flops:
            flops[state] = freezer.step_flops()
        metrics = {**tally.metrics(), "train_flops": flops[state] * tally.seen}
        done = progress.epoch + 1
        if evaluate is not None and (done % evaluate_every == 0 or done == epochs):
            with freezer.autocast():
                metrics |= {f"test_{name}": value for name, value in evaluate(training.model).items()}
        freezer.end_epoch(metrics)
        progress = Progress(done)
        if checkpoint is not None:
            training.save(checkpoint, progress)
    return True


def _of_all(
    ranks: Ranks,
    tally: Tally,
    records: Sequence[dict[str, Any]],
    listener: Callable[[dict[str, Any]], None] | None,
) -> Tally:
    """What an epoch came to on all ranks; the listener hears what the others have healed in it."""
    healed = [] if ranks.leads else [record for record in records if record["event"] == "heal"]
    own: dict[str, Any] = {"tally": tally.parts, "healed": healed}
    shares = ranks.gather("an epoch", own)
    for rank, share in enumerate(shares):
        for record in share["healed"]:
            if listener is not None:
                listener({**record, "rank": rank})
    return Tally.of_all(share["tally"] for share in shares)
