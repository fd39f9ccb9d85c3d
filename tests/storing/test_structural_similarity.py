"""SSIM is scikit-image's, and needs no window that fits."""

from __future__ import annotations

import pytest
import torch

from hoarfrost.augment import Grid
from hoarfrost.errors import ArgumentError
from hoarfrost.storing.distances import channel_distance
from hoarfrost.storing.structural_similarity import structural_similarity

SIDES = [(32, 32), (16, 20), (11, 14), (8, 8), (7, 9), (3, 3), (2, 5), (1, 1)]


def maps(height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(3, 4, height, width, generator=torch.Generator().manual_seed(seed)).relu() * 2


def noisy(one: torch.Tensor) -> torch.Tensor:
    return one + 0.2 * torch.randn(one.shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("size", [(32, 32), (16, 20), (11, 14)], ids=str)
def test_it_is_that_of_scikit_image(size: tuple[int, int]) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    one = maps(*size)
    other, found = noisy(one), structural_similarity(one, noisy(one))
    for n in range(3):
        for channel in range(4):
            wanted = metrics.structural_similarity(
                *(features[n, channel].double().numpy() for features in (one, other)),
                data_range=1.0,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
            )
            assert found[n, channel].item() == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("size", SIDES, ids=str)
def test_on_a_map_without_room_for_the_window_a_smaller_one_is_moved(size: tuple[int, int]) -> None:
    """Wang's formula, place by place."""
    one = maps(*size)
    other = noisy(one)
    side = min(11, *(length if length % 2 else length - 1 for length in size))
    away = torch.arange(side) - side // 2
    weights = torch.exp(-(away[:, None] ** 2 + away**2).double() / (2 * 1.5**2))
    weights /= weights.sum()
    values = []
    for row in range(size[0] - side + 1):
        for column in range(size[1] - side + 1):
            x, y = (f[:, :, row : row + side, column : column + side].double() for f in (one, other))
            m, n = ((weights * seen).sum((2, 3)) for seen in (x, y))
            v, w = ((weights * (seen - mean[..., None, None]) ** 2).sum((2, 3)) for seen, mean in ((x, m), (y, n)))
            s = (weights * (x - m[..., None, None]) * (y - n[..., None, None])).sum((2, 3))
            values.append((2 * m * n + 1e-4) * (2 * s + 9e-4) / ((m**2 + n**2 + 1e-4) * (v + w + 9e-4)))
    assert torch.allclose(structural_similarity(one, other), torch.stack(values).mean(0), atol=1e-8)


@pytest.mark.parametrize("size", SIDES, ids=str)
def test_it_is_one_where_both_are_equal_and_less_elsewhere(size: tuple[int, int]) -> None:
    one = maps(*size)
    assert torch.allclose(structural_similarity(one, one), torch.ones(3, 4, dtype=torch.float64))
    assert bool((structural_similarity(one, maps(*size, seed=2) + 1) < 1).all())


def test_parts_make_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = maps(9, 9), maps(9, 9, seed=3)
    whole = structural_similarity(one, other)
    monkeypatch.setattr("hoarfrost.storing.structural_similarity.TOGETHER", 1)
    assert torch.equal(structural_similarity(one, other), whole)


def test_the_lowest_similarity_is_the_greatest_distance() -> None:
    exact = maps(12, 12)
    derived = exact.clone()
    derived[:, 1] = exact[:, 1].flip(2)
    derived[:, 2] += 0.05
    found = channel_distance(exact, derived, "ssim")
    assert found.argsort(descending=True).tolist()[:2] == [1, 2]
    assert found[[0, 3]].abs().max() < 1e-6


def test_maps_lie_where_the_layout_says() -> None:
    exact, derived = maps(6, 8), maps(6, 8, seed=4)
    wanted = channel_distance(exact, derived, "ssim")
    rows = [features.permute(0, 2, 3, 1) for features in (exact, derived)]
    assert torch.equal(channel_distance(rows[0], rows[1], "ssim", 3), wanted)
    class_tokens = [torch.cat([torch.full((3, 1, 4), 9.0 * n), f.flatten(1, 2)], 1) for n, f in enumerate(rows)]
    grid = Grid((48, 64), (6, 8), "tokens", 1)
    assert torch.equal(channel_distance(class_tokens[0], class_tokens[1], "ssim", 2, grid), wanted)
    with pytest.raises(ArgumentError, match='"ssim" compares maps, and features of the shape'):
        channel_distance(class_tokens[0], class_tokens[1], "ssim", 2)


def test_psnr_is_the_mean_over_batches_of_64_in_decibels() -> None:
    metrics = pytest.importorskip("skimage.metrics")
    drawn = torch.Generator().manual_seed(0)
    exact = torch.randn(100, 2, 5, 5, generator=drawn)
    derived = exact + torch.randn(exact.shape, generator=drawn) * torch.linspace(0.1, 2, 100)[:, None, None, None]
    found = channel_distance(exact, derived, "psnr")
    for channel in range(2):
        pairs = [(f[:64, channel], f[64:, channel]) for f in (exact, derived)]
        ratios = [
            metrics.peak_signal_noise_ratio(one.numpy(), other.numpy(), data_range=1.0)
            for one, other in zip(*pairs, strict=True)
        ]
        assert -10 * torch.log10(found[channel]).item() == pytest.approx(sum(ratios) / 2, abs=1e-4)
    derived[:64, 1] = exact[:64, 1]
    assert channel_distance(exact, derived, "psnr")[1] == 0
