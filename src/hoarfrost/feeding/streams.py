"""Batches prepared on a stream of their own while the one before is trained on."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from .window import Batch

__all__ = ["sent_ahead"]


def sent_ahead(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """The batches, each prepared on a stream of its own while the one before is trained on.

    Copies from pinned memory and the making of floats then run beside the training's kernels. The training's stream
    waits for a batch before it is handed out, and its memory is given to no one else while that stream may read it.
    """
    side: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    # What the prefix needs, where a chunk has to be computed, was written on the training's stream.
    side.wait_stream(torch.cuda.current_stream(device))

    def prepared() -> tuple[Batch, torch.cuda.Event] | None:
        with torch.cuda.stream(side):
            batch = next(batches, None)
            return None if batch is None else (batch, side.record_event())

    coming = prepared()
    while coming is not None:
        (batch, ready), coming = coming, prepared()
        training = torch.cuda.current_stream(device)
        training.wait_event(ready)
        for tensor in (batch.features, batch.targets):
            tensor.record_stream(training)
        yield batch
