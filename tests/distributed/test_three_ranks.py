"""Three processes, of which the samples are no multiple; and one of two that is killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hoarfrost import Freezer
from shared.distributed_runs import BATCH, EPOCHS, POLICY, Numbered, together, unequal, with_a_death
from shared.nets import resnet
from shared.runs import assert_same_tensors, sgd

pytestmark = pytest.mark.long

SAMPLES = 152  # 51, 51 and 50


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The state of one process, behind its first epoch."""
    model = resnet()
    optimizer = sgd(model)
    told: dict[str, Any] = {"mode": "cache", "ladder": "exact", "views": 1, "verbose": False}
    with Freezer(
        *(model, Numbered(SAMPLES)),
        batch_size=BATCH,
        epochs=EPOCHS,
        optimizer=optimizer,
        policy=POLICY,
        cache_dir=tmp_path_factory.mktemp("alone"),
        **told,
    ) as freezer:
        for inputs, numbers in freezer.batches(0):
            torch.nn.functional.cross_entropy(freezer(inputs), numbers % 10).backward()
            optimizer.step()
            optimizer.zero_grad()
        freezer.end_epoch()
        return {"model": model.state_dict(), "freezer": freezer.state_dict(), "optimizer": optimizer.state_dict()}


@pytest.fixture(scope="module")
def ranks(alone: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    where = tmp_path_factory.mktemp("three")
    return together(3, unequal, where / "ranks", where, alone, SAMPLES)


@pytest.mark.parametrize("run", ["cached", "recomputed", "goes on"])
def test_shares_that_differ_have_as_many_batches_and_all_samples(ranks: list[dict[str, Any]], run: str) -> None:
    assert len({tuple(rank[run]["steps"]) for rank in ranks}) == 1
    for of_epoch in zip(*(rank[run]["shown"] for rank in ranks), strict=True):
        assert sorted(n for shown in of_epoch for n in shown) == list(range(SAMPLES))
        assert sorted(map(len, of_epoch)) == [50, 51, 51]


def test_a_cached_run_is_the_recomputing_one_to_the_bit(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        assert rank["cached"]["losses"] == rank["recomputed"]["losses"]
        assert_same_tensors(rank["cached"]["weights"], rank["recomputed"]["weights"])


def test_the_state_of_one_process_goes_on_with_three(ranks: list[dict[str, Any]]) -> None:
    """All its decisions with it: the front is as deep, and stored as it was decided."""
    for rank in ranks:
        assert rank["goes on"]["depth"] > 0
        assert rank["goes on"]["history"][-1]["source"] == "cache"


def test_a_rank_that_is_killed_is_named(tmp_path: Path) -> None:
    told = with_a_death(tmp_path / "two")
    assert "rank 1 has given no sign of life for" in told["said"]
    assert told["seconds"] < 20
