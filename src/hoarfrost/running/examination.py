"""How well a model does on a data set."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from ..distributed import Ranks
from ..samples import Samples

__all__ = ["Examination", "scores"]

KEPT_BYTES = 256 * 2**20
"""Rendered test images are kept in memory up to this size."""


class Examination:
    """Loss and accuracy of a model on a data set, always on the same renditions.

    Args:
        transform: a random one gives one fixed rendition of each sample, drawn from `seed`.
        ranks: share the samples; each has the figures of all.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        transform: Callable[[Any], Any] | None,
        *,
        seed: int = 99,
        batch_size: int = 256,
        channels_last: bool = False,
        workers: int = 0,
        on_bad_sample: str = "error",
        ranks: Ranks | None = None,
    ) -> None:
        self._samples = Samples(dataset, transform, workers, on_bad_sample=on_bad_sample)
        self._draw = self._samples.pipeline.draw(len(self._samples), seed)
        self._ranks = ranks or Ranks()
        groups = torch.split(torch.arange(len(self._samples)), batch_size)
        self._groups = list(groups[self._ranks.rank :: self._ranks.world])
        self._channels_last = channels_last
        self._kept: list[tuple[Tensor, Tensor]] | None = None

    def __call__(self, model: nn.Module) -> dict[str, float]:
        """{"loss", "accuracy"}: mean cross-entropy in nats, and the share of right answers from 0 to 1.

        The model is in eval meanwhile; its modules' flags are put back.
        """
        device = next((p.device for p in model.parameters()), torch.device("cpu"))

        def placed() -> Iterator[tuple[Tensor, Tensor]]:
            for images, targets in self._batches():
                images = images.to(device)
                if self._channels_last:
                    images = images.contiguous(memory_format=torch.channels_last)
                yield images, targets.to(device)

        shares = self._ranks.gather("an evaluation", _each(model, model, placed()))
        # In the order of the samples: the sums have the bits of one process.
        return _figures(one for turn in itertools.zip_longest(*shares) for one in turn if one is not None)

    def close(self) -> None:
        """Give the data set its transform back."""
        self._samples.close()

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        if self._kept is not None:
            yield from self._kept
            return
        kept, size = [], 0
        for images, targets in self._samples.batches(self._groups, self._draw):
            size += images.nbytes
            if size <= KEPT_BYTES:
                kept.append((images, targets))
            yield images, targets
        if size <= KEPT_BYTES:
            self._kept = kept


def scores(
    model: nn.Module, answer: Callable[[Any], Tensor], batches: Iterable[tuple[Any, Tensor]]
) -> dict[str, float]:
    """{"loss", "accuracy"} of what `answer` says to batches of (inputs, targets [B]).

    Mean cross-entropy in nats, and the share of right answers from 0 to 1.

    Args:
        model: is in eval meanwhile; its modules' flags are put back.
    """
    return _figures(_each(model, answer, batches))


@torch.no_grad()
def _each(
    model: nn.Module, answer: Callable[[Any], Tensor], batches: Iterable[tuple[Any, Tensor]]
) -> list[tuple[float, int, int]]:
    """Of each batch the sum of its losses, the right answers, and the samples."""
    flags = {module: module.training for module in model.modules()}
    model.eval()
    each = []
    try:
        for inputs, targets in batches:
            logits = answer(inputs)
            logits = logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
            loss = float(F.cross_entropy(logits, targets, reduction="sum"))
            each.append((loss, int((logits.argmax(1) == targets).sum()), len(targets)))
    finally:
        for module, flag in flags.items():
            module.training = flag
    return each


def _figures(each: Iterable[Sequence[float]]) -> dict[str, float]:
    loss, right, seen = 0.0, 0.0, 0.0
    for of_batch in each:
        loss, right, seen = loss + of_batch[0], right + of_batch[1], seen + of_batch[2]
    return {"loss": loss / seen, "accuracy": right / seen}
