"""The precision that a model is trained in, as it was told, or as the caller's autocast shows it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from ..cuts import Precision
from ..errors import ArgumentError

__all__ = ["TrainingPrecision"]


class TrainingPrecision:
    """What steps compute in: in that, and no other, a front is run, timed and stored.

    Where nothing was told it is the autocast around the last step; before the first one, that around the freezer's own
    calls.

    Args:
        told: "bf16", "fp16", or None.

    Raises:
        ArgumentError: torch has no autocast for that device.
    """

    def __init__(self, told: str | None, device: torch.device) -> None:
        self._device, self._told = device, told
        self.now = Precision.around(device) if told is None else Precision.of(told, device)
        self._stepped = False

    def look(self) -> None:
        """The caller is at one of the freezer's doors: an autocast around it will be around its steps too."""
        if self._told is None and not self._stepped:
            self.now = Precision.around(self._device)

    def step(self) -> None:
        """A step begins.

        Raises:
            ArgumentError: under another autocast than was told.
        """
        around = Precision.around(self._device)
        if self._told is None:
            self.now, self._stepped = around, True
        elif around.dtype is not None and around != self.now:
            raise ArgumentError(f"precision={self._told!r}, but the freezer is called {around}: say one of them only")

    def autocast(self) -> AbstractContextManager[object]:
        """The autocast that was told, as a loop would put it around a forward pass; nothing where none was told."""
        return nullcontext() if self._told is None else torch.autocast(self._device.type, self.now.dtype)

    def state_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {"autocast": self.now.plain(), "stepped": self._stepped}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with what an earlier process saw; what was told counts before that."""
        if self._told is None:
            dtype = None if state["autocast"] is None else getattr(torch, state["autocast"])
            self.now, self._stepped = Precision(self._device.type, dtype), bool(state["stepped"])
