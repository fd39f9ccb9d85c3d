from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset
from torchvision.transforms import v2

from hoarfrost import Cache, Freezer, Linear, Selection, Views
from hoarfrost.cache import CacheWriter, Fingerprint
from hoarfrost.cache.locking import CacheLock
from hoarfrost.costs.decision import Decision
from hoarfrost.errors import BudgetError, CacheDirectoryError, NonFiniteError
from hoarfrost.feeding.cache_source import CacheSource
from hoarfrost.samples.order import Order
from hoarfrost.storing.calibration import Calibration
from hoarfrost.storing.storage import Storage
from shared.images import NORMALISE, PLAIN, RANDOM, CountingImages, images
from shared.nets import in_place, resnet, vit
from shared.runs import Trace, assert_same_run, sgd, train, train_epoch

N = 150


def frozen(data: Any = None, model: nn.Module | None = None, **options: Any) -> Freezer:
    """A freezer that froze before the first epoch, its cache not built yet."""
    given = {"policy": {0: "layer1"}, "mode": "cache", "ladder": "exact", "epochs": 9, "batch_size": 50, **options}
    return Freezer(model or resnet(), data or images(N, RANDOM), **given)


def epoch_of(freezer: Freezer, epoch: int = 0) -> list[tuple[Tensor, Tensor]]:
    return [*freezer.batches(epoch)]


def record(freezer: Freezer, event: str = "freeze") -> dict[str, Any]:
    return [entry for entry in freezer.history if entry["event"] == event][-1]


def same(one: list[tuple[Tensor, Tensor]], other: list[tuple[Tensor, Tensor]]) -> bool:
    return all(torch.equal(a, b) and torch.equal(s, t) for (a, s), (b, t) in zip(one, other, strict=True))


