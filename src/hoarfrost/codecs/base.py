"""What every codec is: a frozen dataclass that turns features into bytes and back within a declared error."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from ..errors import CodecError

__all__ = ["Codec", "Packed", "along", "codec_from_config", "dequantise", "known_codecs", "register"]


def along(parameter: Tensor, ndim: int, channel_axis: int) -> Tensor:
    """`[C]` or `[N, C]`, shaped to broadcast along `channel_axis` of an array with `ndim` dimensions."""
    shape = [1] * ndim
    shape[channel_axis] = parameter.shape[-1]
    if parameter.ndim == 2:
        shape[0] = parameter.shape[0]
    return parameter.view(shape)


def dequantise(
    values: Tensor,
    scale: Tensor | None,
    low: Tensor | None,
    dtype: torch.dtype = torch.float32,
    channel_axis: int = 1,
    out: Tensor | None = None,
) -> Tensor:
    """`values * scale + low` along `channel_axis`, in float32, then in `dtype`; on the device of `values`.

    `values` is `[N, ...]` (uint8 levels, or floats where `scale` is None). `scale` and `low` are `[C]`, or
    `[N, C]` for a batch that was gathered from several chunks; `low` is None where nothing is to be added. `out`
    is a float32 tensor of the same shape to write into; its memory is used only where levels are scaled.
    """
    if scale is None:
        return values.to(dtype)
    if out is None:
        out = torch.empty_like(values, dtype=torch.float32)
    # Copying first is several times faster than multiplying bytes by floats (docs: MEASURED, 39 against
    # 2-10 GB/s).
    out.copy_(values).mul_(along(scale, values.ndim, channel_axis))
    if low is not None:
        out.add_(along(low, values.ndim, channel_axis))
    return out.to(dtype)


@dataclass(frozen=True, eq=False)
class Packed:
    """Decompressed but not yet dequantised features: small enough to gather, shuffle and send to a device.

    `values` is `[N, ...]` in physical order: uint8 levels, or floats that need nothing more. `scale` and
    `low` are float32 `[C]`, or both None. The features are `values * scale + low` along `channel_axis`, as
    `dtype`.
    """

    values: Tensor
    scale: Tensor | None
    low: Tensor | None
    dtype: torch.dtype
    channel_axis: int

    def dense(self) -> Tensor:
        """The features `[N, ...]` in `dtype`."""
        return dequantise(self.values, self.scale, self.low, self.dtype, self.channel_axis)


class Codec(ABC):
    """Features to bytes and back. Subclasses are frozen dataclasses whose fields are JSON values.

    Law: for finite features `f`, `|decode(encode(f)) - f| <= error_bound(f)` in every channel. Non-finite
    features raise `NonFiniteError`. A codec has no state and may be used from many threads at once.
    """

    name: ClassVar[str]
    weighable: ClassVar[bool] = False
    """Whether `weighted` has an effect."""

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
