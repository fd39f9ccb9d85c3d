"""A source whose features tell whose they are, and orders to read it in."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import torch
from hypothesis import strategies as st
from torch import Tensor

from hoarfrost.cache import CacheSpec
from hoarfrost.codecs import Codec, Exact
from hoarfrost.errors import CorruptChunkError
from hoarfrost.feeding.loading import Batch, feature_batches
from hoarfrost.samples.order import Order
from hoarfrost.samples.prefix_source import Block


def spec_of(order: Order, codec: Codec | None = None, channels_last: bool = False) -> CacheSpec:
    return CacheSpec(order.samples, order.chunk_size, (3, 2, 2), torch.float32, 1, channels_last, codec or Exact())


def features_of(ids: Tensor) -> Tensor:
    """Features [n, 3, 2, 2] that tell whose they are."""
    return ids.float()[:, None, None, None] + torch.arange(12.0).view(3, 2, 2) / 100


@dataclass
class NumberedSource:
    """Features and targets are functions of the sample's id; says what was asked of it."""

    order: Order
    spec: CacheSpec
    concurrent: bool = False
    damaged: set[int] = field(default_factory=set)
    loaded: list[int] = field(default_factory=list)
    threads: set[str] = field(default_factory=set)
    recovered: list[tuple[int, str]] = field(default_factory=list)

    def kept(self, chunk: int, epoch: int) -> Block | None:
        return None

    def ahead(self, chunk: int, epoch: int) -> bool:
        return self.concurrent

    def load(self, chunk: int, epoch: int) -> Block:
        self.loaded.append(chunk)
        self.threads.add(threading.current_thread().name)
        if chunk in self.damaged:
            raise CorruptChunkError(f"chunk {chunk} is damaged")
        ids = self.order.members(chunk)
        physical = self.spec.physical(features_of(ids))
        axis, codec = self.spec.codec_axis, self.spec.codec
        packed = codec.unpack(codec.encode(physical, axis), tuple(physical.shape), torch.float32, axis)
        return Block(packed, ids * 10)

    def recover(self, chunk: int, epoch: int, reason: Exception) -> Block:
        self.recovered.append((chunk, threading.current_thread().name))
        self.damaged.discard(chunk)
        return self.load(chunk, epoch)


def epoch_of(order: Order, batch_size: int, epoch: int = 0, start: int = 0, concurrent: bool = False) -> list[Batch]:
    spec = spec_of(order)
    return [*feature_batches(NumberedSource(order, spec, concurrent), order, spec, epoch, batch_size, start=start)]


def ids_of(batches: list[Batch]) -> list[list[int]]:
    return [batch.sample_ids.tolist() for batch in batches]


orders = st.builds(
    Order,
    samples=st.integers(1, 90),
    seed=st.integers(0, 2**40),
    chunk_size=st.integers(1, 20),
    window=st.integers(1, 6),
)

batch_sizes = st.integers(1, 40)

epochs = st.integers(0, 1000)
