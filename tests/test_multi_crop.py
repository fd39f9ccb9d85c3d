"""Crops of several sizes of one image: the model is called with each, and features of each size are stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from hoarfrost import Freezer
from hoarfrost.augment import deterministic
from hoarfrost.errors import ArgumentError, DatasetError
from shared.runs import step_losses

N, SIZE, LARGE, SMALL, CLASSES = 90, 32, 24, 12, 3
SIZES = (LARGE, LARGE, SMALL, SMALL, SMALL)


class Images(Dataset[Any]):
    """Noise of a brightness that says the class, its number, and its target."""

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> Any:
        image = torch.randn(3, SIZE, SIZE, generator=torch.Generator().manual_seed(index)) + index % CLASSES
        return image, {"label": index % CLASSES, "id": index}


def windows(image: Tensor) -> list[Tensor]:
    """Two large and three small ones, always the same."""
    return [image[:, at : at + size, at : at + size] for at, size in enumerate(SIZES)]


class Crops:
    """As DINO and SwAV have it: random crops, two that show much and three that show little."""

    def __init__(self) -> None:
        self.large = v2.Compose([v2.RandomResizedCrop(LARGE, (0.4, 1.0)), v2.RandomHorizontalFlip()])
        self.small = v2.Compose([v2.RandomResizedCrop(SMALL, (0.1, 0.4)), v2.RandomHorizontalFlip()])

    def __call__(self, image: Tensor) -> list[Tensor]:
        return [self.large(image) if size == LARGE else self.small(image) for size in SIZES]


class Net(nn.Module):
    """Stages of convolutions, of which one adds what depends on the size, as positions that are interpolated do."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8)
        self.places = nn.Parameter(torch.randn(1, 8, 6, 6))
        self.stages = nn.Sequential(*(nn.Conv2d(8, 8, 3, padding=1) for _ in range(3)))
        self.last = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).relu()
        x = x + nn.functional.interpolate(self.places, x.shape[-2:], mode="bilinear")
        for stage in self.stages:
            x = stage(x).relu()
        scores: Tensor = self.last(x.mean((2, 3)) * x.shape[2])
        return scores


def freezer_of(folder: Path, transform: Any = None, **told: Any) -> Freezer:
    torch.manual_seed(0)
    model = Net()
    given = {
        "batch_size": 16,
        "epochs": 4,
        "policy": {1: "stages.1"},
        "mode": "cache",
        "ladder": "exact",
        "cache_dir": folder,
        "verbose": False,
        "optimizer": torch.optim.SGD(model.parameters(), 0.05),
        **told,
    }
    return Freezer(model, Images(), transform=transform or deterministic(windows), **given)


def train(freezer: Freezer, epochs: range = range(4)) -> list[float]:
    def loss_of(batch: Any) -> Tensor:
        crops, target = batch
        scores = [freezer(crop) for crop in crops]
        return torch.stack([nn.functional.cross_entropy(s, target["label"]) for s in scores]).mean()

    return step_losses(freezer, loss_of, epochs)


def test_a_cached_run_is_a_recomputing_run(tmp_path: Path) -> None:
    runs = []
    for mode in ("cache", "recompute"):
        freezer = freezer_of(tmp_path / mode, mode=mode)
        losses = train(freezer)
        assert freezer.source == mode
        runs.append((losses, freezer.model.state_dict()))
    (cached, weights), (recomputed, others) = runs
    assert cached == recomputed
    assert all(torch.equal(weights[name], others[name]) for name in weights)


