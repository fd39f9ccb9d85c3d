"""zfp's fixed accuracy as a codec: within its tolerance, safe to read, and our own where its package is not there."""

from __future__ import annotations

import builtins
import math
import sys
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hoarfrost.codecs import ZFP, Bounded, Ladder, codec_from_config
from hoarfrost.codecs.zfp import bounded_like
from hoarfrost.errors import CodecError, NonFiniteError

installed = pytest.mark.skipif(not ZFP.is_installed(), reason="zfpy is not installed")


def features(*shape: int, scale: float = 3.0, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).relu() * scale


@installed
@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=2, max_size=6),
    st.sampled_from([1e-3, 0.1, 1.0, 100.0]),
    st.sampled_from([1e-30, 1e-3, 1.0, 1e4, 1e20, 1e36]),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
def test_what_comes_back_is_within_the_bound(
    shape: list[int], tolerance: float, scale: float, dtype: torch.dtype
) -> None:
    codec, told = ZFP(tolerance), (torch.randn(shape, generator=torch.Generator().manual_seed(1)) * scale).to(dtype)
    decoded = codec.decode(codec.encode(told), told.shape, dtype)
    assert (decoded.dtype, decoded.shape) == (dtype, told.shape)
    axes = [axis for axis in range(told.ndim) if axis != 1]
    assert bool(((decoded.double() - told.double()).abs().amax(axes) <= codec.error_bound(told)).all())


@installed
def test_a_coarser_tolerance_takes_fewer_bytes_and_a_hundred_keeps_planes_from_a_sixteenth_up() -> None:
    told = features(8, 16, 16, 16)
    sizes = [len(ZFP(tolerance).encode(told)) for tolerance in (0.1, 1.0, 10.0, 100.0)]
    assert sizes == sorted(sizes, reverse=True)
    # Blocks whose largest value lies below 2 ** -4 are nothing but zeros, and above it they are not.
    for largest, kept in ((2.0**-4 * 0.999, False), (2.0**-4 * 2.1, True)):
        block = torch.full((4, 4, 4, 4), largest)
        decoded = ZFP(100.0).decode(ZFP(100.0).encode(block), block.shape, block.dtype)
        assert bool(decoded.any()) == kept


@installed
def test_what_is_lost_is_what_is_said() -> None:
    """The docstring's 45th, which our own codec in its place goes by."""
    told = 2 * torch.randn(16, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    for tolerance in (1.0, 3.0, 8.0):
        power = 2.0 ** math.floor(math.log2(tolerance))
        for codec in (ZFP(tolerance), bounded_like(ZFP(tolerance))):
            decoded = codec.decode(codec.encode(told), told.shape, told.dtype)
            assert float((decoded - told).square().mean().sqrt()) == pytest.approx(power / 45, rel=0.15)


@installed
def test_damaged_bytes_are_an_error_and_a_short_stream_reaches_nothing_else() -> None:
    from hoarfrost.codecs.frame import squeeze

    told = features(4, 3, 9, 7)
    payload = ZFP(1.0).encode(told)
    for place in range(0, len(payload), 53):
        damaged = bytearray(payload)
        damaged[place] ^= 1
        with pytest.raises(CodecError):
            ZFP(1.0).decode(bytes(damaged), told.shape, told.dtype)
    made_up = ZFP(1.0).decode(squeeze(b"\xff" * 3), told.shape, told.dtype)
    assert made_up.shape == told.shape


@installed
def test_what_is_not_finite_is_refused() -> None:
    told = features(2, 3, 4, 4)
    told[1, 2, 0, 0] = math.nan
    with pytest.raises(NonFiniteError):
        ZFP(1.0).encode(told)


@installed
def test_zarr_in_the_same_process_is_an_error_and_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zarr", sys)
    with pytest.raises(CodecError, match="cannot be used in a process that has imported zarr"):
        ZFP(1.0).encode(features(2, 3, 4, 4))


def test_without_the_package_our_own_codec_stands_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "zfpy":
            raise ImportError("no zfpy here")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.warns(UserWarning, match=r"zfpy is not installed .* Bounded\(error=.*\) stands for ZFP\(tolerance=100"):
        (found,) = Ladder.named("zfp").rungs
    assert found == bounded_like(ZFP(100))
    assert isinstance(found, Bounded)
    with pytest.raises(CodecError, match=r"ZFP needs a package that is not installed .*hoarfrost\[compare\]"):
        ZFP(1.0).encode(features(2, 3, 4, 4))


@installed
def test_it_has_a_name_that_is_typed() -> None:
    assert Ladder.named("zfp").rungs == (ZFP(100.0),)
    assert Ladder.named("zfp:0.5").rungs == (ZFP(0.5),)
    assert codec_from_config(ZFP(3).to_config()) == ZFP(3.0)
    with pytest.raises(CodecError, match="ZFP takes a tolerance above 0"):
        Ladder.named("zfp:-1")
