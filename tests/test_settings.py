from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import MISSING
from inspect import signature
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hoarfrost import Freezer, Half, Shared
from hoarfrost.errors import ArgumentError
from hoarfrost.settings import OverBudget, Selection, Settings, Storing, Views, fields_of, from_flat, to_flat
from hoarfrost.settings.over_budget import WAYS


@given(st.integers(0, 500), st.integers(0, 500), st.integers(1, 6))
def test_a_chunk_shows_every_view_once_in_as_many_epochs(chunk: int, epoch: int, count: int) -> None:
    assert sorted(Views.shown(chunk, epoch + i, count) for i in range(count)) == list(range(count))


@given(st.integers(0, 500), st.integers(1, 6), st.integers(1, 20))
def test_an_epoch_mixes_all_views_evenly(epoch: int, count: int, rounds: int) -> None:
    shown = Counter(Views.shown(chunk, epoch, count) for chunk in range(rounds * count))
    assert shown == dict.fromkeys(range(count), rounds)


def test_a_number_is_a_count_and_views_stay_as_they_are() -> None:
    views = Views(3, Selection(share=0.5))
    assert Views.of(3) == Views(count=3)
    assert Views.of(views) is views


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"count": 0}, 'views must be a whole number of at least 1, or "auto", not 0'),
        ({"count": "many"}, "not 'many'"),
        ({"count": True}, "not True"),
        ({"count": 1.5}, "not 1.5"),
        ({"base": "tidy"}, 'the base view is "random" or "clean", not \'tidy\''),
        (
            {"metric": "guess"},
            "the metric of views is one of 'cosine', 'ssim', 'psnr', 'relative', 'energy', 'harm', not 'guess'",
        ),
        ({"bits": 9}, "the bits of further views are a whole number from 1 to 8, or None, not 9"),
        ({"derived": 1.5}, "the derived share of views is a number from 0 to 1, not 1.5"),
        ({"refresh_every": 0}, "refresh_every is a whole number of epochs, at least 1, or None, not 0"),
        ({"refresh": "often"}, 'views are refreshed "rolling" or "together", not \'often\''),
        ({"record": "later"}, 'views are recorded "ahead" or as they are "shown", not \'later\''),
        ({"further": "same"}, "what further views are must be one of 'random', 'mirrored', not 'same'"),
        ({"border": "black"}, "the border of views must be one of 'auto', 'zeros', .* not 'black'"),
        ({"grain": "batch"}, "the grain of views must be one of 'sample', 'chunk', not 'batch'"),
        ({"count": 3, "further": "mirrored"}, "one mirror image of the base view: views are 1 or 2, not 3"),
    ],
    ids=[
        *("none", "word", "bool", "half", "base", "metric", "bits", "derived", "every", "refresh", "record"),
        *("further", "border", "grain", "mirrors"),
    ],
)
def test_what_makes_no_views_is_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        Views(**options)


def test_views_that_are_not_refreshed_stay_in_their_first_edition() -> None:
    assert {Views().edition(chunk, epoch, 4) for chunk in range(9) for epoch in range(4, 40)} == {0}


@given(st.integers(1, 9), st.integers(0, 50), st.integers(0, 20))
def test_refreshed_together_all_chunks_are_drawn_anew_in_the_same_epochs(every: int, chunk: int, event: int) -> None:
    views = Views(refresh_every=every, refresh="together")
    found = [views.edition(chunk, event + epoch, event) for epoch in range(5 * every)]
    assert found == [epoch // every for epoch in range(5 * every)]


@given(st.integers(1, 9), st.integers(0, 20))
def test_rolling_each_epoch_draws_an_equal_share_anew_and_each_chunk_every_so_many_epochs(
    every: int, event: int
) -> None:
    views, chunks = Views(refresh_every=every), 4 * every
    before = [views.edition(chunk, event, event) for chunk in range(chunks)]
    assert before == [0] * chunks
    for epoch in range(event + 1, event + 3 * every):
        now = [views.edition(chunk, epoch, event) for chunk in range(chunks)]
        assert sum(b - a for a, b in zip(before, now, strict=True)) == chunks // every
        before = now


@given(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]))
def test_the_derived_share_is_that_of_the_chunks_of_an_epoch_and_over_epochs(derived: float) -> None:
    views = Views(derived=derived)
    by_epoch = [sum(views.moved(chunk, epoch) for chunk in range(4000)) / 4000 for epoch in range(3)]
    by_chunk = [sum(views.moved(chunk, epoch) for epoch in range(4000)) / 4000 for chunk in range(3)]
    assert all(abs(found - derived) < 0.05 for found in by_epoch + by_chunk)
    assert len(set(by_epoch)) == 3 or derived in (0, 1)


