"""What a model's outputs are for, and so how far changed outputs are from exact ones, in nats."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from .outputs import output_of

__all__ = ["Classes", "Labels", "OwnLoss", "Task", "Values", "channels_of"]

TINY = torch.finfo(torch.float64).tiny


class Task(ABC):
    """How a change of a model's outputs is judged.

    All are of one unit, so that one tolerance serves: the Kullback-Leibler divergence, in nats, between what the
    outputs say before and after, where they are the parameters of a distribution, and its like where they are not.
    """

    name: ClassVar[str]
    described: ClassVar[str]
    """For the decision in the record of a freeze."""
    gradients: ClassVar[bool] = False
    """Whether what is observed of a batch needs autograd."""

    def observe(self, outputs: Any, features: Tensor, rows: slice) -> Tensor:
        """What is kept of a batch of outputs for `divergence`.

        Args:
            features: that they were made from; a leaf of autograd with `gradients`.
            rows: of the calibration sample. Those of a further view of it lie behind the first's.
        """
        return output_of(outputs)

    @abstractmethod
    def divergence(self, exact: Sequence[Tensor], shown: Sequence[Tensor]) -> float:
        """From what was observed of the batches with exact features to the same with others."""

    @abstractmethod
    def score(self, outputs: Any, generator: Generator, rows: slice) -> Tensor:
        """A scalar whose gradient g is such that an error d of the features diverges by E[<g, d>^2] / 2.

        That is to second order, where the outputs are the parameters of a distribution: the scalar is then the
        log-likelihood of targets drawn from it, and the mean the Fisher approximation.
        """


@dataclass(frozen=True, eq=False)
class Classes(Task):
    """Scores of classes, as a cross entropy takes them: the divergence of their softmax, mean over positions.

    A classifier that has not learned yet gives nearly equal scores, and nothing diverges, whatever is done to the
    features that it is going to need. So the scores may be judged as values too: once they have learned, that is the
    milder.

    Attributes:
        axis: of the classes; 1, or -1 for a score of each token, [N, T, K].
        valid: [N, ...], the positions that have a class, where some have none.
        scores: as values, if they are judged as such too; the stricter counts.
    """

    axis: int = 1
    valid: Tensor | None = None
    scores: Values | None = None
    name = "classes"
    described = "harm is the divergence of the class scores"

    def divergence(self, exact: Sequence[Tensor], shown: Sequence[Tensor]) -> float:
        p, q = (torch.cat(list(outputs)).double().log_softmax(self.axis) for outputs in (exact, shown))
        each = (p.exp() * (p - q)).sum(self.axis)
        if self.valid is not None:
            each = each[_of(self.valid, slice(0, len(each))).to(each.device)]
        return _stricter(float(each.mean()), self.scores, self.columns(p), self.columns(q))

    def columns(self, scores: Tensor) -> Tensor:
        """[M, K], of all positions; classes scored alike are 0, since only differences of scores count."""
        columns = scores.movedim(self.axis, -1).flatten(0, -2)
        return columns - columns.mean(1, keepdim=True)

    def score(self, outputs: Any, generator: Generator, rows: slice) -> Tensor:
        log_likelihood = output_of(outputs).float().log_softmax(self.axis)
        columns = log_likelihood.movedim(self.axis, -1).flatten(0, -2)
        classes = torch.multinomial(columns.detach().exp().cpu(), 1, generator=generator)
        drawn = columns.gather(1, classes.to(columns.device))
        if self.valid is not None:
            drawn = drawn[_of(self.valid, rows).flatten().to(drawn.device)]
        return _over_positions(drawn.sum(), len(columns) // len(log_likelihood))


@dataclass(frozen=True, eq=False)
class Labels(Task):
    """Scores of labels of which any number may hold: the divergence of each one's sigmoid, their sum.

    That is the divergence of all labels together. Of several positions it is the mean.

    Attributes:
        scores: as for `Classes`.
    """

    scores: Values | None = None
    name = "labels"
    described = "harm is the divergence of the labels, each by itself"

    def divergence(self, exact: Sequence[Tensor], shown: Sequence[Tensor]) -> float:
        p, q = (channels_of(torch.cat(list(outputs))).double() for outputs in (exact, shown))
        held = p.sigmoid() * (F.logsigmoid(p) - F.logsigmoid(q))
        other = (-p).sigmoid() * (F.logsigmoid(-p) - F.logsigmoid(-q))
        return _stricter(float((held + other).sum(-1).mean()), self.scores, p, q)

    def score(self, outputs: Any, generator: Generator, rows: slice) -> Tensor:
        scores = channels_of(output_of(outputs)).float()
        drawn = torch.bernoulli(scores.detach().sigmoid().cpu(), generator=generator).to(scores.device)
        log_likelihood = -F.binary_cross_entropy_with_logits(scores, drawn, reduction="sum")
        return _over_positions(log_likelihood, scores[0].numel() // scores.shape[-1])


@dataclass(frozen=True, eq=False)
class Values(Task):
    """Any other outputs: half of the squared error of each relative to its variance, mean over outputs.

    That is the divergence between Gaussians of this variance around the exact and the changed output.

    Attributes:
        variance: [K], of each output over the sample, or of what it leaves to the target, where that is less.
    """

    variance: Tensor
    name = "values"
    described = "harm is the squared error of the outputs relative to their variance, halved"

    @classmethod
    def of(cls, outputs: Tensor, targets: Tensor | None = None) -> Values:
        """Measured on a sample.

        Args:
            targets: [N, ...] of the outputs' shape.
        """
        values = channels_of(outputs.double()).flatten(0, -2)
        # What an output that does not vary has of variance is rounding.
        least = (1e-5 * values).square().mean(0)
        variance = values.var(0, correction=0)
        if targets is not None:
            left = (channels_of(targets.double().to(outputs.device)).flatten(0, -2) - values).square().mean(0)
            variance = torch.minimum(variance, left)
        return cls(torch.maximum(variance, least))

    def divergence(self, exact: Sequence[Tensor], shown: Sequence[Tensor]) -> float:
        e, s = (channels_of(torch.cat(list(outputs)).double()) for outputs in (exact, shown))
        error = (s - e).square().flatten(0, -2).mean(0)
        return float((error / self.variance.to(error.device).clamp(min=TINY)).mean()) / 2

    def score(self, outputs: Any, generator: Generator, rows: slice) -> Tensor:
        values = channels_of(output_of(outputs))
        noise = torch.randn(values.shape, generator=generator).to(values)
        each = (self.variance.clamp(min=TINY).rsqrt() / values.shape[-1] ** 0.5).to(values)
        return _over_positions((values * noise * each).sum(), values[0].numel() // values.shape[-1])


@dataclass(frozen=True, eq=False)
class OwnLoss(Task):
    """A loss of which no more is known: the change of it and of its gradient at the features, whichever is stricter.

    A loss has a unit of its own, and ten times the loss at a tenth of the rate is the same training: only its change
    relative to itself can be held against a tolerance. The gradient is what the suffix is trained by, and does not
    depend on what a loss is counted from; the loss tells of a shift that the gradient does not see. Both are halved:
    for a mean squared error they are then, to second order, the divergence between Gaussians as wide as what is left to
    the targets, which is what `Values` measures.

    Attributes:
        loss: (what the suffix gives, targets) -> a scalar, or a loss for each sample.
        targets: [N, ...] of the calibration sample, or None.
    """

    loss: Callable[[Any, Any], Tensor]
    targets: Tensor | None = None
    name = "loss"
    described = "harm is the change of the loss, or of its gradient at the features, relative to itself and halved"
    gradients = True

    def observe(self, outputs: Any, features: Tensor, rows: slice) -> Tensor:
        """[1 + n]: the loss of the batch, and its gradient at the features."""
        loss = self._of(outputs, rows)
        if not loss.requires_grad:
            return loss.detach().reshape(1).float().cpu()
        (gradient,) = torch.autograd.grad(loss, features, allow_unused=True)
        gradient = torch.zeros_like(features) if gradient is None else gradient
        return torch.cat([part.detach().flatten().float().cpu() for part in (loss, gradient)])

    def divergence(self, exact: Sequence[Tensor], shown: Sequence[Tensor]) -> float:
        losses, changed = (torch.stack([batch[0] for batch in batches]).double() for batches in (exact, shown))
        loss = float((changed - losses).sum().abs()) / max(float(losses.abs().sum()), TINY)
        error = sum(float((s[1:] - e[1:]).double().square().sum()) for e, s in zip(exact, shown, strict=True))
        slope = sum(float(e[1:].double().square().sum()) for e in exact)
        return max(loss, error / max(slope, TINY)) / 2

    def score(self, outputs: Any, generator: Generator, rows: slice) -> Tensor:
        return self._of(outputs, rows)

    def _of(self, outputs: Any, rows: slice) -> Tensor:
        loss = self.loss(outputs, None if self.targets is None else _of(self.targets, rows))
        return loss if loss.dim() == 0 else loss.mean()


def _stricter(divergence: float, scores: Values | None, exact: Tensor, shown: Tensor) -> float:
    return divergence if scores is None else max(divergence, scores.divergence([exact], [shown]))


def channels_of(outputs: Tensor) -> Tensor:
    """Outputs with their channels last: those of axis 1 where positions follow ([N, C, H, W]), else the last axis."""
    if outputs.dim() < 2:
        return outputs.reshape(-1, 1)
    return outputs.movedim(1, -1) if outputs.dim() > 3 else outputs


def _of(targets: Tensor, rows: slice) -> Tensor:
    """Those of some rows; the rows of a further view of a sample follow those of the first, and have the same."""
    return targets[torch.arange(rows.start, rows.stop, device=targets.device) % len(targets)]


def _over_positions(total: Tensor, positions: int) -> Tensor:
    """A sum over positions drawn each by itself, such that its square has the mean of their squares."""
    return total / positions**0.5 if positions > 1 else total
