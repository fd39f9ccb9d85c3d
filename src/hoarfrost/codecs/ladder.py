"""The codecs from gentle to strong; the rung is climbed as more layers freeze."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..errors import ArgumentError
from .base import Codec, codec_from_config
from .bfloat16 import BFloat16
from .bounded import Bounded
from .exact import Exact
from .first_tokens import FirstTokens
from .half import Half
from .linear import Linear
from .shared import Shared
from .zfp import ZFP, bounded_like

__all__ = ["Ladder"]


@dataclass(frozen=True)
class Ladder:
    """At least one codec, from gentle to strong. Which rung is taken is measured: see `measure_rungs`,
    `choose`.

    Raises:
        ArgumentError: no rung, or a rung that is no codec.
    """

    rungs: tuple[Codec, ...]

    def __init__(self, rungs: Sequence[Codec]) -> None:
        rungs = tuple(rungs)
        if not rungs:
            raise ArgumentError("a ladder needs at least one codec")
        for rung in rungs:
            if not isinstance(rung, Codec):
                raise ArgumentError(f"a ladder's rungs are codecs, not {rung!r}; Ladder.of takes names and bits too")
        object.__setattr__(self, "rungs", rungs)

    def __len__(self) -> int:
        return len(self.rungs)

    def __iter__(self) -> Iterator[Codec]:
        return iter(self.rungs)

    def __getitem__(self, index: int) -> Codec:
        return self.rungs[index]

    @classmethod
    def named(cls, name: str) -> Ladder:
        """One of the ladders that users type.

        `auto`: Shared, 256 to 3 levels, four rungs to the bit. `gentle`: Linear 8 bits. `exact`, `half`,
        `bfloat16`: these alone. `zfp:100` and `bounded:0.1`: `ZFP` and `Bounded` with that tolerance or error; `zfp`
        is `zfp:100`. Where zfp's package is not installed, `Bounded` at about the same error stands for it, and a
        warning says so.

        Raises:
            ArgumentError: the name is unknown; the known ones are listed.
            CodecError: a tolerance that is none.
        """
        kind, _, told = name.partition(":")
        if kind in ("zfp", "bounded") and (told or kind == "zfp"):
            return cls([_within(kind, told or "100")])
        if name not in _NAMED:
            raise ArgumentError(
                f"unknown ladder {name!r}; known ladders: {', '.join(sorted([*_NAMED, 'bounded:ERROR', 'zfp']))}"
            )
        return cls(_NAMED[name])

    @classmethod
    def of(cls, value: Ladder | Codec | str | int | Sequence[Codec | int]) -> Ladder:
        """A ladder from what a user may hand over: a ladder, its name, a codec, bits, or a sequence of the
        latter two.

        Raises:
            ArgumentError: anything else.
            CodecError: bits beyond 1 to 8.
        """
        if isinstance(value, Ladder):
            return value
        if isinstance(value, str):
            return cls.named(value)
        if isinstance(value, Codec | int) and not isinstance(value, bool):
            return cls([_rung(value)])
        if isinstance(value, Sequence):
            return cls([_rung(item) for item in value])
        raise ArgumentError(f"a ladder is made of a name, a codec, bits (1 to 8) or a sequence of these, not {value!r}")

    def weighted(self, weights: Tensor) -> Ladder:
        """Each rung with its bits where errors do harm: see `Codec.weighted`."""
        return Ladder([rung.weighted(weights) for rung in self.rungs])

    def apart(self, tokens: int, first: Codec) -> Ladder:
        """Each rung of levels with so many first tokens of each sample by another codec; 0: as it is."""
        return self if tokens == 0 else Ladder([_apart(rung, tokens, first) for rung in self.rungs])

    def to_config(self) -> list[dict[str, Any]]:
        """JSON values from which `from_config` makes an equal ladder."""
        return [rung.to_config() for rung in self.rungs]

    @classmethod
    def from_config(cls, config: Sequence[Mapping[str, Any]]) -> Ladder:
        """The inverse of `to_config`; raises `CodecError` for unknown codecs."""
        return cls([codec_from_config(rung) for rung in config])


def _rung(value: object) -> Codec:
    if isinstance(value, Codec):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return Linear(value)
    raise ArgumentError(f"a rung is a codec or a number of bits (1 to 8), not {value!r}")


def _within(kind: str, told: str) -> Codec:
    try:
        number = float(told)
    except ValueError:
        raise ArgumentError(f"the ladder {kind}:{told} names no number: write {kind}:0.1") from None
    if kind == "bounded":
        return Bounded(number)
    zfp = ZFP(number)
    if zfp.is_installed():
        return zfp
    ours = bounded_like(zfp)
    warnings.warn(
        f"hoarfrost: zfpy is not installed (pip install 'hoarfrost[compare]'), so {ours} stands for {zfp}, with about "
        "the same error",
        stacklevel=2,
    )
    return ours


def _apart(rung: Codec, tokens: int, first: Codec) -> Codec:
    return rung if isinstance(rung, Exact | Half | BFloat16 | FirstTokens) else FirstTokens(tokens, rung, first)


_NAMED: dict[str, tuple[Codec, ...]] = {
    "auto": tuple(Shared(round(256 * 2 ** (-quarter / 4))) for quarter in range(26)),
    "bfloat16": (BFloat16(),),
    "exact": (Exact(),),
    "gentle": (Linear(8),),
    "half": (Half(),),
}
