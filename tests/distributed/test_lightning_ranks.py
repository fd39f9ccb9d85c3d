"""Lightning with a Freeze in two processes, by gloo: its own bits, every sample once, its checkpoints."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lightning")

from shared.distributed_runs import together
from shared.door_runs import (
    Runs,
    assert_cached_is_recomputed,
    assert_decided_once,
    assert_each_sample_once,
    assert_refused,
    without,
)
from shared.lightning_ranks import ALONE, EPOCHS, SAMPLES, STEPS, everything, fitted
from shared.nets import resnet
from shared.runs import assert_same_tensors

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lightning")


@pytest.fixture(scope="module")
def single(where: Path) -> dict[str, Any]:
    """A single process, with its checkpoints."""
    return fitted(where / "one", trainer=ALONE, mode="cache", cache_dir=where / "cache-of-one")


@pytest.fixture(scope="module")
def ranks(where: Path, single: dict[str, Any]) -> Runs:
    return together(2, everything, where / "two", where)


@pytest.mark.parametrize(("one", "other"), [("cached", "recomputed"), ("bf16", "bf16 recomputed")])
def test_a_cached_run_is_the_recomputing_one_to_the_bit(ranks: Runs, one: str, other: str) -> None:
    """Across two freezes, in half precision and with accumulated gradients too."""
    assert_cached_is_recomputed(ranks, one, other, EPOCHS)
    assert all(rank[one]["thawed"] for rank in ranks)


@pytest.mark.parametrize("run", ["cached", "recomputed", "bf16", "none"])
def test_both_ranks_have_the_same_parameters(ranks: Runs, run: str) -> None:
    assert_same_tensors(*(without("running", rank[run]["weights"]) for rank in ranks))
    assert ranks[0][run]["losses"] != ranks[1][run]["losses"]


def test_with_nothing_frozen_it_is_lightnings_own_loop(ranks: Runs) -> None:
    for rank in ranks:
        assert rank["none"]["losses"] == rank["plain"]["losses"]
        assert_same_tensors(*(without("running", rank[run]["weights"]) for run in ("none", "plain")))


@pytest.mark.parametrize("run", ["cached", "none"])
def test_every_sample_is_shown_once_an_epoch(ranks: Runs, run: str) -> None:
    for epoch in range(EPOCHS):
        shown = [
            n for rank in ranks for batch in rank[run]["shown"][epoch * STEPS : (epoch + 1) * STEPS] for n in batch
        ]
        assert sorted(shown) == list(range(SAMPLES))
    assert [rank[run]["steps"] for rank in ranks] == [EPOCHS * STEPS] * 2


@pytest.mark.parametrize("step", [4, 6])
def test_its_checkpoints_go_on_to_the_bit(ranks: Runs, step: int) -> None:
    """Between two epochs, across the first freeze, and within the epoch behind it."""
    for rank in ranks:
        again, whole = rank["resumed"][step], rank["cached"]
        assert again["losses"] == whole["losses"][step:]
        assert_same_tensors(without("running", again["weights"]), without("running", whole["weights"]))


def shown(run: dict[str, Any], batches: int | None = None) -> list[tuple[int, list[int]]]:
    """The first of its batches, each with its epoch."""
    return list(zip(run["epochs"], run["shown"], strict=True))[:batches]


@pytest.mark.parametrize("step", [8, 10])
def test_two_processes_go_on_where_one_was(ranks: Runs, single: dict[str, Any], step: int) -> None:
    """Between two epochs and within one, of which each sample comes once; each validates behind its epoch."""
    runs = [rank["of one"][step] for rank in ranks]
    assert_each_sample_once([*shown(single, step), *shown(runs[0]), *shown(runs[1])], EPOCHS, SAMPLES)
    assert_same_tensors(*(without("running", run["weights"]) for run in runs))
    assert [run["done"] for run in runs] == [step + len(runs[0]["losses"])] * 2
    assert [len(run["evaluated"]) for run in runs] == [EPOCHS - 1] * 2
    assert all(math.isfinite(loss) for run in runs for loss in run["losses"])


@pytest.mark.parametrize("step", [4, 6])
def test_one_process_goes_on_where_two_were(ranks: Runs, where: Path, step: int) -> None:
    saved = where / "saved" / f"step={step}.ckpt"
    again = fitted(mode="cache", cache_dir=where / "cache", resume=saved, trainer=ALONE)
    before = [batch for rank in ranks for batch in shown(rank["cached"], step)]
    assert_each_sample_once([*before, *shown(again)], EPOCHS, SAMPLES)
    assert again["done"] == step + len(again["losses"])
    assert len(again["evaluated"]) == EPOCHS - 1
    assert all(map(math.isfinite, again["losses"]))


def test_the_whole_model_is_evaluated_and_one_metric_told_to_all(ranks: Runs) -> None:
    for rank in ranks:
        assert rank["cached"]["evaluated"] == rank["recomputed"]["evaluated"] == ranks[0]["cached"]["evaluated"]
        seen = [record["val_loss"] for record in rank["cached"]["history"] if record["event"] == "epoch"]
        assert seen == pytest.approx(rank["cached"]["evaluated"])
        assert len(seen) == EPOCHS


def test_decisions_are_made_once_and_the_wrapper_stays(ranks: Runs) -> None:
    assert_decided_once(ranks)
    assert [rank["cached"]["wrappers"] for rank in ranks] == [1, 1]
    assert [rank["said"] for rank in ranks] == [[], []]


def test_saved_weights_have_the_modules_own_names(ranks: Runs) -> None:
    assert ranks[0]["names"] == sorted(f"model.{name}" for name in resnet().state_dict())


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("FSDP", "FSDPStrategy is not supported: each process needs the model whole on one device"),
        ("averaging", "DDPStrategy(model_averaging_period=...) lets the processes' weights differ"),
        ("in order", "SequentialSampler draws the samples of one process, and 2 train"),
    ],
)
def test_what_cannot_be_is_refused_by_name(ranks: Runs, what: str, said: str) -> None:
    assert_refused(ranks, what, said)
