from __future__ import annotations

import numpy as np
import pytest
import torch

from hoarfrost.codecs import Linear, Shared
from hoarfrost.codecs.frame import squeeze, squeeze_parts, unsqueeze
from hoarfrost.errors import CodecError


def widths(*values: float) -> torch.Tensor:
    return torch.tensor(values).view(1, -1, 1, 1)


def uniform(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("channel_axis", [1, 3])
def test_all_channels_have_one_step(channel_axis: int) -> None:
    features = uniform(0, 16, 8, 8, 4) * torch.tensor([8.0, 4.0, 1.0, 0.3])
    features = features.movedim(3, channel_axis).contiguous()
    packed = Shared(41).unpack(Shared(41).encode(features, channel_axis), features.shape, features.dtype, channel_axis)
    assert packed.scale is not None
    dims = [axis for axis in range(4) if axis != channel_axis]
    span = features.amax(dims) - features.amin(dims)
    torch.testing.assert_close(packed.scale, (span[0] / 40).expand(4))
    assert packed.values.amax(dims).tolist() == (span / span[0] * 40).round().tolist()


@pytest.mark.parametrize("levels", [2, 3, 5, 16, 17, 200])
def test_levels_are_the_nearest(levels: int) -> None:
    features = uniform(1, 5, 6, 3, 3) * widths(8, 2, 0.9, 0.2, 0.01, 0)
    decoded = Shared(levels).decode(Shared(levels).encode(features), features.shape, features.dtype)
    step = float(features[:, 0].amax() - features[:, 0].amin()) / (levels - 1)
    assert float((decoded - features).abs().max()) <= step / 2 * (1 + 1e-5)


def test_one_channel_is_quantised_as_linear_quantises_it() -> None:
    features = torch.randn(4, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    shown = [codec.decode(codec.encode(features), features.shape, features.dtype) for codec in (Shared(32), Linear(5))]
    torch.testing.assert_close(*shown, rtol=0, atol=1e-6)


def test_narrow_channels_take_fewer_bytes_than_at_as_many_levels_each() -> None:
    features = torch.randn(32, 16, 8, 8, generator=torch.Generator().manual_seed(2))
    features = features * torch.logspace(0, -2, 16).view(1, 16, 1, 1)
    assert len(Shared(64).encode(features)) < len(Linear(6).encode(features))


def test_channels_of_different_statistics_have_tables_of_their_own() -> None:
    features = torch.randn(64, 16, 16, 16, generator=torch.Generator().manual_seed(3))
    features = features * torch.logspace(0, -1.2, 16).view(1, 16, 1, 1)
    payload = Shared(64).encode(features)
    levels = Shared(64).unpack(payload, features.shape, features.dtype).values
    assert len(payload) < 0.9 * len(squeeze(levels.numpy().data))


def test_channels_that_never_change_take_no_levels() -> None:
    features = uniform(5, 8, 64, 16, 16)
    features[:, 1:] = torch.arange(63.0).view(1, -1, 1, 1)
    payload = Shared(200).encode(features)
    assert len(payload) < features[:, 0].numel() + 5 * 64 + 100
    assert torch.equal(Shared(200).decode(payload, features.shape, features.dtype)[:, 1:], features[:, 1:])


@pytest.mark.parametrize("rows", [0, 1, 3, 5])
def test_parts_are_one_frame(rows: int) -> None:
    parts = [np.full(20_000, row, np.uint8) for row in range(rows)]
    assert unsqueeze(squeeze_parts([b"head", *parts]), 4 + 20_000 * rows) == b"head" + b"".join(
        p.tobytes() for p in parts
    )


def test_bytes_of_other_channels_are_refused() -> None:
    features = uniform(6, 4, 6, 8)
    payload = Shared(16).encode(features)
    with pytest.raises(CodecError, match=r"the zstd frame holds \d+ bytes, but these features take \d+"):
        Shared(16).unpack(payload, (4, 8, 6), features.dtype)


@pytest.mark.parametrize("levels", [1, 257, 2.5, True, "8"], ids=repr)
def test_levels_beyond_a_byte_are_refused(levels: object) -> None:
    with pytest.raises(CodecError, match="Shared takes 2 to 256 levels, not"):
        Shared(levels)  # type: ignore[arg-type]


def test_finer_channels_have_finer_steps() -> None:
    features = uniform(4, 8, 3, 6, 6)
    codec = Shared(33, finer=(0, 4, 6))
    packed = codec.unpack(codec.encode(features), features.shape, features.dtype)
    assert packed.scale is not None
    torch.testing.assert_close(packed.scale / packed.scale[0], torch.tensor([1, 0.5, 2**-1.5]))
    assert int(packed.values[:, 2].max()) == 32
    assert int(packed.values[:, 0].max()) < 16


def test_weights_make_steps_finer_by_a_quarter_of_an_octave_for_each_doubling() -> None:
    assert Shared(20).weighted(torch.tensor([1.0, 4.0, 8.0])).finer == (0, 2, 3)
    assert Shared(20).weighted(torch.tensor([0.0, 1.0, 2.0**-3])).finer == (0, 12, 9)
    assert Shared(20).weighted(torch.zeros(3)) == Shared(20)
    assert Linear(4).weighted(torch.tensor([1.0, 4.0])) == Linear(4)


def test_finer_steps_follow_their_channels() -> None:
    codec = Shared(20, finer=(0, 2, 5, 9))
    assert codec.among((3, 1)).finer == (9, 2)
    assert codec.among(None) == codec
    assert Shared(20).among((3, 1)) == Shared(20)


def test_each_channel_alone_keeps_its_step() -> None:
    features = uniform(5, 8, 3, 6, 6) * widths(4, 2, 1)
    codec = Shared(33, finer=(0, 3, 8))
    together = codec.unpack(codec.encode(features), features.shape, features.dtype)
    spans = (features.amax((0, 2, 3)) - features.amin((0, 2, 3))).tolist()
    for channel, alone in enumerate(codec.each(spans)):
        column = features[:, channel : channel + 1].contiguous()
        packed = alone.unpack(alone.encode(column), column.shape, column.dtype)
        assert packed.scale is not None
        assert together.scale is not None
        assert float(packed.scale[0]) == pytest.approx(float(together.scale[channel]), rel=0.05)


def test_finer_steps_for_another_number_of_channels_are_refused() -> None:
    with pytest.raises(CodecError, match="for 2 channels, the features have 3"):
        Shared(20, finer=(0, 1)).encode(uniform(6, 2, 3, 4, 4))
    with pytest.raises(CodecError, match="whole numbers from 0 to 64"):
        Shared(20, finer=(0, -1))
