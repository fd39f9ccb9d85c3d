"""Which modules of a model act in front of a cut."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from .prefix import Prefix

__all__ = ["acting_modules"]


def acting_modules(prefix: Prefix, run: Callable[[], Any]) -> dict[str, nn.Module]:
    """The modules that the prefix runs, by the model's own names: those that it calls, those that lie in front, whose
    weights are read without a call, and those that hold them.

    They are the prefix's own bodies of them: what they keep beside parameters is theirs.

    Args:
        run: calls the prefix.
    """
    names = {module: name for name, module in prefix.body.named_modules()}
    seen = {"", *prefix.module_names}

    def note(module: nn.Module, inputs: Any) -> None:
        if module in names:
            seen.add(names[module])

    handle = register_module_forward_pre_hook(note)
    try:
        run()
    finally:
        handle.remove()
    around = {name.rsplit(".", k)[0] for name in seen for k in range(1, name.count(".") + 1)}
    return {name: module for module, name in names.items() if name in seen | around}
