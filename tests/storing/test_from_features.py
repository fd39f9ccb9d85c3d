"""A deeper cut's cache, built from the features of the cut before."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hoarfrost import Freezer, Linear, Selection, Views
from hoarfrost.costs.decision import Decision
from hoarfrost.cuts import find_cut
from hoarfrost.errors import ArgumentError
from hoarfrost.policies import TrainState
from hoarfrost.storing.build import fill
from hoarfrost.storing.fingerprint import origin_of
from hoarfrost.storing.from_features import MeasuredFeatures, from_features
from shared.freezers import end_epoch
from shared.images import RANDOM, images
from shared.nets import resnet

N = 150
WHOLE = Views(2, Selection(share=1.0))


def going(*labels: str) -> Callable[[TrainState], int]:
    """Freezes up to one cut after the other; nobody knows before, so that all views are stored."""
    return lambda state: find_cut(state.cuts, labels[min(state.epoch, len(labels) - 1)]).index + 1


def deepened(model: nn.Module | None = None, **options: Any) -> Freezer:
    """A freezer that has just frozen a second time, its features built from the first one's."""
    freezer = begun(model, **options)
    [*freezer.batches(0)]
    end_epoch(freezer)
    return freezer


def begun(model: nn.Module | None = None, **options: Any) -> Freezer:
    given = {
        "policy": going("layer1", "layer2"),
        "mode": "cache",
        "ladder": "exact",
        "epochs": 9,
        "batch_size": 50,
        "views": WHOLE,
        "build_from": "features",
        **options,
    }
    return Freezer(model or resnet(), images(N, RANDOM), **given)


def record(freezer: Freezer, event: str = "freeze") -> dict[str, Any]:
    return [entry for entry in freezer.history if entry["event"] == event][-1]


def exact(freezer: Freezer, chunk: int, view: int, event: int = 0) -> Tensor:
    """What the prefix gives for the renditions of a freeze."""
    assert freezer._front.division is not None
    drawn, _ = freezer._data.samples.images(
        freezer._data.order.members(chunk), freezer._data.renditions.view(event, view)
    )
    with torch.no_grad():
        features: Tensor = freezer._front.division.prefix(drawn)
    return features


def stored(freezer: Freezer, chunk: int, view: int) -> Tensor:
    assert freezer.cache is not None
    return freezer.cache.read(chunk, view).features()


@pytest.mark.parametrize("channels_last", [False, True], ids=["channels first", "channels last"])
def test_of_exact_features_the_new_ones_are_exact_and_show_the_same_renditions(channels_last: bool) -> None:
    model = resnet()
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    with deepened(model, channels_last=channels_last) as freezer:
        assert freezer.cut is not None
        assert freezer.cut.label == "layer2"
        for view in range(2):
            source = freezer._data.source(freezer._front.division.prefix)  # type: ignore[union-attr]
            for chunk in range(3):
                wanted, _ = source.features(chunk, freezer._data.renditions.view(0, view))
                assert torch.equal(stored(freezer, chunk, view), wanted)
        assert record(freezer)["built_from"] == {"cut": "layer1", "kl": 0.0, "kl_stored": 0.0}
        assert "built from the stored features of 'layer1', with a harm of 0" in record(freezer)["decision"]


def test_neither_the_whole_prefix_nor_an_image_is_needed_for_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def watched(writers: Any, division: Any, data: Any, *rest: Any) -> None:
        stream = data.samples.stream
        handle = division.prefix.register_forward_hook(lambda *_: ran.append("prefix"))
        data.samples.stream = lambda *a: (ran.append("images"), stream(*a))[1]
        fill(writers, division, data, *rest)
        handle.remove()
        data.samples.stream = stream

    with begun() as freezer:
        [*freezer.batches(0)]
        monkeypatch.setattr("hoarfrost.storing.storage.fill", watched)
        end_epoch(freezer)
        assert freezer.source == "cache"
        assert ran == []


def test_with_derived_channels_what_epochs_saw_is_carried_on() -> None:
    with deepened(views=Views(2, Selection(share=0.25)), tolerance=10.0) as freezer:
        told = record(freezer)["built_from"]
        # The derived channels of the second view were no exact features.
        assert told is not None
        assert 0 < told["kl"] <= told["kl_stored"] * 2
        for batch, _ in freezer.batches(1):
            assert batch.isfinite().all()


