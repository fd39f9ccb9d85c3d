"""What is done to the features of each batch, so that no epoch sees the same twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from ..errors import ArgumentError
from ..plain_fields import check_plain_fields

__all__ = ["Noise"]


@dataclass(frozen=True)
class Noise:
    """Gaussian noise and blur on the features of each batch behind a freeze, drawn by seed, epoch and step.

    Each is a number, or several: for a cut in the model's first stage, in its second, and so on; the last one holds for
    all that follow. What is a stage says `hoarfrost.cuts.stage_of`.

    Args:
        std: standard deviation of the noise, in the features' own unit; 0: none.
        blur: a 3x3 Gaussian over feature maps, its standard deviation in cells drawn for each batch, from 0.1 to this;
            0: none. Tokens are not blurred.
        alike: whether all channels of a feature map get the same noise.

    Raises:
        ArgumentError: a number below 0, a blur between 0 and 0.1, or what is no number.
    """

    std: tuple[float, ...] = (0.0,)
    blur: tuple[float, ...] = (0.0,)
    alike: bool = False
    LEAST_BLUR: ClassVar[float] = 0.1

    def __post_init__(self) -> None:
        for name in ("std", "blur"):
            told = getattr(self, name)
            values = tuple(told) if isinstance(told, Sequence) and not isinstance(told, str) else (told,)
            if not values or not all(_is_number(value) and 0 <= value < 1e6 for value in values):
                raise ArgumentError(f"the {name} of noise is a number of at least 0, or several, not {told!r}")
            object.__setattr__(self, name, tuple(map(float, values)))
        if any(0 < sigma < self.LEAST_BLUR for sigma in self.blur):
            raise ArgumentError(f"the blur of noise is 0, or at least {self.LEAST_BLUR} cells, not {self.blur!r}")
        check_plain_fields(self, "noise: ")

    @classmethod
    def of(cls, value: float | Sequence[float] | Noise | Mapping[str, Any]) -> Noise:
        """Noise from its standard deviation, from `plain()`, or as it is."""
        if isinstance(value, Mapping):
            try:
                return cls(**value)
            except TypeError as error:
                raise ArgumentError(f"noise is told by the fields of hoarfrost.Noise: {error}") from error
        return value if isinstance(value, Noise) else cls(value)  # type: ignore[arg-type]

    def plain(self) -> float | dict[str, Any]:
        """As JSON takes it: the standard deviation alone, where there is one and nothing else."""
        if self == Noise((self.std[0],)):
            return self.std[0]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def at(self, stage: int) -> tuple[float, float]:
        """Standard deviations of noise and blur behind a cut in that stage, from 0."""
        return self.std[min(stage, len(self.std) - 1)], self.blur[min(stage, len(self.blur) - 1)]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
