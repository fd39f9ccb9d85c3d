"""Items of any layout: a cached run is a recomputing run to the bit, and batches are those of the user's loader."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, default_collate

from hoarfrost import Freezer
from hoarfrost.cuts import leaves
from hoarfrost.errors import ArgumentError, DatasetError
from hoarfrost.samples import OnDevice

N = 96
X = torch.randn(N, 1, 8, 8, generator=torch.Generator().manual_seed(0))
Y = (X.mean((1, 2, 3)) > 0).long()
IDS = torch.randint(0, 50, (N, 12), generator=torch.Generator().manual_seed(1))
LENGTHS = torch.randint(3, 13, (N,), generator=torch.Generator().manual_seed(2))


@dataclass
class Sample:
    pixels: Any
    name: Any
    label: Any


class Items(Dataset[Any]):
    def __init__(self, make: Callable[[int], Any]) -> None:
        self.make, self.reads = make, 0

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> Any:
        self.reads += 1
        return self.make(index)


class Net(nn.Module):
    """Two stages and a head, called with `pixels`."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.front = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.back = nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(64, 2))

    def forward(self, pixels: Tensor) -> Tensor:
        out: Tensor = self.back(self.front(pixels))
        return out


class WithLoss(Net):
    """As transformers' models: keywords in, a mapping with the loss out."""

    def forward(self, pixels: Tensor, labels: Tensor | None = None) -> Any:  # type: ignore[override]
        logits = super().forward(pixels)
        return {"logits": logits, **({} if labels is None else {"loss": F.cross_entropy(logits, labels)})}


