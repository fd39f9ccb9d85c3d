from __future__ import annotations

import json
import time
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hoarfrost.costs.clock import Clock, seconds_of
from hoarfrost.costs.decision import Decision, automatic_views, decide
from hoarfrost.costs.flops import training_flops
from shared.nets import in_place

seconds = st.floats(0.001, 1e4)


def decision(**changes: Any) -> Decision:
    base: dict[str, Any] = {
        "epochs_left": 10,
        "views": 2,
        "recompute_seconds": 10.0,
        "read_seconds": 1.0,
        "view_seconds": 12.0,
    }
    return decide(**base | changes)


def test_storing_that_pays_is_chosen_with_the_measured_seconds() -> None:
    chosen = decision()
    assert (chosen.choice, chosen.views) == ("cache", 2)
    assert chosen.reason == (
        "stored: an epoch costs 1.00 s to read, 10.00 s to recompute; 2 views cost 24.0 s to store, "
        "even after 2.7 epochs, 10 epochs to go at this depth"
    )
    assert chosen.break_even == pytest.approx(24 / 9)


def test_few_epochs_left_store_one_view() -> None:
    chosen = decision(epochs_left=2)
    assert (chosen.choice, chosen.views) == ("cache", 1)
    assert "1 view costs 12.0 s to store" in chosen.reason


def test_too_few_epochs_left_recompute() -> None:
    chosen = decision(epochs_left=1)
    assert (chosen.choice, chosen.views) == ("recompute", 0)
    assert chosen.reason.startswith("recomputed: an epoch costs 1.00 s to read")
    assert chosen.reason.endswith("1 epoch to go at this depth")


@pytest.mark.parametrize(("epochs", "views"), [(2, 1), (3, 1), (6, 2), (30, 9)])
def test_a_stored_view_is_seen_three_times_or_more(epochs: int, views: int) -> None:
    assert decision(epochs_left=epochs, views=9, view_seconds=0.1).views == views


@pytest.mark.parametrize(
    ("left", "before", "passes", "views"),
    [
        (10, 0, 3.0, 4),
        (9, 0, 3.0, 3),
        (4, 0, 3.0, 2),
        (3, 0, 3.0, 1),
        (40, 0, 3.0, 8),
        (7, 13, 3.0, 2),
        (20, 20, 3.0, 2),
        (9, 1, 3.0, 3),
        (10, 0, 0.01, 1),
        (10, 0, 0.35, 3),
        (4, 20, 3.0, 1),
    ],
    ids=[
        *("from the start", "whole thirds", "short", "shorter", "long", "after as long", "after longer"),
        *("after an epoch", "a probe", "a small suffix", "late"),
    ],
)
def test_how_many_views_are_stored_where_that_is_left_to_be_told(
    left: int, before: int, passes: float, views: int
) -> None:
    most, least = automatic_views(left, before, passes)
    chosen = decision(epochs_left=left, views=most, least_views=least, view_seconds=0.1)
    assert chosen.views == views


def test_views_that_do_not_pay_are_not_stored_whoever_wants_them() -> None:
    assert decision(epochs_left=10, views=8, least_views=8, view_seconds=15.0).views == 5


def test_of_an_unknown_number_of_epochs_two_views_are_stored() -> None:
    assert automatic_views(None, 0, 3.0) == (2, 1)


def test_no_more_views_than_epochs_are_stored_where_a_cache_is_forced() -> None:
    assert decision(epochs_left=3, views=9, view_seconds=0.1, mode="cache").views == 3


def test_reading_that_is_slower_is_not_chosen() -> None:
    chosen = decision(read_seconds=11.0)
    assert chosen == Decision("recompute", 0, "recomputed: an epoch costs 11.00 s to read, 10.00 s to recompute", None)


def test_an_unknown_number_of_epochs_stores_if_it_ever_pays() -> None:
    chosen = decision(epochs_left=None)
    assert (chosen.choice, chosen.views) == ("cache", 2)
    assert "an unknown number of epochs to go" in chosen.reason


