"""What a record holds of one view, and the view's features put together from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import index
from typing import Any

import torch
from torch import Tensor

from ..codecs import Codec, codec_from_config

__all__ = ["StoredView", "assembled", "to_store"]


@dataclass(frozen=True)
class StoredView:
    """What is stored of one view; what is not stored is derived from view 0.

    Attributes:
        channels: those stored; None is all of them.
        codec: of this view; None is the cache's.
        gains: for each stored channel the part of the derived features that was subtracted before encoding, so that
            only the difference is stored; None: the features themselves are.
    """

    channels: tuple[int, ...] | None = None
    codec: Codec | None = None
    gains: tuple[float, ...] | None = None

    @property
    def alone(self) -> bool:
        """Whether the record is the whole view: nothing of it has to be derived."""
        return self.channels is None and self.gains is None

    def codec_beside(self, base: Codec) -> Codec:
        """The codec of this view's records, where the cache's is `base`."""
        return (self.codec or base).among(self.channels)

    def to_config(self) -> dict[str, Any]:
        return {
            "channels": None if self.channels is None else list(self.channels),
            "codec": None if self.codec is None else self.codec.to_config(),
            "gains": None if self.gains is None else list(self.gains),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> StoredView:
        """The inverse of `to_config`; raises `CodecError` for an unknown codec."""
        channels, codec, gains = config["channels"], config["codec"], config["gains"]
        return cls(
            None if channels is None else tuple(map(index, channels)),
            None if codec is None else codec_from_config(codec),
            None if gains is None else tuple(gain + 0.0 for gain in gains),
        )

    @classmethod
    def of(cls, value: StoredView | Sequence[int] | None) -> StoredView:
        """From the channels alone, or as it is."""
        return value if isinstance(value, StoredView) else cls(None if value is None else tuple(int(c) for c in value))


def to_store(stored: StoredView, axis: int, features: Tensor, derived: Tensor | None) -> Tensor:
    """What a record holds of a view's features [n, ...]: its channels, or what they differ from the derived ones.

    Args:
        axis: of the channels.
        derived: the same view's features, derived from view 0; for a view with gains alone.
    """
    kept = _channels(stored, axis, features)
    if stored.gains is None or derived is None:
        return kept
    return kept - _gains(stored, axis, kept) * _channels(stored, axis, derived)


def assembled(stored: StoredView, axis: int, record: Tensor, derived: Tensor) -> Tensor:
    """A view's features [n, ...] from its record and the features derived for it, which are overwritten."""
    if stored.gains is not None:
        record = record + _gains(stored, axis, record) * _channels(stored, axis, derived)
    if stored.channels is None:
        return record
    return derived.index_copy_(axis, torch.tensor(stored.channels), record)


def _channels(stored: StoredView, axis: int, features: Tensor) -> Tensor:
    return features if stored.channels is None else features.index_select(axis, torch.tensor(stored.channels))


def _gains(stored: StoredView, axis: int, like: Tensor) -> Tensor:
    shape = [1] * like.ndim
    shape[axis] = -1
    return torch.tensor(stored.gains, dtype=like.dtype).view(shape)
