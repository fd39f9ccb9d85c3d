"""Bytes that earlier versions wrote are read for ever."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import zstandard

from hoarfrost.codecs import ZFP, codec_from_config

GOLDEN = Path(__file__).parent / "golden"
NAMES = [
    *("exact", "half", "bfloat16"),
    *(f"linear-{bits}" for bits in range(1, 9)),
    *("shared-2", "shared-11", "shared-256", "shared-60", "bounded"),
]

ZFP_NAME = pytest.param("zfp", marks=pytest.mark.skipif(not ZFP.is_installed(), reason="zfpy is not installed"))


@pytest.mark.parametrize("name", [*NAMES, "first-tokens-1", ZFP_NAME])
def test_golden_bytes_decode_to_their_known_values(name: str) -> None:
    golden = json.loads((GOLDEN / f"{name}.json").read_text())
    codec = codec_from_config(golden["codec"])
    payload, shape = bytes.fromhex(golden["payload"]), golden["shape"]
    decoded = codec.decode(payload, shape, getattr(torch, golden["dtype"]), golden["channel_axis"])
    assert decoded.tolist() == golden["decoded"]


@pytest.mark.parametrize("name", NAMES)
def test_the_body_inside_the_frame_is_written_as_ever(name: str) -> None:
    golden = json.loads((GOLDEN / f"{name}.json").read_text())
    features = (torch.arange(30).view(2, 3, 5) % 7 - torch.arange(3).view(1, 3, 1)).float() / 4
    payload = codec_from_config(golden["codec"]).encode(features)
    unframe = zstandard.ZstdDecompressor().decompress
    assert unframe(payload) == unframe(bytes.fromhex(golden["payload"]))
    assert zstandard.get_frame_parameters(payload).has_checksum
