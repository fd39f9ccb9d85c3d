"""A FreezingTrainer in two processes, by gloo: its own bits, every sample once, gone on with across a freeze."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("transformers")

from shared.distributed_runs import together
from shared.door_runs import Runs, assert_cached_is_recomputed, assert_decided_once, assert_refused
from shared.runs import assert_same_tensors
from shared.transformers_ranks import EPOCHS, SAMPLES, STEPS, everything

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    where: Path = tmp_path_factory.mktemp("transformers")
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
