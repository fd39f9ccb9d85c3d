"""The law of every codec: what comes back is within the declared bound, for any finite input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hoarfrost.codecs import BFloat16, Bounded, Codec, Exact, Half, Linear, Shared
from hoarfrost.errors import CodecError, NonFiniteError

CODECS: list[Codec] = [
    Exact(),
    Half(),
    BFloat16(),
    *(Linear(bits) for bits in range(1, 9)),
    Shared(2),
    Shared(11),
    Shared(256),
    Bounded(0.25),
    Bounded(1e-3),
]
DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]
FLOAT_MAX = float(np.finfo(np.float32).max)

shapes = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 5), st.integers(1, 5))
magnitudes = st.sampled_from([1e-45, 1e-38, 1e-6, 1.0, 1e4, 1e30, FLOAT_MAX])


@st.composite
def batches(draw: st.DrawFn) -> torch.Tensor:
    """Float32 batches of any magnitude, mixed with zeros, constants and the edges of the format."""
    shape = draw(shapes)
    unit = st.floats(-1, 1, width=32)
    values = draw(hnp.arrays(np.float64, shape, elements=unit)) * draw(magnitudes)
    if draw(st.booleans()):
        values = np.maximum(values, 0)
    if draw(st.booleans()):
        values = values + draw(st.sampled_from([1.0, -1e3, 1e10]))
    return torch.from_numpy(np.clip(values, -FLOAT_MAX, FLOAT_MAX)).float()


def within_bound(codec: Codec, features: torch.Tensor, channel_axis: int) -> None:
    try:
        payload = codec.encode(features, channel_axis)
    except CodecError:
        assert isinstance(codec, Half | BFloat16) or features.dtype == torch.float64
        return
    decoded = codec.decode(payload, features.shape, features.dtype, channel_axis)
    assert decoded.dtype == features.dtype
    assert decoded.shape == features.shape
    assert bool(decoded.isfinite().all())
    dims = [axis for axis in range(features.ndim) if axis != channel_axis]
    error = (decoded.double() - features.double()).abs().amax(dims)
    bound = codec.error_bound(features, channel_axis)
    assert bound.shape == error.shape
    assert bool((error <= bound).all()), (error, bound)


@pytest.mark.parametrize("codec", CODECS, ids=str)
@settings(max_examples=40, deadline=None)
@given(features=batches(), dtype=st.sampled_from(DTYPES), channel_axis=st.integers(1, 3))
@example(torch.tensor([[[[-FLOAT_MAX, FLOAT_MAX]]]]), torch.float32, 1)
@example(torch.tensor([[[[FLOAT_MAX, 0.0]]]]), torch.float32, 1)
@example(torch.tensor([[[[FLOAT_MAX, FLOAT_MAX * 0.5, FLOAT_MAX * 0.7]]]]), torch.float32, 1)
@example(torch.tensor([[[[1e-45, 3e-45, 0.0]]]]), torch.float32, 1)
@example(torch.tensor([[[[65504.0, -65504.0, 65472.0]]]]), torch.float16, 1)
@example(torch.tensor([[[[16777216.0, 16777218.0, 16777220.0]]]]), torch.float32, 1)
def test_error_stays_within_the_bound(
    codec: Codec, features: torch.Tensor, dtype: torch.dtype, channel_axis: int
) -> None:
    limit = torch.finfo(dtype).max
    features = features.double().clamp(-limit, limit).to(dtype)
    within_bound(codec, features, channel_axis)


@pytest.mark.parametrize("codec", CODECS, ids=str)
@settings(max_examples=15, deadline=None)
@given(hnp.arrays(np.float64, (3, 2, 4), elements=st.floats(-1e300, 1e300)))
def test_error_stays_within_the_bound_for_float64(codec: Codec, values: np.ndarray) -> None:
    within_bound(codec, torch.from_numpy(values), 1)


@settings(max_examples=60, deadline=None)
@given(features=batches(), channel_axis=st.integers(1, 3), levels=st.integers(2, 256), data=st.data())
@example(torch.tensor([[[[-FLOAT_MAX, FLOAT_MAX]]]]), 1, 9, None)
def test_error_stays_within_the_bound_with_finer_steps(
    features: torch.Tensor, channel_axis: int, levels: int, data: st.DataObject | None
) -> None:
    channels = features.shape[channel_axis]
    steps = st.lists(st.integers(0, 64), min_size=channels, max_size=channels)
    finer = data.draw(steps) if data is not None else [12] * channels
    within_bound(Shared(levels, finer=tuple(finer)), features, channel_axis)


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_zeros_behind_a_relu_come_back_as_zeros(codec: Codec) -> None:
    features = torch.randn(8, 5, 7, 7, generator=torch.Generator().manual_seed(0)).relu()
    decoded = codec.decode(codec.encode(features), features.shape, features.dtype)
    assert bool((decoded[features == 0] == 0).all())


@pytest.mark.parametrize("codec", CODECS, ids=str)
@pytest.mark.parametrize("shape", [(3, 4), (1, 1, 1, 1), (2, 3, 5), (2, 3, 5, 7), (2, 2, 2, 2, 3)], ids=str)
def test_every_number_of_dimensions(codec: Codec, shape: tuple[int, ...]) -> None:
    features = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    for axis in range(1, len(shape)):
        within_bound(codec, features, axis)


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_strides_do_not_matter(codec: Codec) -> None:
    features = torch.randn(4, 6, 5, 3, generator=torch.Generator().manual_seed(2))
    turned = features.permute(0, 2, 3, 1)
    assert codec.encode(turned, 3) == codec.encode(turned.contiguous(), 3)
    assert codec.encode(features.requires_grad_()) == codec.encode(features.detach())


@pytest.mark.parametrize("codec", CODECS, ids=str)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")], ids=str)
def test_non_finite_features_are_refused_by_row_and_channel(codec: Codec, bad: float) -> None:
    features = torch.zeros(4, 5, 3, 3)
    features[2, 3, 1, 1] = bad
    with pytest.raises(NonFiniteError, match=f"sample row 2, channel 3 holds {bad}"):
        codec.encode(features)
    with pytest.raises(NonFiniteError, match=f"sample row 2, channel 3 holds {bad}"):
        codec.encode(features.permute(0, 2, 3, 1), 3)


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_what_is_no_batch_of_features_is_refused(codec: Codec) -> None:
    if codec != Exact():
        with pytest.raises(CodecError, match=r"not torch.int64"):
            codec.encode(torch.zeros(2, 3, dtype=torch.int64))
    with pytest.raises(CodecError, match="are empty"):
        codec.encode(torch.zeros(0, 3, 2))
    with pytest.raises(CodecError, match="channel_axis 2 is no axis"):
        codec.encode(torch.zeros(2, 3), 2)
    with pytest.raises(CodecError, match="channel_axis 0 is no axis"):
        codec.encode(torch.zeros(2, 3), 0)


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_damaged_bytes_are_refused(codec: Codec) -> None:
    features = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(3))
    payload = codec.encode(features)
    for damaged in (b"", payload[:4], payload[:-1], payload[: len(payload) // 2], payload + b"\0"):
        with pytest.raises(CodecError, match=r"damaged or cut short|frame holds"):
            codec.unpack(damaged, features.shape, features.dtype)
    with pytest.raises(CodecError, match="the zstd frame holds"):
        codec.unpack(payload, (4, 3, 5, 6), features.dtype)


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_a_flipped_bit_is_seen_or_does_no_harm(codec: Codec) -> None:
    features = torch.randn(2, 2, 5, 5, generator=torch.Generator().manual_seed(4))
    payload = codec.encode(features)
    right = codec.decode(payload, features.shape, features.dtype)
    for bit in range(0, len(payload) * 8, 3):
        flipped = bytearray(payload)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            decoded = codec.decode(bytes(flipped), features.shape, features.dtype)
        except CodecError:
            continue
        assert torch.equal(decoded, right), bit


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.int16], ids=str)
def test_integers_are_kept_as_they_are(dtype: torch.dtype) -> None:
    values = torch.randint(0, 2, (5, 3, 4)).to(dtype)
    payload = Exact().encode(values)
    assert torch.equal(Exact().decode(payload, values.shape, dtype), values)
    assert Exact().decode(payload, values.shape, dtype).dtype == dtype