def test_each_call_has_features_of_its_own_shape(tmp_path: Path) -> None:
    freezer = freezer_of(tmp_path)
    train(freezer, range(1))
    freezer.decide(store=True)
    shapes = [cache.spec.shape for cache in freezer._feeder.caches]
    assert shapes == [(8, size // 2, size // 2) for size in SIZES]
    (record,) = [entry for entry in freezer.history if entry["event"] == "freeze"]
    values = sum(8 * (size // 2) ** 2 for size in SIZES)
    assert record["dense_bytes"] == 4 * N * values
    assert record["predicted_bytes"] == pytest.approx(record["cache_bytes"], rel=0.1)


def test_outputs_are_those_of_the_model_on_the_crops_of_a_plain_loader(tmp_path: Path) -> None:
    class Plain(Images):
        def __getitem__(self, index: int) -> Any:
            image, target = super().__getitem__(index)
            return windows(image), target

    freezer = freezer_of(tmp_path, epochs=None)
    train(freezer, range(1))
    model = freezer.model.eval()
    with torch.no_grad():
        expected = {
            int(number): [model(crop[None])[0] for crop in crops]
            for items, target in DataLoader(Plain(), batch_size=8)
            for number, *crops in zip(target["id"], *items, strict=True)
        }
        for crops, target in freezer.batches(1):
            scores = [freezer(crop) for crop in crops]
            for row, number in enumerate(target["id"].tolist()):
                for of_call, its in zip(scores, expected.pop(number), strict=True):
                    torch.testing.assert_close(of_call[row], its)
    assert not expected


@pytest.mark.slow
@pytest.mark.parametrize("told", [{"views": 2, "ladder": "auto"}, {"mode": "recompute"}], ids=str)
def test_random_crops_train(told: dict[str, Any], tmp_path: Path) -> None:
    freezer = freezer_of(tmp_path, Crops(), **told)
    assert len(train(freezer)) == 4 * -(-N // 16)
    if "views" in told:
        assert {cache.spec.views for cache in freezer._feeder.caches} == {2}
        assert freezer.source == "cache"


@pytest.mark.slow
def test_a_resumed_run_goes_on_as_the_undisturbed_one(tmp_path: Path) -> None:
    losses = train(freezer_of(tmp_path / "whole"))
    first = freezer_of(tmp_path / "cut")
    begun = train(first, range(2))
    state, weights = first.state_dict(), first.model.state_dict()
    second = freezer_of(tmp_path / "cut")
    second.model.load_state_dict(weights)
    second.load_state_dict(state)
    assert second.source == "cache"
    assert begun + train(second, range(2, 4)) == losses


def test_a_budget_is_shared_by_size(tmp_path: Path) -> None:
    freezer = freezer_of(tmp_path, disk_budget=1_400_000)
    train(freezer, range(1))
    assert freezer.source == "cache"
    assert sum(cache.nbytes for cache in freezer._feeder.caches) <= 1_400_000


def test_the_model_itself_takes_features_of_each_size_where_it_is_routed(tmp_path: Path) -> None:
    freezer = freezer_of(tmp_path, route=True)
    train(freezer, range(1))
    for crops, _ in freezer.batches(1):
        for crop in crops:
            assert torch.equal(freezer.model(crop), freezer(crop))
        with pytest.raises(ArgumentError, match=r"takes features \[B, 8, 12, 12\] from batches\(\)"):
            freezer(crops[0][:, :, :5])
    model = freezer.model.eval()
    assert model(torch.zeros(2, 3, SIZE, SIZE)).shape == (2, CLASSES)
    freezer.close()


def test_a_training_step_counts_what_each_size_costs(tmp_path: Path) -> None:
    several, large = (
        freezer_of(tmp_path / "several"),
        freezer_of(tmp_path / "large", deterministic(lambda x: windows(x)[:2])),
    )
    flops = [freezer._feeder.step_flops(freezer.model) for freezer in (several, large)]
    assert flops[0] == pytest.approx(flops[1] * (2 + 3 * (SMALL / LARGE) ** 2) / 2, rel=0.01)


def test_a_crop_whose_size_differs_between_samples_is_named(tmp_path: Path) -> None:
    def uneven(image: Tensor) -> list[Tensor]:
        size = SMALL if image[0, 0, 0] < 2 else SMALL + 2
        return [image[:, :LARGE, :LARGE], image[:, :size, :size]]

    with pytest.raises(DatasetError, match=r"default_collate makes no batch of these items: .*\[3, 12, 12\]"):
        train(freezer_of(tmp_path, deterministic(uneven)))
