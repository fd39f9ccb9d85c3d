"""Several trainings in one process on one reading of their cache: each ends as it does alone, to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hoarfrost import Freezer, Sweep
from hoarfrost.errors import ArgumentError
from hoarfrost.feeding.cache_source import CacheSource
from shared.images import RANDOM, images
from shared.nets import in_place
from shared.runs import assert_same_tensors

EPOCHS = 3
RATES = 0.05, 0.01, 0.2


def variant(rate: float, folder: Path, classes: int = 10, **options: Any) -> Freezer:
    model = in_place()
    torch.manual_seed(int(1000 * rate))
    model.classifier[4] = nn.Linear(12, classes)
    optimizer = torch.optim.SGD(model.parameters(), rate, 0.9)
    told = {"policy": {0: "features.8"}, "mode": "cache", "ladder": 8, "views": 1, "verbose": False, **options}
    return Freezer(
        model, images(200, RANDOM), batch_size=32, epochs=EPOCHS, optimizer=optimizer, cache_dir=folder, **told
    )


def step(freezer: Freezer, batch: tuple[Tensor, Tensor]) -> None:
    optimizer: Any = freezer.optimizer
    F.cross_entropy(freezer(batch[0]), batch[1]).backward()
    optimizer.step()
    optimizer.zero_grad()


def alone(rate: float, folder: Path, random: int, **options: Any) -> dict[str, Tensor]:
    with variant(rate, folder, **options) as freezer:
        torch.manual_seed(random)
        for epoch in range(EPOCHS):
            freezer.model.train()
            for batch in freezer.batches(epoch):
                step(freezer, batch)
            freezer.end_epoch()
        return {name: value.clone() for name, value in freezer.model.state_dict().items()}


def together(freezers: list[Freezer], seeds: list[int]) -> list[dict[str, Tensor]]:
    with Sweep(freezers, seeds) as sweep:
        for epoch in range(EPOCHS):
            for freezer in freezers:
                freezer.model.train()
            for freezer, batch in sweep.batches(epoch):
                step(freezer, batch)
            sweep.end_epoch()
        return [{name: value.clone() for name, value in f.model.state_dict().items()} for f in freezers]


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The chunks that are taken from caches, from memory or from disk."""
    chunks: list[int] = []
    kept = CacheSource.kept

    def counting(self: CacheSource, chunk: int, epoch: int) -> Any:
        chunks.append(chunk)
        return kept(self, chunk, epoch)

    monkeypatch.setattr(CacheSource, "kept", counting)
    return chunks


@pytest.mark.long
@pytest.mark.parametrize("views", [1, 2])
def test_each_ends_as_it_does_alone(views: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropout, layers that work in place, random renditions, another rate and another seed for each."""
    chunks = counted(monkeypatch)
    single = [alone(rate, tmp_path, seed, views=views) for seed, rate in enumerate(RATES)]
    read, chunks[:] = len(chunks), []
    swept = together([variant(rate, tmp_path, views=views) for rate in RATES], [0, 1, 2])
    # What is stored of a further view is measured on each model, and may differ: then each reads its own.
    assert len(chunks) * len(RATES) == read > 0 if views == 1 else len(chunks) <= read
    for one, other in zip(single, swept, strict=True):
        assert_same_tensors(one, other)
    assert not torch.equal(swept[0]["classifier.1.weight"], swept[1]["classifier.1.weight"])


@pytest.mark.long
@pytest.mark.parametrize("other", [{"seed": 1}, {"views": 1}, {"mode": "recompute"}], ids=str)
def test_what_is_read_otherwise_is_read_alone(other: dict[str, Any], tmp_path: Path) -> None:
    single = [alone(0.05, tmp_path, 0), alone(0.05, tmp_path, 1, **other)]
    swept = together([variant(0.05, tmp_path), variant(0.05, tmp_path, **other)], [0, 1])
    for one, both in zip(single, swept, strict=True):
        assert_same_tensors(one, both)


@pytest.mark.long
def test_variants_may_go_deeper_at_times_of_their_own(tmp_path: Path) -> None:
    deeper = {0: "features.4", 2: "features.8"}
    single = [alone(0.05, tmp_path, 0), alone(0.05, tmp_path, 1, policy=deeper)]
    swept = together([variant(0.05, tmp_path), variant(0.05, tmp_path, policy=deeper)], [0, 1])
    for one, both in zip(single, swept, strict=True):
        assert_same_tensors(one, both)


def test_a_sweep_that_is_broken_off_begins_anew(tmp_path: Path) -> None:
    freezers = [variant(rate, tmp_path) for rate in RATES]
    before = torch.get_rng_state()
    with Sweep(freezers) as sweep:
        coming = sweep.batches(0)
        (_, (one, _)), (_, (other, _)) = next(coming), next(coming)
        assert torch.equal(one, other)
        assert one.data_ptr() != other.data_ptr()
        coming.close()  # type: ignore[attr-defined]
        assert torch.equal(before, torch.get_rng_state())
        turns = [freezer for freezer, _ in sweep.batches(0)]
        assert turns == freezers * 7


def test_what_is_no_sweep_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="a sweep takes Freezers, one for each variant"):
        Sweep([])
    with variant(0.1, tmp_path) as one, variant(0.2, tmp_path) as other:
        with pytest.raises(ArgumentError, match="two variants of a sweep have one model"):
            Sweep([one, one])
        with pytest.raises(ArgumentError, match="1 seeds for 2 variants"):
            Sweep([one, other], [0])
        with pytest.raises(ArgumentError, match="metrics of 1 variants, of 2 are needed"):
            Sweep([one, other]).end_epoch([{}])
