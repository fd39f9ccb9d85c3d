"""What is stored where less fits than was asked for, and that the budget holds."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from hoarfrost import Linear, Selection, Views
from hoarfrost.cache import CacheWriter
from hoarfrost.storing.calibration import Calibration
from shared.freezers import N, epoch_of, frozen, record, same
from shared.images import PLAIN, images
from shared.nets import resnet
from shared.runs import assert_same_run, train


@cache
def bytes_of_one_view() -> int:
    with frozen(views=1) as freezer:
        epoch_of(freezer)
        assert freezer.cache is not None
        return freezer.cache.nbytes


def test_a_budget_for_one_view_stores_one_view() -> None:
    budget = int(bytes_of_one_view() * 1.3)
    with frozen(views=Views(3, Selection(share=1.0)), disk_budget=budget) as freezer:
        epoch_of(freezer)
        assert freezer.cache is not None
        assert freezer.cache.nbytes <= budget
        assert freezer.cache.spec.views == 1
        assert f"1 of 3 views, to stay within the disk budget of {budget:,} bytes" in record(freezer)["decision"]


def test_a_prediction_that_was_too_low_costs_a_view_and_not_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    budget = int(bytes_of_one_view() * 1.3)
    predicted = Calibration.at
    monkeypatch.setattr(Calibration, "at", lambda *a: replace(predicted(*a), predicted_bytes=100 * a[1]))
    with frozen(views=Views(3, Selection(share=1.0)), disk_budget=budget) as freezer:
        epoch_of(freezer)
        assert freezer.cache is not None
        assert freezer.cache.spec.views == 1
        assert "1 of 3 views, for more there was no room" in record(freezer)["decision"]


@pytest.mark.parametrize("budget", [0, 1000], ids=str)
def test_a_budget_too_small_warns_and_recomputes(budget: int) -> None:
    with pytest.warns(
        UserWarning,
        match=rf"hoarfrost goes on by recomputing: the disk budget is {budget:,} bytes, one view of 150 samples "
        r"at cut 'layer1' needs about [\d,]+ at the strongest rung that does no harm",
    ):
        trace = train(resnet(), images(N, PLAIN), policy={1: "layer1"}, disk_budget=budget, epochs=3)
    assert trace.choices == ["recompute"]
    assert_same_run(trace, train(resnet(), images(N, PLAIN), policy={1: "layer1"}, mode="recompute", epochs=3))


LADDER = [8, 4, 2]


@cache
def sizes_of(views: int) -> dict[int, int]:
    """Bytes of a cache of so many whole views, by bits."""
    sizes = {}
    for bits in LADDER:
        with frozen(views=Views(views, Selection(share=1.0)), ladder=bits) as freezer:
            epoch_of(freezer)
            assert freezer.cache is not None
            sizes[bits] = freezer.cache.nbytes
    return sizes


@pytest.mark.parametrize(
    ("order", "views", "bits"),
    [("views, rung", 1, 4), ("rung,views", 2, 2), (("rung",), 2, 2)],
    ids=["views first", "rung first", "rung alone"],
)
def test_over_budget_less_is_stored_in_the_order_that_was_asked_for(order: Any, views: int, bits: int) -> None:
    one, two = sizes_of(1), sizes_of(2)
    budget = max(int(one[4] * 1.05), int(two[2] * 1.05))
    assert budget < one[8]
    assert budget < two[4]
    options: dict[str, Any] = {"views": Views(2, Selection(share=1.0)), "ladder": LADDER, "tolerance": 0.0}
    with frozen(disk_budget=budget, over_budget=order, **options) as freezer:
        with pytest.warns(UserWarning, match="stores less than asked for: .* to stay within the disk budget"):
            epoch_of(freezer)
        assert freezer.cache is not None
        assert freezer.cache.nbytes <= budget
        assert (freezer.cache.spec.views, freezer.cache.spec.codec) == (views, Linear(bits))
        told = record(freezer)
        assert told["over_budget"] == (["views", "rung"] if views == 1 else ["rung"])
        (chosen,) = [rung for rung in told["rungs"] if rung["chosen"]]
        assert chosen["codec"] == str(Linear(bits))
        gentlest = told["rungs"][0]["kl"]
        assert (
            f"{Linear(bits)} in place of {Linear(8)}, with a harm of {chosen['kl']:.2g} in place of {gentlest:.2g}"
            in told["decision"]
        )
        assert told["predicted_bytes"] <= budget


def test_a_rung_that_does_harm_is_not_taken_unasked() -> None:
    budget = int(sizes_of(1)[4] * 1.05)
    with frozen(disk_budget=budget, views=1, ladder=LADDER, tolerance=0.0) as freezer:
        with pytest.warns(UserWarning, match="at the strongest rung that does no harm"):
            epoch_of(freezer)
        assert freezer.source == "recompute"
        assert record(freezer)["over_budget"] == ["recompute"]


@pytest.mark.parametrize("order", ["cut", "views, rung, cut, recompute"])
def test_over_budget_a_deeper_cut_is_frozen_in_place_of_the_one_asked_for(order: str) -> None:
    with frozen(policy={0: "layer3"}, views=1) as deep:
        epoch_of(deep)
        budget = int(deep._feeder.nbytes * 1.5)
        cut = deep.cut
    with frozen(disk_budget=budget, views=1, over_budget=order, policy={0: "layer1", 2: "layer2"}) as freezer:
        with pytest.warns(UserWarning, match="frozen up to '.*' in place of 'layer1', to stay within the disk budget"):
            epoch_of(freezer)
        assert freezer.source == "cache"
        assert freezer.cache is not None
        assert freezer.cache.nbytes <= budget
        assert freezer.cut is not None
        assert cut is not None
        assert freezer.cut.index > 3
        told = record(freezer)
        assert told["over_budget"][0] == "cut"
        assert told["cut"] == freezer.cut.label
        assert "in place of 'layer1'" in told["decision"]
        # The policy knows nothing of it: what it asks for later is frozen already.
        depth = freezer.depth
        for epoch in range(1, 4):
            freezer.end_epoch()
            epoch_of(freezer, epoch)
        assert freezer.depth == depth


def test_a_run_that_went_deeper_for_room_is_resumed_there(tmp_path: Path) -> None:
    with frozen(policy={0: "layer3"}, views=1) as deep:
        epoch_of(deep)
        budget = int(deep._feeder.nbytes * 1.5)
    options: dict[str, Any] = {"disk_budget": budget, "over_budget": "cut", "views": 1, "cache_dir": tmp_path}
    model = resnet()
    with frozen(model=model, policy={0: "layer1", 2: "layer2"}, **options) as freezer:
        with pytest.warns(UserWarning, match="in place of 'layer1'"):
            epoch_of(freezer)
        freezer.end_epoch()
        state, weights, second = freezer.state_dict(), model.state_dict(), epoch_of(freezer, 1)
    again = resnet(1)
    again.load_state_dict(weights)
    with frozen(model=again, policy={0: "layer1", 2: "layer2"}, **options) as resumed:
        resumed.load_state_dict(json.loads(json.dumps(state)))
        assert same(epoch_of(resumed, 1), second)
        resumed.end_epoch()
        epoch_of(resumed, 2)
        assert resumed.depth == state["depth"]


def test_where_no_deeper_cut_fits_either_the_next_way_is_taken() -> None:
    with frozen(disk_budget=1000, views=1, over_budget="cut,recompute") as freezer:
        with pytest.warns(UserWarning, match="goes on by recomputing"):
            epoch_of(freezer)
        assert freezer.cut is not None
        assert freezer.cut.label == "layer1"
        assert record(freezer)["over_budget"] == ["recompute"]


def bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("share", [1.05, 1.2, 3.0], ids=["one after the other", "tight", "both at once"])
def test_the_budget_holds_while_a_deeper_cut_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    with frozen(views=1) as alone:
        epoch_of(alone)
        shallow = alone._feeder.nbytes
    budget, largest = int(share * shallow), 0
    append = CacheWriter.append

    def watched(self: CacheWriter, *record: Any) -> int:
        nonlocal largest
        written = append(self, *record)
        largest = max(largest, bytes_in(tmp_path))
        return written

    monkeypatch.setattr(CacheWriter, "append", watched)
    options: dict[str, Any] = {"cache_dir": tmp_path, "views": 1, "disk_budget": budget, "epochs": 4}
    with frozen(policy={0: "layer1", 1: "layer2"}, **options) as freezer:
        epoch_of(freezer)
        freezer.end_epoch()
        epoch_of(freezer, 1)
        told = record(freezer)["decision"]
        assert freezer.cut is not None
        assert (freezer.cut.label, freezer.source) == ("layer2", "cache")
    slack = 4096  # manifests, locks
    assert largest <= budget + slack
    assert ("the earlier features were removed" in told) == (share < 3)


def test_the_disk_budget_holds_while_views_are_drawn_anew(tmp_path: Path) -> None:
    with frozen(views=1, ladder=4, cache_dir=tmp_path / "probe") as freezer:
        epoch_of(freezer)
        budget = int(1.02 * freezer._feeder.nbytes)
    with frozen(views=Views(1, refresh_every=2), ladder=4, cache_dir=tmp_path / "kept", disk_budget=budget) as freezer:
        for epoch in range(6):
            epoch_of(freezer, epoch)
            assert freezer._feeder.nbytes <= budget
            freezer.end_epoch()
