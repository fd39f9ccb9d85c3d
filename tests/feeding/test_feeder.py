from __future__ import annotations

import json
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset
from torchvision.transforms import v2

from hoarfrost import Cache, Freezer, Linear, Selection, Views
from hoarfrost.costs.decision import Decision
from shared.freezers import N, epoch_of, frozen, record, run_epoch
from shared.grids import grid
from shared.images import NORMALISE, RANDOM, CountingImages, images
from shared.nets import resnet
from shared.runs import Trace, sgd, train, train_epoch


def test_after_the_cache_stands_no_image_is_read() -> None:
    data = CountingImages(N, RANDOM)
    with frozen(data) as freezer:
        epoch_of(freezer)
        data.reads = 0
        for epoch in range(1, 5):
            epoch_of(freezer, epoch)
            freezer.end_epoch()
        assert data.reads == 0


DERIVED = {
    "share": Views(2, Selection(share=0.25)),
    "bytes": Views(3, Selection(budget_bytes=2**17)),
    "feature space": Views(1, base="clean", derived=1.0),
}


@grid(views=DERIVED, ladder=["exact", "auto"])
def test_a_run_with_derived_features_goes_through(views: Views, ladder: str) -> None:
    trace = train(resnet(), images(N, RANDOM), policy={1: "layer1"}, views=views, ladder=ladder, epochs=4)
    assert trace.choices == ["cache"]
    assert all(loss == loss for loss in trace.losses)


@pytest.mark.parametrize(
    ("model", "label", "data"),
    [
        (resnet, "pool", images(N, RANDOM)),
        (resnet, "layer1", images(N, v2.Compose([v2.ColorJitter(0.5), *NORMALISE[1:]]))),
    ],
    ids=["vectors", "no geometry"],
)
def test_feature_space_where_nothing_can_be_derived_says_so_and_shows_stored_views(
    model: Any, label: str, data: Any
) -> None:
    if label == "layer1":
        data.transform = v2.Compose([*NORMALISE[:2], v2.ColorJitter(0.5), *NORMALISE[2:]])
    views = Views(2, derived=1.0)
    with frozen(data, model(), policy={0: label}, views=views) as freezer:
        with pytest.warns(UserWarning, match=f"features at cut '{label}' have no feature-space augmentation"):
            epoch_of(freezer)
        assert record(freezer)["views"] == 2


def test_vectors_train_without_transform() -> None:
    torch.manual_seed(0)
    data = TensorDataset(torch.randn(90, 6), torch.randint(0, 3, (90,)))
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 10))
    trace = train(model, data, policy={1: "2"}, views=2, epochs=3, batch_size=16)
    assert trace.choices == ["cache"]


def test_channels_last_features_stay_so() -> None:
    model = resnet().to(memory_format=torch.channels_last)
    with frozen(model=model, channels_last=True) as freezer:
        assert all(f.is_contiguous(memory_format=torch.channels_last) for f, _ in epoch_of(freezer))
        assert freezer.cache is not None
        assert freezer.cache.spec.channels_last


def test_the_rung_does_not_fall_as_more_layers_freeze_unless_it_would_harm() -> None:
    options: dict[str, Any] = {"policy": {1: "layer1", 2: "layer2"}, "ladder": "auto", "epochs": 3}
    trace = train(resnet(), images(N, RANDOM), **options)
    before, now = ({r["codec"]: r for r in e["rungs"]} for e in trace.history if e["event"] == "freeze")
    first, second = (next(codec for codec, rung in rungs.items() if rung["chosen"]) for rungs in (before, now))
    levels = [int(codec.partition("levels=")[2].rstrip(")")) for codec in (first, second)]
    assert levels[1] <= levels[0] or now[first]["kl"] > 1e-3


def test_the_record_of_a_freeze_is_complete_and_json() -> None:
    with frozen(views=2, ladder="auto") as freezer:
        epoch_of(freezer)
        assert freezer.cache is not None
        entry = json.loads(json.dumps(record(freezer)))
        assert entry["cache_bytes"] == freezer.cache.nbytes
        assert entry["dense_bytes"] == 2 * N * 4 * 28 * 28 * 4
    expected = {"epoch", "depth", "cut", "decision", "choice", "prefix_seconds", "read_seconds", "rungs", "sensitivity",
                "stored_channels", "views", "build_seconds", "cache_bytes", "dense_bytes"}  # fmt: skip
    assert expected <= entry.keys()
    assert (entry["epoch"], entry["depth"], entry["cut"], entry["choice"]) == (0, 4, "layer1", "cache")


@pytest.mark.parametrize(
    ("decision", "source"),
    [
        (Decision("cache", 2, "stored: because", 2.0), "cache"),
        (Decision("recompute", 0, "recomputed: because", None), "recompute"),
    ],
    ids=["cache", "recompute"],
)
def test_auto_follows_what_was_decided_and_says_why(
    monkeypatch: pytest.MonkeyPatch, decision: Decision, source: str
) -> None:
    asked: list[dict[str, Any]] = []

    def decide(**options: Any) -> Decision:
        asked.append(options)
        return decision

    monkeypatch.setattr("hoarfrost.storing.calibration.decide", decide)
    with frozen(mode="auto", policy={2: "layer1", 5: "layer2"}) as freezer:
        for epoch in range(2):
            run_epoch(freezer, epoch)
        assert freezer.source == source
        assert record(freezer)["decision"].startswith(decision.reason)
        assert record(freezer)["choice"] == source
    assert (asked[0]["mode"], asked[0]["epochs_left"]) == ("auto", 3)


def test_a_run_on_the_cache_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(resnet(), images(N, RANDOM), views=2, ladder=Linear(8), epochs=3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_of_features_are_on_the_device() -> None:
    with frozen(model=resnet().cuda(), ladder=8) as freezer:
        features, targets = epoch_of(freezer)[0]
        assert features.is_cuda
        assert targets.is_cuda


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_quantised_cache_gives_the_same_floats_on_the_device() -> None:
    cuda, cpu = frozen(model=resnet().cuda(), ladder=8), frozen(ladder=8)
    with cuda, cpu:
        epoch_of(cuda), epoch_of(cpu)
        assert cuda.cache is not None
        wanted = {i: row for c in range(3) for i, row in zip(*rows(cuda.cache, c), strict=True)}
        targets = torch.cat([t for _, t in epoch_of(cuda)])
        assert len(targets) == N
        found = torch.cat([f for f, _ in epoch_of(cuda)]).cpu()
        order = torch.cat(order_of(cuda))
        assert all(torch.allclose(found[k], wanted[int(i)], atol=1e-5) for k, i in enumerate(order))


def rows(cache: Cache, chunk: int) -> tuple[list[int], Tensor]:
    read = cache.read(chunk, 0)
    return read.sample_ids.tolist(), read.features()


def order_of(freezer: Freezer) -> list[Tensor]:
    ids = []
    for chunks, places in freezer._data.order.windows(0):
        members = torch.cat([freezer._data.order.members(chunk) for chunk in chunks])
        ids.append(members[places])
    return ids


def test_an_epoch_trained_on_features_leaves_the_images_alone() -> None:
    data = CountingImages(N, RANDOM)
    model = resnet()
    optimizer = sgd(model)
    with frozen(data, model, optimizer=optimizer) as freezer:
        trace = Trace([], [], {}, [])
        train_epoch(freezer, optimizer, 0, trace)
        data.reads = 0
        train_epoch(freezer, optimizer, 1, trace)
        assert data.reads == 0
        assert len(trace.losses) == 6
