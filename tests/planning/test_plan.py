"""What a training would cost, said beforehand."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import nn

from hoarfrost import Freezer, Plan, plan
from hoarfrost.cuts import find_cuts
from hoarfrost.errors import ArgumentError, PolicyError, UnknownCutError
from hoarfrost.planning.forecast import CutPlan, RungPlan
from shared.images import RANDOM, CountingImages, images
from shared.nets import resnet


def planned(model: nn.Module | None = None, **options: Any) -> Plan:
    given: dict[str, Any] = {"batch_size": 16, "epochs": 6, "transform": RANDOM, "probe": 48, **options}
    return plan(model or resnet(), given.pop("data", images(200)), **given)


@pytest.fixture(scope="module")
def found() -> Plan:
    return planned(policy={2: "layer1", 4: "layer2"}, mode="cache")


def test_every_recommended_cut_has_its_seconds_and_bytes(found: Plan) -> None:
    assert [cut.cut.label for cut in found.cuts] == ["layer1", "layer2", "layer3"]
    assert (found.samples, found.probe, found.epochs) == (200, 48, 6)
    for cut in found.cuts:
        assert min(cut.recompute_seconds, cut.read_seconds, cut.build_seconds, found.full_seconds) > 0
        assert [rung.chosen for rung in cut.rungs].count(True) == 1
        assert cut.rung.nbytes(2) == cut.rung.view_bytes + cut.rung.further_bytes
        assert cut.rungs[0].view_bytes >= cut.rungs[-1].view_bytes
        assert cut.dense_bytes == 200 * 4 * torch.Size(cut.cut.shape).numel()
    deeper = [cut.recompute_seconds for cut in found.cuts]
    assert deeper[-1] < found.full_seconds


def test_the_schedule_is_added_up(found: Plan) -> None:
    assert [(s.epoch, s.epochs, s.cut, s.choice) for s in found.stages] == [
        (0, 2, None, "images"),
        (2, 2, "layer1", "cache"),
        (4, 2, "layer2", "cache"),
    ]
    first, second, _ = found.stages
    assert first.seconds == pytest.approx(2 * found.full_seconds)
    layer1 = found.cuts[0]
    built = layer1.prepare_seconds + second.views * layer1.build_seconds
    assert second.seconds == pytest.approx(2 * layer1.read_seconds + built)
    assert second.nbytes == layer1.rung.nbytes(second.views)
    assert found.total_seconds == pytest.approx(sum(stage.seconds for stage in found.stages))
    assert found.full_total_seconds == 6 * found.full_seconds


def test_bytes_are_those_of_the_run() -> None:
    data = images(300)
    options: dict[str, Any] = {"policy": {0: "layer2"}, "ladder": 4, "mode": "cache", "views": 2, "transform": RANDOM}
    (stage,) = planned(data=data, probe=150, cuts=["layer2"], epochs=3, **options).stages
    with Freezer(resnet(), data, batch_size=16, epochs=3, **options) as freezer:
        assert freezer.cache is not None or [*freezer.batches(0)]
        assert freezer.cache is not None
        assert stage.nbytes == pytest.approx(freezer.cache.nbytes, rel=0.15)


@pytest.mark.parametrize(("point", "epochs"), [(0, 4), (0, 12), (3, 12)])
def test_views_that_are_left_to_be_told_are_those_of_the_run(point: int, epochs: int) -> None:
    """Of a cut behind which much is left to be trained."""
    told: dict[str, Any] = {"policy": {point: "stem"}, "ladder": 4, "mode": "cache", "transform": RANDOM}
    (stage,) = (s for s in planned(cuts=["stem"], epochs=epochs, **told).stages if s.cut)
    with Freezer(resnet(), images(200), batch_size=16, epochs=epochs, **told) as freezer:
        next(freezer.batches(point))
        assert freezer.cache is not None
        assert stage.views == freezer.cache.spec.views == {(0, 4): 2, (0, 12): 4, (3, 12): 2}[point, epochs]


def test_model_and_data_are_left_as_they_are() -> None:
    model, data = resnet(), CountingImages(200, RANDOM)
    model.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    planned(model, data=data, transform=None, cuts=["layer1"], policy="none")
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module.training for module in model.modules())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert data.transform is RANDOM


def test_data_that_are_elsewhere_are_scaled_to() -> None:
    here, there = (planned(cuts=["layer2"], policy="none", ladder=4, samples=n) for n in (200, 20_000))
    assert there.cuts[0].rung.view_bytes == pytest.approx(100 * here.cuts[0].rung.view_bytes, rel=1e-3)
    assert there.samples == 20_000
    assert there.full_seconds > 20 * here.full_seconds


@pytest.mark.parametrize(
    "policy", [lambda state: 1 if state.metrics[-1]["loss"] < 0.1 else 0, "autofreeze"], ids=["function", "autofreeze"]
)
def test_a_policy_that_goes_by_what_it_sees_has_no_total(policy: Any) -> None:
    watching = planned(policy=policy, cuts=["layer1"])
    assert watching.stages == ()
    assert watching.total_seconds is None
    json.dumps(watching.plain())


def made(views: int = 3, **options: Any) -> CutPlan:
    cut = find_cuts(resnet(), torch.rand(2, 1, 28, 28))[0]
    rung = RungPlan(codec="x", harm=0.0, view_bytes=100, further_bytes=50, chosen=True)
    given = {"recompute_seconds": 10.0, "read_seconds": 4.0, "build_seconds": 12.0, "prepare_seconds": 1.0, **options}
    return CutPlan(cut=cut, dense_bytes=1_000, rungs=(rung,), views=views, **given)


def test_views_that_have_no_room_are_not_planned() -> None:
    cut = made()
    assert cut.break_even == pytest.approx(3 * 12 / 6)
    assert cut.decision(100).views == 3
    assert cut.decision(100, disk_budget=199).views == 2
    assert cut.decision(100, disk_budget=100).views == 1
    without = cut.decision(100, disk_budget=99)
    assert (without.choice, without.views) == ("recompute", 0)
    assert "one view takes 100 bytes of the 99" in without.reason


def test_views_that_are_drawn_anew_take_passes_of_the_front() -> None:
    # A third of the three views is computed in each epoch: reading costs 4 + 3 / 9 * 12 seconds then.
    assert made(refresh_every=9).break_even == pytest.approx(3 * 12 / (10 - 8))
    assert made(refresh_every=9).cache_seconds(3) == pytest.approx(8)
    assert made(refresh_every=3).break_even is None


def test_reading_that_is_no_faster_never_pays() -> None:
    assert made(read_seconds=11.0).break_even is None
    assert made(read_seconds=11.0).decision(100).choice == "recompute"


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"epochs": 0}, ArgumentError, "epochs must be a whole number of at least 1, not 0"),
        ({"probe": 1}, ArgumentError, "probe must be a whole number of at least 2, not 1"),
        ({"samples": 0}, ArgumentError, "samples must be a whole number of at least 1, not 0"),
        ({"cuts": ["layer9"]}, UnknownCutError, "layer9"),
        ({"policy": {0: "layer9"}}, UnknownCutError, "layer9"),
        ({"policy": lambda state: 99}, PolicyError, "past the last cut"),
    ],
    ids=["epochs", "probe", "samples", "cut", "policy's cut", "depth"],
)
def test_what_cannot_be_meant_is_refused(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        planned(**options)