def test_the_earlier_codecs_harm_is_measured_and_the_rung_leaves_room_for_it() -> None:
    with deepened(ladder=[8, 4, 2], tolerance=1e-3) as freezer:
        told = record(freezer)
        assert 0 < told["built_from"]["kl"] <= 1e-3 * 2
        assert told["built_from"]["kl_stored"] <= 1e-3 * 2
        (chosen,) = [rung for rung in told["rungs"] if rung["chosen"]]
        assert freezer.cache is not None
        assert str(freezer.cache.spec.codec) == chosen["codec"]


REFUSED: list[tuple[dict[str, Any], str]] = [
    (
        {"ladder": 3, "tolerance": 1e-9},
        "what the codec of 'layer1' has done would become a harm of .* beyond twice the",
    ),
    ({"views": Views(2, refresh_every=3)}, "views that are drawn anew need the images"),
    ({"views": Views(1, record="shown")}, "the features of 'layer1' are stored as epochs show them"),
]


@pytest.mark.parametrize(("options", "reason"), REFUSED, ids=["harm", "drawn anew", "recorded"])
def test_where_that_will_not_do_images_are_taken_and_it_is_said(options: dict[str, Any], reason: str) -> None:
    with begun(**options) as freezer:
        [*freezer.batches(0)]
        with pytest.warns(UserWarning, match=f"hoarfrost builds the cache from images: {reason}"):
            end_epoch(freezer)
        assert record(freezer)["built_from"] is None
        assert "built from images: " in record(freezer)["decision"]
        assert freezer.cache is not None
        mine = freezer.cache.fingerprint
    with deepened(**options, build_from="images") as usual:
        assert usual.cache is not None
        assert usual.cache.fingerprint == mine


