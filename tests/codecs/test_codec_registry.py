from __future__ import annotations

import json
from dataclasses import dataclass
from typing import ClassVar

import pytest

from hoarfrost.codecs import BFloat16, Codec, Exact, Half, Linear, Shared, codec_from_config, known_codecs
from hoarfrost.codecs.base import register
from hoarfrost.errors import CodecError


@pytest.mark.parametrize("codec", [Exact(), Half(), BFloat16(), *(Linear(b) for b in range(1, 9)), Shared(11)], ids=str)
def test_configs_round_trip_through_json(codec: Codec) -> None:
    assert codec_from_config(json.loads(json.dumps(codec.to_config()))) == codec
    assert type(codec).from_config(codec.to_config()) == codec
    assert hash(codec_from_config(codec.to_config())) == hash(codec)


def test_configs_are_what_caches_on_disk_say() -> None:
    assert Linear(4).to_config() == {"name": "linear", "bits": 4}
    assert Exact().to_config() == {"name": "exact"}
    assert known_codecs() == ["bfloat16", "bounded", "exact", "first-tokens", "half", "linear", "shared", "zfp"]


@pytest.mark.parametrize("config", [{}, {"name": "sz3"}, {"name": 3}], ids=repr)
def test_an_unknown_name_lists_the_known(config: dict[str, object]) -> None:
    with pytest.raises(
        CodecError,
        match=r"unknown codec .*known codecs: bfloat16, bounded, exact, first-tokens, half, linear, shared, zfp",
    ):
        codec_from_config(config)


@pytest.mark.parametrize("config", [{"name": "linear"}, {"name": "linear", "bits": 4, "clip": 1}], ids=repr)
def test_parameters_that_do_not_fit_are_refused(config: dict[str, object]) -> None:
    with pytest.raises(CodecError, match=r"'linear' takes the parameters \['bits'\]"):
        codec_from_config(config)


def test_a_name_cannot_be_taken_twice() -> None:
    @dataclass(frozen=True)
    class Impostor(Exact):
        name: ClassVar[str] = "linear"

    with pytest.raises(CodecError, match="'linear' is already taken by Linear"):
        register(Impostor)
    assert codec_from_config({"name": "linear", "bits": 1}) == Linear(1)