def count_prefix_runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the batches that a prefix ran on behind the calibration."""
    runs: list[int] = []
    fill = Storage._fill

    def counted(self: Storage, writers: Any, division: Any, *rest: Any) -> None:
        handle = division.prefix.register_forward_hook(lambda module, args, output: runs.append(len(output)))
        fill(self, writers, division, *rest)
        handle.remove()

    monkeypatch.setattr(Storage, "_fill", counted)
    return runs


# ---------------------------------------------------------------------- what is stored and read


def test_after_the_cache_stands_no_image_is_read() -> None:
    data = CountingImages(N, RANDOM)
    with frozen(data) as freezer:
        epoch_of(freezer)
        data.reads = 0
        for epoch in range(1, 5):
            epoch_of(freezer, epoch)
            freezer.end_epoch()
        assert data.reads == 0


def test_a_build_reads_every_image_once_for_each_view(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = count_prefix_runs(monkeypatch)
    with frozen(views=2) as freezer:
        epoch_of(freezer)
    assert sorted(runs) == sorted(2 * [64, 64, 22])


def test_the_first_view_is_the_prefix_on_the_drawn_images() -> None:
    with frozen(views=2) as freezer:
        epoch_of(freezer)
        assert freezer.cache is not None
        assert freezer._division is not None
        samples, feeder = freezer._samples, freezer._feeder
        ids = feeder.order.members(1)
        drawn, _ = samples.images(ids, feeder.renditions.view(0, 0))
        with torch.no_grad():
            wanted = freezer._division.prefix(drawn)
        assert torch.equal(freezer.cache.read(1, 0).features(), wanted)


def test_with_all_channels_every_epoch_shows_one_stored_view_of_each_sample() -> None:
    with frozen(views=Views(2, Selection(share=1.0))) as freezer:
        epochs = [torch.cat([inputs for inputs, _ in epoch_of(freezer, epoch)]).sum() for epoch in range(4)]
        assert torch.allclose(epochs[0] + epochs[1], epochs[2] + epochs[3])
        assert not torch.allclose(epochs[0], epochs[1], atol=1e-3)


@pytest.mark.parametrize(
    "views",
    [
        Views(2, Selection(share=0.25)),
        Views(3, Selection(budget_bytes=2**17)),
        Views(1, base="clean", derived=1.0),
    ],
    ids=["share", "bytes", "feature space"],
)
@pytest.mark.parametrize("ladder", ["exact", "auto"])
def test_a_run_with_derived_features_goes_through(views: Views, ladder: str) -> None:
    trace = train(resnet(), images(N, RANDOM), policy={1: "layer1"}, views=views, ladder=ladder, epochs=4)
    assert trace.choices == ["cache"]
    assert all(loss == loss for loss in trace.losses)


def test_the_stored_channels_are_in_the_spec_and_the_record() -> None:
    with frozen(views=Views(2, Selection(share=0.25))) as freezer:
        epoch_of(freezer)
        assert freezer.cache is not None
        (channels,) = freezer.cache.spec.view_channels[1:]
        assert channels is not None
        assert len(channels) == 1
        assert record(freezer)["stored_channels"] == list(channels)
        assert record(freezer)["views"] == 2


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


# ---------------------------------------------------------------------- room


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


def failing(error: Exception) -> Any:
    def append(*_: Any, **__: Any) -> int:
        raise error

    return append


@pytest.mark.parametrize(
    "error",
    [BudgetError("the disk is full"), CacheDirectoryError("the directory is read-only")],
    ids=["full disk", "read-only"],
)
def test_a_build_that_cannot_be_written_goes_on_by_recomputing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception
) -> None:
    monkeypatch.setattr(CacheWriter, "append", failing(error))
    with frozen(cache_dir=tmp_path) as freezer:
        with pytest.warns(UserWarning, match=f"hoarfrost goes on by recomputing: {error}"):
            assert len(epoch_of(freezer)) == 3
        assert freezer.source == "recompute"
        assert record(freezer)["choice"] == "recompute"
        assert str(error) in record(freezer)["decision"]
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_a_cache_that_another_run_is_writing_is_not_waited_for(tmp_path: Path) -> None:
    with frozen(cache_dir=tmp_path) as freezer:
        epoch_of(freezer)
        assert freezer.cache is not None
        key = freezer.cache.fingerprint.key
        freezer.cache.drop()
    with CacheLock(tmp_path, key), frozen(cache_dir=tmp_path) as second:
        with pytest.warns(UserWarning, match=f"recomputing: process .* is writing to the cache {key}"):
            epoch_of(second)
        assert second.source == "recompute"


def test_features_that_are_not_finite_stop_with_the_sample(tmp_path: Path) -> None:
    broken = int(Order(400, 0).members(5)[0])  # behind the calibration sample

    class Broken(Dataset[Any]):
        def __len__(self) -> int:
            return 400

        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            image = torch.full((1, 28, 28), index / 400)
            return (image * torch.nan if index == broken else image), index % 10

    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 10))
    with (
        frozen(Broken(), model, policy={0: "0"}, cache_dir=tmp_path) as freezer,
        pytest.raises(
            NonFiniteError, match=rf"features must be finite: sample {broken} \(row 0 of chunk 5, view 0\), channel 0"
        ),
    ):
        epoch_of(freezer)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


# ---------------------------------------------------------------------- auto


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
            epoch_of(freezer, epoch)
            freezer.end_epoch()
        assert freezer.source == source
        assert record(freezer)["decision"] == decision.reason
        assert record(freezer)["choice"] == source
    assert (asked[0]["mode"], asked[0]["epochs_left"]) == ("auto", 3)


# ---------------------------------------------------------------------- caches that stand, fall and are found again


def test_the_previous_cache_is_dropped_when_a_deeper_one_stands(tmp_path: Path) -> None:
    standing: list[int] = []

    def count(freezer: Freezer, epoch: int) -> None:
        standing.append(sum((path / "manifest.json").exists() for path in tmp_path.iterdir()))

    options: dict[str, Any] = {"policy": {1: "layer1", 2: "layer2"}, "cache_dir": tmp_path, "epochs": 3}
    train(resnet(), images(N, PLAIN), after_epoch=count, **options)
    assert standing == [1, 1, 1]
    assert Cache.open(tmp_path).spec.shape == (8, 14, 14)


def test_an_identical_second_run_builds_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    runs = count_prefix_runs(monkeypatch)
    first = train(resnet(), images(N, RANDOM), cache_dir=tmp_path, views=2, epochs=3)
    assert len(runs) == 6
    second = train(resnet(), images(N, RANDOM), cache_dir=tmp_path, views=2, epochs=3)
    assert len(runs) == 6
    assert_same_run(first, second)


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"ladder": 8}, {"views": 1}, {"model": resnet(5)}, {"data": images(N - 1, RANDOM)}],
    ids=["seed", "ladder", "views", "weights", "data"],
)
def test_what_a_cache_was_made_from_decides_whether_it_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: dict[str, Any]
) -> None:
    with frozen(cache_dir=tmp_path, views=Views(2, Selection(share=1.0))) as freezer:
        epoch_of(freezer)
    runs = count_prefix_runs(monkeypatch)
    with frozen(cache_dir=tmp_path, **{"views": Views(2, Selection(share=1.0)), **change}) as other:
        epoch_of(other)
    assert runs


def test_a_cache_whose_manifest_is_damaged_is_built_again(tmp_path: Path) -> None:
    with frozen(cache_dir=tmp_path) as freezer:
        before = epoch_of(freezer)
        assert freezer.cache is not None
        (freezer.cache.path / "manifest.json").write_text("{}")
    text = r"hoarfrost builds the cache again: .*manifest.json"
    with frozen(cache_dir=tmp_path) as second, pytest.warns(UserWarning, match=text):
        after = epoch_of(second)
    assert same(before, after)


@pytest.fixture(params=["exact", 4], ids=["exact", "4 bits"])
def undamaged(request: pytest.FixtureRequest) -> tuple[Trace, dict[str, Any]]:
    options: dict[str, Any] = {
        "policy": {1: "layer1"},
        "views": Views(2, Selection(share=0.5)),
        "ladder": request.param,
        "epochs": 4,
    }
    return train(in_place_resnet(), images(N, RANDOM), **options), options


def in_place_resnet() -> nn.Module:
    """With dropout behind the cut: healing must not draw from the training's random state."""
    model = resnet()
    model.get_submodule("pool").append(nn.Dropout(0.3))  # type: ignore[operator]
    return model


