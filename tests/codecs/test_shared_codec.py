from __future__ import annotations

import pytest
import torch

from hoarfrost.codecs import Linear, Shared
from hoarfrost.errors import CodecError


def test_all_channels_have_nearly_one_step() -> None:
    width = torch.tensor([8.0, 4.0, 1.0, 0.3]).view(1, 4, 1, 1)
    features = torch.rand(16, 4, 8, 8, generator=torch.Generator().manual_seed(0)) * width
    packed = Shared(41).unpack(Shared(41).encode(features), features.shape, features.dtype)
    assert packed.scale is not None
    span = features.amax((0, 2, 3)) - features.amin((0, 2, 3))
    common = float(span[0]) / 40
    assert bool((packed.scale <= common * (1 + 1e-6)).all())
    assert packed.values.amax((0, 2, 3)).tolist() == (span / common - 1e-4).ceil().tolist()


def test_one_channel_is_quantised_as_linear_quantises_it() -> None:
    features = torch.randn(4, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    shown = [codec.decode(codec.encode(features), features.shape, features.dtype) for codec in (Shared(32), Linear(5))]
    assert torch.equal(*shown)


def test_narrow_channels_take_fewer_bytes_than_at_as_many_levels_each() -> None:
    width = torch.logspace(0, -2, 16).view(1, 16, 1, 1)
    features = torch.randn(32, 16, 8, 8, generator=torch.Generator().manual_seed(2)) * width
    assert len(Shared(64).encode(features)) < len(Linear(6).encode(features))


@pytest.mark.parametrize("levels", [1, 257, 2.5, True, "8"], ids=repr)
def test_levels_beyond_a_byte_are_refused(levels: object) -> None:
    with pytest.raises(CodecError, match="Shared takes 2 to 256 levels, not"):
        Shared(levels)  # type: ignore[arg-type]
