"""Which weights have moved since a training began."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Movement", "sums_of_bits"]


class Movement:
    """Remembers a model's weights, by sums of their bits, as they were in front of the first batch.

    So weights that are loaded before that count as where the training began, steps at a rate of zero move nothing, and
    a resumed training still knows where it began.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._began: dict[str, int] | None = None

    def begin(self) -> None:
        """A batch is about to be trained on."""
        if self._began is None:
            self._began = self._now(name for name, _ in self._model.named_parameters(remove_duplicate=False))

    def moved(self, names: Iterable[str]) -> bool:
        """Whether any of these parameters is not what it was."""
        return self._began is not None and any(self._began.get(name) != now for name, now in self._now(names).items())

    def _now(self, names: Iterable[str]) -> dict[str, int]:
        parameters, names = dict(self._model.named_parameters(remove_duplicate=False)), list(names)
        return dict(zip(names, sums_of_bits([parameters[name] for name in names]), strict=True))

    def state_dict(self) -> dict[str, Any]:
        return {"began": None if self._began is None else dict(self._began)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._began = None if state["began"] is None else {name: int(total) for name, total in state["began"].items()}


@torch.no_grad()
def sums_of_bits(tensors: Sequence[Tensor | None]) -> list[int]:
    """A whole number for each; values that differ in one entry have another."""
    sums = [torch.zeros((), dtype=torch.int64) if tensor is None else _sum(tensor) for tensor in tensors]
    devices = {total.device for total in sums}
    return torch.stack(sums).tolist() if len(devices) == 1 else [int(total) for total in sums]


def _sum(tensor: Tensor) -> Tensor:
    plain = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    whole = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[plain.element_size()]
    return plain.contiguous().view(whole).sum(dtype=torch.int64)
