"""What a cache holds: how many samples, in which chunks, of which shape, in which views, under which
codec.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, prod
from operator import index
from typing import Any

import torch
from torch import Tensor

from ..codecs import Codec, Exact, Packed, codec_from_config
from ..errors import ArgumentError
from .dtypes import dtype_named, name_of
from .stored_view import StoredView

__all__ = ["CacheSpec"]

MOST_VALUES, MOST_ROWS = 1 << 32, 1 << 26
"""Of one record: one level alone stands for any number of equal values, so that no file's size tells of too many."""


@dataclass(frozen=True)
class CacheSpec:
    """The shape of a cache. Samples lie in chunks of `chunk_size`; the last chunk may be shorter.

    `shape` is one sample's, in logical order (`[C, H, W]`), and `channel_axis` an axis of the batch `[N,
    *shape]`. With `channels_last` (4 dimensions, `channel_axis` 1) features are stored as `[N, H, W, C]`,
    the order in which they lie in memory. `stored` says, for each view, what is stored of it (channels
    alone, or None for all of them, stand for a `StoredView`); view 0 always stores all.

    Samples may differ in length, as texts do: `total_length` is that of all together, `shape` is that of one entry
    (`[D]` of one token), and a record holds the entries of its samples one behind the other, `[lengths.sum(), *shape]`.
    None: every sample has the one shape.

    Raises:
        ArgumentError: a number out of range, or view channels that are empty, repeated or unknown.
    """

    samples: int
    chunk_size: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    channel_axis: int
    channels_last: bool
    codec: Codec
    stored: tuple[StoredView, ...] = (StoredView(),)
    total_length: int | None = None

    def __post_init__(self) -> None:
        for name in ("samples", "chunk_size", "channel_axis"):
            object.__setattr__(self, name, index(getattr(self, name)))
        object.__setattr__(self, "shape", tuple(map(index, self.shape)))
        object.__setattr__(self, "stored", tuple(StoredView.of(view) for view in self.stored))
        views = self.view_channels
        if self.samples < 1 or self.chunk_size < 1 or not self.shape or min(self.shape) < 1:
            raise ArgumentError(
                f"samples, chunk_size and shape must be positive: {self.samples}, {self.chunk_size}, {self.shape}"
            )
        if (most := self.rows(0) * prod(self.shape)) > MOST_VALUES:
            raise ArgumentError(
                f"a chunk of {self.rows(0):,} samples of shape {self.shape} has {most:,} values; "
                f"a record holds at most {MOST_VALUES:,}"
            )
        if self.total_length is not None and (type(self.total_length) is not int or self.total_length < 1):
            raise ArgumentError(f"total_length is the sum of all samples' lengths, not {self.total_length!r}")
        if not self.dtype.is_floating_point and self.codec != Exact():
            raise ArgumentError(f"{self.dtype} features are stored exactly, not by {self.codec}")
        if not 1 <= self.channel_axis <= len(self.shape):
            raise ArgumentError(f"channel_axis {self.channel_axis} is no axis of a batch of {self.shape}")
        if self.channels_last and (len(self.shape) != 3 or self.channel_axis != 1):
            raise ArgumentError("channels_last is for [N, C, H, W] features with channel_axis 1")
        if not views or self.stored[0] != StoredView():
            raise ArgumentError("view 0 stores all channels, by the cache's own codec: stored begins with StoredView()")
        for view, stored in enumerate(self.stored):
            count = self.channels if stored.channels is None else len(stored.channels)
            if stored.gains is not None and (len(stored.gains) != count or not all(map(isfinite, stored.gains))):
                raise ArgumentError(f"view {view} stores {count} channels and needs a finite gain for each")
            if stored.codec not in (None, Exact()) and not self.dtype.is_floating_point:
                raise ArgumentError(f"{self.dtype} features are stored exactly, not by {stored.codec}")
        for view, channels in enumerate(views):
            if channels is None:
                continue
            if not channels or len(set(channels)) < len(channels):
                raise ArgumentError(f"view {view} stores no channel, or one twice: {channels}")
            if min(channels) < 0 or max(channels) >= self.channels:
                raise ArgumentError(f"view {view} stores channels of 0 to {self.channels - 1}, not {channels}")

    @property
    def channels(self) -> int:
        """The number of channels of the features."""
        return self.shape[self.channel_axis - 1]

    @property
    def view_channels(self) -> tuple[tuple[int, ...] | None, ...]:
        """The channels that each view stores; None is all."""
        return tuple(view.channels for view in self.stored)

    def codec_of(self, view: int, lengths: Sequence[int] | None = None) -> Codec:
        """The codec of a view's records, of one whose samples are so long where lengths differ."""
        return self.stored[view].codec_beside(self.codec).for_lengths(lengths)

    @property
    def chunks(self) -> int:
        return -(-self.samples // self.chunk_size)

    @property
    def views(self) -> int:
        return len(self.stored)

    @property
    def records(self) -> set[tuple[int, int]]:
        """Every (chunk, view) that a complete cache holds."""
        return {(chunk, view) for chunk in range(self.chunks) for view in range(self.views)}

    @property
    def dense_nbytes(self) -> int:
        """Bytes of the same views in float32."""
        return sum(4 * (self.total_length or self.samples) * prod(self.view_shape(view)) for view in range(self.views))

    def dense_nbytes_of(self, chunk: int, view: int, lengths: Sequence[int] | None = None) -> int:
        """Bytes of one record in float32."""
        return 4 * self.entries(chunk, lengths) * prod(self.view_shape(view))

    @property
    def ragged(self) -> bool:
        """Whether samples differ in length."""
        return self.total_length is not None

    def entries(self, chunk: int, lengths: Sequence[int] | None = None) -> int:
        """Rows of a record: one a sample, or as many as its samples are long.

        Raises:
            ArgumentError: that are more than a record can hold, or than all samples have.
        """
        if lengths is None:
            return self.rows(chunk)
        rows = sum(lengths)
        if rows > min(self.total_length or 0, MOST_VALUES // prod(self.shape), MOST_ROWS):
            raise ArgumentError(f"the samples of chunk {chunk} are {rows:,} long together, which is too much")
        return rows

    @property
    def codec_axis(self) -> int:
        """The channel axis in physical order: what the codec is called with."""
        return len(self.shape) if self.channels_last else self.channel_axis

    def rows(self, chunk: int) -> int:
        """Samples in a chunk."""
        return min(self.chunk_size, self.samples - chunk * self.chunk_size)

    def view_shape(self, view: int) -> tuple[int, ...]:
        """One sample's shape under a view, logical order, with only the stored channels."""
        channels = self.view_channels[view]
        shape = list(self.shape)
        shape[self.channel_axis - 1] = self.channels if channels is None else len(channels)
        return tuple(shape)

    def physical_shape(self, chunk: int, view: int, lengths: Sequence[int] | None = None) -> tuple[int, ...]:
        """The shape of a record's features as they are stored: `[n, C, H, W]` or `[n, H, W, C]`."""
        shape = (self.entries(chunk, lengths), *self.view_shape(view))
        return (shape[0], *shape[2:], shape[1]) if self.channels_last else shape

    def physical(self, features: Tensor) -> Tensor:
        """A batch in the order in which it is stored; no copy where it already lies so in memory."""
        return (features.permute(0, 2, 3, 1) if self.channels_last else features).contiguous()

    def logical(self, values: Tensor) -> Tensor:
        """The inverse of `physical`, without a copy: a stored batch (or rows gathered from several) as `[N,
        C, H, W]`.

        With `channels_last` the result is a view whose memory format is `torch.channels_last`.
        """
        return values.permute(0, 3, 1, 2) if self.channels_last else values

    def dense(self, packed: Packed) -> Tensor:
        """A record's values as floats, in logical order."""
        return self.logical(packed.dense())

    def check_record(self, chunk: int, view: int) -> None:
        """Raises `ArgumentError` for a (chunk, view) that this cache has no place for."""
        if not 0 <= chunk < self.chunks:
            raise ArgumentError(f"there is no chunk {chunk}: the cache has {self.chunks} (0 to {self.chunks - 1})")
        if not 0 <= view < self.views:
            raise ArgumentError(f"there is no view {view}: the cache has {self.views} (0 to {self.views - 1})")

    def to_config(self) -> dict[str, Any]:
        """JSON values from which `from_config` makes an equal spec."""
        # Named only where there is one: caches of samples of one shape are written as ever.
        return {
            **({} if self.total_length is None else {"total_length": self.total_length}),
            "samples": self.samples,
            "chunk_size": self.chunk_size,
            "shape": list(self.shape),
            "dtype": name_of(self.dtype),
            "channel_axis": self.channel_axis,
            "channels_last": self.channels_last,
            "codec": self.codec.to_config(),
            "stored": [view.to_config() for view in self.stored],
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> CacheSpec:
        """The inverse of `to_config`.

        Raises:
            ArgumentError: a field is missing, unknown or out of range.
            CodecError: the codec is unknown.
        """
        try:
            fields = dict(config)
            fields["dtype"] = dtype_named(fields["dtype"])
            fields["codec"] = codec_from_config(fields["codec"])
            fields["stored"] = tuple(StoredView.from_config(view) for view in fields["stored"])
            if not isinstance(fields["channels_last"], bool):
                raise TypeError(f"channels_last is {fields['channels_last']!r}")
            return cls(**fields)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ArgumentError(f"not a cache's spec: {error}") from error
