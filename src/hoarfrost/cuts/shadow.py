"""A second body for a model: other module objects over the same parameters and buffers.

Training flags, hooks and plain attributes live in the module object, parameters and buffers in two dictionaries
that the object holds. So a shadow can be traced, stubbed and switched between train and eval without the model
noticing, while weights stay one and the same, and `model.to(device)` reaches both.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["has_hooks", "own_forward", "shadow"]

HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
)


def shadow(
    model: nn.Module, keep: Callable[[str], bool] | None = None, *, copy_buffers: bool = False
) -> tuple[nn.Module, dict[nn.Module, nn.Module]]:
    """A clone of the module tree, and the clone of each module.

    Args:
        model: the model; nothing in it changes.
        keep: whether the parameter or buffer of that name is registered in the clone. The others remain readable
            as plain attributes, so that code which asks for `self.weight.dtype` still runs. None keeps all.
        copy_buffers: the clone's buffers are copies, so that running it in train mode leaves the model's alone.
    """
    clones: dict[nn.Module, nn.Module] = {}
    copied: dict[int, Any] = {}
    for name, module in model.named_modules():
        clones[module] = module if isinstance(module, torch.jit.ScriptModule) else _clone(module)
        if clones[module] is not module:
            _fill(clones[module], module, f"{name}." if name else "", keep, copy_buffers)
    for module, clone in clones.items():
        if clone is not module:
            children = module._modules.items()
            clone.__dict__["_modules"] = {k: None if v is None else clones[v] for k, v in children}
            for key, value in module.__dict__.items():
                if key not in ("_modules", "_parameters", "_buffers") and key not in HOOKS:
                    clone.__dict__[key] = _redirect(value, clones, copied)
    return clones[model], clones


def has_hooks(module: nn.Module) -> bool:
    """Whether a module's forward has hooks: then its output is what the last of them gives."""
    return any(len(module.__dict__.get(kind, ())) for kind in HOOKS)


def own_forward(module: nn.Module) -> Callable[..., Any]:
    """A module's forward, whether it is the instance's own or its class's."""
    forward: Callable[..., Any] = module.__dict__.get("forward") or types.MethodType(type(module).forward, module)
    return forward


def _clone(module: nn.Module) -> nn.Module:
    clone: nn.Module = module.__class__.__new__(module.__class__)
    clone.__dict__.update(module.__dict__)
    for key in HOOKS:
        clone.__dict__[key] = module.__dict__[key].copy()
    return clone


def _fill(
    clone: nn.Module, module: nn.Module, prefix: str, keep: Callable[[str], bool] | None, copy_buffers: bool
) -> None:
    for kind in ("_parameters", "_buffers"):
        tensors: dict[str, Tensor | None] = module.__dict__[kind]
        kept = {k: t for k, t in tensors.items() if keep is None or t is None or keep(prefix + k)}
        if copy_buffers and kind == "_buffers":
            kept = {k: None if t is None else t.clone() for k, t in kept.items()}
        elif len(kept) == len(tensors):
            # The very same dictionary: what is assigned to the model's buffer is seen here.
            kept = tensors
        clone.__dict__[kind] = kept
        clone.__dict__.update({k: t for k, t in tensors.items() if k not in kept})


def _redirect(value: Any, clones: dict[nn.Module, nn.Module], copied: dict[int, Any]) -> Any:
    """A plain attribute for the clone.

    It may point at modules: lists of layers, bound methods, partials. And it may be what the model keeps for later,
    such as a dictionary of biases: the clone keeps its own, and one that several modules share is shared by their
    clones.
    """
    if isinstance(value, nn.Module):
        return clones.get(value, value)
    if isinstance(value, types.MethodType) and isinstance(value.__self__, nn.Module):
        return types.MethodType(value.__func__, clones.get(value.__self__, value.__self__))
    if isinstance(value, functools.partial):
        arguments = [_redirect(item, clones, copied) for item in value.args]
        keywords = {key: _redirect(item, clones, copied) for key, item in value.keywords.items()}
        return functools.partial(_redirect(value.func, clones, copied), *arguments, **keywords)
    if type(value) is tuple:
        items = [_redirect(item, clones, copied) for item in value]
        return value if all(a is b for a, b in zip(items, value, strict=True)) else tuple(items)
    if type(value) not in (list, set, dict):
        return value
    if id(value) not in copied:
        twin = copied[id(value)] = type(value)()  # first, so that a container that holds itself ends
        if isinstance(twin, dict):
            twin.update({key: _redirect(item, clones, copied) for key, item in value.items()})
        elif isinstance(twin, set):
            twin.update(_redirect(item, clones, copied) for item in value)
        else:
            twin.extend(_redirect(item, clones, copied) for item in value)
    return copied[id(value)]
