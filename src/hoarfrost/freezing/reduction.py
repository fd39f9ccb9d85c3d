"""Gradients that DistributedDataParallel reduces, where what trains behind it changes."""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Callable, Iterable
from typing import Any
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from ..cuts import bare
from ..errors import ArgumentError

__all__ = ["Reduction", "reduced_by", "undistributed"]

KEPT = (
    "training",
    "require_backward_grad_sync",
    "_forward_hooks",
    "_forward_pre_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
    "_load_state_dict_pre_hooks",
    "_join_config",
)
"""What of a wrapper is the user's, and outlasts that it is made anew."""

LEFT_OUT = "_ddp_params_and_buffers_to_ignore"
"""Where torch's wrapper looks for names that are none of its business."""

_around: WeakKeyDictionary[nn.Module, ref[DistributedDataParallel]] = WeakKeyDictionary()


def reduced_by(model: nn.Module, wrapper: DistributedDataParallel | None) -> None:
    """Say, before a model's front is made, who reduces its gradients where that wraps a larger module; None: nobody."""
    _around.pop(bare(model), None)
    if wrapper is not None:
        _around[bare(model)] = ref(wrapper)


def undistributed(model: nn.Module) -> nn.Module:
    """The module inside DistributedDataParallel, or itself.

    Raises:
        ArgumentError: it is wrapped in such a way that what is behind a cut cannot run by itself.
    """
    inside = bare(model)
    if isinstance(inside, DistributedDataParallel) and inside is not model:
        raise ArgumentError(
            "torch.compile(DistributedDataParallel(model)) compiles the reduction of all gradients, and behind a "
            "freeze there are fewer: say DistributedDataParallel(torch.compile(model))"
        )
    if _is_sharded(inside.module if isinstance(inside, DistributedDataParallel) else inside):
        raise ArgumentError(
            "the model is sharded (FSDP, fully_shard, DTensor): its modules gather their parameters when they are "
            "called whole, and of a model that is divided what is behind the cut is called alone. Wrap it in "
            "DistributedDataParallel"
        )
    if not isinstance(model, DistributedDataParallel):
        return model
    if getattr(model, "mixed_precision", None) is not None or getattr(model, "_delay_all_reduce_params", None):
        raise ArgumentError(
            "DistributedDataParallel(mixed_precision=... or delay_all_reduce_named_params=...) hangs hooks on all "
            "parameters and cannot be made anew at a freeze: leave it out, and say Freezer(precision=...)"
        )
    module: nn.Module = model.module
    return module


def _is_sharded(model: nn.Module) -> bool:
    """Whether its parameters are parts of tensors; nothing is imported for that, since it takes long."""
    modules = (sys.modules.get(name) for name in ("torch.distributed.tensor", "torch.distributed._tensor"))
    kinds = tuple({module.DTensor for module in modules if module is not None})
    flat = sys.modules.get("torch.distributed.fsdp")
    return any(isinstance(parameter, kinds) for parameter in model.parameters()) or (
        flat is not None and any(isinstance(module, flat.FullyShardedDataParallel) for module in model.modules())
    )


