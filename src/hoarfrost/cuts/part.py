"""What the two parts of a divided model have in common."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from torch import nn

from .cut import Cut

__all__ = ["Part"]


class Part(nn.Module):
    """A module that shows some of a model's parameters, buffers and children under the model's own names.

    `_body` is a second body of the model (see `shadow`) and runs the model's own forward; it is no child, so that no
    name gets longer.
    """

    cut: Cut
    whole: nn.Module
    _body: nn.Module

    def __init__(self, cut: Cut, model: nn.Module, body: nn.Module) -> None:
        super().__init__()
        for key in ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"):
            self.__dict__[key] = body.__dict__[key]
        # Past nn.Module's bookkeeping, which would make children of these.
        self.__dict__.update(cut=cut, whole=model, _body=body, training=model.training)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As for any module.

        A state without versions (from safetensors, say) is taken for one of today: batch norms would otherwise add
        counters to it that belong to the other part.
        """
        versioned = OrderedDict(state_dict)
        versioned._metadata = getattr(state_dict, "_metadata", None) or self.state_dict()._metadata  # type: ignore[attr-defined]
        return super().load_state_dict(versioned, strict, assign)

    @property
    def _features(self) -> str:
        shapes = [f"[{', '.join(['N', *map(str, c.shape or ('...',))])}]" for c in self.cut.tensors]
        return ", ".join(shapes)
