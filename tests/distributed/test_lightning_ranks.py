"""Lightning with a Freeze in two processes, by gloo: its own bits, every sample once, its checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("lightning")

from shared.distributed_runs import together
from shared.door_runs import Runs, assert_cached_is_recomputed, assert_decided_once, assert_refused, without
from shared.lightning_ranks import EPOCHS, SAMPLES, STEPS, everything
from shared.nets import resnet
from shared.runs import assert_same_tensors

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    where: Path = tmp_path_factory.mktemp("lightning")
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