def test_a_forced_cache_keeps_its_views_and_says_that_it_was_asked_for() -> None:
    chosen = decision(mode="cache", read_seconds=11.0)
    assert (chosen.choice, chosen.views, chosen.break_even) == ("cache", 2, None)
    assert chosen.reason.startswith("stored, as asked: ")


@given(st.integers(1, 200), st.integers(1, 8), seconds, seconds, seconds)
def test_the_cheaper_way_is_taken(epochs: int, views: int, recompute: float, read: float, view: float) -> None:
    chosen = decide(epochs_left=epochs, views=views, recompute_seconds=recompute, read_seconds=read, view_seconds=view)
    if chosen.choice == "cache":
        assert 1 <= chosen.views <= min(views, epochs)
        assert chosen.views * view + epochs * read <= epochs * recompute * (1 + 1e-9)
    else:
        assert view + epochs * read >= epochs * recompute * (1 - 1e-9)


def test_seconds_are_the_median_after_a_warm_up() -> None:
    naps = iter([0.2, 0.0, 0.05, 0.0])
    assert seconds_of(lambda: time.sleep(next(naps)), 3) < 0.04
    assert next(naps, None) is None


def test_flops_of_a_step_are_those_of_its_products() -> None:
    # Forward 2 * 6 * 5; backward the same for the weight; none for the input, which needs no gradient.
    assert training_flops(nn.Linear(6, 5, bias=False), torch.randn(4, 6), 4) == 2 * (2 * 6 * 5)


def test_to_count_flops_changes_nothing() -> None:
    model = in_place()
    inputs = torch.randn(4, 1, 28, 28)
    model(inputs).sum().backward()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    gradients = {name: p.grad for name, p in model.named_parameters()}
    values = {name: grad.clone() for name, grad in gradients.items() if grad is not None}
    random = torch.get_rng_state()
    training_flops(model, inputs, len(inputs))
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in state.items())
    assert all(parameter.grad is gradients[name] for name, parameter in model.named_parameters())
    assert all(torch.equal(values[name], p.grad) for name, p in model.named_parameters() if p.grad is not None)
    assert torch.equal(random, torch.get_rng_state())


@pytest.mark.parametrize(
    "wrap",
    [lambda y: {"logits": y}, lambda y: (y, y), lambda y: [y]],
    ids=["dict", "tuple", "list"],
)
def test_flops_are_counted_whatever_the_model_returns(wrap: Any) -> None:
    class Wrapping(nn.Linear):
        def forward(self, input: torch.Tensor) -> Any:
            return wrap(super().forward(input))

    assert training_flops(Wrapping(6, 5, bias=False), torch.randn(4, 6), 4) == 120


def test_what_is_saved_is_counted_against_the_median_epoch_on_images() -> None:
    clock = Clock(live=[10.0, 11.0, 30.0], frozen=[2.0, 3.0], builds=[4.0])
    assert clock.saved_seconds() == 2 * 11 - 5 - 4
    assert clock.total_seconds == 60


def test_without_an_epoch_on_images_nothing_is_claimed() -> None:
    assert Clock(frozen=[2.0]).saved_seconds() is None


def test_an_epoch_that_is_broken_off_is_not_counted() -> None:
    clock = Clock()
    with clock.training(live=True):
        pass
    with pytest.raises(KeyboardInterrupt), clock.training(live=True):
        raise KeyboardInterrupt
    assert len(clock.live) == 1
    assert clock.epoch_seconds is None


def test_the_clock_goes_through_json_and_shares_nothing_with_the_state() -> None:
    clock = Clock(live=[1.0], frozen=[2.0], builds=[3.0], epoch_seconds=4.0)
    state = json.loads(json.dumps(clock.state_dict()))
    other = Clock()
    other.load_state_dict(state)
    assert other == clock
    other.live.append(5.0)
    assert state["live"] == [1.0]
