"""The processes that read and render ahead, as the user's DataLoader has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

__all__ = ["Workers"]


@dataclass(frozen=True)
class Workers:
    """How much is read ahead, and by whom.

    Attributes:
        count: processes; 0 reads in this one.
        pinned: whether what they give lies in page-locked memory, from which a GPU takes it while it computes.
        init, timeout, prefetch, context: DataLoader's `worker_init_fn`, `timeout` in seconds, `prefetch_factor`, and
            `multiprocessing_context`.
    """

    count: int = 0
    pinned: bool = False
    init: Callable[[int], None] | None = None
    timeout: float = 0
    prefetch: int | None = None
    context: Any = None

    @classmethod
    def of(cls, loader: DataLoader[Any], count: int) -> Workers:
        """As a DataLoader says; `count` where it has none."""
        pinned = bool(loader.pin_memory) and torch.cuda.is_available()
        if not loader.num_workers:
            return cls(count, pinned, loader.worker_init_fn)
        return cls(
            loader.num_workers,
            pinned,
            loader.worker_init_fn,
            loader.timeout,
            loader.prefetch_factor,
            loader.multiprocessing_context,
        )

    def read(self, things: Dataset[Any]) -> Iterator[Any]:
        """Each thing of a data set, in order, read ahead by processes, of which there must be some."""
        return iter(
            DataLoader(
                things,
                batch_size=None,
                num_workers=self.count,
                pin_memory=self.pinned,
                worker_init_fn=self.init,
                # Of its own: the loader seeds its workers, and must not draw from the training's random state.
                generator=torch.Generator(),
                timeout=self.timeout,
                prefetch_factor=self.prefetch,
                multiprocessing_context=self.context,
            )
        )
