"""Training behind a cut that several tensors cross: stored, recomputed, healed, resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hoarfrost import Freezer
from hoarfrost.cuts import find_cut
from shared.images import PLAIN, RANDOM, CountingImages, images
from shared.nets import conv_block

N = 150


class Skips(nn.Module):
    """A small U-Net with a classifier; the places of the maxima go round the middle as integers."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.middle, self.up = conv_block(1, 4), conv_block(4, 4), conv_block(8, 6)
        self.pool, self.unpool = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)
        self.drop, self.head = nn.Dropout(0.2), nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.down(x)
        x, places = self.pool(skip)
        x = self.up(torch.cat([self.unpool(self.middle(x), places), skip], 1))
        return self.head(self.drop(x.mean((2, 3))))


def skips() -> nn.Module:
    torch.manual_seed(0)
    return Skips()


def train(model: nn.Module, data: Any = None, *, epochs: int = 3, **more: Any) -> tuple[list[float], Freezer]:
    torch.manual_seed(1)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    data = data if data is not None else images(N, PLAIN)
    freezer = Freezer(
        model, data, batch_size=32, epochs=epochs, optimizer=optimizer, policy={1: "middle"}, max_tensors=3, **more
    )
    losses = []
    with freezer:
        for epoch in range(epochs):
            model.train()
            for inputs, targets in freezer.batches(epoch):
                loss = F.cross_entropy(freezer(inputs), targets)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
            freezer.end_epoch()
    return losses, freezer


def cached(model: nn.Module, data: Any, **more: Any) -> Freezer:
    """A freezer that stores the three tensors before the first epoch."""
    return Freezer(model, data, batch_size=32, epochs=4, policy={0: "middle"}, max_tensors=3, mode="cache", **more)


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_three_tensors_cross_the_middle() -> None:
    with Freezer(skips(), images(N, PLAIN), batch_size=32, policy="none", max_tensors=3) as freezer:
        cut = find_cut(freezer.cuts, "middle")
        assert {(c.source, c.number, c.dtype) for c in cut.tensors} == {
            ("middle", 0, torch.float32),
            ("pool", 1, torch.int64),
            ("down", 0, torch.float32),
        }


@pytest.mark.parametrize("window", [1, 16])
def test_cached_and_recomputing_runs_are_equal_bit_for_bit(window: int) -> None:
    cached, recomputing = skips(), skips()
    stored, freezer = train(cached, mode="cache", ladder="exact", views=1, window=window)
    computed, other = train(recomputing, mode="recompute", window=window)
    assert stored == computed
    ours, theirs = weights(cached), weights(recomputing)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert [record["choice"] for record in freezer.history if record["event"] == "freeze"] == ["cache"]
    assert other.history[-1]["source"] == "recompute"


def test_each_tensor_has_a_rung_of_its_own_and_integers_are_exact() -> None:
    model = skips()
    _, freezer = train(model, mode="cache", tolerance=1e-3)
    (record,) = [record for record in freezer.history if record["event"] == "freeze"]
    beside = {entry["tensor"]: entry for entry in record["beside"]}
    assert set(beside) == {"pool", "down"}
    assert (beside["pool"]["codec"], beside["pool"]["kl"]) == ("Exact()", None)
    chosen = next(rung for rung in record["rungs"] if rung["chosen"])
    assert "Shared" in beside["down"]["codec"]
    assert beside["down"]["kl"] <= 5e-4
    assert chosen["kl"] <= 5e-4
    assert record["cache_bytes"] > N * (chosen["bytes_per_sample"] + beside["down"]["bytes_per_sample"])


def test_images_are_not_read_again(tmp_path: Path) -> None:
    data = CountingImages(N, RANDOM)
    model = skips()
    torch.manual_seed(1)
    with cached(model, data) as freezer:
        list(freezer.batches(0))
        read = data.reads
        for epoch in (1, 2, 3):
            for features, _ in freezer.batches(epoch):
                assert len(features) == 3
        assert data.reads == read


def test_a_damaged_tensor_is_healed_alone(tmp_path: Path) -> None:
    model = skips()
    with cached(model, images(N, PLAIN), ladder="exact", views=1, cache_dir=tmp_path) as freezer:
        whole = [tuple(f.clone() for f in features) for features, _ in freezer.batches(1)]
        victim = sorted(tmp_path.glob("[0-9a-f]" * 16))[1]
        data = max(victim.iterdir(), key=lambda path: path.stat().st_size)
        content = bytearray(data.read_bytes())
        content[len(content) // 2] ^= 0x10
        data.write_bytes(bytes(content))
        again = [features for features, _ in freezer.batches(1)]
    assert all(torch.equal(a, b) for x, y in zip(whole, again, strict=True) for a, b in zip(x, y, strict=True))
    assert [record["event"] for record in freezer.history].count("heal") == 1


def test_the_budget_is_for_all_of_them() -> None:
    _, free = train(skips(), mode="cache", views=2, ladder=8)
    needed = free.history[-1]["cache_bytes"]
    _, bounded = train(skips(), images(N, RANDOM), mode="cache", views=2, ladder=8, disk_budget=int(needed * 1.3))
    assert 0 < bounded.history[-1]["cache_bytes"] <= needed * 1.3
    with pytest.warns(UserWarning, match="hoarfrost goes on by recomputing: the disk budget is 1,000 bytes"):
        _, none = train(skips(), mode="cache", disk_budget=1000)
    assert none.history[-1]["source"] == "recompute"


def test_a_run_goes_on_with_the_caches_that_stand(tmp_path: Path) -> None:
    def begun() -> Freezer:
        torch.manual_seed(0)
        return cached(skips(), images(N, PLAIN), cache_dir=tmp_path)

    with begun() as first:
        expected = [features for features, _ in first.batches(2)]
        state, weights = first.state_dict(), first.model.state_dict()
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"}
    assert len(state["fingerprints"]) == 3
    with begun() as second:
        second.model.load_state_dict(weights)
        second.load_state_dict(state)
        got = [features for features, _ in second.batches(2)]
    assert all(torch.equal(a, b) for x, y in zip(expected, got, strict=True) for a, b in zip(x, y, strict=True))
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