def test_a_chunk_that_is_damaged_during_the_run_is_healed(undamaged: tuple[Trace, dict[str, Any]]) -> None:
    wanted, options = undamaged

    def damage(freezer: Freezer, epoch: int) -> None:
        if epoch == 1:
            assert freezer.cache is not None
            path = freezer.cache.path / "features.bin"
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 0xFF
            path.write_bytes(data)

    healed = train(in_place_resnet(), images(N, RANDOM), after_epoch=damage, **options)
    assert_same_run(healed, wanted)
    heals = [entry for entry in healed.history if entry["event"] == "heal"]
    assert len(heals) == 1
    assert "checksum" in heals[0]["reason"]


def test_a_cache_directory_that_vanishes_during_the_run_is_built_again(
    undamaged: tuple[Trace, dict[str, Any]], tmp_path: Path
) -> None:
    wanted, options = undamaged

    def damage(freezer: Freezer, epoch: int) -> None:
        if epoch == 1:
            shutil.rmtree(tmp_path / "here")

    trace = train(in_place_resnet(), images(N, RANDOM), after_epoch=damage, cache_dir=tmp_path / "here", **options)
    assert_same_run(trace, wanted)
    assert trace.choices == ["cache", "cache"]


def test_a_cache_directory_that_vanishes_within_an_epoch_is_computed(tmp_path: Path) -> None:
    with frozen(images(500, RANDOM), window=1) as freezer:
        wanted = epoch_of(freezer, 1)
    with frozen(images(500, RANDOM), window=1, cache_dir=tmp_path / "here") as freezer:
        batches = freezer.batches(1)
        found = [next(batches)]
        shutil.rmtree(tmp_path / "here")
        found += [*batches]
        assert same(found, wanted)
        assert "has vanished" in record(freezer, "heal")["reason"]


