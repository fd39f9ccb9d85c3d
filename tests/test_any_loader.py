"""A user's DataLoader is taken over: its data set, its batches, and the samples that its sampler draws."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
)

from hoarfrost import Freezer
from hoarfrost.errors import ArgumentError, DatasetError
from hoarfrost.samples import UserLoader, steps_of
from shared.images import PLAIN, RANDOM, images
from shared.nets import resnet

N = 200
WEIGHTS = [3.0 if n % 4 == 0 else 0.5 for n in range(N)]


class Numbered(nn.Module):
    """Its features tell which sample they are of."""

    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False))
        nn.init.ones_(self.front[0].weight)  # type: ignore[arg-type]
        self.back = nn.Sequential(nn.Flatten(), nn.Linear(8, 2))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.back(self.front(x))
        return out


NUMBERS = TensorDataset(torch.arange(N).float()[:, None, None, None].expand(N, 1, 2, 2).contiguous(), torch.arange(N))


class ByClass(Sampler[list[int]]):
    """Batches of ten samples of one remainder."""

    def __iter__(self) -> Iterator[list[int]]:
        for remainder in torch.randperm(4).tolist():
            yield [n for n in range(N) if n % 4 == remainder][:10]

    def __len__(self) -> int:
        return 4


def loader(**options: Any) -> DataLoader[Any]:
    return DataLoader(NUMBERS, **{"batch_size": 32, **options})


SAMPLERS: dict[str, Any] = {
    "shuffled": lambda: loader(shuffle=True),
    "in order": loader,
    "weighted": lambda: loader(sampler=WeightedRandomSampler(WEIGHTS, N)),
    "weighted, own generator": lambda: loader(
        sampler=WeightedRandomSampler(WEIGHTS, 90, generator=torch.Generator().manual_seed(4))
    ),
    "some": lambda: loader(sampler=SubsetRandomSampler(range(0, N, 3))),
    "drop last": lambda: loader(shuffle=True, drop_last=True),
    "batches": lambda: DataLoader(NUMBERS, batch_sampler=ByClass()),
}


def epochs(made: DataLoader[Any], count: int = 3, **options: Any) -> list[list[tuple[Tensor, Tensor]]]:
    with Freezer(Numbered(), made, epochs=count, policy={1: "front"}, views=1, ladder="exact", **options) as freezer:
        found = []
        for epoch in range(count):
            found.append([*freezer.batches(epoch)])
            assert len(found[-1]) == freezer.batches_per_epoch
            freezer.end_epoch()
        assert freezer.source == options["mode"]
    return found


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_frozen_epoch_shows_the_samples_of_the_sampler(name: str) -> None:
    cached = epochs(SAMPLERS[name](), mode="cache")
    recomputed = epochs(SAMPLERS[name](), mode="recompute")
    for mine, theirs in zip(cached, recomputed, strict=True):
        for (features, targets), (again, labels) in zip(mine, theirs, strict=True):
            assert torch.equal(features, again)
            assert torch.equal(targets, labels)
            assert torch.equal(features[:, 0, 0, 0].long(), targets)
    # Images at first, features later: of one epoch both show the same samples.
    live = epochs_of_images(SAMPLERS[name]())
    for epoch in (1, 2):
        shown = Counter(torch.cat([targets for _, targets in cached[epoch]]).tolist())
        wanted = Counter(torch.cat([targets for _, targets in live[epoch]]).tolist())
        if name != "drop last":
            assert shown == wanted
        assert sum(shown.values()) == sum(wanted.values())


def epochs_of_images(made: DataLoader[Any]) -> list[list[tuple[Tensor, Tensor]]]:
    with Freezer(Numbered(), made, epochs=3, policy="none") as freezer:
        return [[*freezer.batches(epoch)] for epoch in range(3)]


def test_each_epoch_draws_anew_and_one_seed_draws_alike() -> None:
    one, other = epochs_of_images(SAMPLERS["weighted"]()), epochs_of_images(SAMPLERS["weighted"]())
    drawn = [torch.cat([targets for _, targets in epoch]) for epoch in one]
    assert all(torch.equal(a, torch.cat([t for _, t in b])) for a, b in zip(drawn, other, strict=True))
    assert not torch.equal(drawn[0], drawn[1])
    assert (drawn[0] % 4 == 0).float().mean() > 0.5


def test_a_samplers_order_is_that_of_images_and_batches_stay_whole() -> None:
    in_order = epochs_of_images(SAMPLERS["in order"]())
    assert torch.equal(torch.cat([targets for _, targets in in_order[0]]), torch.arange(N))
    for epoch in epochs(SAMPLERS["batches"](), mode="cache"):
        assert [len(targets) for _, targets in epoch] == [10] * 4
        assert all(len(set((targets % 4).tolist())) == 1 for _, targets in epoch)


def test_drawing_leaves_the_training_its_random_state() -> None:
    with Freezer(Numbered(), SAMPLERS["weighted"](), epochs=1, policy="none") as freezer:
        state = torch.get_rng_state()
        next(iter(freezer.batches(0)))
        assert torch.equal(torch.get_rng_state(), state)


def test_the_loaders_collate_workers_and_size_are_taken_over() -> None:
    def collate(items: list[Any]) -> Any:
        made = default_collate(items)
        return {"x": made[0], "y": made[1]}

    made = DataLoader(images(60, RANDOM), batch_size=20, shuffle=True, num_workers=2, collate_fn=collate)
    with pytest.raises(DatasetError, match="there is no 0 in a batch that holds 'x', 'y'"):
        Freezer(resnet(), made, epochs=2)
    made = DataLoader(made.dataset, batch_size=20, num_workers=2, collate_fn=lambda items: default_collate(items))
    with Freezer(resnet(), made, epochs=2, policy={1: "layer1"}, mode="cache") as freezer:
        assert freezer.batch_size == 20
        assert freezer._data.samples.workers.count == 2
        for epoch in range(2):
            assert sum(len(targets) for _, targets in freezer.batches(epoch)) == 60
            freezer.end_epoch()


class Signed:
    """Marks the process that it is called in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, worker: int) -> None:
        (self.folder / f"{worker}").touch()


