"""The features of a few chunks, exact: what a freeze is calibrated on."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..augment import Draw
from ..cache import CacheSpec, line_nbytes
from ..codecs import Codec, Exact, Task, evaluating, task_of
from ..codecs.outputs import alike, shows
from ..costs import seconds_a_chunk
from ..cuts import Crossing, Cut, InTraining, Suffix, arguments_of
from ..samples import PrefixSource, digests_nbytes, padded
from .cache_specs import feature_spec

__all__ = ["CalibrationSample", "Extent"]

SAMPLE_BYTES = 256 * 2**20
"""Memory for the sample's features: a sixteenth of the chunks, at most four, at least one."""
Extent = tuple[tuple[int, ...], int | None]
"""Shape and total length of a tensor that crosses, as a `CacheSpec` has them."""
SPREAD = 3
"""Chunks of samples of differing lengths by which bytes are foretold."""


@dataclass(frozen=True)
class CalibrationSample:
    """All that crosses a cut, of the data's first chunks.

    Where samples differ in length, what is as long as the input is padded to the longest of them all, [n, L, ...] with
    the length in front of the rest of its shape.

    Attributes:
        tensors: each [n, ...].
        first: the first chunk's, as a record holds them.
        targets: [n, ...] that outputs are compared with; None where there are none.
        specs: of caches that hold them as they are.
        chunks: how many there are.
        prefix_seconds: of one pass of the prefix over all chunks, not only these.
        share: how long all samples are, by those of the first chunk and by these; 1 where all have one shape.
        spread: where samples differ in length, some chunks from the shortest to the longest: their samples, and what of
            each crosses. Chunks are of samples about as long, and the first ones foretell no others' bytes.
        target_bytes, journal_bytes: of one sample, over all caches: of its targets, and of what journals say of it for
            each view.
        extents: of what crosses at each call of the model.
    """

    source: PrefixSource
    cut: Cut
    tensors: tuple[Tensor, ...]
    first: tuple[Tensor, ...]
    targets: Tensor | None
    specs: tuple[CacheSpec, ...]
    chunks: int
    prefix_seconds: float
    share: tuple[float, float] = (1.0, 1.0)
    extents: tuple[tuple[Extent, ...], ...] = ()
    spread: tuple[tuple[Tensor, tuple[Tensor, ...]], ...] = ()
    target_bytes: float = 0.0
    journal_bytes: float = 0.0

    @classmethod
    def take(
        cls, source: PrefixSource, cut: Cut, draw: Draw, most: int = 4, *, spread: bool = True
    ) -> CalibrationSample:
        """Run the prefix on the renditions of `draw`, of at most so many chunks.

        Args:
            spread: and on chunks of all lengths.
        """
        seconds, parts, targets, shapes = [], [], [], list[list[tuple[int, ...]]]()
        target_bytes = 0.0

        def run(chunk: int) -> None:
            nonlocal target_bytes
            began = time.perf_counter()
            tensors, beside = source.tensors(chunk, draw)
            seconds.append(time.perf_counter() - began)
            parts.append(tensors[: len(cut.rows)])  # of further calls of the model alike
            shapes.append([tuple(tensor.shape[1:]) for tensor in tensors])
            target_bytes = beside.element_size() * beside.numel() / len(beside)
            targets.append(source.samples.under(beside, draw))

        run(0)
        chunks = source.order.chunks
        fitting = SAMPLE_BYTES // max(1, sum(tensor.numel() * tensor.element_size() for tensor in parts[0]))
        for chunk in range(1, max(1, min(most, -(-chunks // 16), fitting))):
            run(chunk)
        tensors = tuple(torch.cat(column) for column in zip(*parts, strict=True))
        everyone = torch.arange(source.order.samples)
        specs = (
            feature_spec(crossing, tensor, source.order, Exact(), lengths=source.lengths(everyone, number))
            for number, (crossing, tensor) in enumerate(zip(cut.rows, tensors, strict=True))
        )
        compared = source.samples.compared(torch.cat(targets))
        share = _share(source, len(parts))
        prefix_seconds = chunks * seconds_a_chunk(seconds) * share[1]
        padded = _padded(source, cut, tensors, len(parts))
        extents = [(shape, _total(source.lengths(everyone, number))) for number, shape in enumerate(shapes[0])]
        by_call = tuple(tuple(extents[n : n + len(tensors)]) for n in range(0, len(extents), len(tensors)))
        some = tuple(_spread(source, draw, len(tensors))) if spread else ()
        caches = len(tensors) * max(1, len(by_call))
        journal_bytes = sum(_line_bytes(source, *divmod(number, len(tensors))) for number in range(caches))
        return cls(
            *(source, cut, padded, parts[0], compared, tuple(specs), len(parts), prefix_seconds, share, by_call),
            *(some, target_bytes * caches, journal_bytes),
        )

    def channel_axis(self, number: int) -> int:
        """Of one of the tensors, as it stands here."""
        return self.specs[number].channel_axis + self.specs[number].ragged

    def first_lengths(self, number: int) -> list[int] | None:
        """How long the first chunk's samples are in one of the tensors; None where all have one shape."""
        lengths = self.source.lengths(_ids(self.source, 1), number)
        return None if lengths is None else lengths.tolist()

    def first_tokens(self, number: int) -> int:
        """How many tokens of each sample are unlike the others in one of the tensors: those in front of the grid of an
        image, and the first of a sequence; 0 where there are no tokens."""
        crossing, place = self.cut.rows[number], self.cut.geometry
        if crossing.layout != "tokens":
            return 0
        if place is None or crossing.shape != self.cut.shape:
            return 1
        return place.prefix_tokens

    def mean_bytes(self, number: int, codec: Codec) -> float | None:
        """Bytes of one sample of one of the tensors, of all lengths that there are; None where all have one shape.

        Raises:
            CodecError: the codec refuses them.
        """
        spec, lengths = self.specs[number], self.source.samples.lengths
        if not spec.ragged or not self.spread or lengths is None:
            return None
        nbytes = 0
        for ids, tensors in self.spread:
            own = self.source.lengths(ids, number)
            told = codec.for_lengths(None if own is None else own.tolist())
            nbytes += len(told.encode(spec.physical(tensors[number]), spec.codec_axis))
        every = torch.cat([ids for ids, _ in self.spread])
        share = lengths.own[0].double().mean() / lengths.own[0, every].double().mean().clamp(min=1)
        return nbytes / len(every) * share.item()

    def call_with(self, part: Tensor, start: int, number: int = 0) -> Any:
        """What the suffix is called with where these rows of one of the tensors are `part`, the others as they are."""
        device = self.source.on_device.device
        rows = [part if n == number else t[start : start + len(part)] for n, t in enumerate(self.tensors)]
        moved = iter([_as_called(*pair).to(device) for pair in zip(rows, self.cut.rows, strict=True)])
        brought = self._brought(slice(start, start + len(part)))
        given = tuple(brought[c.source] if c.shape is None else next(moved) for c in self.cut.tensors)
        return given if len(given) > 1 else given[0]

    def _brought(self, rows: slice) -> dict[Any, Any]:
        """The arguments that calls bring themselves, for some rows of the sample."""
        if not self.cut.brought:
            return {}
        called_with = self.source.on_device(self.source.samples.arguments(self.ids[rows]))
        return arguments_of(called_with)

    def judged(self, suffix: nn.Module, harm: Any) -> tuple[nn.Module, Task]:
        """The suffix as it is judged, and how: told by `harm`, the outputs or the targets, see `task_of`.

        It is judged in eval, or where it shows nothing there by which it could be, by the losses that it gives in
        training; and where it gives the same for all samples, because its head begins with zeros, with a drawn one.
        """
        outputs = self._outputs(suffix)
        begun = suffix.begun() if isinstance(suffix, Suffix) and alike(outputs[0]) else None
        if begun is not None:
            suffix, outputs = begun, self._outputs(begun)
        if not shows(outputs[0]):
            suffix = InTraining(suffix)
            outputs = self._outputs(suffix)
        return suffix, task_of(harm, outputs, self.targets)

    def _outputs(self, suffix: nn.Module) -> list[Any]:
        with evaluating(suffix):
            batches = enumerate(torch.split(self.features, self.specs[0].chunk_size))
            return [suffix(self.call_with(part, n * self.specs[0].chunk_size)) for n, part in batches]

    @property
    def features(self) -> Tensor:
        """[n, ...], those of the cut itself."""
        return self.tensors[0]

    @property
    def ids(self) -> Tensor:
        """Of the samples, [n]."""
        return _ids(self.source, self.chunks)

    @property
    def floating(self) -> tuple[int, ...]:
        """Which of the tensors hold floats; the others are stored as they are, and so is an argument that is as long as
        the input: no codec knows what stands for its padding."""
        return tuple(
            number
            for number, (tensor, crossing) in enumerate(zip(self.tensors, self.cut.rows, strict=True))
            if tensor.is_floating_point() and not (crossing.is_argument and self.specs[number].ragged)
        )


def _total(lengths: Tensor | None) -> int | None:
    return None if lengths is None else int(lengths.sum())


def _as_called(rows: Tensor, crossing: Crossing) -> Tensor:
    """Rows of a calibration sample as the suffix takes them."""
    if crossing.shape == ():
        return rows[:, 0]
    if crossing.ragged is None or crossing.is_argument:
        return rows
    return (rows[..., 0] if crossing.shape is not None and len(crossing.shape) == 1 else rows).movedim(
        1, 1 + crossing.ragged.axis
    )


def _ids(source: PrefixSource, chunks: int) -> Tensor:
    return torch.cat([source.order.members(chunk) for chunk in range(chunks)])


def _share(source: PrefixSource, chunks: int) -> tuple[float, float]:
    """How long samples are on the whole, by how long those of the first chunk are, and of the first chunks."""
    lengths = source.samples.lengths
    if lengths is None:
        return 1.0, 1.0
    mean = lengths.total.double().mean().item()
    found = [mean / lengths.total[_ids(source, count)].double().mean().clamp(min=1).item() for count in (1, chunks)]
    return found[0], found[1]


def _spread(source: PrefixSource, draw: Draw, tensors: int) -> Iterator[tuple[Tensor, tuple[Tensor, ...]]]:
    """The samples of some chunks from the shortest to the longest, and what of theirs crosses."""
    lengths, order = source.samples.lengths, source.order
    if lengths is None:
        return
    full = [order.members(chunk) for chunk in range(max(1, order.samples // order.chunk_size))]
    full.sort(key=lambda ids: float(lengths.total[ids].double().mean()))
    for part in range(SPREAD):
        ids = full[len(full) * (2 * part + 1) // (2 * SPREAD)]
        yield ids, source.run_calls(source.samples.calls(ids, draw)[0], ids)[:tensors]


def _line_bytes(source: PrefixSource, call: int, number: int) -> float:
    """What a journal says of a sample of the first chunk."""
    ids = source.order.members(0)
    lengths, frames = source.lengths(ids, number), source.samples.frames.told(ids, call)
    digests = "0" * digests_nbytes(len(ids))
    return line_nbytes(ids.tolist(), None if lengths is None else lengths.tolist(), digests, frames) / len(ids)


def _padded(source: PrefixSource, cut: Cut, tensors: Sequence[Tensor], chunks: int) -> tuple[Tensor, ...]:
    """What is as long as the input, padded; arguments as the user's collate makes them for all of these samples."""
    lengths = source.samples.lengths
    if lengths is None:
        return tuple(tensors)
    ids = _ids(source, chunks)
    arguments = arguments_of(source.samples.arguments(ids))
    made = []
    for number, (tensor, crossing) in enumerate(zip(tensors, cut.rows, strict=True)):
        own = source.lengths(ids, number)
        if own is not None:
            rows = padded(tensor, 0, own, int(own.max()), lengths.at_end)
            tensor = arguments[crossing.source] if crossing.is_argument else rows
        made.append(tensor)
    return tuple(made)
