"""A FreezingLoader in two processes, by gloo: its own bits, every sample once, saved and gone on with by both."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

pytest.importorskip("accelerate")

from shared.accelerate_ranks import BATCH, EPOCHS, POLICY, SAMPLES, STEPS, everything, gone_on, of_one
from shared.distributed_runs import together
from shared.door_runs import (
    Runs,
    assert_cached_is_recomputed,
    assert_decided_once,
    assert_each_sample_once,
    assert_refused,
    without,
)
from shared.runs import assert_same_tensors

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("accelerate")


@pytest.fixture(scope="module")
def single(where: Path) -> list[list[int]]:
    return of_one(where / "one", where / "cache-of-one")


@pytest.fixture(scope="module")
def ranks(where: Path, single: list[list[int]]) -> Runs:
    return together(2, everything, where / "two", where)


@pytest.mark.parametrize(
    ("one", "other"), [("cached", "recomputed"), ("bf16", "bf16 recomputed"), ("compiled", "recomputed")]
)
def test_a_cached_run_is_the_recomputing_one_to_the_bit(ranks: Runs, one: str, other: str) -> None:
    """Across two freezes; with a prepared loader and autocast, and compiled inside the wrapper, too."""
    assert_cached_is_recomputed(ranks, one, other, EPOCHS)


@pytest.mark.parametrize("run", ["cached", "recomputed", "bf16", "none"])
def test_both_ranks_have_the_same_parameters(ranks: Runs, run: str) -> None:
    assert_same_tensors(*(without("running", rank[run]["weights"]) for rank in ranks))
    assert ranks[0][run]["losses"] != ranks[1][run]["losses"]


def test_with_nothing_frozen_it_is_accelerates_own_loop(ranks: Runs) -> None:
    for rank in ranks:
        assert rank["none"]["losses"] == rank["plain"]["losses"]
        assert_same_tensors(rank["none"]["weights"], rank["plain"]["weights"])
        assert rank["none"]["steps"] == EPOCHS * STEPS // 2


@pytest.mark.parametrize("run", ["cached", "none"])
def test_every_sample_is_shown_and_gathered_once(ranks: Runs, run: str) -> None:
    """The last batches are of 6 and 5 samples."""
    for epoch in range(EPOCHS):
        shown = [rank[run]["shown"][epoch] for rank in ranks]
        assert sorted(map(len, shown)) == [SAMPLES // 2, SAMPLES - SAMPLES // 2]
        assert sorted(shown[0] + shown[1]) == list(range(SAMPLES))
        assert sorted(ranks[0][run]["gathered"][epoch]) == list(range(SAMPLES))
        assert ranks[0][run]["gathered"][epoch] == ranks[1][run]["gathered"][epoch]


@pytest.mark.parametrize("at", [(0, STEPS), (2, 2)], ids=str)
def test_a_loaded_state_goes_on_to_the_same_bits(ranks: Runs, at: tuple[int, int]) -> None:
    epoch, step = at
    for rank in ranks:
        again, whole = rank["resumed"][f"{epoch}-{step}"], rank["cached"]
        assert again["losses"] == whole["losses"][epoch * STEPS + step :]
        assert_same_tensors(without("running", again["weights"]), without("running", whole["weights"]))


@pytest.mark.parametrize("name", ["0-8", "1-2"])
def test_two_processes_go_on_where_one_was(ranks: Runs, single: list[list[int]], name: str) -> None:
    """Between two epochs and within one, of which each sample comes once."""
    runs = [rank["of one"][name] for rank in ranks]
    before = [(1, single[1][: 2 * BATCH])] if name == "1-2" else []
    assert_each_sample_once(before + runs[0]["shown"] + runs[1]["shown"], EPOCHS, SAMPLES, begin=1)
    assert_same_tensors(*(without("running", run["weights"]) for run in runs))
    assert all(map(math.isfinite, runs[0]["losses"] + runs[1]["losses"]))


@pytest.mark.parametrize("at", [(0, STEPS), (2, 2)], ids=str)
def test_one_process_goes_on_where_two_were(ranks: Runs, where: Path, at: tuple[int, int]) -> None:
    epoch, step = at
    saved = where / "saved" / f"{epoch}-{step}"
    again = gone_on(0, saved, mode="cache", policy=POLICY, cache_dir=where / "cache")
    before = [(epoch, rank["cached"]["shown"][epoch][: step * BATCH]) for rank in ranks] if step < STEPS else []
    assert_each_sample_once(before + again["shown"], EPOCHS, SAMPLES, begin=epoch + (step == STEPS))
    assert all(map(math.isfinite, again["losses"]))


def test_the_whole_model_is_evaluated(ranks: Runs) -> None:
    """Gathered by Accelerate, without the samples that it repeats."""
    for rank in ranks:
        assert rank["cached"]["evaluated"] == rank["recomputed"]["evaluated"] == ranks[0]["cached"]["evaluated"]
        assert [len(outputs) for outputs in rank["cached"]["evaluated"]] == [21] * EPOCHS


def test_decisions_are_made_once(ranks: Runs) -> None:
    assert_decided_once(ranks)


def test_nobody_is_told_to_wrap_the_model(ranks: Runs) -> None:
    assert [rank["said"] for rank in ranks] == [[], []]


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("FSDP", "a model under FSDP is not frozen: its modules have their parameters only while"),
        ("DeepSpeed", "a model under DEEPSPEED is not frozen"),
        ("tensors", "ParallelismConfig(tp_size=2) splits a model or a sample among processes"),
        ("in order", "SequentialSampler draws the samples of one process, and 2 train"),
        ("compiled", "say DistributedDataParallel(torch.compile(model))"),
    ],
)
def test_what_cannot_be_is_refused_by_name(ranks: Runs, what: str, said: str) -> None:
    assert_refused(ranks, what, said)


def test_a_prepared_loader_is_taken_as_it_was_before(ranks: Runs) -> None:
    """Batches of 20 that Accelerate splits, of samplers that are seeded otherwise in each process."""
    assert ranks[0]["split"] == ranks[1]["split"]
    numbers, lengths = ranks[0]["split"][:40], ranks[0]["split"][40:]
    assert sorted(numbers) == list(range(40))
    assert lengths == [20, 20]
