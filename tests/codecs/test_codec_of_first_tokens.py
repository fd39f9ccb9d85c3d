"""The first tokens of each sample by one codec, the others by another."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hoarfrost.codecs import Codec, Exact, FirstTokens, Half, Linear, Shared, codec_from_config
from hoarfrost.errors import CodecError, NonFiniteError

CODECS = [
    FirstTokens(1, Shared(11)),
    FirstTokens(2, Linear(3), Half()),
    FirstTokens(3, Shared(20), Linear(8)),
    FirstTokens(1, Half()),
    FirstTokens(2, Exact(), Linear(5)),
]
ALL = pytest.mark.parametrize("codec", CODECS, ids=str)
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def tokens(samples: int = 5, length: int = 7, channels: int = 4, seed: int = 0) -> Tensor:
    """Features [N, T, D] whose first token is a hundred times as large as the others."""
    features = torch.randn(samples, length, channels, generator=torch.Generator().manual_seed(seed))
    features[:, :1] *= 100
    return features


def back(codec: Codec, features: Tensor, channel_axis: int) -> Tensor:
    return codec.decode(codec.encode(features, channel_axis), features.shape, features.dtype, channel_axis)


def assert_within(codec: Codec, features: Tensor, channel_axis: int) -> None:
    decoded = back(codec, features, channel_axis)
    assert decoded.dtype == features.dtype
    assert decoded.shape == features.shape
    error = (decoded.double() - features.double()).abs().amax(tuple(range(channel_axis)))
    assert bool((error <= codec.error_bound(features, channel_axis)).all())


@ALL
@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 5), st.sampled_from(DTYPES), st.integers(0, 99))
def test_tokens_come_back_within_the_bound(
    codec: Codec, samples: int, length: int, channels: int, dtype: torch.dtype, seed: int
) -> None:
    assert_within(codec, tokens(samples, length, channels, seed).to(dtype), 2)


@ALL
@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=5).filter(any), st.sampled_from(DTYPES), st.integers(0, 99))
def test_tokens_of_differing_lengths_come_back_within_the_bound(
    codec: Codec, lengths: list[int], dtype: torch.dtype, seed: int
) -> None:
    rows = tokens(1, sum(lengths), 3, seed)[0].to(dtype)
    assert_within(codec.for_lengths(lengths), rows, 1)


@pytest.mark.parametrize("count", [1, 2, 6, 7, 9])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_first_tokens_keep_their_bits(count: int, dtype: torch.dtype) -> None:
    features = tokens().to(dtype)
    decoded = back(FirstTokens(count, Shared(4)), features, 2)
    assert torch.equal(decoded[:, :count], features[:, :count])
    if count < 6:
        assert not torch.equal(decoded, features)


@pytest.mark.parametrize("lengths", [(7, 1, 3), (0, 2, 1, 0, 8), (1, 1, 1)], ids=str)
def test_the_first_tokens_of_samples_of_differing_lengths_keep_their_bits(lengths: tuple[int, ...]) -> None:
    samples = [tokens(1, length, 4, seed)[0] for seed, length in enumerate(lengths)]
    decoded = back(FirstTokens(2, Shared(3)).for_lengths(lengths), torch.cat(samples), 1).split(lengths)
    assert all(torch.equal(mine[:2], its[:2]) for mine, its in zip(decoded, samples, strict=True))


def test_the_others_are_what_they_would_be_alone() -> None:
    features = tokens()
    for codec in (Shared(11), Linear(3), Half()):
        assert torch.equal(
            back(FirstTokens(1, codec), features, 2)[:, 1:], back(codec, features[:, 1:].contiguous(), 2)
        )


def test_a_large_first_token_no_longer_sets_the_steps_of_the_others() -> None:
    features, codec = tokens(64, 20), Shared(32)
    alike, apart = (back(one, features, 2)[:, 1:] for one in (codec, FirstTokens(1, codec)))
    errors = [float((found - features[:, 1:]).square().mean()) for found in (alike, apart)]
    assert errors[1] < errors[0] / 100


@pytest.mark.parametrize(
    ("shape", "axis"), [((6, 5), 1), ((6, 4, 5), 1), ((6, 3, 4, 4), 1), ((6, 3, 4, 4), 3)], ids=str
)
def test_what_has_no_tokens_goes_to_the_other_codec(shape: tuple[int, ...], axis: int) -> None:
    features = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    codec = FirstTokens(1, Shared(9))
    assert codec.encode(features, axis)[4:] == Shared(9).encode(features, axis)
    assert torch.equal(back(codec, features, axis), back(Shared(9), features, axis))


def test_levels_stay_levels_until_they_are_used() -> None:
    features = tokens()
    packed = CODECS[0].unpack(CODECS[0].encode(features, 2), features.shape, features.dtype, 2)
    assert packed.values.dtype == torch.uint8
    floats = packed.as_floats()
    assert torch.equal(floats.values, packed.dense())
    assert floats.first is None
    assert packed.nbytes < floats.nbytes


def test_dense_leaves_what_is_packed_as_it_is() -> None:
    features, codec = tokens(), FirstTokens(1, Half())
    packed = codec.unpack(codec.encode(features, 2), features.shape, features.dtype, 2)
    before = packed.values.clone()
    assert not torch.equal(packed.dense(), packed.values)
    assert torch.equal(packed.values, before)


@ALL
def test_damaged_bytes_are_refused(codec: Codec) -> None:
    features = tokens()
    payload = codec.encode(features, 2)
    for damaged in (b"", payload[:3], payload[:4], payload[:-1], payload[: len(payload) // 2], payload + b"\0"):
        with pytest.raises(CodecError, match=r"damaged or cut short|frame holds"):
            codec.unpack(damaged, features.shape, features.dtype, 2)
    with pytest.raises(CodecError, match="the zstd frame holds"):
        codec.unpack(payload, (5, 8, 4), features.dtype, 2)


@ALL
def test_a_flipped_bit_is_seen_or_does_no_harm(codec: Codec) -> None:
    features = tokens(2, 4, 3)
    payload = codec.encode(features, 2)
    right = codec.decode(payload, features.shape, features.dtype, 2)
    for bit in range(len(payload) * 8):
        flipped = bytearray(payload)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            decoded = codec.decode(bytes(flipped), features.shape, features.dtype, 2)
        except CodecError:
            continue
        assert torch.equal(decoded, right), bit


def test_bytes_behind_the_last_token_are_refused() -> None:
    features, codec = tokens(3, 2), FirstTokens(2, Shared(5))
    with pytest.raises(CodecError, match="damaged or cut short"):
        codec.unpack(codec.encode(features, 2) + b"\0", features.shape, features.dtype, 2)


@pytest.mark.parametrize("place", [(2, 0, 3), (2, 4, 3)], ids=["first", "other"])
def test_non_finite_features_are_refused_by_row_and_channel(place: tuple[int, ...]) -> None:
    features = tokens()
    features[place] = float("nan")
    with pytest.raises(NonFiniteError, match="sample row 2, channel 3 holds nan"):
        CODECS[0].encode(features, 2)


def test_lengths_that_are_not_those_of_the_rows_are_refused() -> None:
    with pytest.raises(CodecError, match="samples of 5 rows together, but there are 6"):
        FirstTokens(1, Shared(5)).for_lengths((2, 3)).encode(torch.randn(6, 4), 1)


@ALL
def test_configs_round_trip_through_json(codec: Codec) -> None:
    assert codec_from_config(json.loads(json.dumps(codec.to_config()))) == codec
    assert codec.for_lengths((3, 4)).to_config() == codec.to_config()


def test_the_config_is_what_caches_on_disk_say() -> None:
    assert FirstTokens(5, Shared(16), Half()).to_config() == {
        "name": "first-tokens",
        "tokens": 5,
        "rest": {"name": "shared", "levels": 16},
        "first": {"name": "half"},
    }


@pytest.mark.parametrize(
    "change", [{"tokens": 0}, {"tokens": True}, {"rest": 3}, {"first": {"name": "sz3"}}, {"k": 1}], ids=str
)
def test_a_config_that_does_not_fit_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(CodecError, match=r"first-tokens|FirstTokens|unknown codec"):
        codec_from_config({**FirstTokens(1, Shared(16)).to_config(), **change})


def test_one_within_another_is_refused() -> None:
    with pytest.raises(CodecError, match=r"codecs of another kind, such as Shared\(16\)"):
        FirstTokens(1, FirstTokens(1, Shared(5)))


def test_finer_steps_are_those_of_the_other_tokens() -> None:
    weights = torch.tensor([1.0, 16.0, 1.0, 1.0])
    codec = FirstTokens(1, Shared(9)).weighted(weights)
    assert codec == FirstTokens(1, Shared(9).weighted(weights))
    assert codec.weighable
    assert not FirstTokens(1, Linear(4)).weighable
    assert codec.among((1, 2)).rest == Shared(9).weighted(weights).among((1, 2))
