"""Views as epochs show them: recorded on the way, drawn anew, stored coarser."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hoarfrost import Freezer, Linear, Selection, Views
from hoarfrost.feeding.cache_source import CacheSource
from shared.freezers import N, epoch_of, frozen, record, same
from shared.grids import grid
from shared.images import RANDOM, CountingImages, images
from shared.nets import resnet, vit
from shared.runs import assert_same_run, train


def test_with_all_channels_every_epoch_shows_one_stored_view_of_each_sample() -> None:
    with frozen(views=Views(2, Selection(share=1.0))) as freezer:
        epochs = [torch.cat([inputs for inputs, _ in epoch_of(freezer, epoch)]).sum() for epoch in range(4)]
        assert torch.allclose(epochs[0] + epochs[1], epochs[2] + epochs[3])
        assert not torch.allclose(epochs[0], epochs[1], atol=1e-3)


@grid(views=[1, 2, 3], ladder=["exact", 4])
def test_recorded_as_they_are_shown_the_run_is_the_same_bit_for_bit(views: int, ladder: Any) -> None:
    ahead, shown = (
        train(
            resnet(),
            images(N, RANDOM),
            policy={1: "layer1"},
            views=Views(views, Selection(share=1.0), record=record),
            ladder=ladder,
            epochs=6,
        )
        for record in ("ahead", "shown")
    )
    assert_same_run(ahead, shown)


def test_recorded_as_they_are_shown_no_image_is_read_once_every_view_was_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = CountingImages(N, RANDOM)
    with frozen(data, views=Views(2, record="shown")) as freezer:
        reads = []
        for epoch in range(4):
            epoch_of(freezer, epoch)
            freezer.end_epoch()
            reads.append(data.reads)
            data.reads = 0
        # One chunk is there before: it says what the targets are.
        assert [n for n in reads[1:] if n] == [n for n in reads[1:] if n >= N - 64]
        assert reads[1] in (N, N - 64, N - 22)
        assert reads[2:] == [0, 0]
        assert freezer.cache is not None
        assert not freezer.cache.whole
        assert freezer.cache.verify() == []


def test_a_run_that_is_broken_off_while_it_records_goes_on_with_what_is_there(tmp_path: Path) -> None:
    views = Views(2, Selection(share=1.0), record="shown")
    data = CountingImages(N, RANDOM)
    with frozen(data, cache_dir=tmp_path, views=views) as freezer:
        first = epoch_of(freezer, 0)
        freezer.end_epoch()
        second = epoch_of(freezer, 1)
        state, weights = freezer.state_dict(), freezer.model.state_dict()
    data = CountingImages(N, RANDOM)
    with frozen(data, cache_dir=tmp_path, views=views) as again:
        again.model.load_state_dict(weights)
        again.load_state_dict(state)
        data.reads = 0
        assert same(epoch_of(again, 0), first)
        assert same(epoch_of(again, 1), second)
        assert data.reads == 0


@pytest.mark.parametrize("refresh", ["rolling", "together"])
def test_refreshed_features_are_those_of_new_renditions(refresh: str) -> None:
    with frozen(views=Views(1, refresh_every=2, refresh=refresh)) as freezer:
        seen = [torch.cat([inputs for inputs, _ in epoch_of(freezer, epoch)]).sum().item() for epoch in range(8)]
    changes = [one != other for one, other in pairwise(seen)]
    assert all(changes) if refresh == "rolling" else sum(changes) >= 3


def test_a_view_drawn_anew_in_every_epoch_never_repeats() -> None:
    """A frozen flip, the same view for ever, would show as one sum for many epochs."""
    with frozen(views=Views(1, refresh_every=1)) as freezer:
        sums = {round(torch.cat([x for x, _ in epoch_of(freezer, e)]).double().sum().item(), 6) for e in range(6)}
    assert len(sums) == 6


@pytest.mark.parametrize("count", [1, 2, 4])
def test_as_many_different_inputs_of_each_sample_are_seen_as_views_are_stored(count: int) -> None:
    """Counts distinct inputs of each sample over the epochs: stored views are all shown, none is shown for ever."""
    with frozen(views=Views(count, Selection(share=1.0))) as freezer:
        seen: list[set[bytes]] = [set() for _ in range(N)]
        for epoch in range(2 * count):
            order = torch.cat(_ids(freezer, epoch))
            rows = torch.cat([inputs for inputs, _ in epoch_of(freezer, epoch)])
            for sample, row in zip(order.tolist(), rows, strict=True):
                seen[sample].add(row.numpy().tobytes())
    # Two random renditions may fall together, where no flip and the same shift are drawn.
    assert sum(map(len, seen)) > 0.97 * N * count
    assert max(map(len, seen)) == count


def _ids(freezer: Freezer, epoch: int) -> list[Tensor]:
    order = freezer._data.order
    return [torch.cat([order.members(chunk) for chunk in chunks])[rows] for chunks, rows in order.windows(epoch)]


def test_refreshing_costs_are_part_of_the_decision() -> None:
    with frozen(mode="auto", views=Views(1, refresh_every=1), policy={0: "stem"}) as freezer:
        epoch_of(freezer)
        assert "to read and refresh" in record(freezer)["decision"]
        assert record(freezer)["choice"] == "recompute"


COARSER = {
    "fewer bits": Views(2, Selection(share=1.0), bits=3),
    "differences": Views(2, Selection(share=1.0), bits=4, residual=True),
    "differences of some": Views(3, Selection(share=0.5), residual=True),
    "a budget": Views(2, Selection(budget_bytes=60_000), metric="harm"),
}


@pytest.mark.parametrize("views", COARSER.values(), ids=COARSER)
def test_a_view_that_is_stored_coarser_is_near_to_the_exact_one(views: Views) -> None:
    with frozen(views=views, ladder=6) as freezer:
        epoch_of(freezer)
        assert freezer._front.division is not None
        assert freezer.cache is not None
        samples = freezer._data.samples
        (source, spec) = freezer._feeder._sources[0]
        assert spec.stored[1] != spec.stored[0] or views.metric == "harm"
        errors = []
        for chunk in range(freezer._data.order.chunks):
            for epoch in (0, 1):
                view = (chunk + epoch) % views.count
                drawn, _ = samples.images(freezer._data.order.members(chunk), freezer._data.renditions.view(0, view))
                with torch.no_grad():
                    exact = freezer._front.division.prefix(drawn)
                shown = source.load(chunk, epoch).features.dense()
                errors.append(float((shown - exact).norm() / exact.norm()))
        assert max(errors) < (0.75 if views.channels.share != 1.0 else 0.25)


@grid(views=COARSER, record=["ahead", "shown"])
def test_coarser_views_are_healed_and_recorded_with_the_same_bits(tmp_path: Path, views: Views, record: str) -> None:
    given = replace(views, record=record)
    with frozen(views=given, ladder=6, cache_dir=tmp_path) as freezer:
        before = [epoch_of(freezer, epoch) for epoch in range(3)]
        assert freezer.cache is not None
        (freezer.cache.path / "features.bin").write_bytes(b"")
        for epoch in range(3):
            assert same(epoch_of(freezer, epoch), before[epoch])
        assert record_count(freezer, "heal") > 0
        assert freezer.cache.verify() == []


def record_count(freezer: Freezer, event: str) -> int:
    return sum(entry["event"] == event for entry in freezer.history)


def test_the_record_of_a_freeze_says_what_further_views_store() -> None:
    with frozen(views=COARSER["fewer bits"], ladder=6) as freezer:
        epoch_of(freezer)
        further = record(freezer)["further"]
    assert further["codec"] == str(Linear(3))
    assert further["residual"] is False
    assert further["bytes_per_sample"] > 0


@pytest.mark.parametrize("views", [Views(2, Selection(share=0.25)), Views(1, derived=1.0)], ids=["share", "all moved"])
def test_tokens_are_derived_with_their_class_token_left_alone(views: Views) -> None:
    with frozen(model=vit(), policy={0: "encoder.layers.encoder_layer_0"}, views=views) as freezer:
        epoch_of(freezer)
        source, spec = freezer._feeder._sources[0]
        assert isinstance(source, CacheSource)
        chunk = next(c for c in range(3) if source._needed(c, 1) != (1,) and (views.derived or (c + 1) % 2))
        base = freezer.cache.read(chunk, 0).features() if freezer.cache is not None else torch.empty(0)
        shown = source.load(chunk, 1).features.dense()
        kept = spec.stored[-1].channels or ()
        others = [c for c in range(8) if c not in kept]
        assert torch.equal(shown[:, 0, others], base[:, 0, others])
        assert not torch.equal(shown[:, 1:, others], base[:, 1:, others])
