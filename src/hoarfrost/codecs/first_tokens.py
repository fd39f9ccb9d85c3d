"""The first tokens of each sample by one codec, the others by another.

The bytes, little-endian:

    n uint32 | n bytes of the first tokens' codec | bytes of the others' codec

Features `[N, T, D]` with channels last have tokens, and so have samples of differing lengths, rows `[sum, ...]`. Each
codec is handed what it would be if there were nothing else: `[N, tokens, D]` and `[N, T - tokens, D]`, or the rows of
each. Where nothing is left for one of them it has no bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..errors import CodecError
from .base import Codec, codec_from_config, register
from .exact import Exact
from .features import check_features, check_shape
from .packed import FirstRows, Packed

__all__ = ["FirstTokens"]

_HEAD = 4
MOST_VALUES = 1 << 32
"""Of the first tokens of a record: a number of them that was read is not believed."""


@register
@dataclass(frozen=True)
class FirstTokens(Codec):
    """The first tokens of each sample apart from the others, exact: a class token, registers, what begins a text.

    They are few, they are often what a classifier reads, and in some models their values are the largest, so that with
    levels in common they would set the steps of all the others. Features that are no tokens go to `rest` alone.

    Args:
        tokens: how many of each sample.
        rest: the codec of the others.
        first: the codec of the first ones.
        lengths: see `for_lengths`; no part of the config.

    Raises:
        CodecError: `tokens` is no whole number from 1 on, or `rest` or `first` no codec, or one of this kind.
    """

    tokens: int
    rest: Codec
    first: Codec = field(default_factory=Exact)
    lengths: tuple[int, ...] | None = field(default=None, repr=False)
    name: ClassVar[str] = "first-tokens"

    def __post_init__(self) -> None:
        if isinstance(self.tokens, bool) or not isinstance(self.tokens, int) or not 0 < self.tokens < 1 << 31:
            raise CodecError(f"FirstTokens takes a whole number of tokens from 1 on, not {str(self.tokens)[:40]}")
        for codec in (self.rest, self.first):
            if not isinstance(codec, Codec) or isinstance(codec, FirstTokens):
                raise CodecError(f"FirstTokens takes codecs of another kind, such as Shared(16), not {codec!r}")

    def __str__(self) -> str:
        named = "first token" if self.tokens == 1 else f"first {self.tokens} tokens"
        return f"{self.rest}, {named} {self.first}"

    @property
    def weighable(self) -> bool:
        return self.rest.weighable

    def weighted(self, weights: Tensor) -> FirstTokens:
        return replace(self, rest=self.rest.weighted(weights))

    def among(self, channels: Sequence[int] | None) -> FirstTokens:
        return replace(self, rest=self.rest.among(channels), first=self.first.among(channels))

    def for_lengths(self, lengths: Sequence[int] | None) -> FirstTokens:
        return self if lengths is None else replace(self, lengths=tuple(lengths))

    def to_config(self) -> dict[str, Any]:
        parts = {"rest": self.rest.to_config(), "first": self.first.to_config()}
        return {"name": self.name, "tokens": self.tokens, **parts}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Codec:
        rest, first = (config.get(key) for key in ("rest", "first"))
        known = {"name", "tokens", "rest", "first"}
        if not isinstance(rest, Mapping) or not isinstance(first, Mapping) or set(config) != known:
            raise CodecError(
                f"codec {cls.name!r} takes a number of tokens and two codecs, rest and first, not {dict(config)!r}"
            )
        return cls(config["tokens"], codec_from_config(rest), codec_from_config(first))

    def encode(self, features: Tensor, channel_axis: int = 1) -> bytes:
        features = check_features(features, channel_axis, any_dtype=True)
        first, rest = self._parted(features, channel_axis)
        head = b"" if first is None else self.first.encode(first, channel_axis)
        tail = b"" if rest is None else self.rest.encode(rest, channel_axis)
        return len(head).to_bytes(_HEAD, "little") + head + tail

    def unpack(self, payload: bytes, shape: Sequence[int], dtype: torch.dtype, channel_axis: int = 1) -> Packed:
        check_shape(shape, dtype, channel_axis, any_dtype=True)
        # Which values are whose shows in where they come from.
        first, rest = self._parted(torch.empty(tuple(shape), dtype=torch.uint8), channel_axis)
        end = _HEAD + int.from_bytes(payload[:_HEAD], "little")
        held = end > _HEAD, len(payload) > end
        if end > len(payload) or held != (first is not None, rest is not None):
            raise CodecError(f"{len(payload)} bytes of first and other tokens are damaged or cut short")
        packed = None if rest is None else self.rest.unpack(payload[end:], rest.shape, dtype, channel_axis)
        if first is None:
            assert packed is not None, "features are not empty"
            return packed
        rows = self._rows(self.first.decode(payload[_HEAD:end], first.shape, dtype, channel_axis))
        if packed is None:
            whole = torch.empty(tuple(shape), dtype=dtype)
            return Packed(rows.put_into(whole), None, None, dtype, channel_axis)
        values = self._among_all(packed.values, tuple(shape))
        if packed.scale is None and values.dtype == dtype:
            return Packed(rows.put_into(values), None, None, dtype, channel_axis)
        return replace(packed, values=values, first=rows)

    def error_bound(self, features: Tensor, channel_axis: int = 1) -> Tensor:
        features = check_features(features, channel_axis, any_dtype=True)
        parts = zip((self.first, self.rest), self._parted(features, channel_axis), strict=True)
        bounds = [codec.error_bound(part, channel_axis) for codec, part in parts if part is not None]
        return torch.stack(bounds).amax(0)

    def _parted(self, features: Tensor, channel_axis: int) -> tuple[Tensor | None, Tensor | None]:
        """The first tokens, and the others; None for none."""
        if self.lengths is not None:
            if sum(self.lengths) != len(features):
                raise CodecError(f"samples of {sum(self.lengths)} rows together, but there are {len(features)}")
            there = self._are_first().to(features.device)
            first, rest = features[there], features[~there]
        elif features.ndim == 3 and channel_axis == 2:
            first, rest = features[:, : self.tokens], features[:, self.tokens :]
        else:
            return None, features
        return (first if first.numel() else None), (rest if rest.numel() else None)

    def _are_first(self) -> Tensor:
        """Which rows of a record of samples of differing lengths are first tokens, bool `[sum of lengths]`."""
        lengths = torch.tensor(self.lengths)
        begins = torch.repeat_interleave(lengths.cumsum(0) - lengths, lengths)
        return torch.arange(len(begins)) - begins < self.tokens

    def _rows(self, first: Tensor) -> FirstRows:
        if self.lengths is None:
            return FirstRows(first)
        lengths = torch.tensor(self.lengths)
        if (held := len(lengths) * self.tokens * first[:1].numel()) > MOST_VALUES:
            raise CodecError(f"{self.tokens:,} first tokens of {len(lengths):,} samples have {held:,} values")
        values = torch.zeros(len(lengths), self.tokens, *first.shape[1:], dtype=first.dtype)
        values[torch.arange(self.tokens) < lengths[:, None]] = first
        return FirstRows(values, lengths)

    def _among_all(self, rest: Tensor, shape: tuple[int, ...]) -> Tensor:
        """The others' values in their places; zeros in those of the first tokens."""
        values = torch.zeros(shape, dtype=rest.dtype)
        if self.lengths is None:
            values[:, self.tokens :] = rest
        else:
            values[~self._are_first()] = rest
        return values
