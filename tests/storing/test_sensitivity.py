"""Sensitivity is zero where the algebra says that features commute, and the selection takes the most sensitive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torchvision import transforms as v1

from hoarfrost.augment import Grid, HorizontalFlip, PaddedCrop, Pipeline, VerticalFlip
from hoarfrost.errors import ArgumentError, NonFiniteError
from hoarfrost.storing.sensitivity import channel_distance, channel_harm, sensitivity


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int = 24, size: int = 12) -> torch.Tensor:
    return torch.randn(n, 3, size, size, generator=generator())


def half_symmetric() -> nn.Conv2d:
    """Channels 0 and 1 have horizontally symmetric kernels, 2 and 3 do not."""
    convolution = nn.Conv2d(3, 4, 3, padding=1, bias=False)
    kernel = torch.randn(4, 3, 3, 3, generator=generator(1))
    kernel[:2] = kernel[:2] + kernel[:2].flip(-1)
    convolution.weight.data = kernel
    return convolution


@pytest.mark.parametrize("metric", ["cosine", "ssim", "psnr", "relative", "energy"])
def test_symmetric_kernels_commute_with_flips(metric: Any) -> None:
    found = sensitivity(half_symmetric(), images(), HorizontalFlip(), metric)
    assert found.shape == (4,)
    assert found.dtype == torch.float32
    assert found[:2].max() < 1e-6
    assert found[2:].min() > 0.05


@pytest.mark.parametrize("metric", ["cosine", "ssim", "psnr", "relative", "energy"])
def test_the_identity_commutes_with_everything(metric: Any) -> None:
    steps = [HorizontalFlip(), PaddedCrop(12, 3), VerticalFlip(), PaddedCrop(9)]
    assert torch.equal(sensitivity(nn.Identity(), images(), steps, metric), torch.zeros(3))
    assert torch.equal(sensitivity(nn.Identity(), images(), [], metric), torch.zeros(3))


@pytest.mark.parametrize("metric", ["cosine", "energy", "harm"])
def test_it_is_a_function_of_the_seed(metric: Any) -> None:
    suffix = nn.Sequential(nn.Flatten(), nn.Linear(4 * 144, 5))
    crop = PaddedCrop(12, 3)
    found = [sensitivity(half_symmetric(), images(), crop, metric, suffix=suffix, seed=seed) for seed in (4, 4, 5)]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_a_generator_may_draw_instead() -> None:
    crop = PaddedCrop(12, 3)
    drawn = sensitivity(half_symmetric(), images(), crop, generator=generator(4))
    assert torch.equal(drawn, sensitivity(half_symmetric(), images(), crop, seed=4))


def test_both_parts_run_in_eval_and_flags_are_restored() -> None:
    prefix = nn.Sequential(half_symmetric(), nn.BatchNorm2d(4), nn.Dropout(0.5))
    prefix.train()
    prefix[1].eval()
    mean = prefix[1].running_mean.clone()
    suffix = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(4 * 144, 5)).train()
    found = sensitivity(prefix, images(), HorizontalFlip(), "harm", suffix=suffix)
    assert torch.equal(prefix[1].running_mean, mean)
    assert [part.training for part in prefix] == [True, False, True]
    assert all(part.training for part in suffix.modules())
    assert all(parameter.grad is None for parameter in (*prefix.parameters(), *suffix.parameters()))
    assert found[:2].max() < 1e-6 < found[2:].min()


def test_flags_are_restored_after_an_error() -> None:
    prefix = nn.Sequential(nn.Conv2d(5, 4, 3)).train()
    with pytest.raises(RuntimeError):
        sensitivity(prefix, images(), HorizontalFlip())
    assert prefix.training
    assert prefix[0].training


def test_tokens() -> None:
    class Patches(nn.Module):
        def __init__(self, class_token: bool) -> None:
            super().__init__()
            self.embed, self.class_token = nn.Conv2d(3, 6, 4, 4), class_token

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            tokens = self.embed(x).flatten(2).transpose(1, 2)
            return torch.cat([torch.ones(len(x), 1, 6), tokens], 1) if self.class_token else tokens

    assert sensitivity(Patches(False), images(), VerticalFlip(), channel_axis=2).shape == (6,)
    grid = Grid((12, 12), (3, 3), "tokens", prefix_tokens=1)
    assert sensitivity(Patches(True), images(), VerticalFlip(), channel_axis=2, grid=grid).shape == (6,)
    with pytest.raises(ArgumentError, match=r"neither a feature map .* nor a square of tokens"):
        sensitivity(Patches(True), images(), VerticalFlip(), channel_axis=2)


def test_a_pipeline_is_measured_between_two_of_its_views() -> None:
    raw = [(image * 40 + 128).clamp(0, 255).to(torch.uint8) for image in images()]
    steps = [v1.RandomHorizontalFlip(), v1.ConvertImageDtype(torch.float32)]
    flipped = sensitivity(half_symmetric(), raw, Pipeline.from_transform(v1.Compose(steps)))
    assert flipped[:2].max() < 1e-6 < flipped[2:].min()
    coloured = Pipeline.from_transform(v1.Compose([v1.ColorJitter(0.9, 0.9), *steps]))
    assert sensitivity(half_symmetric(), raw, coloured)[:2].min() > 1e-3, "image-only steps count"


def test_cosine_and_relative_by_hand() -> None:
    exact = torch.tensor([[[1.0, 0.0], [3.0, 4.0], [0.0, 0.0], [0.0, 0.0], [1.0, 1.0]]])
    derived = torch.tensor([[[0.0, 1.0], [3.0, 4.0], [0.0, 0.0], [1.0, 2.0], [-1.0, -1.0]]])
    assert channel_distance(exact, derived, "cosine").tolist() == [1, 0, 0, 1, 2]
    assert channel_distance(exact, derived, "relative").tolist() == [2, 0, 0, 1, 4]
    assert channel_distance(exact, derived, "energy").tolist() == [2, 0, 0, 5, 8]
    assert channel_distance(derived, exact, "relative")[3] == 1
    last = channel_distance(exact.movedim(1, -1), derived.movedim(1, -1), "cosine", channel_axis=-1)
    assert last.tolist() == [1, 0, 0, 1, 2]


def test_cosine_agrees_with_torch_and_keeps_small_angles() -> None:
    exact, noise = torch.randn(8, 5, 4, 4, generator=generator()), torch.randn(8, 5, 4, 4, generator=generator(1))
    for scale in (1.0, 1e-4):
        derived = exact + scale * noise
        flat = [x.double().movedim(1, 0).flatten(1) for x in (exact, derived)]
        expected = 1 - nn.functional.cosine_similarity(*flat)
        torch.testing.assert_close(channel_distance(exact, derived), expected.float(), rtol=2e-2, atol=1e-12)


def test_harm_is_the_second_order_divergence() -> None:
    suffix = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).double()
    exact = torch.randn(400, 4, 1, 1, generator=generator(), dtype=torch.float64)
    change = 0.02 * torch.randn(4, generator=generator(1), dtype=torch.float64).view(1, 4, 1, 1)
    harm = channel_harm(suffix, exact, exact + change, draws=50)
    for channel in range(4):
        alone = exact.clone()
        alone[:, channel] += change[0, channel]
        p, q = suffix(exact).log_softmax(1), suffix(alone).log_softmax(1)
        divergence = (p.exp() * (p - q)).sum(1).mean()
        assert harm[channel] / 2 == pytest.approx(divergence.item(), rel=0.1)


def test_harm_of_a_given_loss_is_its_squared_change() -> None:
    weights = torch.tensor([1.0, -2.0, 0.5])
    suffix = nn.Flatten()
    exact = torch.randn(10, 3, 1, 1, generator=generator())
    derived = exact + torch.tensor([1.0, 1.0, 2.0]).view(1, 3, 1, 1)
    harm = channel_harm(suffix, exact, derived, loss=lambda outputs: (outputs * weights).sum())
    torch.testing.assert_close(harm, torch.tensor([1.0, 4.0, 1.0]))


def test_harm_of_outputs_that_are_no_classes() -> None:
    exact = torch.randn(500, 2, 1, 1, generator=generator())
    derived = exact + torch.tensor([1.0, 3.0]).view(1, 2, 1, 1)
    harm = channel_harm(nn.Identity(), exact, derived, draws=20)
    torch.testing.assert_close(harm, torch.tensor([1.0, 9.0]), rtol=0.1, atol=0)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: sensitivity(nn.Identity(), images(), HorizontalFlip(), "l1"), "metric must be .* got 'l1'"),  # type: ignore[arg-type]
        (lambda: sensitivity(nn.Identity(), images(), HorizontalFlip(), "harm"), 'metric "harm" needs the suffix'),
        (lambda: sensitivity(nn.Identity(), images()[:0], HorizontalFlip()), "no images"),
        (lambda: sensitivity(nn.Identity(), [images()], HorizontalFlip()), "must be a tensor .* got list"),
        (lambda: sensitivity(nn.Flatten(), images(), HorizontalFlip()), r"of the shape \[24, 432\] are neither"),
        (lambda: channel_distance(images(2), images(3)), "must have one shape"),
        (lambda: channel_harm(nn.Identity(), images(2), images(3)), "must have one shape"),
        (lambda: channel_distance(images(2), images(2), "l1"), "must be one of 'cosine', 'ssim', .* got 'l1'"),
    ],
)
def test_wrong_calls_are_named(call: Callable[[], object], text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        call()


def test_non_finite_features_are_named() -> None:
    bad = images(3)
    bad[1, 2, 0, 0] = float("inf")
    with pytest.raises(NonFiniteError, match="the derived features hold NaN or infinity: sample 1, channel 2"):
        channel_distance(images(3), bad)
    with pytest.raises(NonFiniteError, match="the exact features hold NaN or infinity: sample 1, channel 2"):
        channel_harm(nn.Identity(), bad, images(3))