def test_names_with_commas_are_an_order() -> None:
    assert OverBudget.of("views, rung,recompute") == OverBudget.of(["views", "rung", "recompute"])


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ("views,luck", "over_budget is an order of 'views', 'rung', 'cut', 'recompute'; there is no 'luck'"),
        (["rung", "rung"], "over_budget names a way twice: rung, rung"),
        ("recompute,views", "recomputing always fits, so nothing that stands behind it is tried"),
    ],
    ids=["unknown", "twice", "behind recomputing"],
)
def test_an_order_that_makes_no_sense_is_refused(order: object, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        OverBudget.of(order)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("order", "offers"),
    [
        ("views,rung", [(2, 0), (1, 0), (2, 1), (1, 1)]),
        ("rung,views", [(2, 0), (2, 1), (1, 0), (1, 1)]),
        ("views,recompute", [(2, 0), (1, 0)]),
        ("recompute", [(2, 0)]),
        ("", None),
    ],
    ids=["views first", "rung first", "views", "nothing", "empty"],
)
def test_a_way_is_used_up_before_the_next_is_touched(order: str, offers: list[tuple[int, int]] | None) -> None:
    if offers is None:
        with pytest.raises(ArgumentError, match="there is no ''"):
            OverBudget.of(order)
    else:
        assert list(OverBudget.of(order).offers(2, 2)) == offers


def test_before_a_deeper_cut_only_what_stands_in_front_of_it_is_tried() -> None:
    assert OverBudget.of("rung,cut,views").before_deepening == OverBudget(("rung",))


@given(st.permutations(WAYS[:3]), st.integers(1, 4), st.integers(1, 4))
def test_the_offers_begin_with_everything_and_reach_the_least(order: list[str], views: int, rungs: int) -> None:
    offers = list(OverBudget.of(order).offers(views, rungs))
    assert offers[0] == (views, 0)
    assert offers[-1] == (1, rungs - 1)
    assert sorted(offers) == sorted((v, r) for v in range(1, views + 1) for r in range(rungs))


SENSITIVITY = torch.tensor([0.1, 0.9, 0.5, 0.5, 0.0])


