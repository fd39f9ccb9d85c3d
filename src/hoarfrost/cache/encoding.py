"""One (chunk, view) of a cache: what is asked of it before it is written, and what is read back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..codecs import Packed
from ..codecs.features import array_bytes, find_non_finite
from ..errors import ArgumentError, CodecError, NonFiniteError
from .spec import CacheSpec, dtype_named, name_of

__all__ = ["Chunk", "Damage", "TargetForm", "encode_features", "prepare_ids", "prepare_targets"]


@dataclass(frozen=True, eq=False)
class Chunk:
    """What `read` gives: `sample_ids` int64 `[n]`, `targets` `[n, ...]`, and `packed` in physical order.

    `edition` is the rendition that the record shows, as it was given when it was written.
    """

    sample_ids: Tensor
    targets: Tensor
    packed: Packed
    spec: CacheSpec
    edition: int = 0

    def features(self) -> Tensor:
        """The decoded features `[n, C, H, W]` in logical order (channels_last in memory where the spec
        says so).
        """
        return self.spec.logical(self.packed.dense())


@dataclass(frozen=True)
class Damage:
    """A record that cannot be read, and why."""

    chunk: int
    view: int
    path: Path
    reason: str


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
        return self.dtype.itemsize * int(torch.Size(self.shape).numel())

    def parse(self, data: bytes) -> Tensor:
        """`[n, ...]` from raw bytes."""
        rows = len(data) // self.nbytes if self.nbytes else 0
        # A copy: tensors are written to by their users, bytes must not be.
        return torch.frombuffer(bytearray(data), dtype=self.dtype).view(rows, *self.shape)

    def to_config(self) -> dict[str, Any]:
        return {"dtype": name_of(self.dtype), "shape": list(self.shape)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> TargetForm:
        return cls(dtype_named(config["dtype"]), tuple(config["shape"]))


def prepare_ids(spec: CacheSpec, chunk: int, sample_ids: Sequence[int] | Tensor) -> tuple[int, ...]:
    """Raises `ArgumentError` where there is not one integer for each row of the chunk."""
    listed = sample_ids.tolist() if isinstance(sample_ids, Tensor) else list(sample_ids)
    ids = tuple(int(i) for i in listed)
    if len(ids) != spec.rows(chunk) or ids != tuple(listed):
        raise ArgumentError(f"chunk {chunk} takes {spec.rows(chunk)} integer sample ids, not {_short(listed)}")
    return ids


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


def encode_features(spec: CacheSpec, chunk: int, view: int, ids: Sequence[int], features: Tensor) -> bytes:
    """The codec's bytes of one record's features, `[n, C, H, W]` in logical order.

    Raises:
        ArgumentError: another shape or dtype than the spec's.
        NonFiniteError: names the sample's id and the channel.
        CodecError: the codec cannot take them; names the record.
    """
    expected = (spec.rows(chunk), *spec.view_shape(view))
    if tuple(features.shape) != expected or features.dtype != spec.dtype:
        raise ArgumentError(
            f"chunk {chunk}, view {view} takes features of shape {expected}, {spec.dtype}, "
            f"not {tuple(features.shape)}, {features.dtype}"
        )
    try:
        return spec.codec_of(view).encode(spec.physical(features.detach()), spec.codec_axis)
    except NonFiniteError as error:
        row, channel, value = find_non_finite(features, spec.channel_axis) or (0, 0, float("nan"))
        channels = spec.view_channels[view]
        named = channel if channels is None else channels[channel]
        raise NonFiniteError(
            f"features must be finite: sample {ids[row]} (row {row} of chunk {chunk}, view {view}), "
            f"channel {named} holds {value}"
        ) from error
    except CodecError as error:
        raise CodecError(f"chunk {chunk}, view {view}: {error}") from error


def _short(values: Sequence[Any]) -> str:
    return f"{len(values)} ({', '.join(repr(v) for v in values[:3])}{', ...' if len(values) > 3 else ''})"
