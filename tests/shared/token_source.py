"""A source of tokens, [n, T, D] or of differing lengths, by any codec."""

from __future__ import annotations

import torch
from torch import Tensor

from hoarfrost.cache import CacheSpec
from hoarfrost.codecs import Codec
from hoarfrost.samples.order import Order
from hoarfrost.samples.prefix_source import Block

from .numbered_source import NumberedSource


def length_of(sample: int) -> int:
    return (7 * sample + 3) % 6


class Tokens(NumberedSource):
    """Features [n, 6, 4], or of 0 to 5 tokens where the spec says that lengths differ; their targets are ids."""

    def load(self, chunk: int, epoch: int) -> Block:
        ids, spec = self.order.members(chunk), self.spec
        lengths = [length_of(int(n)) for n in ids] if spec.ragged else None
        rows = [self.sample(int(n)) for n in ids]
        features = torch.stack(rows) if lengths is None else torch.cat(rows)
        codec = spec.codec_of(0, lengths)
        packed = codec.unpack(codec.encode(features, spec.codec_axis), features.shape, spec.dtype, spec.codec_axis)
        return Block(packed, ids, None if lengths is None else torch.tensor(lengths))

    def sample(self, number: int) -> Tensor:
        generator = torch.Generator().manual_seed(number)
        whole = torch.randn(6, 4, generator=generator).to(self.spec.dtype)
        whole[:1] *= 100
        return whole[: length_of(number)] if self.spec.ragged else whole


def source_of(codec: Codec, order: Order, ragged: bool, dtype: torch.dtype = torch.float32) -> Tokens:
    shape = (4,) if ragged else (6, 4)
    total = sum(map(length_of, range(order.samples))) if ragged else None
    spec = CacheSpec(order.samples, order.chunk_size, shape, dtype, len(shape), False, codec, total_length=total)
    return Tokens(order, spec, concurrent=True)