@pytest.mark.parametrize(
    ("selection", "bytes_per_channel", "chosen"),
    [
        pytest.param(Selection(share=0.4), None, [1, 2], id="share"),
        pytest.param(Selection(share=0.49), None, [1, 2], id="share rounded"),
        pytest.param(Selection(share=0.51), None, [1, 2, 3], id="share rounded up"),
        pytest.param(Selection(share=0.0), None, [], id="none"),
        pytest.param(Selection(share=1.0), None, [0, 1, 2, 3, 4], id="all"),
        pytest.param(Selection(threshold=0.5), None, [1], id="above"),
        pytest.param(Selection(threshold=-1), None, [0, 1, 2, 3, 4], id="below all"),
        pytest.param(Selection(budget_bytes=250), 100, [1, 2], id="budget"),
        pytest.param(Selection(budget_bytes=0), 100, [], id="no budget"),
        pytest.param(Selection(budget_bytes=100), [1, 60, 30, 20, 1], [0, 2, 3], id="most for each byte"),
    ],
)
def test_selection(selection: Selection, bytes_per_channel: Any, chosen: list[int]) -> None:
    found = selection.choose(SENSITIVITY, bytes_per_channel)
    assert found.dtype == torch.int64
    assert found.tolist() == chosen


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: Selection().choose(torch.ones(3)),
            "give share, threshold or budget_bytes; else a freeze has to measure",
        ),
        (lambda: Selection(share=0.1, threshold=2), r"give one of .*; got {'share': 0.1, 'threshold': 2}"),
        (lambda: Selection(share=1.5), "share must be from 0 to 1, got 1.5"),
        (lambda: Selection(threshold=float("nan")), "threshold must be a number, got nan"),
        (lambda: Selection(budget_bytes=-1), "budget_bytes must be 0 or more, got -1"),
        (lambda: Selection(budget_bytes=9).choose(SENSITIVITY), "budget_bytes needs bytes_per_channel"),
        (lambda: Selection(budget_bytes=9).choose(SENSITIVITY, [1, 2]), r"one number or 5, got \[2\]"),
        (lambda: Selection(share=0.5).choose(torch.zeros(2, 2)), r"sensitivity must be \[C\] without NaN"),
    ],
)
def test_what_makes_no_selection_is_refused(call: Callable[[], object], text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        call()


@pytest.mark.parametrize("harm", ["kl", None, 3])
def test_harm_is_a_known_task_or_a_loss(harm: Any) -> None:
    with pytest.raises(ArgumentError, match="harm must be one of 'auto', 'classes', 'labels', 'values', not"):
        Storing(harm=harm)


def test_a_loss_cannot_be_written_down() -> None:
    told = Storing(harm=torch.nn.functional.l1_loss)
    with pytest.raises(ArgumentError, match=r"harm is .* which cannot be written down: give it by name"):
        to_flat(told)
    assert to_flat(Storing(harm="labels"))["harm"] == "labels"


TOLD: list[dict[str, Any]] = [
    {},
    {"policy": {0: "layer1", 4: 7}, "epochs": 9, "settle": "last", "max_tensors": 2},
    {"views": 4, "ladder": 3, "mode": "cache", "disk_budget": "2GiB", "over_budget": "rung,views", "cache_dir": "here"},
    {"views": Views(2, Selection(share=0.25), metric="harm", refresh_every=3), "ladder": [Half(), 4], "harm": "labels"},
    {"ladder": Shared(11), "window": 3, "memory_budget": 0, "seed": 5, "device": "cpu", "channels_last": True},
]


@pytest.mark.parametrize("told", TOLD, ids=range(len(TOLD)))
def test_settings_go_through_json_under_plain_names(told: dict[str, Any]) -> None:
    settings = from_flat(Settings, {"batch_size": 32, **told})
    again = from_flat(Settings, json.loads(json.dumps(to_flat(settings))))
    assert to_flat(again) == to_flat(settings)
    assert (again.freezing, again.reading, again.rendering) == (
        settings.freezing,
        settings.reading,
        settings.rendering,
    )
    assert (again.storing.views, again.storing.rungs) == (settings.storing.views, settings.storing.rungs)
    assert (again.storing.disk_budget, again.storing.over_budget) == (
        settings.storing.disk_budget,
        settings.storing.over_budget,
    )


def test_what_cannot_be_written_down_is_told() -> None:
    with pytest.raises(ArgumentError, match=r"policy is <function .* cannot be written down: give it by name"):
        to_flat(from_flat(Settings, {"batch_size": 8, "policy": lambda state: 0}))


def test_the_freezer_has_the_settings_own_defaults() -> None:
    """Each keyword stands twice, in its setting and in the signature that people read: alike."""
    keywords = signature(Freezer).parameters
    for name, field in fields_of(Settings).items():
        wanted = None if field.default is MISSING else field.default
        found = keywords[name].default
        assert OverBudget.of(found) == OverBudget.of(wanted) if name == "over_budget" else found == wanted, name
