"""The first tokens of each sample, put in their places on a device."""

from __future__ import annotations

import itertools

import pytest
import torch

from hoarfrost.codecs import Exact, FirstTokens, Half, Linear, Shared
from hoarfrost.feeding.loading import feature_batches
from hoarfrost.samples.order import Order
from shared.token_source import source_of

CODECS = [
    FirstTokens(2, Linear(5)),
    FirstTokens(1, Shared(20), Half()),
    FirstTokens(2, Half()),
    FirstTokens(1, Exact()),
]


@pytest.mark.parametrize("ragged", [False, True], ids=["of one shape", "of differing lengths"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_batches_are_those_of_the_cpu(
    codec: FirstTokens, dtype: torch.dtype, ragged: bool, device: torch.device
) -> None:
    order = Order(500, 0, chunk_size=16, window=3)
    source = source_of(codec, order, ragged, dtype)
    for epoch in range(2):
        expected = feature_batches(source, order, source.spec, epoch, 24)
        found = feature_batches(source, order, source.spec, epoch, 24, device=device)
        for mine, theirs in itertools.zip_longest(found, expected):
            assert torch.equal(mine.features.cpu(), theirs.features)
            assert torch.equal(mine.sample_ids, theirs.sample_ids)


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_tokens_that_lie_there_are_encoded_as_on_the_cpu(codec: FirstTokens, device: torch.device) -> None:
    features = torch.randn(6, 9, 8, generator=torch.Generator().manual_seed(0))
    for one, rows, axis in ((codec, features, 2), (codec.for_lengths((9,) * 6), features.flatten(0, 1), 1)):
        decoded = one.decode(one.encode(rows.to(device), axis), rows.shape, rows.dtype, axis)
        assert bool(
            ((decoded.double() - rows.double()).abs().amax(tuple(range(axis))) <= one.error_bound(rows, axis)).all()
        )
