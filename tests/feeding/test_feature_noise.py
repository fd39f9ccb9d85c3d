"""Noise on features is a function of seed, epoch and step, and as large as it is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from hoarfrost import Cut, Noise
from hoarfrost.errors import ArgumentError
from hoarfrost.feeding.feature_noise import FeatureNoise

CUT = Cut("layer1", 0, 0, (4, 6, 8), torch.float32, "NCHW", 1, 1, (), True, False)


def noise(told: Any, stage: int = 0, layout: str = "NCHW", seed: int = 3) -> FeatureNoise:
    return FeatureNoise(Noise.of(told), replace(CUT, layout=layout), stage, seed)


def test_it_is_drawn_by_seed_epoch_step_and_call() -> None:
    x = torch.zeros(5, 4, 6, 8)
    torch.manual_seed(0)
    first = noise(0.1).on(x, 2, 7)
    torch.manual_seed(1)
    assert torch.equal(first, noise(0.1).on(x, 2, 7))
    others = [noise(0.1).on(x, 3, 7), noise(0.1).on(x, 2, 8), noise(0.1, seed=4).on(x, 2, 7), noise(0.1).on(x, 2, 7, 1)]
    assert not any(torch.equal(first, other) for other in others)
    assert not bool(x.any())


def test_each_stage_has_its_own_and_the_last_holds_for_the_rest() -> None:
    x = torch.zeros(64, 4, 6, 8)
    for stage, std in ((0, 0.3), (1, 0.1), (2, 0.1), (5, 0.1)):
        assert float(noise((0.3, 0.1), stage).on(x, 0, 0).std()) == pytest.approx(std, rel=0.05)


def test_all_channels_may_get_the_same() -> None:
    x = torch.zeros(3, 4, 6, 8)
    found = noise({"std": 0.1, "alike": True}).on(x, 0, 0)
    assert torch.equal(found, found[:, :1].expand(3, 4, 6, 8))
    last = noise({"std": 0.1, "alike": True}, layout="NHWC").on(x, 0, 0)
    assert torch.equal(last, last[..., :1].expand(3, 4, 6, 8))


def test_a_blur_keeps_what_is_even_and_spreads_what_is_not() -> None:
    even = torch.full((2, 4, 6, 8), 3.0)
    assert torch.allclose(noise({"blur": 1.0}).on(even, 0, 0), even)
    point = torch.zeros(2, 4, 6, 8)
    point[:, :, 3, 3] = 1
    found = noise({"blur": 1.0}).on(point, 0, 0)
    assert torch.allclose(found.sum((2, 3)), torch.ones(2, 4))
    assert torch.allclose(found, found.flip(3).roll(-1, 3), atol=1e-7)
    assert bool((found[:, :, 2:5, 2:5] > 0).all())
    assert not bool(found[:, :, :2].any())
    rows = noise({"blur": 1.0}, layout="NHWC").on(point.permute(0, 2, 3, 1), 0, 0)
    assert torch.equal(rows.permute(0, 3, 1, 2), found)


def test_the_memory_format_stays() -> None:
    x = torch.randn(2, 4, 6, 8).to(memory_format=torch.channels_last)
    found = noise({"std": 0.1, "blur": 0.8}).on(x, 0, 0)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert noise({"std": 0.1, "blur": 0.8}).on(x.contiguous(), 0, 0).is_contiguous()


def test_tokens_and_vectors_are_not_blurred() -> None:
    x = torch.randn(2, 9, 4)
    assert torch.equal(noise({"blur": 1.0}, layout="tokens").on(x, 0, 0), x)
    single = torch.randn(2, 4, 1, 1)
    assert torch.equal(noise({"blur": 1.0}).on(single, 0, 0), single)


@pytest.mark.parametrize(
    ("told", "text"),
    [
        (-0.1, r"the std of noise is a number of at least 0, or several, not -0.1"),
        ((), r"the std of noise is a number of at least 0, or several, not \(\)"),
        ({"blur": 0.05}, r"the blur of noise is 0, or at least 0.1 cells, not \(0.05,\)"),
        ({"std": "much"}, "the std of noise is a number .* not 'much'"),
        ({"loud": 1}, "noise is told by the fields of hoarfrost.Noise"),
    ],
    ids=["negative", "none", "blur", "word", "field"],
)
def test_what_is_no_noise_is_refused(told: Any, text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        Noise.of(told)


@pytest.mark.parametrize("told", [0.1, (0.1, 0.2), {"std": [0.1], "blur": [0.0, 1.0], "alike": True}], ids=str)
def test_it_goes_through_plain_values(told: Any) -> None:
    assert Noise.of(Noise.of(told).plain()) == Noise.of(told)
