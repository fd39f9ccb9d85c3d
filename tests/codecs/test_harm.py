from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from hoarfrost.codecs import Exact, Half, Ladder, Linear, RungMeasure, Shared, choose, measure_rungs
from hoarfrost.errors import ArgumentError


@pytest.fixture
def features() -> Tensor:
    return torch.randn(20, 4, 3, 3, generator=torch.Generator().manual_seed(0)).relu()


@pytest.fixture
def suffix() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(36, 5), nn.BatchNorm1d(5))


def test_harm_is_the_mean_divergence_of_the_outputs(suffix: nn.Sequential, features: Tensor) -> None:
    measure = measure_rungs(suffix, features, Ladder.of(3), chunk_size=8)[0]
    decoded = torch.cat([Linear(3).decode(Linear(3).encode(p), p.shape, p.dtype) for p in features.split(8)])
    suffix.eval()
    with torch.no_grad():
        p, q = suffix(features).double().softmax(1), suffix(decoded).double().log_softmax(1)
    expected = nn.functional.kl_div(q, p, reduction="batchmean")
    assert measure.harm == pytest.approx(float(expected), rel=1e-3, abs=1e-9)


def test_harm_and_bytes_run_against_each_other(suffix: nn.Sequential, features: Tensor) -> None:
    measures = measure_rungs(suffix, features, Ladder([Exact(), Linear(8), Linear(4), Linear(1)]))
    assert measures[0].harm == 0
    assert [m.index for m in measures] == [0, 1, 2, 3]
    harms, sizes = [m.harm for m in measures], [m.bytes_per_sample for m in measures]
    assert harms == sorted(harms)
    assert sizes == sorted(sizes, reverse=True)
    assert measures[2].ratio == pytest.approx(4 * 36 / measures[2].bytes_per_sample)
    assert [m.within_tolerance for m in measures] == [m.harm <= 1e-3 for m in measures]


@pytest.mark.parametrize("tolerance", [0.0, 1e-6, 1e-4, 1e-2, 1e9])
def test_a_long_ladder_is_bisected_to_a_rung_within_the_tolerance_whose_next_is_not(
    suffix: nn.Sequential, features: Tensor, tolerance: float
) -> None:
    ladder = Ladder.named("auto")
    tried = measure_rungs(suffix, features, ladder, tolerance=tolerance)
    every = [measure_rungs(suffix, features, Ladder.of(codec), tolerance=tolerance)[0] for codec in ladder]
    harms = [m.harm for m in every]
    assert len(tried) <= 7
    assert [m.harm for m in tried] == [harms[m.index] for m in tried]
    assert tried[-1].codec == Shared(3)
    best = choose(tried, tolerance)
    index = -1 if best is None else best.index
    assert index == -1 or harms[index] <= tolerance
    assert index == len(ladder) - 1 or harms[index + 1] > tolerance


def test_flags_and_statistics_of_the_suffix_are_left_alone(suffix: nn.Sequential, features: Tensor) -> None:
    suffix[1].eval()
    flags = [m.training for m in suffix.modules()]
    before = {k: v.clone() for k, v in suffix.state_dict().items()}
    state = torch.get_rng_state()
    measure_rungs(suffix, features, Ladder.named("auto"))
    assert [m.training for m in suffix.modules()] == flags
    assert all(torch.equal(v, before[k]) for k, v in suffix.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_flags_are_restored_when_the_suffix_fails(features: Tensor) -> None:
    broken = nn.Sequential(nn.Linear(7, 7))
    with pytest.raises(RuntimeError):
        measure_rungs(broken, features, Ladder.of(8))
    assert broken.training
    assert broken[0].training


@pytest.mark.parametrize(
    "wrap",
    [
        lambda y: (y, None),
        lambda y: {"logits": y},
        lambda y: {"first": y},
        lambda y: SimpleNamespace(logits=y),
    ],
    ids=["tuple", "logits", "mapping", "object"],
)
def test_outputs_of_many_kinds(wrap: object, suffix: nn.Sequential, features: Tensor) -> None:
    suffix.eval()
    plain = measure_rungs(suffix, features, Ladder.of(4))
    wrapped = measure_rungs(lambda x: wrap(suffix(x)), features, Ladder.of(4))  # type: ignore[operator]
    assert wrapped == plain


def test_other_outputs_are_judged_by_their_error_relative_to_their_variance(features: Tensor) -> None:
    measure = measure_rungs(lambda x: x * 2, features, Ladder.of(4), chunk_size=20)[0]
    decoded = Linear(4).decode(Linear(4).encode(features), features.shape, features.dtype)
    error, variance = (decoded - features).square().mean((0, 2, 3)), features.var((0, 2, 3), correction=0)
    expected = (error / variance).mean() / 2
    assert measure.harm == pytest.approx(float(expected), rel=1e-5)
    one = measure_rungs(lambda x: x.flatten(1).sum(1, keepdim=True), features, Ladder.of(2))[0]
    assert one.harm > 0


def test_an_output_without_a_tensor_is_refused(features: Tensor) -> None:
    with pytest.raises(ArgumentError, match="the suffix gives NoneType"):
        measure_rungs(lambda x: None, features, Ladder.of(8))


def test_outputs_that_are_not_finite_are_refused(features: Tensor) -> None:
    with pytest.raises(ArgumentError, match="not finite"):
        measure_rungs(lambda x: x / 0, features, Ladder.of(8))


def test_a_rung_that_refuses_the_features_is_never_chosen(features: Tensor) -> None:
    measures = measure_rungs(lambda x: x.flatten(1), features * 1e6, Ladder([Linear(8), Half()]))
    assert measures[1].refused is not None
    assert "cannot give back" in measures[1].refused
    chosen = choose(measures, tolerance=1e9)
    assert chosen is not None
    assert chosen.codec == Linear(8)


def test_channels_last_is_measured_in_its_own_order(suffix: nn.Sequential, features: Tensor) -> None:
    suffix.eval()
    plain = measure_rungs(suffix, features, Ladder.of(4))[0]
    last = measure_rungs(suffix, features, Ladder.of(4), channels_last=True)[0]
    assert last.harm == pytest.approx(plain.harm)
    turned = features.permute(0, 2, 3, 1)
    assert last.bytes_per_sample == len(Linear(4).encode(turned, 3)) / 20


def measures_of(*harms: float) -> list[RungMeasure]:
    return [RungMeasure(i, Linear(8 - i), h, 1.0, 1.0, h <= 1e-3) for i, h in enumerate(harms)]


@pytest.mark.parametrize(
    ("harms", "floor", "index"),
    [
        ((0.0, 1e-4, 1e-2), 0, 1),
        ((0.0, 1e-4, 1e-2), 1, 1),
        ((0.0, 1e-2, 1e-4), 0, 2),
        ((0.0, 1e-4, 1e-2), 2, 1),
        ((0.0, 1e-2, 1e-2), 2, 0),
        ((1.0, 1.0, 1.0), 0, None),
    ],
    ids=["strongest", "at the floor", "harm need not rise", "below the floor", "far below", "none"],
)
def test_the_strongest_rung_within_tolerance_is_chosen(harms: tuple[float, ...], floor: int, index: int | None) -> None:
    chosen = choose(measures_of(*harms), 1e-3, floor)
    assert (None if chosen is None else chosen.index) == index
