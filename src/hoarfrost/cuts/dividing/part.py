"""What the two parts of a divided model have in common."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from torch import nn

from ..cut import Cut
from ..sandbox.precision import Precision

__all__ = ["Part"]


class Part(nn.Module):
    """One side of a cut, as a module: it has the model's parameters and buffers there, under the model's own names.

    Attributes:
        cut: where the model was divided.
        whole: the model that was divided.
    """

    cut: Cut
    whole: nn.Module
    precision: Precision | None = None
    """What it runs in; None: in whatever its caller has put around the call."""

    def __init__(self, cut: Cut, model: nn.Module, shown: nn.Module) -> None:
        super().__init__()
        for key in ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"):
            self.__dict__[key] = shown.__dict__[key]
        # Past nn.Module's bookkeeping, which would make a child of the model.
        self.__dict__.update(cut=cut, whole=model)

    def _autocast(self) -> AbstractContextManager[object]:
        return nullcontext() if self.precision is None else self.precision.autocast()

    @property
    def _features(self) -> str:
        shapes = [f"[{', '.join(['N', *map(str, c.shape or ('...',))])}]" for c in self.cut.tensors]
        return ", ".join(shapes)
