"""A run's records as TensorBoard's curves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import HoarfrostError
from ..report import scalars_of

__all__ = ["TensorBoard"]

SHOWN = ("epoch", "freeze", "end")
"""Events that have a place on the axis, which counts epochs, and whose numbers are worth a curve."""


class TensorBoard:
    """Writes the numbers of each record, in a folder for `tensorboard --logdir`.

    What lies there of the run already is shown no more, and written anew from the history of a run that goes on: so no
    point is there twice, and none of an epoch that a killed run had begun.

    Args:
        folder: of the event files.

    Raises:
        HoarfrostError: the package is not there.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise HoarfrostError(
                f"tensorboard: true needs a package that cannot be imported ({error}): pip install "
                "'hoarfrost[tensorboard]'"
            ) from error
        self._make: Callable[[], Any] = lambda: SummaryWriter(folder, purge_step=0)
        self._writer: Any = None
        self._epochs, self._added = 0, 0
        self._history: list[dict[str, Any]] = []

    def write(self, record: dict[str, Any], history: list[dict[str, Any]]) -> None:
        """One record more.

        Args:
            history: the Freezer's records so far; where it goes on from a state, those of earlier processes too.
        """
        if self._writer is None:
            self._writer = self._make()
        if record["event"] == "start":
            self._epochs = record["epochs"]
        if history is not self._history:
            self._history, self._added = history, 0
        for one in history[self._added :]:
            self._add(one)
        self._added = len(history)
        if record["event"] == "end":
            self._add(record)
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _add(self, record: dict[str, Any]) -> None:
        if record["event"] not in SHOWN:
            return
        step = record.get("epoch", self._epochs)
        for name, value in scalars_of(record).items():
            self._writer.add_scalar(name, value, step)
        if record["event"] == "freeze":
            self._writer.add_text("freeze", f"{record['cut']}: {record['decision']}", step)
