from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from hoarfrost import Freezer, TrainState, Views
from hoarfrost.errors import (
    ArgumentError,
)
from hoarfrost.samples.own_transform import PassThrough
from shared.freezers import N, freezer_of, run_epoch
from shared.freezers import record as record_of
from shared.images import PLAIN, RANDOM, images
from shared.nets import resnet


def test_epochs_on_images_cover_every_sample_in_an_order_of_seed_and_epoch() -> None:
    data = images(N, RANDOM)
    with freezer_of(data=data, policy="none") as one:
        first, second = run_epoch(one, 0), run_epoch(one, 1)
    with freezer_of(data=data, policy="none") as other:
        again = [*other.batches(1)]
    assert sum(len(targets) for _, targets in first) == N
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(second, again, strict=True))
    assert not torch.equal(first[0][0], second[0][0])


@pytest.mark.parametrize("epoch", [0, 2], ids=["images", "features"])
def test_a_late_start_skips_the_batches_in_front(epoch: int) -> None:
    with freezer_of() as freezer:
        whole = [*freezer.batches(epoch)]
        late = [*freezer.batches(epoch, 1)]
    assert len(late) == len(whole) - 1
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(whole[1:], late, strict=True))


def test_targets_come_with_their_samples() -> None:
    data = images(N, PLAIN)
    own = {data[i][0].numpy().tobytes(): data[i][1] for i in range(N)}
    with freezer_of(data=data, policy="none") as freezer:
        for inputs, targets in freezer.batches(0):
            assert [own[image.numpy().tobytes()] for image in inputs] == targets.tolist()


def test_a_single_left_over_sample_joins_the_last_batch() -> None:
    with freezer_of(data=images(101, PLAIN)) as freezer:
        assert [len(targets) for _, targets in run_epoch(freezer, 0)] == [50, 51]
        assert [len(targets) for _, targets in run_epoch(freezer, 1)] == [50, 51]
        assert freezer.batches_per_epoch == 2


def test_a_policy_is_asked_once_before_each_epoch_with_what_is_known() -> None:
    seen: list[TrainState] = []

    def policy(state: TrainState) -> int:
        seen.append(state)
        return 4 if state.epoch >= 1 else 0

    with freezer_of(policy=policy, epochs=3) as freezer:
        for epoch in range(3):
            list(freezer.batches(epoch))
            freezer.end_epoch({"val_loss": float(epoch)})
        assert freezer.depth == 4
    assert [state.epoch for state in seen] == [0, 1, 2]
    assert [state.depth for state in seen] == [0, 0, 4]
    assert seen[2].metrics == ({"val_loss": 0.0}, {"val_loss": 1.0})
    assert seen[0].epochs == 3


def test_depth_cut_and_source_tell_where_the_run_stands() -> None:
    with freezer_of() as freezer:
        assert (freezer.depth, freezer.cut, freezer.source, freezer.cache) == (0, None, "images", None)
        run_epoch(freezer, 0)
        assert freezer.cut is not None
        assert (freezer.depth, freezer.cut.label, freezer.source) == (4, "layer1", "cache")


def test_an_epoch_is_recorded_with_its_metrics_as_json() -> None:
    heard: list[dict[str, Any]] = []
    with freezer_of() as freezer:
        freezer.listener = heard.append
        list(freezer.batches(0))
        freezer.end_epoch({"loss": torch.tensor(0.5), "accuracy": 0.25})
        entry = json.loads(json.dumps(freezer.history[0]))
        assert heard == freezer.history
    expected = {
        "event": "epoch",
        "epoch": 0,
        "depth": 0,
        "cut": None,
        "source": "images",
        "loss": 0.5,
        "accuracy": 0.25,
    }
    assert expected.items() <= entry.items()
    assert entry["images_per_second"] == pytest.approx(N / entry["seconds"])


def test_after_the_last_epoch_nothing_is_built(tmp_path: Path) -> None:
    with freezer_of(policy={2: "layer1"}, epochs=2, cache_dir=tmp_path) as freezer:
        for epoch in range(2):
            run_epoch(freezer, epoch)
        assert freezer.depth == 0