def test_workers_begin_as_the_user_told_them(tmp_path: Path) -> None:
    told: dict[str, Any] = {"worker_init_fn": Signed(tmp_path), "prefetch_factor": 3, "timeout": 30}
    with Freezer(Numbered(), loader(num_workers=2, **told), epochs=1, policy="none") as freezer:
        workers = freezer._data.samples.workers
        assert (workers.count, workers.prefetch, workers.timeout, workers.pinned) == (2, 3, 30, False)
        assert len(list(freezer.batches(0))) == 7
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]


def test_the_users_generator_says_the_order() -> None:
    def first(own: int | None, **options: Any) -> Tensor:
        generator = None if own is None else torch.Generator().manual_seed(own)
        return epochs(loader(shuffle=True, generator=generator), 2, mode="cache", **options)[1][0][1]

    assert torch.equal(first(3), first(3))
    assert not torch.equal(first(3), first(4))
    assert not torch.equal(first(3), first(None))
    assert not torch.equal(first(3), first(3, seed=1))


def test_epochs_of_more_and_of_fewer_batches() -> None:
    class Growing(Sampler[list[int]]):
        count = 1

        def set_epoch(self, epoch: int) -> None:
            self.count = epoch + 1

        def __iter__(self) -> Iterator[list[int]]:
            return iter([[number, number + 1] for number in range(self.count)])

        def __len__(self) -> int:
            return self.count

    with Freezer(Numbered(), DataLoader(NUMBERS, batch_sampler=Growing()), epochs=4, policy={2: "front"}) as freezer:
        for epoch in range(4):
            assert freezer.batches_per_epoch == epoch + 1
            assert len(list(freezer.batches(epoch))) == epoch + 1
            freezer.end_epoch()