def test_an_interrupted_build_is_taken_up_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    append = CacheWriter.append

    def interrupted(self: CacheWriter, chunk: int, view: int, *rest: Any) -> int:
        if (chunk, view) == (1, 1):
            raise KeyboardInterrupt
        return append(self, chunk, view, *rest)

    options: dict[str, Any] = {"cache_dir": tmp_path, "views": Views(2, Selection(share=1.0))}
    with monkeypatch.context() as patch:
        patch.setattr(CacheWriter, "append", interrupted)
        with frozen(**options) as freezer, pytest.raises(KeyboardInterrupt):
            epoch_of(freezer)
        del freezer
    runs = count_prefix_runs(monkeypatch)
    with frozen(**options) as second:
        resumed = epoch_of(second)
    assert 0 < len(runs) < 6
    with frozen(views=Views(2, Selection(share=1.0))) as whole:
        assert same(resumed, epoch_of(whole))


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
    for chunks, places in freezer._feeder.order.windows(0):
        members = torch.cat([freezer._feeder.order.members(chunk) for chunk in chunks])
        ids.append(members[places])
    return ids


def test_reopening_another_cache_names_the_field_that_differs(tmp_path: Path) -> None:
    with frozen(cache_dir=tmp_path) as freezer:
        epoch_of(freezer)
        assert freezer.cache is not None
        assert freezer._division is not None
        digest = freezer.cache.fingerprint.digest
        assert freezer._feeder.reopen(freezer._division, [digest])
        with torch.no_grad():
            freezer.model.get_submodule("stem.0").weight.add_(1)  # type: ignore[union-attr,operator]
        with pytest.warns(UserWarning, match="hoarfrost builds the cache again: 'prefix' is .* here, but"):
            assert not freezer._feeder.reopen(freezer._division, [digest])


def test_a_cache_that_is_gone_is_not_reopened() -> None:
    with frozen() as freezer:
        epoch_of(freezer)
        assert freezer._division is not None
        assert not freezer._feeder.reopen(freezer._division, [Fingerprint({}).digest])


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


def test_another_architecture_heals_too() -> None:
    with frozen(model=in_place(), policy={0: "features.2"}) as freezer:
        before = epoch_of(freezer)
        assert freezer.cache is not None
        (freezer.cache.path / "features.bin").write_bytes(b"")
        assert same(before, epoch_of(freezer))


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


# ---------------------------------------------------------------------- recorded as they are shown, drawn anew


@pytest.mark.parametrize("views", [1, 2, 3])
@pytest.mark.parametrize("ladder", ["exact", 4])
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
        state = freezer.state_dict()
    data = CountingImages(N, RANDOM)
    with frozen(data, cache_dir=tmp_path, views=views) as again:
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
    order = freezer._feeder.order
    return [torch.cat([order.members(chunk) for chunk in chunks])[rows] for chunks, rows in order.windows(epoch)]


def test_refreshing_costs_are_part_of_the_decision() -> None:
    with frozen(mode="auto", views=Views(1, refresh_every=1), policy={0: "stem"}) as freezer:
        epoch_of(freezer)
        assert "to read and refresh" in record(freezer)["decision"]
        assert record(freezer)["choice"] == "recompute"


def test_the_disk_budget_holds_while_views_are_drawn_anew(tmp_path: Path) -> None:
    with frozen(views=1, ladder=4, cache_dir=tmp_path / "probe") as freezer:
        epoch_of(freezer)
        budget = int(1.02 * freezer._feeder.nbytes)
    with frozen(views=Views(1, refresh_every=2), ladder=4, cache_dir=tmp_path / "kept", disk_budget=budget) as freezer:
        for epoch in range(6):
            epoch_of(freezer, epoch)
            assert freezer._feeder.nbytes <= budget
            freezer.end_epoch()


# ---------------------------------------------------------------------- coarser views, differences


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
        assert freezer._division is not None
        assert freezer.cache is not None
        samples, feeder = freezer._samples, freezer._feeder
        (source, spec) = feeder._sources[0]
        assert spec.stored[1] != spec.stored[0] or views.metric == "harm"
        errors = []
        for chunk in range(feeder.order.chunks):
            for epoch in (0, 1):
                view = (chunk + epoch) % views.count
                drawn, _ = samples.images(feeder.order.members(chunk), feeder.renditions.view(0, view))
                with torch.no_grad():
                    exact = freezer._division.prefix(drawn)
                shown = source.load(chunk, epoch).features.dense()
                errors.append(float((shown - exact).norm() / exact.norm()))
        assert max(errors) < (0.75 if views.channels.share != 1.0 else 0.25)


@pytest.mark.parametrize("views", COARSER.values(), ids=COARSER)
@pytest.mark.parametrize("record", ["ahead", "shown"])
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
