"""A learning rate for each segment, in the user's own optimizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from ..errors import PolicyError
from .segments import Segment

__all__ = ["Rate", "SegmentRates"]

Rate = Callable[[int, int, float, float, float], float]
"""(segment, segments, share of the training done, the loop's own rate now, the rate it began with) -> rate."""


class SegmentRates:
    """Splits the optimizer's groups by segment and sets each one's rate for the length of a step.

    Between two steps the groups show the loop's own rate, so that a scheduler works as ever.

    Args:
        done: gives the share of the training that is done, from 0 to 1.

    Raises:
        PolicyError: there is no torch optimizer, or a scheduler was made for its groups already.
    """

    def __init__(
        self, model: nn.Module, segments: Sequence[Segment], optimizer: Any, rate: Rate, done: Callable[[], float]
    ) -> None:
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise PolicyError(
                "a policy that sets learning rates needs Freezer(..., optimizer=...) with a torch optimizer, "
                f"not {type(optimizer).__name__}"
            )
        if any("initial_lr" in group for group in optimizer.param_groups):
            raise PolicyError(
                "a policy that sets learning rates splits the optimizer's groups, which a scheduler counts: make the "
                "scheduler after the Freezer"
            )
        self._rate, self._done, self._count = rate, done, len(segments)
        self._segments = split_groups(optimizer, model, segments)
        self._began = [float(group["lr"]) for group in optimizer.param_groups]
        self._loops_own: list[Any] = []
        before, after = optimizer.register_step_pre_hook(self._before), optimizer.register_step_post_hook(self._after)
        self._handles = before, after

    def close(self) -> None:
        """Leave the rates to the loop; the groups stay split."""
        for handle in self._handles:
            handle.remove()

    def state_dict(self) -> list[float]:
        """The rates that the groups began with."""
        return list(self._began)

    def load_state_dict(self, state: Sequence[float]) -> None:
        self._began = list(state)

    def _before(self, optimizer: Any, *_: Any) -> None:
        self._loops_own = [group["lr"] for group in optimizer.param_groups]
        done = self._done()
        places = zip(optimizer.param_groups, self._segments, self._loops_own, self._began, strict=True)
        for group, segment, now, began in places:
            group["lr"] = self._rate(segment, self._count, done, float(now), began)

    def _after(self, optimizer: Any, *_: Any) -> None:
        for group, rate in zip(optimizer.param_groups, self._loops_own, strict=True):
            group["lr"] = rate


def split_groups(optimizer: torch.optim.Optimizer, model: nn.Module, segments: Sequence[Segment]) -> tuple[int, ...]:
    """Split each group into one for each segment that it has parameters of; the segment of each group then.

    Options stay as they are, and so does the optimizer's state. Parameters that are not the model's go with the last
    segment.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    owner = {id(parameters[name]): number for number, segment in enumerate(segments) for name in segment.names}
    groups, numbers = [], []
    for group in optimizer.param_groups:
        parts: dict[int, list[Any]] = {}
        for parameter in group["params"]:
            parts.setdefault(owner.get(id(parameter), len(segments) - 1), []).append(parameter)
        for number in sorted(parts):
            groups.append({**group, "params": parts[number]})
            numbers.append(number)
    # In place: wrappers may hold this very list.
    optimizer.param_groups[:] = groups
    return tuple(numbers)
