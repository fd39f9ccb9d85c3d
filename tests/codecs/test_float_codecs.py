"""Exact, Half and BFloat16."""

from __future__ import annotations

import pytest
import torch

from hoarfrost.codecs import BFloat16, Exact, Half
from hoarfrost.errors import CodecError


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_exact_keeps_every_bit(dtype: torch.dtype) -> None:
    features = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    features[0, 0, 0] = -0.0
    decoded = Exact().decode(Exact().encode(features), features.shape, dtype)
    assert torch.equal(decoded.view(torch.uint8), features.view(torch.uint8))


def test_half_and_bfloat16_round_as_torch_does() -> None:
    features = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0)) * 100
    assert torch.equal(Half().decode(Half().encode(features), features.shape, features.dtype), features.half().float())
    brain = BFloat16().decode(BFloat16().encode(features), features.shape, features.dtype)
    assert torch.equal(brain, features.bfloat16().float())


def test_half_refuses_what_it_would_make_infinite() -> None:
    features = torch.zeros(2, 3, 2)
    features[1, 2, 0] = -70000.0
    with pytest.raises(CodecError, match=r"channel 2 holds -70000, which torch.float16 cannot give back"):
        Half().encode(features)
    assert Half().encode(features.clamp(min=-65504))


def test_bfloat16_refuses_what_float16_features_could_not_take_back() -> None:
    features = torch.full((1, 2, 1), 65504.0, dtype=torch.float16)
    with pytest.raises(
        CodecError, match=r"channel 0 holds 65504, which torch.bfloat16 cannot give back as torch.float16"
    ):
        BFloat16().encode(features)


def test_decoded_features_may_be_written_to() -> None:
    features = torch.ones(2, 3)
    decoded = Exact().decode(Exact().encode(features), features.shape, features.dtype)
    decoded.add_(1)
    assert torch.equal(Exact().decode(Exact().encode(features), features.shape, features.dtype), features)
