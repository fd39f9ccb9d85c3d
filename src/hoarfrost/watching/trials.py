"""Whether a freeze hurts, before it is done: the next steps on copies of the model, frozen and not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..codecs import evaluating
from ..cuts import Cut, Example, InTraining, Precision, called, deep_copied, divide, first_tensor, set_apart
from ..freezing import estimate_statistics, freeze
from .hooks import cuda_devices
from .training_loss import TrainingLoss

__all__ = ["Trial", "trial"]

Batch = tuple[Example, Tensor | None]


@dataclass(frozen=True)
class Trial:
    """The same few steps on a copy of the model, once with all training that trains, once with more frozen.

    Attributes:
        steps: that each of both took.
        before, free, frozen: mean loss on images that these steps did not show, before and behind them.
        error: standard error of `frozen - free`, image by image, or batch by batch where the loss is of a batch alone.
    """

    steps: int
    before: float
    free: float
    frozen: float
    error: float

    def hurts(self, share: float) -> bool:
        """Whether the frozen model learned less than the other would have in its time, by two standard errors.

        Args:
            share: of the time of a step that a step takes with the front frozen.
        """
        return self.before - self.frozen + 2 * self.error < share * max(0.0, self.before - self.free)


def trial(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    cut: Cut,
    example: Example,
    batches: Sequence[Batch],
    held: Sequence[Batch],
    loss: TrainingLoss,
    precision: Precision | None = None,
) -> Trial:
    """Train two copies of model and optimizer on `batches`, one of them frozen up to `cut`, and compare them on `held`.

    The front's batch norms have their statistics estimated on the same batches, before
    the steps, and where it is not frozen behind them too.
    Neither the model nor its optimizer nor the random state is touched.

    Args:
        example: a few images, as cuts are found on.
        batches: inputs and targets of the steps.
        held: inputs and targets that the steps do not show.
        loss: that the steps descend.
        precision: of model and loss; None: what is around this call. Gradients in float16 are scaled.
    """
    precision = precision or Precision.around(first_tensor(example).device)
    devices = cuda_devices(example)
    found = []
    with torch.random.fork_rng(devices=devices):
        for frozen in (False, True):
            with torch.random.fork_rng(devices=devices):
                found.append(_before_and_behind(model, optimizer, cut, frozen, example, batches, held, loss, precision))
    (before, free), (_, stiff) = found
    error = (stiff - free).std() if len(free) > 1 else torch.tensor(0.0)
    return Trial(
        steps=len(batches),
        before=before.mean().item(),
        free=free.mean().item(),
        frozen=stiff.mean().item(),
        error=error.item() / len(free) ** 0.5,
    )


def _before_and_behind(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    cut: Cut,
    frozen: bool,
    example: Example,
    batches: Sequence[Batch],
    held: Sequence[Batch],
    loss: TrainingLoss,
    precision: Precision,
) -> tuple[Tensor, Tensor]:
    """The losses of `held` before these steps and behind them, [N] each."""
    # Together: the copied optimizer then holds the copied parameters, and their state.
    duplicate, steps = deep_copied(model, optimizer)
    steps.__dict__.pop("step", None)  # a scheduler's counting stand-in is bound to the original
    asleep = [module for module in duplicate.modules() if module.__dict__.pop("train", None) is not None]
    set_apart(duplicate, model)
    duplicate.train()
    for module in asleep:
        module.training = False
    with precision.autocast():
        prefix, _ = divide(duplicate, cut, example, verify=False)
    sleeping = {id(module) for module in asleep}
    known = [name for name, module in duplicate.named_modules() if id(module) in sleeping]

    def estimate() -> None:
        with precision.autocast():
            estimate_statistics(prefix, (inputs for inputs, _ in batches), known)

    estimate()
    before = _losses(duplicate, held, loss, precision)
    if frozen:
        freeze(duplicate, prefix, steps)
    scaler = torch.amp.GradScaler(precision.device, enabled=precision.dtype == torch.float16)
    with torch.enable_grad():
        for inputs, targets in batches:
            steps.zero_grad()
            with precision.autocast():
                descended = loss.batch(called(duplicate, inputs), targets)
            torch.autograd.backward(scaler.scale(descended))
            scaler.step(steps)
            scaler.update()
    if not frozen:
        estimate()
    return before, _losses(duplicate, held, loss, precision)


def _losses(model: nn.Module, held: Sequence[Batch], loss: TrainingLoss, precision: Precision) -> Tensor:
    """Of each image, [N], or of each batch."""
    judged = InTraining(model) if loss.in_training else model
    with evaluating(judged), precision.autocast():
        losses = [loss.each(called(judged, inputs), targets).double().cpu() for inputs, targets in held]
    return torch.cat(losses)
