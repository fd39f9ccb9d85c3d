"""What a freezer refuses, with the words that it finds for it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn
from torch.utils.data import Subset
from torchvision.transforms import v2

from hoarfrost import Freezer, TrainState
from hoarfrost.errors import (
    ArgumentError,
    CacheDirectoryError,
    CodecError,
    DatasetError,
    ImageShapeError,
    NoCutError,
    PolicyError,
    UnknownCutError,
)
from hoarfrost.policies import Never
from shared.freezers import N, freezer_of, run_epoch
from shared.images import NORMALISE, PLAIN, RANDOM, images
from shared.nets import resnet
from shared.runs import train


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"batch_size": 0}, ArgumentError, "batch_size must be a whole number of at least 1, not 0"),
        ({"batch_size": 2.0}, ArgumentError, "batch_size must be a whole number of at least 1, not 2.0"),
        ({"epochs": 0}, ArgumentError, "epochs must be a whole number of at least 1, or None, not 0"),
        ({"mode": "fast"}, ArgumentError, "mode must be one of 'auto', 'cache', 'recompute', not 'fast'"),
        ({"disk_budget": -1}, ArgumentError, "disk_budget is a number of bytes, at least 0, not -1"),
        ({"window": -1}, ArgumentError, "window must be at least 1 chunk, or 0, not -1"),
        ({"seed": None}, ArgumentError, "seed must be a whole number, not None"),
        ({"views": 0}, ArgumentError, 'views must be a whole number of at least 1, or "auto", not 0'),
        ({"ladder": "steep"}, ArgumentError, "unknown ladder 'steep'; known ladders: auto"),
        ({"ladder": 9}, CodecError, "9"),
        ({"policy": "egria"}, PolicyError, "there is no policy 'egria'"),
        ({"policy": {1: "layer9"}}, UnknownCutError, "layer9.*layer1"),
        ({"policy": {2: "layer2", 3: "layer1"}}, PolicyError, "asks to thaw"),
        ({"policy": {2: 99}}, PolicyError, "depth 99 does not exist: the model has 8 cuts"),
        ({"policy": "schedule", "epochs": None}, PolicyError, "an even schedule needs to know the number of epochs"),
    ],
    ids=lambda value: re.sub(" at 0x[^>]*", "", str(value)) if isinstance(value, dict) else "",
)
def test_bad_arguments_are_refused_and_the_transform_is_given_back(
    options: dict[str, Any], error: type[Exception], text: str
) -> None:
    data = images(N, RANDOM)
    with pytest.raises(error, match=text):
        freezer_of(data=data, **options)
    assert data.transform is RANDOM


def test_a_policy_is_asked_with_the_first_batch_and_may_be_refused_then() -> None:
    text = "past the last cut: the model has 8 cuts, the last is 'pool'"
    with freezer_of(policy=lambda state: 99) as freezer, pytest.raises(PolicyError, match=text):
        next(freezer.batches(0))


def test_what_is_no_module_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"model must be a torch.nn.Module, not function"):
        Freezer(lambda x: x, images(N), batch_size=5)  # type: ignore[arg-type]


class TwoStreams(nn.Module):
    """No tensor of it is ever the only one that the rest needs."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(28 * 28, 10)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(x.flatten(1)) + x.mean()
        return y


@pytest.mark.parametrize("policy", ["schedule", {1: 1}], ids=str)
def test_a_model_without_a_cut_is_refused_with_the_way_out(policy: Any) -> None:
    data = images(N, RANDOM)
    with pytest.raises(NoCutError, match=r'TwoStreams has no place where it can be divided: .*policy="none"'):
        freezer_of(TwoStreams(), data, policy=policy)
    assert data.transform is RANDOM


@pytest.mark.parametrize("policy", ["none", Never()], ids=["name", "object"])
def test_a_model_without_a_cut_trains_with_the_policy_none(policy: Any) -> None:
    trace = train(TwoStreams(), images(N, PLAIN), policy=policy, epochs=1)
    assert len(trace.losses) == 3


