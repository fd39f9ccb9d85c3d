"""One door to all that a policy may want to know; nothing behind it is worked out before it is asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ..cuts import Cut, Example, candidate_cuts, first_tensor, map_leaves, parameters_in_front
from ..errors import PolicyError
from .activations import Summary, features_at
from .copies import quantised
from .gradients import GradientSums
from .rates import Rate, SegmentRates
from .segments import Segment, segments_of

__all__ = ["PROBE", "Observer"]

PROBE = 64
"""Images in the probe batch."""


class Observer:
    """Watches one model for one policy.

    Args:
        example: a few images, as cuts are found on.
        probe: gives the probe batch [N, ...], on the model's device; called once, when a policy first asks.
        epochs, steps: of the training, and of each epoch.
        gradient_epochs: epochs over which gradients are summed; None: they are not watched.
        every_steps: steps of the training over which they are summed instead.
        rate: the learning rate of each segment; None: the loop's own.

    Raises:
        PolicyError: the optimizer does not allow a rate for each segment.
    """

    def __init__(
        self,
        model: nn.Module,
        cuts: Sequence[Cut],
        example: Example,
        *,
        probe: Callable[[], Example],
        optimizer: Any,
        epochs: int | None,
        steps: int,
        gradient_epochs: int | None = None,
        every_steps: int | None = None,
        rate: Rate | None = None,
    ) -> None:
        self._model, self._cuts, self._example = model, tuple(cuts), example
        self._make_probe, self._optimizer = probe, optimizer
        self.epochs, self.steps = epochs, steps
        self.gradient_epochs, self.every_steps = gradient_epochs, every_steps
        self.done = 0.0
        """Share of the training's steps that are done."""
        self.seconds = 0.0
        """Wall seconds that probes and snapshots took so far."""
        self._gradients = GradientSums(model) if gradient_epochs is not None else None
        self._rates = None
        if rate is not None:
            self._rates = SegmentRates(model, self.segments, optimizer, rate, lambda: self.done)

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """What lies between neighbouring recommended cuts; the last segment always trains."""
        return segments_of(self._model, self._cuts, self._example)

    @property
    def inert_depth(self) -> int:
        """The depth of the deepest cut in front of which there are parameters, and none wants a gradient; or 0."""
        inert = {name for name, p in self._model.named_parameters(remove_duplicate=False) if not p.requires_grad}
        return sum(1 for front in self._fronts if front and inert.issuperset(front))

    @property
    def nothing_trains(self) -> bool:
        """Whether no parameter wants a gradient."""
        return not any(parameter.requires_grad for parameter in self._model.parameters())

    @cached_property
    def _fronts(self) -> list[tuple[str, ...]]:
        return parameters_in_front(self._model, self._cuts, self._example)

    @cached_property
    def _probe(self) -> Example:
        return self._make_probe()

    @property
    def lr(self) -> float | None:
        """The largest learning rate of the optimizer's groups; None without an optimizer."""
        groups = getattr(self._optimizer, "param_groups", [])
        return max((float(group["lr"]) for group in groups if "lr" in group), default=None)

    def counted(self, batches: Iterator[Any], epoch: int, start: int) -> Iterator[Any]:
        """The same batches; `done` follows them."""
        for step, batch in enumerate(batches, start):
            if self.epochs is not None:
                self.done = (epoch + step / self.steps) / self.epochs
            yield batch

    def gradient_norms(self) -> tuple[float, ...]:
        """The L1 norm of each segment's gradient, summed since the interval began.

        Raises:
            PolicyError: the policy has not said that gradients are to be watched.
        """
        if self._gradients is None:
            raise PolicyError(
                "gradients are not watched: a policy that reads them needs gradient_epochs(epochs) -> int, the epochs "
                "over which they are summed"
            )
        return self._gradients.norms(self.segments)

    def reduce(self, mean: Callable[[Iterable[Tensor]], None]) -> None:
        """Let gradients that are watched be those of all ranks: each has summed its own."""
        if self._gradients is not None:
            mean(self._gradients.sums())

    def weights(self, segment: int, most: int | None = None) -> Tensor:
        """A copy of a segment's parameters, one after the other, [P]; float32 on the CPU.

        Args:
            most: of them, every so manyth; None: all.
        """
        with self._timed():
            parameters = dict(self._model.named_parameters(remove_duplicate=False))
            mine = [parameters[name].detach().flatten() for name in self.segments[segment].names]
            every = 1 if most is None else max(1, -(-sum(map(len, mine)) // most))
            taken, skip = [], 0
            for values in mine:
                taken.append(values[skip::every].float().cpu())
                skip = (skip - len(values)) % every
            return torch.cat(taken) if taken else torch.zeros(0)

    def activations(self, summary: Summary | None = None, *, reference: bool = False) -> tuple[Tensor, ...]:
        """Features [N, ...] of the probe batch at each candidate cut, or what `summary` keeps of them.

        Args:
            reference: of the model as it is now with its linear layers quantised, run on the CPU.
        """
        with self._timed():
            cuts = candidate_cuts(self._cuts)
            if not reference:
                return features_at(self._model, cuts, self._probe, summary)
            return features_at(quantised(self._model), cuts, map_leaves(_to_float32, self._probe), summary)

    def asked(self, epoch: int, step: int = 0) -> None:
        """The policy has been asked behind so many steps of `epoch`: an interval that ends there is over."""
        if self._gradients is None or self.gradient_epochs is None:
            return
        every = self.every_steps or self.gradient_epochs * self.steps
        if (epoch * self.steps + step) % every == 0:
            self._gradients.restart()

    def close(self) -> None:
        """Take all hooks away from the parameters and the optimizer."""
        for watcher in (self._gradients, self._rates):
            if watcher is not None:
                watcher.close()

    @contextmanager
    def _timed(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - began

    def state_dict(self) -> dict[str, Any]:
        return {
            "seconds": self.seconds,
            "gradients": None if self._gradients is None else self._gradients.state_dict(),
            "began": None if self._rates is None else self._rates.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.seconds = float(state["seconds"])
        if self._gradients is not None and state["gradients"] is not None:
            self._gradients.load_state_dict(state["gradients"], first_tensor(self._example).device)
        if self._rates is not None and state["began"] is not None:
            self._rates.load_state_dict(state["began"])


def _to_float32(leaf: Any) -> Any:
    """On the CPU, where quantised layers run."""
    if not isinstance(leaf, Tensor):
        return leaf
    return leaf.cpu().float() if leaf.is_floating_point() else leaf.cpu()
