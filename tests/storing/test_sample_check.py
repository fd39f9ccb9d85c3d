"""Samples that are read again while epochs are trained on a cache that was found built."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from hoarfrost import Freezer
from hoarfrost.errors import StaleCacheError
from hoarfrost.storing.sample_check import TOGETHER, SampleCheck

N = 40
IMAGES = torch.rand(N, 1, 8, 8, generator=torch.Generator().manual_seed(0))


class Unseen(Dataset[Any]):
    """Where its items come from cannot be seen."""

    def __init__(self, images: Tensor, draws: bool = False) -> None:
        def read(index: int) -> tuple[Tensor, int]:
            if draws:
                torch.rand(1)
            return images[index].clone(), index % 4

        self._read: Callable[[int], tuple[Tensor, int]] = read

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._read(index)


class Files(Dataset[Any]):
    """Images in files whose times of change are long ago."""

    def __init__(self, root: Path, images: Tensor = IMAGES) -> None:
        self.root, self.names = str(root), [f"{number:02}" for number in range(N)]
        root.mkdir()
        for number in range(N):
            self.write(number, images[number], 1_000_000_000)

    def write(self, number: int, image: Tensor, changed: int) -> None:
        path = Path(self.root, self.names[number])
        image.numpy().tofile(path)
        os.utime(path, (changed, changed))

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        values = np.fromfile(Path(self.root, self.names[index]), np.float32)
        return torch.from_numpy(values).reshape(1, 8, 8), index % 4


def freezer_of(data: Any, folder: Path, **options: Any) -> Freezer:
    torch.manual_seed(0)
    front = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh())
    net = nn.Sequential(front, nn.Sequential(nn.Flatten(), nn.Linear(72, 10)))
    told = {"policy": {0: "0"}, "mode": "cache", "settle": "last", "ladder": "exact", "views": 1, "verbose": False}
    return Freezer(net, data, batch_size=8, epochs=3, cache_dir=folder, **{**told, **options})


@pytest.fixture
def built(tmp_path: Path) -> Path:
    with freezer_of(Unseen(IMAGES), tmp_path) as freezer:
        list(freezer.batches(0))
    return tmp_path


@pytest.fixture
def in_the_epoch_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hoarfrost.storing.sample_check.AT_ONCE", 0)


def checked(freezer: Freezer, epoch: int = 0) -> list[Any]:
    """An epoch that lasts until all samples were looked at."""
    batches = freezer.batches(epoch)
    given = [next(batches)]
    check = freezer._feeder._storer.storage.check
    if check is not None and check._thread is not None:
        check._thread.join()
    return [*given, *batches]


def changed() -> Tensor:
    images = IMAGES.clone()
    images[17] += 1
    return images


def of_sample(features: Tensor, model: nn.Module, image: Tensor) -> bool:
    with torch.no_grad():
        wanted = model.get_submodule("0")(image[None])
    return bool(torch.isclose(features, wanted, rtol=1e-4, atol=1e-6).flatten(1).all(1).any())


@pytest.mark.usefixtures("in_the_epoch_alone")
def test_a_change_is_found_in_the_epoch_and_the_cache_built_again(built: Path) -> None:
    images = changed()
    with freezer_of(Unseen(images), built) as freezer:
        with pytest.warns(UserWarning, match="hoarfrost builds the cache again: 'data': sample 17 is another"):
            first = checked(freezer)
        assert len(first) == N // 8
        (record,) = [record for record in freezer.history if record["event"] == "stale"]
        assert record["why"].startswith("'data': sample 17")
        freezer.end_epoch()
        second = torch.cat([features for features, _ in freezer.batches(1)])
        assert freezer.source == "cache"
        assert of_sample(second, freezer.model, images[17])
        assert not of_sample(second, freezer.model, IMAGES[17])


@pytest.mark.usefixtures("in_the_epoch_alone")
def test_a_change_that_is_found_in_the_epoch_may_be_an_error(built: Path) -> None:
    with (
        freezer_of(Unseen(changed()), built, stale="error") as freezer,
        pytest.raises(StaleCacheError, match="'data': sample 17"),
    ):
        checked(freezer)


@pytest.mark.usefixtures("in_the_epoch_alone")
def test_a_change_that_is_found_in_the_epoch_may_be_passed_over(built: Path) -> None:
    with freezer_of(Unseen(changed()), built, stale="reuse") as freezer:
        with pytest.warns(UserWarning, match="reuses stale features, as asked: 'data': sample 17"):
            batches = checked(freezer)
        assert of_sample(torch.cat([features for features, _ in batches]), freezer.model, IMAGES[17])


def test_how_many_were_looked_at_is_recorded(built: Path) -> None:
    with freezer_of(Unseen(IMAGES), built) as freezer:
        checked(freezer)
        freezer.end_epoch()
        freezer.end_epoch()
        assert [r for r in freezer.history if r["event"] == "checked"] == [{"event": "checked", "samples": N, "of": N}]


def test_of_samples_in_memory_few_are_read(tmp_path: Path) -> None:
    data = TensorDataset(IMAGES, torch.arange(N) % 4)
    for _ in range(2):
        with freezer_of(data, tmp_path) as freezer:
            checked(freezer)
            freezer.end_epoch()
            told = [record["samples"] for record in freezer.history if record["event"] == "checked"]
    assert told == [16]


def test_what_a_run_has_built_itself_it_does_not_look_at(tmp_path: Path) -> None:
    with freezer_of(Unseen(IMAGES), tmp_path) as freezer:
        checked(freezer)
        freezer.end_epoch()
        assert not [record for record in freezer.history if record["event"] == "checked"]


def test_looking_draws_nothing_from_the_trainings_random_states(tmp_path: Path) -> None:
    drawn = []
    for _ in range(3):
        with freezer_of(Unseen(IMAGES, draws=True), tmp_path) as freezer:
            torch.manual_seed(5)
            checked(freezer)
            drawn.append(torch.rand(4))
    # Built by the first; found by the others, whose reading is looked at in the main thread alone.
    assert torch.equal(drawn[1], drawn[2])


def test_the_thread_ends_with_the_freezer(built: Path) -> None:
    freezer = freezer_of(Unseen(IMAGES), built)
    next(iter(freezer.batches(0)))
    check = freezer._feeder._storer.storage.check
    assert check is not None
    freezer.close()
    assert check._thread is None


@pytest.mark.usefixtures("in_the_epoch_alone")
def test_what_an_epoch_was_too_short_for_the_next_one_looks_at(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compare = SampleCheck._compare

    def until_the_end(self: SampleCheck, ids: Sequence[int]) -> dict[str, str]:
        found = compare(self, ids)
        if ids and self.read == TOGETHER:
            assert self._over.wait(20)
        return found

    monkeypatch.setattr(SampleCheck, "_compare", until_the_end)
    with freezer_of(Unseen(IMAGES), built) as freezer:
        list(freezer.batches(0))
        freezer.end_epoch()
        checked(freezer, 1)
        freezer.end_epoch()
        assert [r["samples"] for r in freezer.history if r["event"] == "checked"] == [TOGETHER, N]


@pytest.mark.usefixtures("in_the_epoch_alone")
@pytest.mark.parametrize("touched", [False, True], ids=["alone", "beside one that was touched"])
def test_a_file_with_another_older_time_is_found(tmp_path: Path, touched: bool) -> None:
    data = Files(tmp_path / "images")
    with freezer_of(data, tmp_path / "cache") as freezer:
        list(freezer.batches(0))
    data.write(17, changed()[17], 999_000_000)
    if touched:
        Path(data.root, data.names[5]).touch()
    with (
        freezer_of(data, tmp_path / "cache", stale="error") as freezer,
        pytest.raises(StaleCacheError, match="'data': sample 17"),
    ):
        checked(freezer)


@pytest.mark.usefixtures("in_the_epoch_alone")
def test_what_is_built_from_features_keeps_the_times_that_these_were_made_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SampleCheck, "begin", lambda self: None)
    data, times = Files(tmp_path / "images"), []
    for policy in ({0: "0.0"}, {0: "0.0", 1: "0"}):
        with freezer_of(data, tmp_path / "cache", policy=policy, build_from="features") as freezer:
            for epoch in range(2):
                list(freezer.batches(epoch))
                freezer.end_epoch()
            assert freezer.cache is not None
            assert ("built" in freezer.cache.fingerprint.fields) == (len(policy) > 1)
            times.append(freezer.cache.fingerprint.noted["times"])
        data.write(17, IMAGES[17], 999_000_000)
    assert times[0] == times[1]
