"""What the two parts of a divided model have in common."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch import Tensor, nn

from ..cut import Cut
from ..sandbox.precision import Precision

__all__ = ["Part"]


class Share:
    """Tensors of one module of which a part has some: each dictionary hears of what is assigned in the other."""

    def __init__(self, theirs: dict[str, Any], clone: nn.Module, kind: str) -> None:
        self.theirs = theirs
        self.clone = clone
        self.kind = kind
        self.known = dict(theirs)

    @classmethod
    def of(cls, clones: Mapping[nn.Module, nn.Module]) -> tuple[Share, ...]:
        """For the modules whose dictionaries a clone does not have as a whole."""
        return tuple(
            cls(module.__dict__[kind], clone, kind)
            for module, clone in clones.items()
            for kind in ("_parameters", "_buffers")
            if clone.__dict__[kind] is not module.__dict__[kind]
        )

    def both_ways(self) -> None:
        mine = self.clone.__dict__[self.kind]
        for name, known in self.known.items():
            if name in mine and mine[name] is not known:
                self.theirs[name] = mine[name]
            elif (now := self.theirs.get(name)) is not known:
                (mine if name in mine else self.clone.__dict__)[name] = now
            self.known[name] = self.theirs.get(name)


class Part(nn.Module):
    """A module that shows some of a model's parameters, buffers and children under the model's own names.

    `_body` is a second body of the model (see `shadow`) and runs the model's own forward; it is no child, so that no
    name gets longer.
    """

    cut: Cut
    whole: nn.Module
    precision: Precision | None = None
    """What it runs in; None: in whatever its caller has put around the call."""
    _body: nn.Module

    _shares: tuple[Share, ...]

    def __init__(self, cut: Cut, model: nn.Module, clones: Mapping[nn.Module, nn.Module]) -> None:
        body = clones[model]
        super().__init__()
        for key in ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"):
            self.__dict__[key] = body.__dict__[key]
        # Past nn.Module's bookkeeping, which would make children of these.
        self.__dict__.update(cut=cut, whole=model, _body=body, training=model.training, _shares=Share.of(clones))

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As for any module.

        A state without versions (from safetensors, say) is taken for one of today: batch norms would otherwise add
        counters to it that belong to the other part.
        """
        versioned = OrderedDict(state_dict)
        versioned._metadata = getattr(state_dict, "_metadata", None) or self.state_dict()._metadata  # type: ignore[attr-defined]
        with self._shared():
            return super().load_state_dict(versioned, strict, assign)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """As for any module."""
        with self._shared():
            return super().state_dict(*args, **kwargs)

    def _named_members(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, Any]]:
        with self._shared():
            yield from super()._named_members(*args, **kwargs)

    def get_parameter(self, target: str) -> nn.Parameter:
        """As for any module."""
        self._share()
        return super().get_parameter(target)

    def get_buffer(self, target: str) -> Tensor:
        """As for any module."""
        self._share()
        return super().get_buffer(target)

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        with self._shared():
            return super()._apply(*args, **kwargs)  # type: ignore[no-untyped-call]

    @contextmanager
    def _shared(self) -> Iterator[None]:
        """Before and after: what the model or the part has put in the place of a tensor, both have."""
        self._share()
        try:
            yield
        finally:
            self._share()

    def _autocast(self) -> AbstractContextManager[object]:
        return nullcontext() if self.precision is None else self.precision.autocast()

    def _share(self) -> None:
        for share in self._shares:
            share.both_ways()

    @property
    def _features(self) -> str:
        shapes = [f"[{', '.join(['N', *map(str, c.shape or ('...',))])}]" for c in self.cut.tensors]
        return ", ".join(shapes)
