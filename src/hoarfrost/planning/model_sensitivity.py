"""How sensitive the channels of a model by name are, to be shown."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from ..augment import Pipeline
from ..errors import ArgumentError
from ..running import RunConfig, Setup
from .sensitivity import SHARES, CutSensitivity, examine_sensitivity

__all__ = ["ModelSensitivity"]


@dataclass(frozen=True)
class ModelSensitivity:
    """What was measured for a model and data by name, to be shown.

    Attributes:
        model, data: as they were named.
        samples: images that were looked at.
        metric, tolerance, seed: as they were asked for.
        transform: name, kind and reason of each of its steps.
        cuts: what was measured.
    """

    model: str
    data: str
    samples: int
    metric: str
    tolerance: float
    seed: int
    transform: tuple[tuple[str, str, str], ...]
    cuts: tuple[CutSensitivity, ...]

    @classmethod
    def of(
        cls,
        config: RunConfig,
        *,
        weights: Path | None = None,
        cuts: Sequence[str] | None = None,
        metric: str = "cosine",
        samples: int = 256,
        shares: Sequence[float] | None = None,
        on_cut: Callable[[int, int], None] | None = None,
    ) -> ModelSensitivity:
        """Measure a model on training images and with the training transform, as `hoarfrost train` has them.

        Args:
            weights: a safetensors file of the model's state_dict, such as the model.safetensors of a run.
            cuts, metric, samples, shares, on_cut: as in `examine_sensitivity`.

        Raises:
            ArgumentError: no such model or data, or weights that are not this model's.
            HoarfrostError: as `examine_sensitivity`.
        """
        setup = Setup.of(config)
        if weights is not None:
            _load_weights(setup.model, config.model, weights)
        examined = examine_sensitivity(
            setup.model,
            setup.train_set,
            transform=setup.train_transform,
            cuts=cuts,
            metric=metric,
            samples=samples,
            shares=shares or SHARES,
            ladder=config.storing.ladder,
            tolerance=config.storing.tolerance,
            seed=config.rendering.seed,
            channels_last=config.rendering.channels_last,
            on_cut=on_cut,
        )
        steps = Pipeline.from_transform(setup.train_transform).steps
        return cls(
            model=config.model,
            data=setup.data.name,
            samples=min(samples, len(setup.train_set)),  # type: ignore[arg-type]
            metric=metric,
            tolerance=config.storing.tolerance,
            seed=config.rendering.seed,
            transform=tuple((step.name, step.kind, step.reason) for step in steps),
            cuts=tuple(examined),
        )

    @property
    def described(self) -> list[str]:
        """The transform's steps, one line each that draws something and one for the rest."""
        lines = [f"{name}: {kind}, {reason}" for name, kind, reason in self.transform if kind != "deterministic"]
        fixed = [name for name, kind, _ in self.transform if kind == "deterministic"]
        return [*lines, *([f"{', '.join(fixed)}: deterministic"] if fixed else [])]

    def plain(self) -> dict[str, Any]:
        """For programs, and for `hoarfrost.report`: as JSON takes it."""
        return {
            "model": self.model,
            "data": self.data,
            "samples": self.samples,
            "metric": self.metric,
            "tolerance": self.tolerance,
            "seed": self.seed,
            "transform": [{"name": name, "kind": kind, "reason": reason} for name, kind, reason in self.transform],
            "cuts": [cut.plain() for cut in self.cuts],
        }


def _load_weights(network: nn.Module, name: str, path: Path) -> None:
    try:
        network.load_state_dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise ArgumentError(f"the weights {path} cannot be read as safetensors: {error}") from error
    except RuntimeError as error:
        # Its first line names the class alone, the second all that is missing.
        found = textwrap.shorten(" ".join(str(error).splitlines()[1:]), 160, placeholder=" ...")
        raise ArgumentError(f"the weights in {path} are not those of {name}: {found}") from error
