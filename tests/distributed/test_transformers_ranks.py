"""A FreezingTrainer in two processes, by gloo: its own bits, every sample once, gone on with across a freeze."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")

from shared.distributed_runs import together
from shared.door_runs import (
    Runs,
    assert_cached_is_recomputed,
    assert_decided_once,
    assert_each_sample_once,
    assert_refused,
)
from shared.runs import assert_same_tensors
from shared.transformers_ranks import EPOCHS, SAMPLES, STEPS, everything, trained

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("transformers")


@pytest.fixture(scope="module")
def single(where: Path) -> dict[str, Any]:
    """A single process, with its checkpoints."""
    return trained(where / "one", save_strategy="steps", save_steps=1, gradient_accumulation_steps=2)


@pytest.fixture(scope="module")
def ranks(where: Path, single: dict[str, Any]) -> Runs:
    return together(2, everything, where / "two", where)


@pytest.mark.parametrize(
    ("one", "other"), [("cached", "recomputed"), ("compiled", "recomputed"), ("texts", "texts recomputed")]
)
def test_a_cached_run_is_the_recomputing_one_to_the_bit(ranks: Runs, one: str, other: str) -> None:
    """Images of which gradients are accumulated, texts that a collator pads in half precision; across two freezes."""
    assert_cached_is_recomputed(ranks, one, other, EPOCHS)
    assert all(rank[one]["thawed"] for rank in ranks)


@pytest.mark.parametrize("run", ["cached", "texts", "none"])
def test_both_ranks_have_the_same_weights(ranks: Runs, run: str) -> None:
    assert_same_tensors(ranks[0][run]["weights"], ranks[1][run]["weights"])


def test_with_nothing_frozen_it_is_the_trainers_own_loop(ranks: Runs) -> None:
    for rank in ranks:
        assert rank["none"]["losses"] == rank["plain"]["losses"]
        assert_same_tensors(rank["none"]["weights"], rank["plain"]["weights"])
        assert rank["none"]["steps"] == rank["plain"]["steps"] == EPOCHS * 2


@pytest.mark.parametrize("run", ["cached", "texts", "none"])
def test_every_sample_is_shown_once_an_epoch(ranks: Runs, run: str) -> None:
    for epoch in range(EPOCHS):
        batches = [rank[run]["batches"][epoch * STEPS : (epoch + 1) * STEPS] for rank in ranks]
        shown = [n for of_rank in batches for batch in of_rank for n in batch["labels"].tolist()]
        assert sorted(shown) == list(range(SAMPLES))


@pytest.mark.parametrize("run", ["cached", "texts"])
def test_a_resumed_run_ends_with_the_same_bits(ranks: Runs, run: str) -> None:
    """Across the first freeze, and within the epoch behind it."""
    again = "resumed" if run == "cached" else "texts resumed"
    for rank in ranks:
        assert_same_tensors(rank[again]["weights"], rank[run]["weights"])
        assert rank[again]["evaluated"] == rank[run]["evaluated"][1:]
        sources = [record["source"] for record in rank[again]["history"] if record["event"] == "epoch"]
        assert sources == ["images", "cache", "cache"]


@pytest.mark.parametrize("step", [4, 5])
def test_two_processes_go_on_where_one_was(ranks: Runs, single: dict[str, Any], step: int) -> None:
    """Between two epochs and within one, of which each sample comes once: four updates an epoch before, two then."""
    runs = [rank["of one"][step] for rank in ranks]
    before = single["shown"][: 7 if step == 4 else 9]
    assert_each_sample_once([*before, *runs[0]["shown"], *runs[1]["shown"]], EPOCHS, SAMPLES)
    assert_same_tensors(*(run["weights"] for run in runs))
    assert [run["steps"] for run in runs] == [8, 8] == [run["max steps"] for run in runs]
    assert all(math.isfinite(loss) for run in runs for loss in run["losses"])


@pytest.mark.parametrize("run", ["cached", "texts"])
def test_one_process_goes_on_where_two_were(ranks: Runs, where: Path, run: str) -> None:
    """Images, of which gradients are accumulated, between epochs; texts within one."""
    if run == "cached":
        saved, done, more = where / "whole" / "checkpoint-2", 3, {"gradient_accumulation_steps": 2}
        again = trained(where / "alone", resume=saved, **more)
    else:
        saved, done = where / "texts" / "checkpoint-4", 4
        again = trained(where / "alone", "bert", resume=saved, bf16=True)
    before = [batch for rank in ranks for batch in rank[run]["shown"][:done]]
    assert_each_sample_once([*before, *again["shown"]], EPOCHS, SAMPLES)
    assert again["steps"] == again["max steps"]
    assert all(map(math.isfinite, again["losses"]))


def test_the_whole_model_is_evaluated_on_every_sample(ranks: Runs) -> None:
    for rank in ranks:
        assert rank["cached"]["evaluated"] == rank["recomputed"]["evaluated"] == ranks[0]["cached"]["evaluated"]
        assert [samples for samples, _ in rank["cached"]["evaluated"]] == [SAMPLES] * EPOCHS
        seen = [record["eval_outputs"] for record in rank["cached"]["history"] if record["event"] == "epoch"]
        assert seen == [outputs for _, outputs in rank["cached"]["evaluated"]]


def test_decisions_are_made_once(ranks: Runs) -> None:
    assert_decided_once(ranks)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("FSDP", "a model under FSDP is not frozen: its modules have their parameters only while"),
        ("stored", "stored_evaluation='exact' gives all samples to each process, and 2 gather theirs"),
        ("by length", "LengthGroupedSampler draws the samples of one process, and 2 train"),
        ("compiled", "say DistributedDataParallel(torch.compile(model))"),
    ],
)
def test_what_cannot_be_is_refused_by_name(ranks: Runs, what: str, said: str) -> None:
    assert_refused(ranks, what, said)
