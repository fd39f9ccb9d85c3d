"""One (chunk, view) to bytes and back: what is asked of ids, targets and features before they are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from ..codecs import Packed
from ..codecs.features import array_bytes, find_non_finite, way_out
from ..errors import ArgumentError, CodecError, NonFiniteError
from .dtypes import dtype_named, name_of
from .files import ID_NBYTES
from .spec import CacheSpec

__all__ = ["TargetForm", "encode_features", "prepare_ids", "prepare_lengths", "prepare_targets", "unpack_features"]


@dataclass(frozen=True)
class TargetForm:
    """The dtype and the shape of one sample's target."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @classmethod
    def of(cls, targets: Tensor) -> TargetForm:
        return cls(targets.dtype, tuple(targets.shape[1:]))

    @property
    def nbytes(self) -> int:
        """Bytes of one sample's target."""
        return self.dtype.itemsize * prod(self.shape)

    def span(self, spec: CacheSpec, chunk: int) -> tuple[int, int]:
        """How many bytes a chunk's targets take, and where in their file they begin."""
        return spec.rows(chunk) * self.nbytes, ID_NBYTES + chunk * spec.chunk_size * self.nbytes

    def parse(self, data: bytes) -> Tensor:
        """`[n, ...]` from raw bytes."""
        rows = len(data) // self.nbytes if self.nbytes else 0
        # A copy: tensors are written to by their users, bytes must not be.
        return torch.frombuffer(bytearray(data), dtype=self.dtype).view(rows, *self.shape)

    def to_config(self) -> dict[str, Any]:
        return {"dtype": name_of(self.dtype), "shape": list(self.shape)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> TargetForm:
        """The inverse of `to_config`.

        Raises:
            ArgumentError: no dtype, or no shape of a target that takes any bytes.
        """
        shape = config["shape"]
        if not isinstance(shape, list) or not all(type(size) is int and 1 <= size < 1 << 32 for size in shape):
            raise ArgumentError(f"{shape!r} is no shape of a target")
        return cls(dtype_named(config["dtype"]), tuple(shape))


def prepare_ids(spec: CacheSpec, chunk: int, sample_ids: Sequence[int] | Tensor) -> tuple[int, ...]:
    """Raises `ArgumentError` where there is not one integer for each row of the chunk."""
    listed = sample_ids.tolist() if isinstance(sample_ids, Tensor) else list(sample_ids)
    ids = tuple(int(i) for i in listed)
    if len(ids) != spec.rows(chunk) or ids != tuple(listed):
        raise ArgumentError(f"chunk {chunk} takes {spec.rows(chunk)} integer sample ids, not {_short(listed)}")
    return ids


def prepare_lengths(spec: CacheSpec, chunk: int, lengths: Sequence[int] | Tensor | None) -> tuple[int, ...] | None:
    """How long each of a chunk's samples is; None where all have one shape.

    Raises:
        ArgumentError: lengths for samples of one shape, or not one from 0 on for each row of the chunk.
    """
    if lengths is None and not spec.ragged:
        return None
    listed = lengths.tolist() if isinstance(lengths, Tensor) else list(lengths or ())
    if not spec.ragged:
        raise ArgumentError(f"chunk {chunk} takes no lengths: all samples have the shape {spec.shape}")
    found = tuple(int(length) for length in listed)
    if len(found) != spec.rows(chunk) or found != tuple(listed) or min(found) < 0:
        raise ArgumentError(f"chunk {chunk} takes {spec.rows(chunk)} lengths from 0 on, not {_short(listed)}")
    return found


def prepare_targets(spec: CacheSpec, chunk: int, targets: Tensor, form: TargetForm | None) -> tuple[TargetForm, bytes]:
    """The targets' form and raw bytes.

    Raises:
        ArgumentError: no tensor, another number of rows, or another form than the targets before.
    """
    if not isinstance(targets, Tensor):
        raise ArgumentError(f"targets are a tensor [n, ...], not {type(targets).__name__}")
    if targets.ndim == 0 or len(targets) != spec.rows(chunk):
        raise ArgumentError(
            f"chunk {chunk} takes targets of {spec.rows(chunk)} rows, not of shape {tuple(targets.shape)}"
        )
    found = TargetForm.of(targets)
    if found.nbytes == 0:
        raise ArgumentError(f"targets of shape {tuple(targets.shape)} are empty")
    if form is not None and found != form:
        raise ArgumentError(
            f"targets of chunk {chunk} are {name_of(found.dtype)} of shape {found.shape}, "
            f"but those before were {name_of(form.dtype)} of shape {form.shape}"
        )
    return found, bytes(array_bytes(targets))


def encode_features(
    spec: CacheSpec, chunk: int, view: int, ids: Sequence[int], features: Tensor, lengths: Sequence[int] | None = None
) -> bytes:
    """The codec's bytes of one record's features, `[n, C, H, W]` in logical order.

    Raises:
        ArgumentError: another shape or dtype than the spec's.
        NonFiniteError: names the sample's id and the channel.
        CodecError: the codec cannot take them; names the record.
    """
    expected = (spec.entries(chunk, lengths), *spec.view_shape(view))
    if tuple(features.shape) != expected or features.dtype != spec.dtype:
        raise ArgumentError(
            f"chunk {chunk}, view {view} takes features of shape {expected}, {spec.dtype}, "
            f"not {tuple(features.shape)}, {features.dtype}"
        )
    try:
        return spec.codec_of(view, lengths).encode(spec.physical(features.detach()), spec.codec_axis)
    except NonFiniteError as error:
        row, channel, value = find_non_finite(features, spec.channel_axis) or (0, 0, float("nan"))
        if lengths is not None:
            row = int(torch.tensor(lengths).cumsum(0).gt(row).nonzero()[0])
        channels = spec.view_channels[view]
        named = channel if channels is None else channels[channel]
        raise NonFiniteError(
            f"features must be finite: sample {ids[row]} (row {row} of chunk {chunk}, view {view}), "
            f"channel {named} holds {value}; {way_out(features)}"
        ) from error
    except CodecError as error:
        raise CodecError(f"chunk {chunk}, view {view}: {error}") from error


def unpack_features(
    spec: CacheSpec, chunk: int, view: int, payload: bytes, lengths: Sequence[int] | None = None
) -> Packed:
    """The inverse of `encode_features`, still packed and in physical order; raises `CodecError`."""
    codec = spec.codec_of(view, lengths)
    return codec.unpack(payload, spec.physical_shape(chunk, view, lengths), spec.dtype, spec.codec_axis)


def _short(values: Sequence[Any]) -> str:
    return f"{len(values)} ({', '.join(repr(v) for v in values[:3])}{', ...' if len(values) > 3 else ''})"
