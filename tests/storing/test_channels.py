"""What is stored of a further view, and that what comes back is what was meant."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hoarfrost import Exact, Linear, Selection, Views
from hoarfrost.cache import CacheSpec, StoredView, assembled, to_store
from hoarfrost.codecs import Codec, Half, Shared
from hoarfrost.storing.channels import Choice, choose_stored, is_coarser, stored_and_back
from hoarfrost.storing.distances import channel_distance

N, C = 96, 8


def spec(codec: Any = None, channels_last: bool = False) -> CacheSpec:
    return CacheSpec(N, 64, (C, 6, 5), torch.float32, 1, channels_last, codec or Linear(5))


def views_of(noise: float = 0.3) -> tuple[Tensor, Tensor]:
    """Features, and stand-ins that are off by more from channel to channel."""
    generator = torch.Generator().manual_seed(0)
    exact = torch.randn(N, C, 6, 5, generator=generator)
    off = torch.randn(N, C, 6, 5, generator=generator) * torch.linspace(0, 1, C)[:, None, None]
    return exact, exact + noise * off


def choice(
    views: Views, codec: Any = None, weights: Tensor | None = None, noise: float = 0.3, tolerance: float = 1e-3
) -> Choice:
    exact, derived = views_of(noise)
    weight = torch.ones(C) if weights is None else weights

    def diverge(shown: Tensor) -> float:
        return float(((shown - exact).square() * weight[:, None, None]).mean())

    return choose_stored(exact, derived, spec(codec), channel_distance(exact, derived), views, N, tolerance, diverge)


def whole_bytes(bits: int) -> float:
    exact, derived = views_of()
    return stored_and_back(StoredView(codec=Linear(bits)), exact, derived, spec())[1]


@given(
    st.sampled_from([None, (0,), (1, 5), tuple(range(C))]),
    st.booleans(),
    st.booleans(),
    st.integers(0, 3),
)
def test_what_was_stored_and_what_was_derived_make_the_view_again(
    channels: tuple[int, ...] | None, residual: bool, channels_last: bool, seed: int
) -> None:
    exact, derived = views_of()
    count = C if channels is None else len(channels)
    gains = tuple(torch.rand(count, generator=torch.Generator().manual_seed(seed)).tolist()) if residual else None
    stored = StoredView(channels, None, gains)
    record = to_store(stored, 1, exact, derived)
    assert record.shape[1] == count
    found = assembled(stored, 1, record, derived.clone())
    kept = list(range(C)) if channels is None else list(channels)
    others = [c for c in range(C) if c not in kept]
    assert torch.allclose(found[:, kept], exact[:, kept], atol=1e-5)
    assert torch.equal(found[:, others], derived[:, others])
    back, size = stored_and_back(stored, exact, derived, spec(Exact(), channels_last))
    assert torch.allclose(back, found, atol=1e-5)
    assert size > 0


def test_without_options_a_view_is_stored_as_the_base_view_is() -> None:
    assert choice(Views(channels=Selection(share=1.0))).stored == StoredView()


def test_with_nothing_asked_for_as_few_channels_are_stored_as_the_tolerance_allows() -> None:
    # Channel c of eight is off by 0.3 * c / 7: over all a mean square of 0.003 with four derived, 0.013 with six.
    found = {tolerance: choice(Views(), tolerance=tolerance) for tolerance in (0.05, 0.015, 0.006, 1e-3)}
    assert {tolerance: one.stored.channels for tolerance, one in found.items()} == {
        0.05: (7,),
        0.015: (6, 7),
        0.006: (4, 5, 6, 7),
        1e-3: None,
    }
    assert found[0.015].why.startswith("6 of 8 channels derived make the outputs diverge by 0.01")
    assert found[1e-3].why.startswith(
        "all channels are stored: 4 of 8 channels derived make the outputs diverge by 0.00"
    )
    assert found[1e-3].why.endswith("where 0.001 is the tolerance")


def test_outputs_that_are_no_numbers_allow_nothing() -> None:
    exact, derived = views_of()
    found = choose_stored(
        exact, derived, spec(), channel_distance(exact, derived), Views(), N, 1e-3, lambda shown: float("nan")
    )
    assert found.stored.channels is None


def test_shares_that_are_the_same_channels_are_tried_once() -> None:
    tried = []

    def diverge(shown: Tensor) -> float:
        tried.append(shown)
        return 0.0

    exact, derived = views_of()
    found = choose_stored(exact, derived, spec(), channel_distance(exact, derived), Views(), N, 1e-3, diverge)
    # Of eight channels a half, a quarter and an eighth; the one that stands for none is the eighth.
    assert (found.stored.channels, len(tried)) == ((7,), 3)


def test_a_share_of_the_channels_takes_about_that_share_of_the_bytes() -> None:
    half = choice(Views(channels=Selection(share=0.5)))
    assert half.stored.channels == (4, 5, 6, 7)
    assert half.bytes_per_sample * N == pytest.approx(whole_bytes(5) / 2, rel=0.1)


def test_further_views_may_be_coarser_and_never_finer() -> None:
    everything = Selection(share=1.0)
    assert choice(Views(channels=everything, bits=3)).stored == StoredView(codec=Linear(3))
    assert choice(Views(channels=everything, bits=3), codec=Exact()).stored == StoredView(codec=Linear(3))
    assert choice(Views(channels=everything, bits=7)).stored == StoredView()


def test_beside_a_view_of_one_step_a_coarser_one_has_one_step_too() -> None:
    everything = Selection(share=1.0)
    assert choice(Views(channels=everything, bits=3), codec=Shared(23)).stored == StoredView(codec=Shared(8))
    assert choice(Views(channels=everything, bits=5), codec=Shared(23)).stored == StoredView()


@pytest.mark.parametrize(
    ("candidate", "than", "expected"),
    [
        (Linear(4), Linear(5), True),
        (Linear(5), Linear(5), False),
        (Shared(31), Linear(5), True),
        (Linear(5), Shared(32), False),
        (Linear(4), Shared(17), True),
        (Shared(200), Half(), True),
        (Half(), Exact(), False),
    ],
    ids=str,
)
def test_fewer_levels_are_coarser(candidate: Codec, than: Codec, expected: bool) -> None:
    assert is_coarser(candidate, than) == expected


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_a_budget_is_used_where_the_base_view_has_one_step(share: float) -> None:
    exact, derived = views_of()
    whole = stored_and_back(StoredView(), exact, derived, spec(Shared(32)))[1]
    found = choice(Views(channels=Selection(budget_bytes=int(share * whole))), codec=Shared(32))
    assert 0.6 * share * whole <= found.bytes_per_sample * N <= share * whole


def test_differences_are_stored_where_they_take_fewer_bytes_at_the_same_error() -> None:
    near = choice(Views(channels=Selection(share=1.0), residual=True), noise=0.02)
    assert near.stored.gains is not None
    assert min(near.stored.gains) > 0.9
    far = choice(Views(channels=Selection(share=1.0), residual=True), noise=50.0)
    assert far.stored.gains is None or max(far.stored.gains[1:]) < 0.1


def test_differences_of_near_stand_ins_bring_the_error_down_at_the_same_bits() -> None:
    exact, derived = views_of(0.02)
    errors = []
    for residual in (False, True):
        stored = choice(Views(channels=Selection(share=1.0), bits=4, residual=residual), noise=0.02).stored
        errors.append(float((stored_and_back(stored, exact, derived, spec())[0] - exact).square().mean()))
    assert errors[1] < 0.1 * errors[0]


@pytest.mark.parametrize("share", [0.2, 0.4, 0.6, 0.9])
def test_a_budget_is_kept_and_nothing_that_fits_it_harms_less(share: float) -> None:
    budget = int(share * whole_bytes(5))
    found = choice(Views(channels=Selection(budget_bytes=budget)))
    assert found.harm is not None
    assert found.bytes_per_sample * N <= budget
    exact, derived = views_of()
    sensitivity = channel_distance(exact, derived)
    for bits in (5, 4, 3, 2):
        for count in range(1, C + 1):
            kept = tuple(sorted(sensitivity.argsort(descending=True)[:count].tolist()))
            rival = StoredView(kept if count < C else None, Linear(bits))
            shown, size = stored_and_back(rival, exact, derived, spec())
            if size <= budget:
                assert found.harm <= 1.05 * float((shown - exact).square().mean())


def test_a_larger_budget_never_harms_more() -> None:
    harms = [
        choice(Views(channels=Selection(budget_bytes=int(share * whole_bytes(5))))).harm
        for share in (0.1, 0.3, 0.5, 0.7, 0.9, 1.1)
    ]
    assert all(harm is not None for harm in harms)
    assert harms == sorted(harms, key=lambda harm: -(harm or 0.0))


def test_where_nothing_fits_the_least_is_stored() -> None:
    found = choice(Views(channels=Selection(budget_bytes=0)))
    assert found.stored.channels is not None
    assert len(found.stored.channels) == 1


def test_a_spec_with_stored_views_survives_its_config() -> None:
    given = replace(
        spec(), stored=(StoredView(), StoredView((1, 3), Linear(2), (0.5, 1.0)), StoredView(None, None, (0.1,) * C))
    )
    assert CacheSpec.from_config(given.to_config()) == given
    assert given.codec_of(1) == Linear(2)
    assert given.codec_of(2) == Linear(5)
    assert [view.alone for view in given.stored] == [True, False, False]
