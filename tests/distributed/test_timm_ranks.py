"""timm's task on a freezer's loader in two processes, by gloo: its own bits, every sample once, its checkpoints."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("timm")

from shared.distributed_runs import together
from shared.door_runs import (
    Runs,
    assert_cached_is_recomputed,
    assert_decided_once,
    assert_each_sample_once,
    without,
)
from shared.runs import assert_same_tensors
from shared.timm_ranks import EPOCHS, SAMPLES, STEPS, everything, trained

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("timm")


@pytest.fixture(scope="module")
def single(where: Path) -> dict[str, Any]:
    """A single process, with its checkpoints."""
    (where / "one").mkdir()
    return trained(0, folder=where / "one", mode="cache", cache_dir=where / "cache-of-one")


@pytest.fixture(scope="module")
def ranks(where: Path, single: dict[str, Any]) -> Runs:
    return together(2, everything, where / "two", where)


@pytest.mark.parametrize("run", ["cached", "convolutional"])
def test_a_cached_run_is_the_recomputing_one_to_the_bit(ranks: Runs, run: str) -> None:
    """Across two freezes; where the script has reduced the statistics of all ranks behind each epoch, too."""
    other = "recomputed" if run == "cached" else "convolutional recomputed"
    assert_cached_is_recomputed(ranks, run, other, EPOCHS)
    assert all(rank[run]["thawed"] for rank in ranks)


@pytest.mark.parametrize("run", ["cached", "convolutional", "none"])
def test_both_ranks_have_the_same_weights(ranks: Runs, run: str) -> None:
    assert_same_tensors(*(without("num_batches", rank[run]["weights"]) for rank in ranks))
    assert ranks[0][run]["losses"] != ranks[1][run]["losses"]


def test_with_nothing_frozen_it_is_timms_own_task(ranks: Runs) -> None:
    for rank in ranks:
        assert rank["none"]["losses"] == rank["plain"]["losses"]
        assert_same_tensors(rank["none"]["weights"], rank["plain"]["weights"])


@pytest.mark.parametrize("run", ["cached", "none"])
def test_every_sample_is_shown_once_an_epoch(ranks: Runs, run: str) -> None:
    for epoch in range(EPOCHS):
        shown = [
            n for rank in ranks for batch in rank[run]["shown"][epoch * STEPS : (epoch + 1) * STEPS] for n in batch
        ]
        assert sorted(shown) == list(range(SAMPLES))


@pytest.mark.parametrize("epoch", [0, 1])
def test_its_checkpoints_go_on_to_the_bit(ranks: Runs, epoch: int) -> None:
    """In front of the first freeze, and behind it."""
    for rank in ranks:
        assert rank["resumed"][epoch]["losses"] == rank["cached"]["losses"][(epoch + 1) * STEPS :]
        assert_same_tensors(rank["resumed"][epoch]["weights"], rank["cached"]["weights"])


def test_two_processes_go_on_where_one_was_and_one_where_two_were(ranks: Runs, where: Path) -> None:
    """With the epoch behind the checkpoint's, as timm does."""
    saved = where / "saved" / "checkpoint-1.pth.tar"
    alone = trained(0, mode="cache", cache_dir=where / "cache", resume=saved)
    for runs in ([rank["of one"] for rank in ranks], [alone]):
        steps = len(runs[0]["losses"]) // (EPOCHS - 2)
        shown = [(2 + n // steps, numbers) for run in runs for n, numbers in enumerate(run["shown"])]
        assert_each_sample_once(shown, EPOCHS, SAMPLES, begin=2)
        assert all(math.isfinite(loss) for run in runs for loss in run["losses"])
        assert_same_tensors(runs[0]["weights"], runs[-1]["weights"])


def test_the_whole_model_is_evaluated(ranks: Runs) -> None:
    for rank in ranks:
        for run, other in (("cached", "recomputed"), ("convolutional", "convolutional recomputed")):
            assert torch.equal(rank[run]["evaluated"], rank[other]["evaluated"])
            assert torch.equal(rank[run]["evaluated"], ranks[0][run]["evaluated"])


def test_decisions_are_made_once(ranks: Runs) -> None:
    assert_decided_once(ranks)


def test_a_task_that_is_not_wrapped_is_refused(ranks: Runs) -> None:
    for rank in ranks:
        assert rank["refused"].startswith("ArgumentError: args.distributed=True, and the task's model is not wrapped")
