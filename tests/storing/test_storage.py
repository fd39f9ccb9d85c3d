"""Caches that are built, found again, and given up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision.transforms import v2

from hoarfrost import Cache, Freezer, Selection, Views
from hoarfrost.cache import CacheWriter, Fingerprint
from hoarfrost.cache.locking import CacheLock
from hoarfrost.errors import BudgetError, CacheDirectoryError, NonFiniteError
from hoarfrost.samples.order import Order
from shared.freezers import N, count_prefix_runs, epoch_of, frozen, record, same
from shared.images import NORMALISE, PLAIN, RANDOM, images
from shared.nets import resnet
from shared.runs import assert_same_run, train


def test_a_build_reads_every_image_once_for_each_view(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = count_prefix_runs(monkeypatch)
    with frozen(views=2) as freezer:
        epoch_of(freezer)
    assert sorted(runs) == sorted(2 * [64, 64, 22])


def test_the_first_view_is_the_prefix_on_the_drawn_images() -> None:
    with frozen(views=2) as freezer:
        epoch_of(freezer)
        assert freezer.cache is not None
        assert freezer._front.division is not None
        samples = freezer._data.samples
        ids = freezer._data.order.members(1)
        drawn, _ = samples.images(ids, freezer._data.renditions.view(0, 0))
        with torch.no_grad():
            wanted = freezer._front.division.prefix(drawn)
        assert torch.equal(freezer.cache.read(1, 0).features(), wanted)


def test_the_stored_channels_are_in_the_spec_and_the_record() -> None:
    with frozen(views=Views(2, Selection(share=0.25))) as freezer:
        epoch_of(freezer)
        assert freezer.cache is not None
        (channels,) = freezer.cache.spec.view_channels[1:]
        assert channels is not None
        assert len(channels) == 1
        assert record(freezer)["stored_channels"] == list(channels)
        assert record(freezer)["views"] == 2


def test_how_many_channels_are_stored_is_measured() -> None:
    torch.manual_seed(0)
    pixelwise, convolved = nn.Conv2d(1, 8, 1), nn.Conv2d(1, 8, 5, padding=2)
    data, found = images(N, v2.Compose([v2.RandomHorizontalFlip(), *NORMALISE])), {}
    for name, front in (("pixelwise", pixelwise), ("convolved", convolved)):
        rest = nn.Sequential(nn.AdaptiveAvgPool2d(7), nn.Flatten(), nn.Linear(8 * 49, 10))
        model = nn.Sequential(nn.Sequential(front, nn.ReLU()), rest)
        with frozen(data, model, views=2, policy={0: "0"}, ladder="auto") as freezer:
            epoch_of(freezer)
            found[name] = record(freezer)
            assert freezer.cache is not None
            assert freezer.cache.whole
    # What acts on each pixel alone is mirrored with its image: one channel has to stand for the view, and does.
    assert len(found["pixelwise"]["stored_channels"]) == 1
    assert found["pixelwise"]["further"]["why"].startswith("7 of 8 channels derived make the outputs diverge by ")
    assert found["convolved"]["stored_channels"] is None
    assert found["convolved"]["further"]["why"].startswith("all channels are stored: 4 of 8 channels derived make")


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


def test_a_cache_that_another_run_is_writing_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hoarfrost.storing.shared_build.WAIT_SECONDS", 0.1)
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


def test_the_previous_cache_is_dropped_when_a_deeper_one_stands(tmp_path: Path) -> None:
    standing: list[int] = []

    def count(freezer: Freezer, epoch: int) -> None:
        standing.append(sum((path / "manifest.json").exists() for path in tmp_path.iterdir()))

    options: dict[str, Any] = {"policy": {1: "layer1", 2: "layer2"}, "cache_dir": tmp_path, "epochs": 3}
    train(resnet(), images(N, PLAIN), after_epoch=count, **options)
    assert standing == [0, 1, 1], "what was decided at an epoch's end is stored with the next one"
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


def test_reopening_another_cache_names_the_field_that_differs(tmp_path: Path) -> None:
    with frozen(cache_dir=tmp_path) as freezer:
        epoch_of(freezer)
        assert freezer.cache is not None
        assert freezer._front.division is not None
        digest = freezer.cache.fingerprint.digest
        assert freezer._feeder.reopen([digest])
        with torch.no_grad():
            freezer.model.get_submodule("stem.0").weight.add_(1)  # type: ignore[union-attr,operator]
        with pytest.warns(UserWarning, match="hoarfrost builds the cache again: 'weights' is .* here, but"):
            assert not freezer._feeder.reopen([digest])


def test_a_cache_that_is_gone_is_not_reopened() -> None:
    with frozen() as freezer:
        epoch_of(freezer)
        assert freezer._front.division is not None
        assert not freezer._feeder.reopen([Fingerprint({}).digest])
