"""The law of the house on a device: stored features train as the recomputed ones do, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from hoarfrost import Freezer
from hoarfrost.running import fit
from shared.images import RANDOM, images
from shared.nets import resnet, vit
from shared.precisions import WAYS, Way, train
from shared.runs import assert_same_run, sgd

ALL = {"fp32": Way(None, "nothing"), **WAYS}


def both(device: torch.device, make: Callable[[], nn.Module], way: Way, **options: Any) -> None:
    cached, recomputed = (train(make, way, device=device, mode=mode, **options) for mode in ("cache", "recompute"))
    assert (cached.choices, recomputed.choices) == (["cache"], ["recompute"])
    assert_same_run(cached, recomputed)


@pytest.mark.parametrize("way", ALL.values(), ids=ALL)
def test_a_cnn(way: Way, device: torch.device) -> None:
    both(device, resnet, way)


@pytest.mark.parametrize("name", ["fp32", "bf16 by the freezer", "fp16 around the calls, gradients scaled"])
def test_a_vit(name: str, device: torch.device) -> None:
    both(device, vit, ALL[name])


@pytest.mark.parametrize("name", ["fp32", "bf16 by the freezer"])
def test_channels_last(name: str, device: torch.device) -> None:
    both(device, resnet, ALL[name], channels_last=True)


@pytest.mark.parametrize("options", [{"window": 1}, {"memory_budget": 0}, {"workers": 2}], ids=str)
def test_however_it_is_read(options: dict[str, Any], device: torch.device) -> None:
    both(device, resnet, ALL["bf16 by the freezer"], **options)


def test_mixed_batches(device: torch.device) -> None:
    mix = v2.MixUp(num_classes=10)
    both(device, resnet, ALL["bf16 by the freezer"], mix=mix)


@pytest.mark.parametrize("precision", [None, "bf16", "fp16"])
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(
    precision: str | None, device: torch.device, tmp_path: Path
) -> None:
    def fitted(name: str, **options: Any) -> dict[str, Tensor]:
        model = resnet().to(device)
        optimizer = sgd(model)
        torch.manual_seed(7)
        settings = {"policy": {1: "layer1"}, "mode": "cache", "ladder": 8, "cache_dir": tmp_path / name}
        given = {"batch_size": 25, "epochs": 3, "optimizer": optimizer, "precision": precision, **settings}
        with Freezer(model, images(100, RANDOM), verbose=False, **given) as freezer:
            fit(freezer, optimizer, epochs=3, checkpoint=tmp_path / f"{name}.checkpoint", **options)
        return model.state_dict()

    steps = iter(range(99))
    whole = fitted("whole")
    fitted("broken", stop=lambda: next(steps) == 5)
    resumed = fitted("broken", resume=True)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.parametrize("precision", [None, "bf16"])
def test_evaluation_gives_the_models_own_bits(precision: str | None, device: torch.device) -> None:
    model = resnet().to(device)
    options: dict[str, Any] = {"policy": {0: "layer1"}, "mode": "cache", "views": 1, "precision": precision}
    with Freezer(model, images(80, RANDOM), batch_size=40, epochs=2, verbose=False, **options) as freezer:
        list(freezer.batches(0))
        model.eval()
        evaluation = freezer.evaluation(images(70), PLAIN_CROP, batch_size=35, codec="exact")
        with torch.no_grad():
            passes = [[(freezer(inputs), targets) for inputs, targets in evaluation] for _ in range(2)]
        assert evaluation.nbytes > 0
        raw = [(image, label) for image, label in images(70, PLAIN_CROP)]  # type: ignore[attr-defined]
        shown = torch.stack([image for image, _ in raw]).to(device).split(35)
        with torch.no_grad(), freezer.autocast():
            expected = [model(batch) for batch in shown]
    for found in passes:
        assert all(torch.equal(mine, theirs) for (mine, _), theirs in zip(found, expected, strict=True))
        assert torch.cat([targets for _, targets in found]).tolist() == [label for _, label in raw]


PLAIN_CROP = v2.Compose([v2.CenterCrop(28), *RANDOM.transforms[2:]])


def test_a_policy_that_measures_trains(device: torch.device) -> None:
    model = resnet().to(device)
    optimizer = sgd(model)
    options: dict[str, Any] = {"policy": "budget:1.1x", "precision": "bf16", "views": 2}
    with Freezer(model, images(200, RANDOM), batch_size=20, epochs=4, optimizer=optimizer, **options) as freezer:
        for epoch in range(4):
            model.train()
            for inputs, targets in freezer.batches(epoch):
                with freezer.autocast():
                    loss = nn.functional.cross_entropy(freezer(inputs), targets)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
            freezer.end_epoch({"loss": loss})
        assert all(entry["why"] for entry in freezer.history if entry["event"] == "decision")
        assert len([entry for entry in freezer.history if entry["event"] == "epoch"]) == 4
