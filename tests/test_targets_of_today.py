"""Targets are those that the data set gives now, whatever is stored beside the features."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset, TensorDataset, default_collate

from hoarfrost import Freezer
from hoarfrost.samples import Samples
from shared.images import PLAIN, images

N = 40
IMAGES = torch.rand(N, 1, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(N) % 4


def net() -> nn.Module:
    torch.manual_seed(0)
    front = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
    return nn.Sequential(front, nn.Sequential(nn.Flatten(), nn.Linear(72, 10)))


class Labelled(Dataset[Any]):
    def __init__(self, targets: Any) -> None:
        self.targets = targets

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> Any:
        return IMAGES[index], self.targets[index]


class Mapped(Labelled):
    def __getitem__(self, index: int) -> Any:
        return {"input": IMAGES[index], "label": int(self.targets[index]), "number": index}


class Transformed(Labelled):
    """As torchvision's: its targets pass through a function of its own."""

    def target_transform(self, target: int) -> int:
        return 3 - target

    def __getitem__(self, index: int) -> Any:
        return IMAGES[index], self.target_transform(int(self.targets[index]))


class Listed(Dataset[Any]):
    """As an ImageFolder: items come from pairs; the list of targets beside is a copy that nobody reads."""

    def __init__(self, targets: list[int]) -> None:
        self.samples = list(enumerate(targets))
        self.targets = list(targets)

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> Any:
        number, target = self.samples[index]
        return IMAGES[number], target


def replaced(data: Any, targets: Tensor) -> None:
    data.targets = targets.tolist() if isinstance(data.targets, list) else type(data.targets)(targets)


def in_pairs(data: Any, targets: Tensor) -> None:
    data.samples = list(enumerate(targets.tolist()))


def in_place(data: Any, targets: Tensor) -> None:
    data.tensors[1].copy_(targets)


def underneath(data: Any, targets: Tensor) -> None:
    data.dataset.targets = targets


def turned(data: Any, targets: Tensor) -> None:
    data.targets = 3 - targets


DATA: dict[str, tuple[Callable[[], Any], Callable[[Any, Tensor], None]]] = {
    "a tensor": (lambda: Labelled(LABELS.clone()), lambda data, targets: setattr(data, "targets", targets)),
    "an array": (lambda: Labelled(LABELS.numpy()), lambda data, targets: setattr(data, "targets", targets.numpy())),
    "a list": (lambda: Labelled(LABELS.tolist()), replaced),
    "pairs": (lambda: Listed(LABELS.tolist()), in_pairs),
    "TensorDataset": (lambda: TensorDataset(IMAGES, LABELS.clone()), in_place),
    "a part of a data set": (lambda: Subset(Labelled(LABELS.clone()), range(N)), underneath),
    "a target_transform": (lambda: Transformed(LABELS.clone()), turned),
    "mappings": (lambda: Mapped(LABELS.clone()), lambda data, targets: setattr(data, "targets", targets)),
}


def labels_of(batches: list[Any]) -> Tensor:
    """By sample: what the images are says which."""
    found = torch.full((N,), -1)
    at = 0
    for batch in batches:
        targets = batch["label"] if isinstance(batch, dict) else batch[1]
        found[at : at + len(targets)] = targets
        at += len(targets)
    return found


def trained(data: Any, change: Callable[[Any, Tensor], None], mode: str, **options: Any) -> list[Tensor]:
    """The labels of each epoch, relabelled by the loop in front of each."""
    model = net()
    with Freezer(
        model, data, batch_size=8, epochs=4, policy={1: "0"}, mode=mode, settle="last", verbose=False, **options
    ) as freezer:
        seen = []
        for epoch in range(4):
            seen.append(labels_of(list(freezer.batches(epoch))))
            change(data, (LABELS + epoch + 1) % 4)
            freezer.end_epoch()
        assert freezer.source == ("cache" if mode == "cache" else "recompute")
    return seen