def test_the_flops_of_a_step_shrink_with_depth() -> None:
    with freezer_of() as freezer, freezer_of(mode="recompute") as recomputing:
        whole = freezer.step_flops()
        run_epoch(freezer, 0), run_epoch(recomputing, 0)
        assert recomputing.cut is not None
        assert freezer.step_flops() < whole
        assert recomputing.step_flops() == freezer.step_flops() + recomputing.cut.prefix_flops


def test_what_is_done_with_the_transform_is_described() -> None:
    with freezer_of() as freezer:
        lines = freezer.describe()
    assert [line.split(":")[0] for line in lines][:2] == ["RandomHorizontalFlip", "RandomCrop"]


def test_close_gives_the_transform_back_and_removes_the_temporary_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    data = images(N, RANDOM)
    with freezer_of(data=data, policy={0: "layer1"}) as freezer:
        run_epoch(freezer, 0)
        assert [*tmp_path.glob("hoarfrost-*/*/manifest.json")]
        assert isinstance(data.transform, PassThrough)
    assert not [*tmp_path.glob("hoarfrost-*")]
    assert data.transform is RANDOM
    freezer.close()


def test_a_closed_freezer_gives_no_batches() -> None:
    freezer = freezer_of(policy={0: "layer1"})
    freezer.close()
    with pytest.raises(ArgumentError, match="the freezer is closed: the data set has its transform back"):
        next(freezer.batches(0))


def test_a_forgotten_freezer_leaves_no_temporary_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    freezer: Freezer | None = freezer_of(policy={0: "layer1"})
    assert [*tmp_path.glob("hoarfrost-*")]
    freezer = None
    gc.collect()
    assert freezer is None
    assert not [*tmp_path.glob("hoarfrost-*")]


def test_a_cache_directory_of_the_users_stays(tmp_path: Path) -> None:
    with freezer_of(policy={0: "layer1"}, cache_dir=tmp_path / "new" / "deep") as freezer:
        run_epoch(freezer, 0)
    assert [*(tmp_path / "new" / "deep").glob("*/manifest.json")]


def test_the_model_keeps_its_own_names_and_runs_on_images() -> None:
    model = resnet()
    names = [*model.state_dict()]
    with freezer_of(model, policy={0: "layer1"}) as freezer:
        run_epoch(freezer, 0)
        assert [*model.state_dict()] == names
        assert model.eval()(torch.randn(3, 1, 28, 28)).shape == (3, 10)


def test_views_may_be_given_whole() -> None:
    with freezer_of(policy={0: "layer1"}, views=Views(1)) as freezer:
        run_epoch(freezer, 0)
        assert freezer.cache is not None
        assert freezer.cache.spec.views == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_device_is_that_of_the_model() -> None:
    with freezer_of(resnet().cuda(), policy={0: "layer1"}) as freezer:
        assert freezer.device.type == "cuda"
        features, targets = next(freezer.batches(0))
        assert features.is_cuda
        assert freezer(features).is_cuda
        assert targets.is_cuda


def test_devices_that_the_model_is_not_on_keep_their_random_states(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those not in use yet too, which torch seeds as it was last told."""
    model, seeds = resnet(), list[int]()
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    with freezer_of(model, policy={0: "layer1"}) as freezer:
        run_epoch(freezer, 0)
        freezer.decide(store=True)
    torch.manual_seed(7)
    assert seeds == [7]


def test_what_was_spent_is_told_with_all_that_freezes_took() -> None:
    with freezer_of(epochs=3, policy={1: "layer1"}) as freezer:
        for epoch in range(3):
            run_epoch(freezer, epoch)
        done = [record for record in freezer.history if record["event"] == "epoch"]
        spent = [record["spent_seconds"] for record in done]
        assert spent[0] == done[0]["seconds"]
        assert spent[1] - spent[0] > done[1]["seconds"] + record_of(freezer)["build_seconds"]
        assert spent[2] == freezer.training_seconds
