"""A cut put to use: a `Freezer` freezes the model there, stores features, and the rest trains on them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from hoarfrost import Cut, Freezer
from hoarfrost.cuts import tensors_in

from .entry import Example

__all__ = ["SAMPLES", "Refusal", "refusal"]

BATCH = 4
SAMPLES = 8

Refusal = tuple[str, Exception]
"""What was refused: "freezer" (by the constructor, before anything trains) or "freeze" (later); and how."""


def refusal(model: nn.Module, cut: Cut, example: Example, max_tensors: int) -> Refusal | None:
    """Freeze a copy of the model at the cut behind an epoch, and train an epoch on what was stored of a few samples.

    Args:
        example: of `SAMPLES` samples.
        max_tensors: with which the cut was offered.

    Returns:
        None where all went well.
    """
    samples = Samples(example)
    stage = "freezer"
    try:
        with Freezer(
            copy.deepcopy(model).train(),
            samples,
            batch_size=BATCH,
            epochs=2,
            policy={1: cut.label},
            mode="cache",
            max_tensors=max_tensors,
            input=samples.keys,
            collate_fn=samples.collate,
            verbose=False,
        ) as freezer:
            stage = "freeze"
            for epoch in range(2):
                for batch in freezer.batches(epoch):
                    _step(freezer, batch, unpacked=samples.keys is not None)
                freezer.end_epoch()
            if freezer.cut is None or freezer.cut.label != cut.label:
                raise RuntimeError(f"frozen up to {freezer.cut and freezer.cut.label!r}, not to {cut.label!r}")
    except Exception as error:
        return stage, error
    return None


class Samples(Dataset[Any]):
    """An example of many samples, one by one; and batches of them, put together as the example is."""

    def __init__(self, example: Example) -> None:
        self.example = example
        self.keys: Any = None if isinstance(example, Tensor) else tuple(self._entries)

    @property
    def _entries(self) -> dict[Any, Any]:
        if isinstance(self.example, dict):
            return self.example
        return dict(enumerate(self.example if isinstance(self.example, tuple) else (self.example,)))

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, number: int) -> Any:
        # What is not for each sample, a flag say, every sample has.
        return self._like({k: v[number] if isinstance(v, (Tensor, list)) else v for k, v in self._entries.items()})

    def collate(self, items: Sequence[Any]) -> Any:
        """What the model takes."""
        entries = [item if isinstance(item, dict) else dict(enumerate(item)) for item in items] if self.keys else []
        if not entries:
            return torch.stack(list(items))
        joined: dict[type, Callable[[list[Any]], Any]] = {list: list, Tensor: torch.stack}
        return self._like(
            {
                key: joined.get(type(value), lambda column: column[0])([entry[key] for entry in entries])
                for key, value in self._entries.items()
            }
        )

    def _like(self, entries: dict[Any, Any]) -> Any:
        if isinstance(self.example, Tensor):
            return entries[0]
        return entries if isinstance(self.example, dict) else tuple(entries.values())


def _step(freezer: Freezer, batch: Any, unpacked: bool) -> None:
    """Forward and backward, as a loop would.

    Args:
        unpacked: the batch holds arguments; else it is the argument: features, a tuple where several tensors cross.
    """
    arguments = batch if unpacked else (batch,)
    output = freezer(**arguments) if isinstance(arguments, dict) else freezer(*arguments)
    losses = [tensor.float().square().mean() for tensor in tensors_in(output) if tensor.requires_grad]
    if losses:
        torch.stack(losses).sum().backward()
