"""A freeze stores by what the outputs are for, and says so."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from hoarfrost import Freezer

N = 256


def spots(seed: int) -> tuple[Tensor, Tensor]:
    """Images of a spot, [N, 1, 16, 16], and where it is, how large and how bright, [N, 4]."""
    made = torch.Generator().manual_seed(seed)
    values = torch.rand(N, 4, generator=made)
    x, y, size, bright = values.T[:, :, None, None]
    down, right = torch.meshgrid(torch.linspace(0, 1, 16), torch.linspace(0, 1, 16), indexing="ij")
    spot = torch.exp(-((right - x).square() + (down - y).square()) / (2 * (0.05 + 0.15 * size).square()))
    return ((0.4 + 0.6 * bright) * spot + 0.05 * torch.randn(spot.shape, generator=made))[:, None], values


def trained(targets: Any, loss: Any, outputs: int = 4, **options: Any) -> tuple[float, dict[str, Any]]:
    """The loss on other spots, and the record of the freeze."""
    torch.manual_seed(0)
    front = [nn.Sequential(nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU()), nn.Sequential(nn.Conv2d(16, 16, 3, 2, 1), nn.ReLU())]
    model = nn.Sequential(*front, nn.Flatten(), nn.Linear(256, 32), nn.ReLU(), nn.Linear(32, outputs))
    images, values = spots(0)
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    data = TensorDataset(images, targets(values))
    given = {"epochs": 8, "policy": {3: "1"}, "mode": "cache", "views": 1, "optimizer": optimizer, **options}
    with Freezer(model, data, batch_size=32, **given) as freezer:
        for epoch in range(8):
            for inputs, wanted in freezer.batches(epoch):
                optimizer.zero_grad()
                loss(freezer(inputs), wanted).backward()
                optimizer.step()
            freezer.end_epoch()
        record = next(record for record in freezer.history if record["event"] == "freeze")
    images, values = spots(1)
    with torch.no_grad():
        return loss(model(images), targets(values)).item(), record


def rung(record: dict[str, Any]) -> dict[str, Any]:
    return next(rung for rung in record["rungs"] if rung["chosen"])


def test_a_regression_ends_as_it_does_on_exact_features() -> None:
    exact, _ = trained(lambda values: values, nn.MSELoss(), ladder="exact")
    auto, record = trained(lambda values: values, nn.MSELoss())
    assert record["harm"] == "values"
    assert record["decision"].endswith("harm is the squared error of the outputs relative to their variance, halved")
    assert rung(record)["kl"] <= 1e-3
    assert auto**0.5 == pytest.approx(exact**0.5, rel=0.02)


CLASSES = (lambda values: (4 * values[:, 0]).long()), nn.CrossEntropyLoss()
LABELS = (lambda values: (values > 0.5).float()), nn.BCEWithLogitsLoss()


def own(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().mean()


@pytest.mark.parametrize(
    ("task", "options", "harm"),
    [
        (CLASSES, {}, "classes"),
        (LABELS, {}, "labels"),
        (LABELS, {"criterion": nn.MSELoss()}, "values"),
        (LABELS, {"harm": "classes"}, "classes"),
        (((lambda values: values), own), {"criterion": own}, "loss"),
        (((lambda values: values), own), {"harm": own}, "loss"),
        (CLASSES, {"mode": "recompute"}, None),
    ],
)
def test_the_record_names_what_harm_was_measured_on(task: Any, options: dict[str, Any], harm: str | None) -> None:
    _, record = trained(*task, **options)
    assert record["harm"] == harm
    assert ("harm is" in record["decision"]) == (harm not in ("classes", None))


def test_a_loss_that_is_not_known_is_stored_no_coarser_than_the_same_loss_that_is() -> None:
    _, torchs = trained(lambda values: values, own, criterion=nn.MSELoss())
    _, mine = trained(lambda values: values, own, criterion=own)
    assert 0.9 < rung(mine)["bytes_per_sample"] / rung(torchs)["bytes_per_sample"] < 2


def test_a_front_under_a_classifier_that_has_learned_nothing_is_not_stored_in_a_few_levels() -> None:
    _, untrained = trained(*CLASSES, policy={0: "1"})
    _, learned = trained(*CLASSES, policy={7: "1"})
    assert rung(untrained)["kl"] <= 1e-3
    assert rung(untrained)["bytes_per_sample"] > rung(learned)["bytes_per_sample"] / 2


@pytest.mark.parametrize("build_from", ["images", "features"])
def test_behind_a_head_of_zeros_harm_is_measured_with_a_drawn_one(build_from: str) -> None:
    def record_of(zeros: bool) -> list[dict[str, Any]]:
        torch.manual_seed(0)
        front = [
            nn.Sequential(nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU()),
            nn.Sequential(nn.Conv2d(16, 8, 3, 2, 1), nn.ReLU()),
        ]
        model = nn.Sequential(*front, nn.Flatten(), nn.Linear(128, 4))
        if zeros:
            nn.init.zeros_(model[3].weight)
        images, values = spots(0)
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        given = {"epochs": 4, "policy": {0: "0", 1: "1"}, "mode": "cache", "views": 1, "build_from": build_from}
        with Freezer(model, TensorDataset(images, values[:, 0].gt(0.5).long()), batch_size=32, **given) as freezer:
            for epoch in range(2):
                next(iter(freezer.batches(epoch)))
                freezer.end_epoch()
            # Nothing of it stays on the model.
            assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
            return [record for record in freezer.history if record["event"] == "freeze"]

    for zeros, usual in zip(record_of(True), record_of(False), strict=True):
        assert zeros["decision"].count("harm measured with a drawn head") == 1
        assert "drawn" not in usual["decision"]
        # With the zeros no rung would harm, and the coarsest be taken.
        chosen = rung(zeros)
        assert 0 < chosen["kl"] <= 1e-3
        assert chosen["bytes_per_sample"] == pytest.approx(rung(usual)["bytes_per_sample"], rel=0.4)
        assert (zeros["built_from"] is None) == (usual["built_from"] is None)