def test_a_refused_freezer_leaves_no_temporary_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(UnknownCutError, match="layer9"):
        freezer_of(policy={1: "layer9"})
    assert not [*tmp_path.iterdir()]


def test_an_empty_data_set_is_refused() -> None:
    with pytest.raises(DatasetError, match="the data set has 0 samples; training needs at least 2"):
        freezer_of(data=Subset(images(5), []))


def test_a_batch_larger_than_the_data_set_is_one_batch_an_epoch() -> None:
    with pytest.warns(UserWarning, match="batch_size 500 is larger than the data set; each epoch is one batch of its"):
        freezer = freezer_of(batch_size=500)
    with freezer:
        assert [len(run_epoch(freezer, epoch)) for epoch in range(3)] == [1, 1, 1]
        assert freezer.batches_per_epoch == 1


def test_a_cache_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("mine")
    data = images(N, RANDOM)
    with pytest.raises(CacheDirectoryError, match=r"cache_dir .*cache is a file; name a directory"):
        freezer_of(data=data, cache_dir=tmp_path / "cache")
    assert data.transform is RANDOM
    assert (tmp_path / "cache").read_text() == "mine"


def test_a_cache_directory_that_cannot_be_written_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(**_: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(CacheDirectoryError, match=r"cache_dir .* cannot be written: Permission denied"):
        freezer_of(cache_dir=tmp_path)


def test_images_of_differing_sizes_are_refused() -> None:
    ragged = v2.Compose([*NORMALISE, v2.Lambda(lambda image: image[:, : 8 + int(image.abs().sum()) % 7])])
    with pytest.raises(ImageShapeError, match=r"images of a batch must have one size, but sample 0 is \d+x28"):
        freezer_of(data=images(N, PLAIN), transform=ragged)


@pytest.mark.parametrize(
    ("epoch", "start", "text"),
    [
        (-1, 0, "epoch must be a whole number from 0 on, not -1"),
        (0.5, 0, "epoch must be a whole number from 0 on, not 0.5"),
        (0, -1, "start must be a whole number from 0 on, not -1"),
    ],
)
def test_batches_of_no_epoch_are_refused(epoch: Any, start: int, text: str) -> None:
    with freezer_of() as freezer, pytest.raises(ArgumentError, match=text):
        next(freezer.batches(epoch, start))


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        (lambda state: 2 if state.epoch < 2 else 1, "before epoch 2 for depth 1, but depth 2 is frozen already"),
        (lambda state: 2 if state.epoch < 2 else 9, "before epoch 2 for depth 9, past the last cut"),
    ],
    ids=["thaws", "past the end"],
)
def test_a_policy_that_asks_for_too_much_is_named_and_nothing_is_lost(
    policy: Callable[[TrainState], int], text: str
) -> None:
    with freezer_of(policy=policy) as freezer:
        run_epoch(freezer, 0)
        [*freezer.batches(1)]
        with pytest.raises(PolicyError, match=text):
            freezer.end_epoch()
        assert freezer.depth == 2
        assert freezer.history[-1]["event"] == "epoch"


def test_what_is_no_metric_and_what_comes_too_late() -> None:
    freezer = Freezer(resnet(), images(40, PLAIN), batch_size=20, epochs=2, policy="none")
    with pytest.raises(ArgumentError, match="end_epoch takes metrics by name"):
        freezer.end_epoch(5)  # type: ignore[arg-type]
    freezer.close()
    with pytest.raises(ArgumentError, match="the freezer is closed: there is no epoch to end"):
        freezer.end_epoch()
    with pytest.raises(ArgumentError, match="cuts must be the name of a layer, or several, not 3"):
        Freezer(resnet(), images(40, PLAIN), batch_size=20, epochs=2, cuts=3)  # type: ignore[arg-type]
