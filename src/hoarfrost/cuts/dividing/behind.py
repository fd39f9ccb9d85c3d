"""What lies behind a cut, as the model has it now: the model's own modules, less those of the front."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from .part import Part
from .script import Script

__all__ = ["Behind"]


class Behind(Part):
    """A view of a model: whatever is set, replaced or registered behind the cut is there at once.

    Modules that hold both sides are among its modules; of their parameters and buffers it has those that act behind
    the cut. Its training flag is the model's.
    """

    _script: Script

    def __init__(self, script: Script, model: nn.Module) -> None:
        super().__init__(script.cut, model, model)
        self.__dict__["_script"] = script

    @property
    def training(self) -> bool:
        """The model's own."""
        return bool(self.whole.training) if "whole" in self.__dict__ else True

    @training.setter
    def training(self, mode: bool) -> None:
        if "whole" in self.__dict__:
            self.whole.training = mode

    def _has(self, name: str) -> bool:
        """Whether a parameter or buffer of that name acts behind the cut; one that came later does if its module is."""
        known = self._script.behind.get(name)
        return not self._in_front(name.rpartition(".")[0]) if known is None else known

    def _in_front(self, path: str) -> bool:
        while path:
            if path in self._script.front:
                return True
            path = path.rpartition(".")[0]
        return False

    def named_modules(
        self, memo: set[nn.Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Module]]:
        """As for any module; those in front are left out, but for what owns a parameter that acts behind too."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        memo.add(self)
        yield prefix, self
        owners = {name.rpartition(".")[0] for name, behind in self._script.behind.items() if behind}
        for name, module in self.whole.named_modules(remove_duplicate=remove_duplicate):
            if name and (name in owners or not self._in_front(name)) and not (remove_duplicate and module in memo):
                memo.add(module)
                yield f"{prefix}.{name}" if prefix else name, module

    def named_children(self) -> Iterator[tuple[str, nn.Module]]:
        """As for any module; those in front are left out."""
        yield from ((name, child) for name, child in super().named_children() if not self._in_front(name))

    def _named_members(
        self,
        get_members_fn: Callable[[nn.Module], Any],
        prefix: str = "",
        recurse: bool = True,
        remove_duplicate: bool = True,
    ) -> Iterator[tuple[str, Any]]:
        seen: set[Tensor] = set()
        every = self.whole._named_members(get_members_fn, recurse=recurse, remove_duplicate=False)
        for name, member in every:
            if member is not None and self._has(name) and not (remove_duplicate and member in seen):
                seen.add(member)
                yield f"{prefix}.{name}" if prefix else name, member

    @property
    def _ddp_params_and_buffers_to_ignore(self) -> list[str]:
        """For DistributedDataParallel, which looks into modules that hold both sides."""
        return [name for name, behind in self._script.behind.items() if not behind]

    def train(self, mode: bool = True) -> Behind:
        """As for any module: the model's own `train`, but that the modules in front stay as they are.

        Those whose mode is read behind the cut follow.
        """
        front = [(name, module, module.training) for name, module in self.whole.named_modules() if self._in_front(name)]
        self.whole.train(mode)
        for name, module, before in front:
            module.training = self.whole.training if name in self._script.heeded else before
        return self

    def apply(self, fn: Callable[[nn.Module], None]) -> Behind:
        """As for any module."""
        for module in reversed(list(self.modules())):
            fn(module)
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Behind:
        front = {id(tensor) for tensor in self._front_tensors()}

        def behind(tensor: Tensor) -> Tensor:
            return tensor if id(tensor) in front else fn(tensor)

        for name, module in self.whole.named_modules() if recurse else [("", self.whole)]:
            if not self._in_front(name) or any(self._has(f"{name}.{own}") for own, _ in _own_tensors(module)):
                module._apply(behind, recurse=False)
        return self

    def _front_tensors(self) -> Iterator[Tensor]:
        mine = {id(tensor) for tensor in (*self.parameters(), *self.buffers())}
        for tensor in (*self.whole.parameters(), *self.whole.buffers()):
            if id(tensor) not in mine:
                yield tensor
                if tensor.grad is not None:
                    yield tensor.grad

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """As for any module."""
        told: dict[str, Any] = {"destination": None, "prefix": "", "keep_vars": False}
        told |= dict(zip(told, args, strict=False)) | kwargs
        destination, prefix = told.pop("destination"), told["prefix"]
        state: Any = self.whole.state_dict(**told)
        for name in [name for name in state if not self._has(name.removeprefix(prefix))]:
            del state[name]
        if destination is None:
            return state
        destination.update(state)
        if hasattr(destination, "_metadata"):
            destination._metadata.update(state._metadata)
        return destination

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As for any module."""
        whole: Any = self.whole.state_dict()
        mine = type(whole)((name, value) for name, value in state_dict.items() if self._has(name))
        # One without versions (from safetensors, say) is taken for one of today.
        mine._metadata = {**whole._metadata, **(getattr(state_dict, "_metadata", None) or {})}
        found = self.whole.load_state_dict(mine, strict=False, assign=assign)
        missing = [name for name in found.missing_keys if self._has(name)]
        unexpected = [name for name in state_dict if name in found.unexpected_keys or not self._has(name)]
        if strict and (missing or unexpected):
            raise RuntimeError(
                f"Error(s) in loading state_dict for {type(self).__name__} from '{self.cut.label}' of "
                f"{type(self.whole).__name__}: missing keys {missing}, unexpected keys {unexpected}"
            )
        return type(found)(missing, unexpected)


def _own_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters(recurse=False)
    yield from module.named_buffers(recurse=False)
