"""The first tokens of each sample, apart from the levels of the others, from chunks to batches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hoarfrost.codecs import Exact, FirstTokens, Half, Linear, Shared
from hoarfrost.feeding.chunks_in_memory import ChunksInMemory
from hoarfrost.feeding.loading import feature_batches
from hoarfrost.samples.order import Order
from hoarfrost.samples.prefix_source import Block
from shared.token_source import Tokens, length_of, source_of

CODECS = [
    FirstTokens(2, Linear(5)),
    FirstTokens(1, Shared(20), Linear(8)),
    FirstTokens(2, Half()),
    FirstTokens(1, Exact()),
]


@pytest.mark.parametrize("device", [None, torch.device("cpu")], ids=["CPU", "another device's way"])
@pytest.mark.parametrize("limit", [0, 1 << 30], ids=["bytes are gathered", "floats are gathered"])
@pytest.mark.parametrize("ragged", [False, True], ids=["of one shape", "of differing lengths"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_batches_have_the_bits_of_decoding(
    codec: FirstTokens,
    dtype: torch.dtype,
    ragged: bool,
    limit: int,
    device: torch.device | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hoarfrost.feeding.window.DENSE_WINDOW_BYTES", limit)
    order = Order(50, 0, chunk_size=16, window=2)
    source = source_of(codec, order, ragged, dtype)
    wanted: dict[int, Tensor] = {}
    for chunk in range(order.chunks):
        block = source.load(chunk, 0)
        parts = block.features.dense().split(1 if block.lengths is None else block.lengths.tolist())
        wanted.update(zip(block.targets.tolist(), parts, strict=True))
    seen = 0
    for batch in feature_batches(source, order, source.spec, 0, 12, device=device):
        expected = torch.cat([wanted[number] for number in batch.sample_ids.tolist()])
        assert torch.equal(batch.features, expected)
        if codec.first == Exact():
            own = [source.sample(number)[: codec.tokens] for number in batch.sample_ids.tolist()]
            begins = [0]
            for number in batch.sample_ids.tolist():
                begins.append(begins[-1] + (length_of(number) if ragged else 6))
            flat = batch.features.reshape(-1, 4)
            assert all(torch.equal(flat[at : at + len(mine)], mine) for at, mine in zip(begins, own, strict=False))
        seen += len(batch.sample_ids)
    assert seen == 50


def test_blocks_with_and_without_first_tokens_mix_in_one_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hoarfrost.feeding.window.DENSE_WINDOW_BYTES", 0)
    order = Order(48, 0, chunk_size=16, window=3)
    sources = [
        source_of(codec, order, False) for codec in (FirstTokens(1, Linear(5)), FirstTokens(2, Linear(5)), Linear(5))
    ]

    class Mixed(Tokens):
        def load(self, chunk: int, epoch: int) -> Block:
            return sources[chunk].load(chunk, epoch)

    mixed = Mixed(order, sources[0].spec)
    wanted = {
        n: row
        for c in range(3)
        for n, row in zip(order.members(c).tolist(), mixed.load(c, 0).features.dense(), strict=True)
    }
    for batch in feature_batches(mixed, order, mixed.spec, 0, 12):
        assert torch.equal(batch.features, torch.stack([wanted[n] for n in batch.sample_ids.tolist()]))


@pytest.mark.parametrize("floats", [False, True], ids=["levels", "floats"])
def test_what_is_kept_in_memory_counts_them(floats: bool) -> None:
    order = Order(16, 0, chunk_size=16, window=1)
    block = source_of(FirstTokens(2, Linear(5)), order, False).load(0, 0)
    kept = ChunksInMemory(1 << 20, floats=floats)
    found = kept.keep(0, block)
    assert torch.equal(found.features.dense(), block.features.dense())
    levels = 16 * 6 * 4 + 2 * 4 * 4 + 16 * 2 * 4 * 4
    assert kept.nbytes == (16 * 6 * 4 * 4 if floats else levels) + block.targets.nbytes
