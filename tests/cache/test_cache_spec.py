from __future__ import annotations

import json

import pytest
import torch
from cache_cases import make_spec

from hoarfrost.cache import CacheSpec, StoredView
from hoarfrost.codecs import Exact, Linear
from hoarfrost.errors import ArgumentError


def test_chunks_views_and_rows() -> None:
    spec = make_spec(samples=10, chunk_size=4)
    assert spec.chunks == 3
    assert [spec.rows(c) for c in range(3)] == [4, 4, 2]
    assert spec.records == {(c, v) for c in range(3) for v in range(2)}
    assert spec.view_shape(0) == (3, 5, 5)
    assert spec.view_shape(1) == (2, 5, 5)
    assert spec.dense_nbytes == 4 * 10 * (75 + 50)


@pytest.mark.parametrize(
    "spec", [make_spec(), make_spec(channels_last=True, dtype=torch.bfloat16)], ids=["nchw", "nhwc"]
)
def test_configs_round_trip_through_json(spec: CacheSpec) -> None:
    assert CacheSpec.from_config(json.loads(json.dumps(spec.to_config()))) == spec


def test_channels_last_features_are_stored_and_given_back_without_a_copy() -> None:
    spec = make_spec(channels_last=True)
    features = torch.randn(4, 3, 5, 5).contiguous(memory_format=torch.channels_last)
    physical = spec.physical(features)
    assert physical.shape == (4, 5, 5, 3) == spec.physical_shape(0, 0)
    assert physical.is_contiguous()
    assert physical.data_ptr() == features.data_ptr()
    logical = spec.logical(physical)
    assert logical.data_ptr() == features.data_ptr()
    assert torch.equal(logical, features)
    assert logical.stride() == features.stride()
    assert spec.codec_axis == 3


def test_tokens_keep_their_channels_last() -> None:
    spec = CacheSpec(5, 4, (7, 6), torch.float32, 2, False, Exact(), (None, (1, 4)))
    assert spec.channels == 6
    assert spec.view_shape(1) == (7, 2)
    assert spec.codec_axis == 2


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"samples": 0}, "must be positive"),
        ({"chunk_size": 0}, "must be positive"),
        ({"shape": ()}, "must be positive"),
        ({"shape": (0, 2)}, "must be positive"),
        ({"dtype": torch.int64, "codec": Linear(4)}, "torch.int64 features are stored exactly, not by"),
        ({"channel_axis": 4}, "channel_axis 4 is no axis"),
        ({"channels_last": True, "shape": (3, 4)}, "channels_last is for"),
        ({"stored": ()}, "view 0 stores all channels"),
        ({"stored": ((0,),)}, "view 0 stores all channels"),
        ({"stored": (None, ())}, "view 1 stores no channel"),
        ({"stored": (None, (1, 1))}, "view 1 stores no channel, or one twice"),
        ({"stored": (None, (3,))}, "channels of 0 to 2"),
        ({"stored": (StoredView(codec=Linear(2)),)}, "view 0 stores all channels, by the cache's own codec"),
        ({"stored": (None, StoredView(gains=(1.0,)))}, "view 1 stores 3 channels and needs a finite gain for each"),
        ({"stored": (None, StoredView((0, 2), None, (1.0, float("nan"))))}, "view 1 stores 2 channels and needs"),
        (
            {"dtype": torch.int64, "stored": (None, StoredView(codec=Linear(2)))},
            "torch.int64 features are stored exactly",
        ),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(change: dict[str, object], text: str) -> None:
    fields = {
        "samples": 10,
        "chunk_size": 4,
        "shape": (3, 5, 5),
        "dtype": torch.float32,
        "channel_axis": 1,
        "channels_last": False,
        "codec": Exact(),
        "stored": (None,),
    }
    with pytest.raises(ArgumentError, match=text):
        CacheSpec(**{**fields, **change})  # type: ignore[arg-type]


def test_a_config_that_is_none_is_refused() -> None:
    for config in ({}, {**make_spec().to_config(), "colour": 3}, {**make_spec().to_config(), "dtype": "nothing"}):
        with pytest.raises(ArgumentError, match=r"not a cache's spec|is no dtype"):
            CacheSpec.from_config(config)
