"""What every codec is: a frozen dataclass that turns features into bytes and back within a declared error."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from ..errors import CodecError
from .packed import Packed

__all__ = ["Codec", "codec_from_config", "known_codecs", "register"]


class Codec(ABC):
    """Features to bytes and back. Subclasses are frozen dataclasses whose fields are JSON values.

    Law: for finite features `f`, `|decode(encode(f)) - f| <= error_bound(f)` in every channel. Non-finite
    features raise `NonFiniteError`. A codec has no state and may be used from many threads at once.
    """

    name: ClassVar[str]

    @property
    def weighable(self) -> bool:
        """Whether `weighted` has an effect."""
        return False

    @abstractmethod
    def encode(self, features: Tensor, channel_axis: int = 1) -> bytes:
        """The bytes of `features`: `[N, ...]` of a float dtype, any device, `N >= 1`.

        Raises:
            CodecError: the dtype, shape or range is none that this codec takes.
            NonFiniteError: NaN or infinity; names the row of the sample, and the channel.
        """

    @abstractmethod
    def unpack(self, payload: bytes, shape: Sequence[int], dtype: torch.dtype, channel_axis: int = 1) -> Packed:
        """What `encode` packed, from its bytes and the features' own shape and dtype.

        Raises:
            CodecError: the bytes are damaged or belong to another shape.
        """

    def decode(self, payload: bytes, shape: Sequence[int], dtype: torch.dtype, channel_axis: int = 1) -> Tensor:
        """The features again: `unpack(...).dense()`."""
        return self.unpack(payload, shape, dtype, channel_axis).dense()

    @abstractmethod
    def error_bound(self, features: Tensor, channel_axis: int = 1) -> Tensor:
        """`[C]` float64: the largest absolute error that decoding can make, in the features' unit."""

    def weighted(self, weights: Tensor) -> Codec:
        """The same codec with its bits where they matter.

        Args:
            weights: `[C]`, at least 0: the harm that an error of each channel does, for the same mean square.
        """
        return self

    def among(self, channels: Sequence[int] | None) -> Codec:
        """The same codec for records that hold only these channels; None: all of them."""
        return self

    def for_lengths(self, lengths: Sequence[int] | None) -> Codec:
        """The same codec for samples of these lengths, their rows one behind the other; None: each is one row."""
        return self

    def to_config(self) -> dict[str, Any]:
        """JSON values from which `codec_from_config` makes an equal codec."""
        return {"name": self.name, **{f.name: getattr(self, f.name) for f in _fields(type(self))}}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Codec:
        """The inverse of `to_config`.

        Raises:
            CodecError: the name is another codec's, or the parameters are not this one's.
        """
        known = {f.name for f in _fields(cls)}
        given = set(config) - {"name"}
        if config.get("name") != cls.name or given != known:
            raise CodecError(f"codec {cls.name!r} takes the parameters {sorted(known)}, not {dict(config)!r}")
        return cls(**{key: config[key] for key in known})


def _fields(cls: type[Codec]) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(cls)  # type: ignore[arg-type]


_REGISTRY: dict[str, type[Codec]] = {}
_C = TypeVar("_C", bound=type[Codec])


def register(cls: _C) -> _C:
    """Makes a codec's name known to `codec_from_config`.

    Raises:
        CodecError: another codec has that name; caches on disk would change their meaning.
    """
    if cls.name in _REGISTRY:
        raise CodecError(f"the codec name {cls.name!r} is already taken by {_REGISTRY[cls.name].__qualname__}")
    _REGISTRY[cls.name] = cls
    return cls


def known_codecs() -> list[str]:
    """The names of all codecs, sorted."""
    return sorted(_REGISTRY)


def codec_from_config(config: Mapping[str, Any]) -> Codec:
    """The codec that `to_config` described.

    Raises:
        CodecError: the name is unknown (the known ones are listed) or the parameters do not fit.
    """
    name = config.get("name") if isinstance(config, Mapping) else config
    if not isinstance(name, str) or name not in _REGISTRY:
        raise CodecError(f"unknown codec {name!r}; known codecs: {', '.join(known_codecs())}")
    return _REGISTRY[name].from_config(config)