@pytest.mark.parametrize("pays", [True, False], ids=["pays", "does not"])
def test_the_build_is_priced_as_what_it_is(pays: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[float] = []

    def timed(*args: Any) -> MeasuredFeatures | str:
        found = from_features(*args)
        assert isinstance(found, MeasuredFeatures)
        measured.append(found.view_seconds)
        # A price that no clock can blur.
        return replace(found, view_seconds=0.0 if pays else 1e9)

    def priced(**options: Any) -> Decision:
        asked.append(options)
        first, cheap = len(asked) == 1, options["view_seconds"] < 1e8
        stores = first or (pays and cheap and len(asked) == 3)
        return Decision("cache" if stores else "recompute", int(stores), f"price {len(asked)}", None)

    asked: list[dict[str, Any]] = []
    monkeypatch.setattr("hoarfrost.storing.storer.from_features", timed)
    monkeypatch.setattr("hoarfrost.storing.calibration.decide", priced)
    with deepened(mode="auto", views=1) as freezer:
        told = record(freezer)
    assert measured[0] > 0
    # Of the first freeze; of the second from images, then from features.
    assert [options["mode"] for options in asked] == ["auto"] * 3
    assert asked[2]["recompute_seconds"] == asked[1]["recompute_seconds"] == told["prefix_seconds"]
    assert asked[1]["view_seconds"] - asked[2]["view_seconds"] == pytest.approx(
        told["prefix_seconds"] - (0.0 if pays else 1e9)
    )
    assert told["choice"] == ("cache" if pays else "recompute")
    assert told["decision"].startswith("price 3")
    assert (told["built_from"] is not None) is pays


def test_the_views_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with begun(views=1) as freezer:
        [*freezer.batches(0)]
        freezer._feeder._storer._storing = replace(freezer._feeder._storer._storing, views=WHOLE)
        freezer._feeder._storer.storage._views = WHOLE
        with pytest.warns(UserWarning, match="2 views are asked for, 1 are stored of 'layer1'"):
            end_epoch(freezer)
        assert freezer.cache is not None
        assert freezer.cache.spec.views == 2


def test_a_damaged_record_of_the_earlier_cache_is_no_disaster() -> None:
    with begun() as freezer:
        [*freezer.batches(0)]
        assert freezer.cache is not None
        path = freezer.cache.path / "features.bin"
        path.write_bytes(bytes(path.stat().st_size))
        with pytest.warns(UserWarning, match="hoarfrost builds the cache from images: chunk 0, view 0"):
            end_epoch(freezer)
        assert torch.equal(stored(freezer, 2, 1), exact(freezer, 2, 1, event=1))


def test_without_room_for_both_images_are_taken() -> None:
    with begun(views=1) as freezer:
        [*freezer.batches(0)]
        budget = int(freezer._feeder.nbytes * 1.05)
    with deepened(views=1, disk_budget=budget) as tight:
        told = record(tight)
        assert told["built_from"] is None
        assert "the earlier features were removed first" in told["decision"]
        assert tight.source == "cache"


def test_without_room_for_both_the_price_is_that_of_images(monkeypatch: pytest.MonkeyPatch) -> None:
    with begun(views=1) as freezer:
        [*freezer.batches(0)]
        budget = int(freezer._feeder.nbytes * 1.05)
    asked: list[dict[str, Any]] = []

    def priced(**options: Any) -> Decision:
        asked.append(options)
        return Decision("cache", 1, "stored", None)

    monkeypatch.setattr("hoarfrost.storing.calibration.decide", priced)
    with deepened(views=1, mode="auto", disk_budget=budget) as tight:
        assert record(tight)["cut"] == "layer2"
        assert len(asked) == 2
    with deepened(views=1, mode="auto", disk_budget=10 * budget):
        assert len(asked) == 2 + 3


def test_what_it_was_built_from_is_in_the_fingerprint_and_a_resumed_run_goes_on(tmp_path: Path) -> None:
    model = resnet()
    with begun(model, cache_dir=tmp_path) as freezer:
        [*freezer.batches(0)]
        assert freezer.cache is not None
        before = freezer.cache.fingerprint.digest
        end_epoch(freezer)
        origin = origin_of(freezer.cache)
        assert origin is not None
        assert (origin.cache, origin.event) == (before, 0)
        state, weights = freezer.state_dict(), model.state_dict()
        epoch, later = [*freezer.batches(1)], [*freezer.batches(2)]
    again = resnet(1)
    again.load_state_dict(weights)
    with begun(again, cache_dir=tmp_path) as resumed:
        resumed.load_state_dict(json.loads(json.dumps(state)))
        assert resumed.source == "cache"
        for wanted, got in ((epoch, resumed.batches(1)), (later, resumed.batches(2))):
            for (a, s), (b, t) in zip(wanted, got, strict=True):
                assert torch.equal(a, b)
                assert torch.equal(s, t)
        freezes = [[e for e in told if e["event"] == "freeze"] for told in (resumed.history, state["history"])]
        assert freezes[0] == freezes[1]


def test_a_damaged_record_is_healed_from_images_and_nearer_to_the_exact_features() -> None:
    with deepened(views=1, ladder=4, tolerance=10.0) as freezer:
        assert freezer.cache is not None
        kept = stored(freezer, 1, 0)
        path = freezer.cache.path / "features.bin"
        path.write_bytes(bytes(path.stat().st_size))
        [*freezer.batches(1)]
        heals = [entry for entry in freezer.history if entry["event"] == "heal"]
        assert len(heals) == 3
        assert not any(heal["same_bits"] for heal in heals)
        features, healed, spec = exact(freezer, 1, 0), stored(freezer, 1, 0), freezer.cache.spec
        payload = Linear(4).encode(spec.physical(features), spec.codec_axis)
        assert torch.equal(
            healed, spec.logical(Linear(4).decode(payload, tuple(features.shape), spec.dtype, spec.codec_axis))
        )
        assert (healed - features).norm() < (kept - features).norm()


def test_a_third_cache_carries_the_first_ones_renditions_on() -> None:
    with deepened(policy=going("layer1", "layer2", "layer3")) as freezer:
        [*freezer.batches(1)]
        end_epoch(freezer)
        assert record(freezer)["built_from"]["cut"] == "layer2"
        assert torch.equal(stored(freezer, 0, 1), exact(freezer, 0, 1))


def test_what_to_build_from_is_checked() -> None:
    with pytest.raises(ArgumentError, match="build_from must be one of 'images', 'features', not 'cache'"):
        begun(build_from="cache")