@pytest.mark.parametrize("kind", DATA)
def test_the_loop_may_change_targets_between_epochs(kind: str) -> None:
    make, change = DATA[kind]
    options: dict[str, Any] = {"input": "input"} if kind == "mappings" else {}
    cached, recomputed = (trained(make(), change, mode, **options) for mode in ("cache", "recompute"))
    for epoch, (one, other) in enumerate(zip(cached, recomputed, strict=True)):
        assert torch.equal(one, other)
        wanted = (LABELS + epoch) % 4
        assert one.bincount(minlength=4).tolist() == wanted.bincount(minlength=4).tolist()
    # The order differs from epoch to epoch; each is that of today's labels.
    assert len({tuple(labels.tolist()) for labels in cached}) == 4


def order_of(data: Any) -> list[int]:
    with Freezer(net(), data, batch_size=8, epochs=2, policy={0: "0"}, mode="cache", settle="last") as freezer:
        return [int(y) for _, targets in freezer.batches(0) for y in targets]


def test_each_feature_comes_with_its_own_samples_target() -> None:
    data = Labelled(torch.arange(N))
    before = order_of(data)
    data.targets = torch.arange(N) + 100
    with Freezer(net(), data, batch_size=8, epochs=3, policy={0: "0"}, mode="cache", settle="last") as freezer:
        assert [int(y) for _, targets in freezer.batches(0) for y in targets] == [label + 100 for label in before]
        data.targets = torch.arange(N) + 200
        again = [int(y) for _, targets in freezer.batches(0) for y in targets]
    assert again == [label + 200 for label in before]


def test_a_copy_of_the_labels_that_items_do_not_come_from_is_no_column() -> None:
    data = Listed(LABELS.tolist())
    with_column = Samples(data).identity.targets
    assert with_column is not None
    assert (with_column.column.name, with_column.part) == ("samples", 1)


class Changed(Labelled):
    """Its targets are in no column: one of them is made while it is read."""

    def __getitem__(self, index: int) -> Any:
        return IMAGES[index], 9 if index == 16 else int(self.targets[index])


def test_a_column_that_some_item_does_not_follow_is_not_trusted(tmp_path: Path) -> None:
    data = Changed(LABELS.clone())
    for _ in range(2):
        with Freezer(
            *(net(), data), batch_size=8, epochs=2, policy={0: "0"}, mode="cache", settle="last", cache_dir=tmp_path
        ) as freezer:
            seen = [int(y) for _, targets in freezer.batches(0) for y in targets]
        assert seen.count(9) == 1


def test_a_chunk_is_healed_though_its_targets_are_others_by_now() -> None:
    data = Labelled(LABELS.clone())
    with Freezer(net(), data, batch_size=8, epochs=3, policy={0: "0"}, mode="cache", settle="last") as freezer:
        before = [features for features, _ in freezer.batches(0)]
        assert freezer.cache is not None
        path = freezer.cache.path / "features.bin"
        damaged = bytearray(path.read_bytes())
        damaged[10] ^= 1
        path.write_bytes(bytes(damaged))
        data.targets = LABELS + 4
        after = list(freezer.batches(0))
        assert any(record["event"] == "heal" for record in freezer.history)
        assert freezer.cache.verify() == []
    assert all(torch.equal(one, other) for one, (other, _) in zip(before, after, strict=True))
    assert all(int(label) >= 4 for _, targets in after for label in targets)


def test_targets_that_are_images_are_had_from_their_column() -> None:
    masks = torch.randint(0, 2, (N, 8, 8))
    column = Samples(TensorDataset(IMAGES, masks)).identity.targets
    assert column is not None
    ids = torch.tensor([3, 0, 9])
    assert torch.equal(column.of(ids), default_collate([masks[number] for number in ids]))


def test_a_data_set_of_ours_and_torchvisions_have_columns() -> None:
    from torchvision.datasets import FakeData

    assert Samples(images(20, PLAIN)).identity.targets is not None
    fake = Samples(FakeData(20, (3, 8, 8), 4, transform=PLAIN)).identity
    assert fake.targets is None
    assert not fake.known


def test_dtypes_are_those_of_a_batch() -> None:
    data = Labelled(np.arange(N, dtype=np.uint8))
    samples = Samples(data)
    assert samples.targets_now(torch.tensor([5, 2])) is not None
    _, targets = samples.read([5, 2])
    now = samples.targets_now(torch.tensor([5, 2]))
    assert now is not None
    assert now.dtype == targets.dtype
    assert torch.equal(now, targets)
