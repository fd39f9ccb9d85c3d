from __future__ import annotations

import pytest
import torch

from hoarfrost.codecs import Linear, dequantise
from hoarfrost.codecs.bits import pack_levels, packed_size, unpack_levels
from hoarfrost.errors import CodecError


@pytest.mark.parametrize("bits", range(1, 9))
def test_levels_are_the_nearest_of_a_slow_reference(bits: int) -> None:
    features = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    packed = Linear(bits).unpack(Linear(bits).encode(features), features.shape, features.dtype)
    top = 2**bits - 1
    for channel in range(4):
        values = features[:, channel].double()
        grid = torch.linspace(float(values.min()), float(values.max()), top + 1, dtype=torch.float64)
        nearest = (values.unsqueeze(-1) - grid).abs().argmin(-1)
        assert torch.equal(packed.values[:, channel].long(), nearest)
    assert packed.values.dtype == torch.uint8
    assert packed.scale is not None
    assert packed.low is not None
    assert packed.scale.shape == packed.low.shape == (4,)


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_a_channel_with_one_value_is_exact(bits: int) -> None:
    features = torch.full((4, 3, 2, 2), -0.1)
    features[:, 1] = torch.randn(4, 2, 2, generator=torch.Generator().manual_seed(0))
    codec = Linear(bits)
    decoded = codec.decode(codec.encode(features), features.shape, features.dtype)
    assert torch.equal(decoded[:, [0, 2]], features[:, [0, 2]])
    assert codec.error_bound(features)[[0, 2]].tolist() == [0.0, 0.0]


def test_the_bound_is_tight() -> None:
    features = torch.rand(64, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    for bits in range(1, 9):
        half_step = 0.5 / (2**bits - 1)
        assert float(Linear(bits).error_bound(features).max()) < half_step * 1.001 + 1e-6


@pytest.mark.parametrize("bits", [0, 9, -1, 2.0, True, "4"], ids=repr)
def test_bits_beyond_one_to_eight_are_refused(bits: object) -> None:
    with pytest.raises(CodecError, match="1 to 8 bits, not"):
        Linear(bits)  # type: ignore[arg-type]


def test_float64_beyond_float32_is_refused_by_channel() -> None:
    features = torch.zeros(2, 3, dtype=torch.float64)
    features[1, 2] = 1e39
    with pytest.raises(CodecError, match=r"channel 2 holds 1e\+39"):
        Linear(8).encode(features)


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 64, 65])
def test_packing_is_undone_by_unpacking(bits: int, count: int) -> None:
    levels = torch.randint(0, 2**bits, (count,), generator=torch.Generator().manual_seed(count)).byte().numpy()
    packed = pack_levels(levels, bits)
    assert packed.size == packed_size(count, bits)
    assert unpack_levels(packed, count, bits).tolist() == levels.tolist()


def test_packing_puts_the_first_level_lowest() -> None:
    levels = torch.tensor([1, 2, 3], dtype=torch.uint8).numpy()
    assert pack_levels(levels, 4).tolist() == [0x21, 0x03]
    assert pack_levels(levels, 2).tolist() == [0b111001]
    assert pack_levels(levels % 2, 1).tolist() == [0b101]
    assert pack_levels(levels, 3).tolist() == [1, 2, 3]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_rows_gathered_from_several_chunks_dequantise_as_the_chunks_do(dtype: torch.dtype) -> None:
    codec = Linear(4)
    chunks = [torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(s)).to(dtype) for s in (0, 1)]
    packed = [codec.unpack(codec.encode(chunk), chunk.shape, dtype) for chunk in chunks]
    rows = [(1, 3), (0, 2), (1, 0)]
    values = torch.stack([packed[c].values[r] for c, r in rows])
    scales = torch.stack([packed[c].scale for c, _ in rows])  # type: ignore[misc]
    lows = torch.stack([packed[c].low for c, _ in rows])  # type: ignore[misc]
    expected = torch.stack([packed[c].dense()[r] for c, r in rows])
    assert torch.equal(dequantise(values, scales, lows, dtype), expected)
    out = torch.empty(3, 3, 5, 5)
    assert torch.equal(dequantise(values, scales, lows, dtype, out=out), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_features_on_a_gpu_give_the_same_bytes() -> None:
    features = torch.randn(8, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    assert Linear(4).encode(features.cuda()) == Linear(4).encode(features)
