"""Accelerate's `gather_for_metrics`, where the ranks' last batches are not equally long."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import recursively_apply
from torch import Tensor

from .last_batch import LastBatch

__all__ = ["gather_unequal"]


def gather_unequal(accelerator: Accelerator) -> None:
    """From now on its `gather_for_metrics` takes the last batch of a freezer's loader as it is.

    Every sample is shown once, so that some ranks' last batch has one more; Accelerate's own loaders repeat samples to
    make them equal, and leave those out of what was gathered.
    """
    if accelerator.num_processes > 1 and not isinstance(accelerator.gather_for_metrics, _Gather):
        accelerator.gather_for_metrics = _Gather(accelerator)


class _Gather:
    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator, self._own = accelerator, accelerator.gather_for_metrics

    def __call__(self, input_data: Any, use_gather_object: bool = False) -> Any:
        state = self._accelerator.gradient_state
        if use_gather_object or not state.end_of_dataloader or not isinstance(state.active_dataloader, LastBatch):
            return self._own(input_data, use_gather_object=use_gather_object)
        try:
            return recursively_apply(self._gathered, input_data, error_on_other_type=True)
        except TypeError:  # objects, which are gathered one by one
            return self._own(input_data)

    def _gathered(self, rows: Tensor) -> Any:
        """The rows of all ranks, one rank's behind the other's."""
        if not rows.ndim:
            return self._accelerator.gather(rows)
        lengths = self._accelerator.gather(torch.tensor([len(rows)], device=rows.device)).tolist()
        padded = rows.new_zeros(max(lengths), *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = self._accelerator.gather(padded).reshape(len(lengths), *padded.shape)
        return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])