def test_what_a_loader_says_is_not_said_twice() -> None:
    with pytest.raises(ArgumentError, match="batch_size is 8, the DataLoader's is 32: leave it to the DataLoader"):
        Freezer(Numbered(), loader(), batch_size=8, epochs=1)
    with pytest.raises(ArgumentError, match="batch_size must be a whole number of at least 1, not None"):
        Freezer(Numbered(), NUMBERS, epochs=1)
    with Freezer(Numbered(), loader(), batch_size=32, epochs=1, policy="none") as freezer:
        assert freezer.batch_size == 32


def test_what_cannot_be_taken_over_is_told() -> None:
    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            return iter([])

    class Endless(Sampler[int]):
        def __iter__(self) -> Iterator[int]:
            return iter(range(N))

    with pytest.raises(DatasetError, match=r"the DataLoader's Stream is a stream: .* map-style data set"):
        Freezer(Numbered(), DataLoader(Stream(), batch_size=4), epochs=1)
    with pytest.raises(DatasetError, match="Endless has no length"):
        Freezer(Numbered(), loader(sampler=Endless()), epochs=1)
    with pytest.raises(ArgumentError, match="the DataLoader has no batch size"):
        Freezer(Numbered(), DataLoader(NUMBERS, batch_size=None), epochs=1)
    with pytest.raises(DatasetError, match="SequentialSampler asks for sample 200, the data set has 200"):
        list(Freezer(Numbered(), loader(sampler=SequentialSampler(range(201))), epochs=1, policy="none").batches(0))


def test_training_by_a_loader_is_training_by_its_data_set() -> None:
    """A plain shuffled loader is what the freezer does by itself, to the bit."""

    def losses(data: Any, **options: Any) -> list[float]:
        model = resnet()
        optimizer, found = torch.optim.SGD(model.parameters(), 0.05), []
        with Freezer(
            model, data, epochs=3, optimizer=optimizer, policy={1: "layer1"}, mode="cache", **options
        ) as freezer:
            for epoch in range(3):
                for inputs, targets in freezer.batches(epoch):
                    loss = F.cross_entropy(freezer(inputs), targets)
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    found.append(float(loss))
                freezer.end_epoch()
        return found

    alone = losses(images(120, PLAIN), batch_size=30)
    assert losses(DataLoader(images(120, PLAIN), batch_size=30, shuffle=True)) == alone
    assert losses(DataLoader(images(120, PLAIN), batch_sampler=BatchSampler(range(120), 30, False))) != alone


def test_what_was_taken_over_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "hoarfrost"):
        Freezer(Numbered(), SAMPLERS["weighted"](), epochs=1, policy="none").close()
        Freezer(Numbered(), SAMPLERS["weighted"](), epochs=1, policy="none", verbose=False).close()
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "WeightedRandomSampler draws the samples of each epoch; a frozen epoch shows them chunk by chunk",
    ]


class Counting(Sampler[int]):
    """The samples from the last to the first."""

    def __iter__(self) -> Iterator[int]:
        return iter(range(N - 1, -1, -1))

    def __len__(self) -> int:
        return N


class Named(BatchSampler):
    """Another one by name, which makes batches as torch's does."""


@pytest.mark.parametrize("kind", [BatchSampler, Named])
def test_what_a_given_batch_sampler_says_is_taken(kind: type[BatchSampler]) -> None:
    made = DataLoader(NUMBERS, batch_sampler=kind(Counting(), 30, drop_last=True))
    assert not UserLoader.of(made, None, None, 0).batched
    assert steps_of(UserLoader.of(made, None, None, 0)) == 6
    with Freezer(Numbered(), made, epochs=1, policy="none") as freezer:
        shown = [targets.tolist() for _, targets in freezer.batches(0)]
    assert shown == [list(range(N - 1 - n, N - 31 - n, -1)) for n in range(0, 180, 30)]


@pytest.mark.parametrize("name", [*SAMPLERS, "one left over"])
def test_steps_are_foretold(name: str) -> None:
    made = loader(batch_size=N - 1) if name == "one left over" else SAMPLERS[name]()
    with Freezer(Numbered(), made, epochs=1, policy="none") as freezer:
        assert steps_of(UserLoader.of(made, None, None, 0)) == len(freezer.loader)