class Text(nn.Module):
    """Tokens and a mask in; the mask is needed on both sides of each cut."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(50, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, 0.1, batch_first=True)
        self.layers = nn.ModuleList([layer, nn.TransformerEncoderLayer(16, 2, 32, 0.1, batch_first=True)])
        self.head = nn.Linear(16, 2)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden = self.embed(input_ids)
        for layer in self.layers:
            hidden = layer(hidden, src_key_padding_mask=attention_mask == 0)
        mask = attention_mask[..., None]
        out: Tensor = self.head((hidden * mask).sum(1) / mask.sum(1))
        return out


def tokens(i: int) -> dict[str, Any]:
    return {"input_ids": IDS[i], "attention_mask": (torch.arange(12) < LENGTHS[i]).long(), "labels": int(Y[i])}


def same(one: Any, other: Any) -> bool:
    """Of two batches every tensor to the bit, and all else equal."""
    ours, theirs = leaves(one), leaves(other)
    return len(ours) == len(theirs) and all(
        torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in zip(ours, theirs, strict=True)
    )


Step = Callable[[Callable[..., Any], Any], Tensor]

CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Any], str, Step]] = {
    "three things": (
        Net,
        lambda i: (X[i], int(Y[i]), f"number {i}"),
        "front",
        lambda model, batch: F.cross_entropy(model(batch[0]), batch[1]),
    ),
    "a text for a target": (
        Net,
        lambda i: (X[i], "yes" if Y[i] else "no"),
        "front",
        lambda model, batch: F.cross_entropy(model(batch[0]), torch.tensor([t == "yes" for t in batch[1]]).long()),
    ),
    "a mapping, the loss inside": (
        WithLoss,
        lambda i: {"pixels": X[i], "labels": int(Y[i]), "id": i},
        "front",
        lambda model, batch: model(pixels=batch["pixels"], labels=batch["labels"])["loss"],
    ),
    "nested": (
        Net,
        lambda i: {"pixels": X[i], "about": {"label": int(Y[i]), "more": [X[i].sum(), float(i)]}},
        "front",
        lambda model, batch: F.cross_entropy(model(batch["pixels"]), batch["about"]["label"]),
    ),
    "tokens and their mask": (
        Text,
        tokens,
        "layers.0",
        lambda model, batch: F.cross_entropy(
            model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]), batch["labels"]
        ),
    ),
}


def run(case: str, mode: str, **options: Any) -> tuple[list[float], dict[str, Tensor], Items]:
    make, item, cut, step = CASES[case]
    data, model = Items(item), make()
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    losses = []
    torch.manual_seed(5)
    with Freezer(
        model, data, batch_size=20, epochs=4, optimizer=optimizer, policy={1: cut}, mode=mode, ladder="exact", **options
    ) as freezer:
        for epoch in range(4):
            model.train()
            for batch in freezer.batches(epoch):
                loss = step(freezer, batch)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(float(loss))
            freezer.end_epoch()
            data.reads, before = 0, data.reads
        assert (before == 0) == (mode == "cache")
        assert freezer.source == mode
    return losses, model.state_dict(), data


@pytest.mark.parametrize("case", CASES)
def test_a_cached_run_is_a_recomputing_run(case: str) -> None:
    cached, recomputed = run(case, "cache"), run(case, "recompute")
    assert cached[0] == recomputed[0]
    assert all(torch.equal(cached[1][name], value) for name, value in recomputed[1].items())


@pytest.mark.parametrize("case", CASES)
def test_live_batches_are_those_of_torch_for_the_same_samples(case: str) -> None:
    make, item, _, _ = CASES[case]
    with Freezer(make(), Items(item), batch_size=20, epochs=1, policy="none") as freezer:
        order = freezer._data.order.shuffled(0).tolist()
        theirs = DataLoader(Items(item), batch_sampler=[order[n : n + 20] for n in range(0, N, 20)])
        for ours, wanted in zip(freezer.batches(0), theirs, strict=True):
            assert same(ours, wanted)


def test_a_dataclass_comes_back_as_the_collate_makes_it() -> None:
    def collate(items: list[Sample]) -> Sample:
        columns = zip(*((item.pixels, item.name, item.label) for item in items), strict=True)
        pixels, names, labels = (list(column) for column in columns)
        return Sample(default_collate(pixels), names, default_collate(labels))

    data = Items(lambda i: Sample(X[i], f"n{i}", int(Y[i])))
    with Freezer(
        Net(), data, batch_size=20, epochs=2, policy={0: "front"}, mode="cache", ladder="exact", collate_fn=collate
    ) as freezer:
        seen = [batch for epoch in range(2) for batch in freezer.batches(epoch)]
        front = freezer._front.division
        assert front is not None
        for batch in seen:
            numbers = [int(name[1:]) for name in batch.name]
            assert torch.equal(batch.label, Y[numbers])
            torch.testing.assert_close(batch.pixels, front.prefix(X[numbers]))
    assert sorted(int(n[1:]) for batch in seen[:5] for n in batch.name) == list(range(N))


def test_labels_that_the_loop_changes_reach_a_model_that_computes_its_loss() -> None:
    """What the suffix needs again is taken from the call, not from the cache."""

    class Weighted(Net):
        def forward(self, pixels: Tensor, weight: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(pixels) * weight[:, None]

    data = Items(lambda i: {"pixels": X[i], "weight": torch.ones(1)[0].long()})
    with Freezer(Weighted(), data, batch_size=32, epochs=1, policy={0: "front"}, mode="cache") as freezer:
        freezer.model.eval()
        batch = next(iter(freezer.batches(0)))
        once = freezer(**batch)
        batch["weight"] = 3 * batch["weight"]
        assert torch.equal(freezer(**batch), 3 * once)


def test_what_is_asked_for_is_named() -> None:
    pairs = Items(lambda i: (X[i], X[i]))
    with pytest.raises(DatasetError, match=r"input=0\) where the second is a target, input=\(0, 1\)"):
        Freezer(Net(), pairs, batch_size=20, epochs=1)
    with Freezer(Net(), pairs, batch_size=20, epochs=1, input=0) as freezer:
        images, targets = next(iter(freezer.batches(0)))
        assert torch.equal(images, targets)
    with pytest.raises(DatasetError, match="input='image': an item holds 'pixels', 'label', not 'image'"):
        Freezer(Net(), Items(lambda i: {"pixels": X[i], "label": 1}), batch_size=20, epochs=1, input="image")


@pytest.mark.parametrize("wrong", [3.5, (), True, b"x", {"pixels": 1.5}])
def test_what_is_no_key_of_an_item_is_refused(wrong: Any) -> None:
    with pytest.raises(ArgumentError, match="input must be a key of an item, or several, not"):
        Freezer(Net(), Items(lambda i: {"pixels": X[i], "label": 1}), batch_size=20, epochs=1, input=wrong)


def test_a_keyword_that_is_told_no_key_of_the_items_is_refused_with_those_there_are() -> None:
    with pytest.raises(DatasetError, match=r"input=\{'pixels': 1\}: an item holds 'pixels', 'label', not 1"):
        Freezer(Net(), Items(lambda i: {"pixels": X[i], "label": 1}), batch_size=20, epochs=1, input={"pixels": 1})


def by_label(items: list[Any]) -> Any:
    return default_collate(sorted(items, key=lambda item: -int(item["label"])))


def all_but_the_last(items: list[Any]) -> Any:
    return default_collate(items[:-1])


def masked_at_random(items: list[Any]) -> Any:
    batch = default_collate(items)
    return {**batch, "input_ids": batch["input_ids"] * (torch.rand(batch["input_ids"].shape) > 0.5)}


def mixed_from_both_ends(items: list[Any]) -> Any:
    batch = default_collate(items)
    return {**batch, "pixels": 0.7 * batch["pixels"] + 0.3 * batch["pixels"].flip(0)}


@pytest.mark.parametrize("collate", [by_label, all_but_the_last, masked_at_random, mixed_from_both_ends])
def test_a_collate_whose_rows_are_not_its_items_is_refused(collate: Callable[[list[Any]], Any]) -> None:
    """Else the features of one sample would come with the label of another."""
    images = Items(lambda i: {"pixels": X[i], "label": i})
    made, data = (Text(), Items(tokens)) if collate is masked_at_random else (Net(), images)
    with pytest.raises(DatasetError, match=f"{collate.__name__} sorts, mixes, draws or drops items"):
        Freezer(made, data, batch_size=20, epochs=1, collate_fn=collate)


def test_a_collate_that_scales_is_taken() -> None:
    def scaled(items: list[Any]) -> Any:
        batch = default_collate(items)
        return {**batch, "pixels": (batch["pixels"] - 0.5) / 2}

    data = Items(lambda i: {"pixels": X[i], "id": i})
    with Freezer(
        Net(), data, batch_size=20, epochs=1, policy={0: "front"}, mode="cache", ladder="exact", collate_fn=scaled
    ) as freezer:
        for batch in freezer.batches(0):
            front = freezer._front.division
            assert front is not None
            torch.testing.assert_close(batch["pixels"], front.prefix((X[batch["id"]] - 0.5) / 2))


def test_runs_that_share_a_directory_and_differ_in_their_input_share_no_features(tmp_path: Path) -> None:
    other = torch.flip(X, [0])
    data = Items(lambda i: (X[i], other[i], i))
    for key, inputs in ((0, X), (1, other)):
        with Freezer(
            Net(), data, batch_size=20, epochs=1, policy={0: "front"}, mode="cache", ladder="exact", settle="last",
            cache_dir=tmp_path, input=key,
        ) as freezer:  # fmt: skip
            for batch in freezer.batches(0):
                front = freezer._front.division
                assert front is not None
                torch.testing.assert_close(batch[key], front.prefix(inputs[batch[2]]))


def test_what_workers_read_holds_no_files_open() -> None:
    held = Path("/proc/self/fd")
    if not held.is_dir():
        pytest.skip("open files are counted where /proc is")
    data = Items(lambda i: {"pixels": X[i], "id": torch.tensor(i), "ids": IDS[i]})
    with Freezer(Net(), data, batch_size=20, epochs=2, policy={1: "front"}, mode="cache", workers=2) as freezer:
        before = len(list(held.iterdir()))
        for batch in freezer.batches(0):
            assert torch.equal(batch["ids"], IDS[batch["id"]])
        del batch
        assert len(list(held.iterdir())) < before + N // 2
        freezer.end_epoch()
        for batch in freezer.batches(1):
            assert torch.equal(batch["ids"], IDS[batch["id"]])


def test_all_of_a_batch_of_features_goes_to_the_device() -> None:
    """Told by a device that keeps no values, since there may be no other."""
    data = Items(lambda i: {"pixels": X[i], "label": int(Y[i])})
    with Freezer(Net(), data, batch_size=20, epochs=1, policy={0: "front"}, mode="cache") as freezer:
        next(freezer.batches(0))
        object.__setattr__(freezer._data, "on_device", OnDevice(torch.device("meta")))
        batch = freezer._data.with_features([torch.zeros(2, 4, 6, 6)], *[torch.tensor([3, 5])] * 2)
        assert {batch["pixels"].device.type, batch["label"].device.type} == {"meta"}


def test_a_collate_that_needs_the_images_themselves_is_refused() -> None:
    def needs_pixels(items: list[Any]) -> Any:
        return {"pixels": torch.stack([item["pixels"].reshape(1, 8, 8) for item in items])}

    with pytest.raises(DatasetError, match="needs_pixels makes no batch of these items"):
        Freezer(Net(), Items(lambda i: {"pixels": X[i]}), batch_size=20, epochs=1, collate_fn=needs_pixels)


def test_a_text_of_another_length_than_all_that_were_looked_at_is_told_what_to_do() -> None:
    def collate(items: list[Any]) -> Any:
        longest = max(len(item["input_ids"]) for item in items)
        padded = [{name: F.pad(item[name], (0, longest - len(item[name]))) for name in item} for item in items]
        return default_collate(padded)

    def item(i: int) -> Any:
        length = 9 if i == 1 else 5
        return {"input_ids": IDS[i][:length], "attention_mask": torch.ones(length).long()}

    with (
        Freezer(
            Text(), Items(item), batch_size=20, epochs=2, policy={0: "layers.0"}, mode="cache", collate_fn=collate
        ) as freezer,
        pytest.raises(DatasetError, match="texts by padding to a fixed length"),
    ):
        next(iter(freezer.batches(0)))


def test_an_evaluation_without_labels_that_the_model_is_called_with_is_told() -> None:
    trained = Items(lambda i: {"pixels": X[i], "labels": int(Y[i])})
    with Freezer(WithLoss(), trained, batch_size=20, epochs=1, policy={0: "front"}, mode="recompute") as freezer:
        evaluation = freezer.evaluation(Items(lambda i: {"pixels": X[i]}), batch_size=32)
        freezer.decide()
        with pytest.raises(ArgumentError, match="'labels' is missing; the suffix behind 'front' needs it again"):
            next(iter(evaluation))


@pytest.mark.parametrize("name", ["image", "pixels"])
def test_an_input_of_another_name_than_the_models_is_given_in_its_place(name: str) -> None:
    data = Items(lambda i: {"mask": X[i], name: X[i], "label": int(Y[i])})
    with Freezer(
        Net(), data, batch_size=24, epochs=2, policy={1: "front"}, views=1, ladder="exact", mode="cache", input=name
    ) as freezer:
        for epoch in range(2):
            for batch in freezer.batches(epoch):
                assert freezer(batch[name]).shape == (24, 2)
                assert batch["mask"].shape == (24, 1, 8, 8)
            freezer.end_epoch()
        assert freezer.source == "cache"