class Reduction:
    """Runs calls inside the user's DistributedDataParallel, which stays the object that it is.

    Its reducer knows the parameters that wanted gradients when it was made, and waits for the gradient of each. So it
    is made anew, with what the user told it, before the first step behind a change (`renew`).

    Args:
        around: whether it wraps a larger module, whose forward calls the model.
    """

    def __init__(self, wrapper: DistributedDataParallel, *, around: bool = False) -> None:
        self._wrapper: Any = wrapper
        self._around = around
        self._module: nn.Module = wrapper.module
        self._outdated, self._closed = False, False
        self._still: frozenset[int] = frozenset()
        self._hook = wrapper.register_forward_pre_hook(self._before)

    @classmethod
    def of(cls, model: nn.Module) -> Reduction | None:
        """That of a model; None where it is not wrapped."""
        if isinstance(model, DistributedDataParallel):
            return cls(model)
        wrapper = _around.get(bare(model), lambda: None)()
        if wrapper is not None:
            return cls(wrapper, around=True)
        if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
            warnings.warn(
                f"hoarfrost: {distributed.get_world_size()} processes train, and the model is not wrapped in "
                "DistributedDataParallel: wrap it before the Freezer is made, or reduce its gradients in your loop",
                stacklevel=4,
            )
        return None

    def run(self, work: Callable[..., Any], args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """What `work` gives, its gradients reduced; without gradients nothing is exchanged."""
        if self._around or not torch.is_grad_enabled():
            return work(*args, **keywords)
        try:
            self._wrapper._modules["module"] = _Work(work, self._module)
            # Through the wrapper's own call: `no_sync` and hooks are the user's.
            return self._wrapper(*args, **keywords)
        finally:
            self._wrapper._modules["module"] = self._module

    def renew(self, still: Iterable[Tensor] = ()) -> None:
        """What trains has changed.

        Args:
            still: buffers that do not change any more: they are no longer broadcast.
        """
        self._outdated, self._still = True, frozenset(map(id, still))

    def close(self) -> None:
        """Look no further than to the next step, where that will meet a change."""
        self._closed = True
        if not self._outdated:
            self._hook.remove()

    def _before(self, *_: Any) -> None:
        if not self._outdated or not torch.is_grad_enabled():
            return
        self._outdated = False
        if any(parameter.requires_grad for parameter in self._module.parameters()):
            self._make_anew()
        if self._closed:
            self._hook.remove()

    def _make_anew(self) -> None:
        wrapper, module = self._wrapper, self._module
        runs = wrapper._modules["module"]
        kept = {name: wrapper.__dict__[name] for name in KEPT if name in wrapper.__dict__}
        communication = getattr(wrapper, "_comm_hooks", [])
        buffers = module.named_buffers(remove_duplicate=False)
        left_out = [name for name, buffer in buffers if id(buffer) in self._still]
        before = module.__dict__.get(LEFT_OUT)
        module.__dict__[LEFT_OUT] = [*getattr(module, LEFT_OUT, ()), *left_out]
        try:
            DistributedDataParallel.__init__(wrapper, module, **_told(wrapper))
        finally:
            del module.__dict__[LEFT_OUT]
            if before is not None:
                module.__dict__[LEFT_OUT] = before
            wrapper.__dict__.update(kept)
        for hook, state in communication:
            wrapper.register_comm_hook(state, hook)
        wrapper._modules["module"] = runs


class _Work(nn.Module):
    """Stands in the wrapper where the model does, for one call; its buffers are the model's."""

    def __init__(self, work: Callable[..., Any], module: nn.Module) -> None:
        super().__init__()
        self._work = work
        self.__dict__["named_buffers"] = module.named_buffers

    def forward(self, *args: Any, **keywords: Any) -> Any:
        return self._work(*args, **keywords)


def _told(wrapper: DistributedDataParallel) -> dict[str, Any]:
    """What the user told it, as far as this version of torch lets it be told."""
    known = inspect.signature(DistributedDataParallel.__init__).parameters
    plain = (
        "device_ids",
        "output_device",
        "dim",
        "process_group",
        "find_unused_parameters",
        "gradient_as_bucket_view",
        "static_graph",
        "skip_all_reduce_unused_params",
        "batched_grad_copy",
    )
    told = {name: getattr(wrapper, name) for name in plain if name in known and hasattr(wrapper, name)}
    buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    told[buffers] = getattr(wrapper, buffers)
    if not getattr(wrapper, "bucket_bytes_cap_default", False):
        told["bucket_cap_mb"] = wrapper.bucket_bytes_cap / (1 << 20)
    if "init_sync" in known:
        told["init_sync"] = False  # all ranks have the same weights
    return told
