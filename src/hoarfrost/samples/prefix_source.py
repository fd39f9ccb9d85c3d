"""Features of a chunk as the frozen prefix computes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..augment import Draw
from ..cache import CacheSpec
from ..codecs import Packed
from ..cuts import Crossing, Cut, Example, Prefix, called, entries_of, misshapen
from ..errors import DatasetError
from .dataset import Samples
from .device import OnDevice
from .order import Order

__all__ = ["Block", "PrefixSource", "Together", "dense_block"]


@dataclass(frozen=True)
class Block:
    """The features of one chunk as the window holds them, and the targets beside them [n, ...]; how long each sample
    is, int64 [n], where they differ in length."""

    features: Packed
    targets: Tensor
    lengths: Tensor | None = None


class Together:
    """What one pass of the prefix gave for a chunk, kept until the sources of all its tensors have taken their own."""

    def __init__(self, tensors: int) -> None:
        self._tensors = tensors
        self._held: dict[tuple[int, int], tuple[tuple[Tensor, ...], Tensor, set[int]]] = {}

    def take(
        self, chunk: int, epoch: int, tensor: int, compute: Callable[[], tuple[tuple[Tensor, ...], Tensor]]
    ) -> tuple[Tensor, Tensor]:
        key = chunk, epoch
        if key not in self._held:
            self._held[key] = (*compute(), set(range(self._tensors)))
        features, targets, waiting = self._held[key]
        waiting.discard(tensor)
        if not waiting:
            del self._held[key]
        return features[tensor], targets


@dataclass
class PrefixSource:
    """Runs the frozen prefix on freshly rendered images, a chunk at a time.

    Where several tensors cross the cut, or the model is called several times for a sample, each has a source; `tensor`
    says which one this gives: those of the first call come first.
    """

    prefix: nn.Module
    samples: Samples
    order: Order
    spec: CacheSpec | None
    draw_for: Callable[[int, int], Draw]
    """(chunk, epoch) -> the renditions to run."""
    on_device: OnDevice
    tensor: int = 0
    together: Together | None = None

    def kept(self, chunk: int, epoch: int) -> Block | None:
        return None

    def ahead(self, chunk: int, epoch: int) -> bool:
        return False

    def load(self, chunk: int, epoch: int) -> Block:
        if self.spec is None:
            raise RuntimeError("PrefixSource.load needs the features' layout")
        draw = self.draw_for(chunk, epoch)
        if self.together is None:
            features, targets = self.features(chunk, draw)
        else:
            features, targets = self.together.take(chunk, epoch, self.tensor, lambda: self.tensors(chunk, draw))
        ids = self.order.members(chunk)
        return Block(dense_block(features, self.spec), self.samples.under(targets, draw), self.lengths(ids))

    def recover(self, chunk: int, epoch: int, reason: Exception) -> Block:
        raise reason

    def features(self, chunk: int, draw: Draw) -> tuple[Tensor, Tensor]:
        """Features [n, ...] of a chunk's samples under a draw, and targets [n, ...]; what is as long as the input
        without its padding, [sum of lengths, ...]."""
        tensors, targets = self.tensors(chunk, draw)
        return tensors[self.tensor], targets

    def told(self, chunk: int, draw: Draw) -> tuple[Tensor, Tensor, str | None]:
        """`features`, and digests of the samples as they were read, for a journal."""
        ids = self.order.members(chunk)
        calls, targets, digests = self.samples.calls_told(ids, draw)
        return self.run_calls(calls, ids)[self.tensor], targets, digests

    def tensors(self, chunk: int, draw: Draw) -> tuple[tuple[Tensor, ...], Tensor]:
        """All that crosses the cut for a chunk's samples, of each call of the model, and targets [n, ...]."""
        ids = self.order.members(chunk)
        calls, targets = self.samples.calls(ids, draw)
        return self.run_calls(calls, ids), targets

    def lengths(self, ids: Tensor, tensor: int | None = None) -> Tensor | None:
        """How long this tensor, or another of those of all calls, is for these samples, int64 [n]; None: of one
        shape."""
        if self.samples.lengths is None:
            return None
        call, place = divmod(self.tensor if tensor is None else tensor, len(self.crossings))
        ragged = self.crossings[place].ragged
        return None if ragged is None else self.samples.lengths.of(ids, ragged, call)

    @property
    def call(self) -> int:
        """Which call of the model gives what this one gives."""
        return self.tensor // max(1, len(self.crossings))

    @property
    def crossings(self) -> tuple[Crossing, ...]:
        """What crosses and has a row for each sample."""
        return self.prefix.cut.rows if isinstance(self.prefix, Prefix) else ()

    def blank(self) -> Tensor | None:
        """Features [...] of what the transform shows beyond an image's borders; None where it shows nothing there."""
        inputs = self.samples.blank()
        if inputs is None:
            return None
        tensors = self.run(inputs)
        return tensors[self.tensor % len(tensors)][0]

    def run_calls(self, calls: Sequence[Example], ids: Tensor | None = None) -> tuple[Tensor, ...]:
        """`run` for each call of the model, one after the other."""
        return tuple(tensor for call, inputs in enumerate(calls) for tensor in self.run(inputs, ids, call))

    def run(self, inputs: Example, ids: Tensor | None = None, call: int = 0) -> tuple[Tensor, ...]:
        """All that crosses and has a row for each sample, each [n, ...], of what the model is called with: on the CPU,
        in the prefix's own memory format.

        Args:
            ids: whose it is. With them what is as long as the input comes without its padding, [sum of lengths, ...].
            call: which call of the model it is.
        """
        with torch.no_grad():
            features = called(self.prefix, self.on_device(inputs))
            if isinstance(self.prefix, Prefix):
                self._check_sizes(inputs, self.prefix)
                tensors = self.prefix.cut.rows_of(features)
                self._check(inputs, tensors, _sized(self.prefix, tensors), ids, call)
            else:
                tensors = (features,) if isinstance(features, Tensor) else tuple(features)
            lengths = self.samples.lengths
            if ids is not None and lengths is not None:
                pairs = zip(tensors, (crossing.ragged for crossing in self.crossings), strict=True)
                tensors = tuple(t if r is None else lengths.without_padding(t, ids, r, call) for t, r in pairs)
            # A number for each sample, a label that the model is called with, is stored as a row of one.
            return tuple((tensor if tensor.dim() > 1 else tensor[:, None]).to("cpu") for tensor in tensors)

    def _check_sizes(self, inputs: Example, prefix: Prefix) -> None:
        """Raise DatasetError where images of a list have other sizes: which share a batch would shape the features."""
        shapes = entries_of(inputs) if prefix.entries else {}
        for key, known in prefix.entries.items():
            others = shapes.get(key, known) - known
            if others:
                one, other = sorted(known)[0], sorted(others)[0]
                raise DatasetError(
                    f"some samples are {list(other)}, the first ones {list(one)}: a model that takes a list of images "
                    "pads them to the largest, so that features would depend on who shares a batch, and scales boxes "
                    "by their image's size; bring images to one size in the data set, and their targets with them"
                )

    def _check(self, inputs: Example, tensors: Sequence[Tensor], cut: Cut, ids: Tensor | None, call: int) -> None:
        """Raise DatasetError where inputs are of other lengths or sizes than those that the model was divided on."""
        for number, (tensor, crossing) in enumerate(zip(tensors, cut.rows, strict=True), call * len(cut.rows)):
            lengths = None if ids is None else self.lengths(ids, number)
            if lengths is not None and crossing.ragged is not None:
                length = tensor.shape[1 + crossing.ragged.axis]
                if length < int(lengths.max()):
                    raise DatasetError(
                        f"features at cut {cut.label!r} are {length} long for a batch with a sample of "
                        f"{int(lengths.max())}: a sample is as long as it is when collated alone, cut it to a length "
                        "before it is collated"
                    )
                axis = 0 if self.samples.lengths is None else self.samples.lengths.axis
                whole = self.samples.form.main_argument(inputs).shape[axis]
                if length != crossing.ragged.of(whole):
                    raise DatasetError(
                        f"features at cut {cut.label!r} are {length} long for inputs of {whole}, where batches of "
                        f"other lengths foretold {crossing.ragged.of(whole)}: the model does not only take windows of "
                        "even strides; pad to a fixed length, or freeze elsewhere"
                    )
            if misshapen(tensor.shape[1:], crossing):
                raise DatasetError(
                    f"features at cut {cut.label!r} are {list(tensor.shape[1:])} for some samples, "
                    f"{list(crossing.shape or ())} for the first ones: inputs differ in length or size; bring them to "
                    "one, texts by padding to a fixed length, or by a collate_fn that pads each batch"
                )


def _sized(prefix: Prefix, tensors: Sequence[Tensor]) -> Cut:
    """The cut as it is on inputs of the size that gave these; the prefix's own where none fits."""
    shapes = [tensor.shape[1:] for tensor in tensors]
    fitting = (cut for cut in prefix.resized if not any(map(misshapen, shapes, cut.rows)))
    return next(fitting, prefix.cut)


def dense_block(features: Tensor, spec: CacheSpec) -> Packed:
    """Float features as a block of the window: physical order, nothing to dequantise."""
    return Packed(spec.physical(features), None, None, features.dtype, spec.codec_axis)
