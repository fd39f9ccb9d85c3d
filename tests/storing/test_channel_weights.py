from __future__ import annotations

import torch
from torch import Tensor, nn

from hoarfrost.codecs import Ladder, Shared, measure_rungs
from hoarfrost.storing.channel_weights import channel_weights


class Reads(nn.Module):
    """Two classes from the channels' means, each channel as loud as `gains` says."""

    def __init__(self, gains: Tensor) -> None:
        super().__init__()
        self.gains = nn.Parameter(gains)

    def forward(self, features: Tensor) -> Tensor:
        score = (features.mean((2, 3)) * self.gains).sum(1)
        return torch.stack([score, -score], 1)


def features(channels: int = 4) -> Tensor:
    return torch.randn(96, channels, 5, 5, generator=torch.Generator().manual_seed(0))


def test_weights_follow_the_square_of_what_the_outputs_make_of_a_channel() -> None:
    gains = torch.tensor([1.0, 0.5, 2.0, 0.0])
    weights = channel_weights(Reads(gains), features())
    assert weights is not None
    torch.testing.assert_close(weights / weights[0], gains.double().square(), rtol=1e-5, atol=1e-12)


def test_weights_of_outputs_that_are_no_classes_follow_a_random_projection() -> None:
    suffix = nn.Sequential(nn.Conv2d(2, 1, 1, bias=False))
    with torch.no_grad():
        suffix[0].weight.copy_(torch.tensor([1.0, 3.0]).view(1, 2, 1, 1))
    weights = channel_weights(suffix, features(2))
    assert weights is not None
    torch.testing.assert_close(weights[1] / weights[0], torch.tensor(9.0).double(), rtol=1e-5, atol=0)


def test_the_suffix_is_left_as_it_was() -> None:
    suffix = nn.Sequential(nn.Conv2d(4, 3, 3), nn.BatchNorm2d(3), nn.Dropout(0.5), nn.Flatten(), nn.Linear(27, 5))
    before = {name: value.clone() for name, value in suffix.state_dict().items()}
    state = torch.random.get_rng_state()
    one, other = channel_weights(suffix, features()), channel_weights(suffix, features())
    assert one is not None
    assert other is not None
    assert torch.equal(one, other)
    assert suffix.training
    assert all(parameter.grad is None for parameter in suffix.parameters())
    assert all(torch.equal(value, before[name]) for name, value in suffix.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_suffix_that_writes_into_its_input_can_be_weighed() -> None:
    suffix = nn.Sequential(nn.ReLU(inplace=True), Reads(torch.tensor([1.0, 1.0, 2.0, 3.0])))
    assert channel_weights(suffix, features()) is not None


class Rounds(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return features.argmax(1).float()


def test_outputs_without_a_gradient_give_no_weights() -> None:
    assert channel_weights(Rounds(), features()) is None


def test_bits_where_they_matter_are_fewer_bits() -> None:
    """One channel of sixteen decides: the others need not be as fine as it."""
    suffix = Reads(torch.tensor([8.0] + [0.05] * 15)).eval()
    values = features(16)
    ladder = Ladder([Shared(levels) for levels in range(256, 1, -1)])
    weights = channel_weights(suffix, values)
    assert weights is not None

    def least(ladder: Ladder) -> float:
        rungs = measure_rungs(suffix, values, ladder, tolerance=1e-4)
        return min(rung.bytes_per_sample for rung in rungs if rung.within_tolerance)

    assert least(ladder.weighted(weights)) < 0.8 * least(ladder)
