"""Two processes, by gloo: what all of them decide, show and store together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hoarfrost import Freezer
from shared.distributed_runs import BATCH, EPOCHS, POLICY, SAMPLES, Numbered, everything, state_of_one, together
from shared.nets import resnet
from shared.runs import assert_same_tensors, sgd

pytestmark = pytest.mark.slow

Runs = list[dict[str, Any]]


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def ranks(where: Path) -> Runs:
    return together(2, everything, where / "two", 2, where, state_of_one(where / "one"))


@pytest.mark.parametrize("other", ["recomputed", "apart", "compiled"])
def test_a_cached_run_is_the_recomputing_one_to_the_bit(ranks: Runs, other: str) -> None:
    """Across two freezes, with one cache for both ranks, or one for each; compiled inside the wrapper, too."""
    for rank in ranks:
        assert rank["cached"]["losses"] == rank[other]["losses"]
        assert_same_tensors(rank["cached"]["weights"], rank[other]["weights"])


def test_both_ranks_have_the_same_parameters(ranks: Runs) -> None:
    one, other = ({n: v for n, v in r["cached"]["weights"].items() if "running" not in n} for r in ranks)
    assert_same_tensors(one, other)


def test_a_frozen_front_has_the_same_statistics_on_both(ranks: Runs) -> None:
    one, other = ({n: v for n, v in r["cached"]["weights"].items() if n.startswith("layer1")} for r in ranks)
    assert any("running_mean" in name for name in one)
    assert_same_tensors(one, other)


@pytest.mark.parametrize("run", ["cached", "recomputed", "none"])
def test_each_sample_is_shown_once_an_epoch(ranks: Runs, run: str) -> None:
    for epoch in range(EPOCHS):
        assert sorted(n for rank in ranks for n in rank[run]["shown"][epoch]) == list(range(SAMPLES))
    assert ranks[0][run]["steps"] == ranks[1][run]["steps"]


def test_one_cache_is_built_by_both(ranks: Runs) -> None:
    decisions = [r["decision"] for r in ranks[0]["cached"]["history"] if r["event"] == "freeze"]
    assert len(decisions) == 2
    assert all("one cache for all 2 ranks" in text for text in decisions)
    apart = [r["decision"] for r in ranks[0]["apart"]["history"] if r["event"] == "freeze"]
    assert all("this one for 1 of 2" in text for text in apart)


@pytest.mark.parametrize(("run", "from_epoch", "skipped"), [("resumed", 2, 2), ("between", 2, 0)])
def test_a_resumed_run_is_the_whole_one_to_the_bit(ranks: Runs, run: str, from_epoch: int, skipped: int) -> None:
    """Of a state that rank 0 took, within an epoch or between two, across a freeze."""
    for rank in ranks:
        steps = rank["cached"]["steps"][0]
        assert rank[run]["losses"] == rank["cached"]["losses"][from_epoch * steps + skipped :]
        assert_same_tensors(rank[run]["weights"], rank["cached"]["weights"])


def test_with_nothing_frozen_it_is_the_plain_loop_to_the_bit(ranks: Runs) -> None:
    for rank in ranks:
        assert rank["none"]["losses"] == rank["plain"]


def freezes(rank: dict[str, Any], run: str) -> list[dict[str, Any]]:
    return [record for record in rank[run]["history"] if record["event"] == "freeze"]


def test_a_budget_makes_both_freeze_deeper(ranks: Runs) -> None:
    for rank in ranks:
        (record,) = freezes(rank, "deeper")
        assert (record["cut"], record["choice"]) == ("layer2", "cache")
        assert "frozen up to 'layer2' in place of 'layer1'" in record["decision"]
    one, other = (rank["deeper"]["weights"] for rank in ranks)
    assert torch.equal(one["fc.weight"], other["fc.weight"])


def test_without_room_both_recompute_to_the_same_bits(ranks: Runs) -> None:
    for rank in ranks:
        assert [record["choice"] for record in freezes(rank, "no room")] == ["recompute", "recompute"]
        assert rank["no room"]["losses"] == rank["recomputed"]["losses"]


def test_a_deeper_cache_is_built_from_the_features_of_both(ranks: Runs, where: Path) -> None:
    for rank in ranks:
        assert "built from the stored features of 'layer1'" in freezes(rank, "onward")[-1]["decision"]
        assert rank["onward"]["losses"] == rank["recomputed"]["losses"]
    assert len(list((where / "onward").glob("?" * 16))) == 1  # the earlier one is removed


def test_the_wrapper_stays_what_the_user_made(ranks: Runs) -> None:
    one, other = (rank["wrapper"] for rank in ranks)
    for of in (one, other):
        assert of["calls"] == ["mine", "mine"]
        assert of["same module"]
        assert of["unused"]
        assert of["bytes"] == 3 << 20
        assert of["left out"]
        assert not of["on the model"]
    assert not torch.equal(one["apart"], other["apart"])
    assert torch.equal(one["together"], other["together"])


def test_one_rank_decides_for_both(ranks: Runs) -> None:
    one, other = (rank["minds"] for rank in ranks)
    assert one["depth"] == other["depth"] == 1
    assert one["decided"] == other["decided"]
    assert one["why"] == other["why"] == 2 * ["rank 0 says so"]


def test_a_policy_sees_reduced_gradients(ranks: Runs) -> None:
    one, other = (rank["minds"] for rank in ranks)
    assert one["reduced"] == other["reduced"]
    assert one["norms"][0] == pytest.approx(one["reduced"], rel=1e-4)
    assert other["norms"] == []


def test_a_rank_that_fails_is_named_on_the_other(ranks: Runs) -> None:
    assert ranks[1]["failing"].startswith("DatasetError: sample ")
    assert ranks[0]["failing"].startswith("RankError")
    assert f"rank 1 failed: {ranks[1]['failing']}" in ranks[0]["failing"]


def test_a_rank_that_is_elsewhere_is_told_so(ranks: Runs) -> None:
    assert "rank 1 is at 'the rung', rank 0 at 'the depth'" in ranks[1]["elsewhere"]


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("compiled", "say DistributedDataParallel(torch.compile(model))"),
        ("sharded", "the model is sharded"),
        ("sampler", "RandomSampler draws the samples of one process, and 2 train"),
        ("skipped", "on_bad_sample='skip' may leave one of several processes without a batch"),
    ],
)
def test_what_cannot_be_is_refused_by_name(ranks: Runs, what: str, said: str) -> None:
    for rank in ranks:
        assert rank["refusals"][what].startswith("ArgumentError")
        assert said in rank["refusals"][what]


def test_a_distributed_sampler_is_what_is_done_anyway(ranks: Runs) -> None:
    assert all(rank["refusals"]["own share"] == "nothing" for rank in ranks)


def test_a_state_of_two_ranks_goes_on_with_one(ranks: Runs, where: Path) -> None:
    """Between two epochs; the cache that both built is read, and nothing is lost."""
    state = ranks[0]["cached"]["states"][0]
    model = resnet()
    model.load_state_dict(state["model"])
    told: dict[str, Any] = {"mode": "cache", "ladder": "exact", "views": 1, "verbose": False}
    with Freezer(
        *(model, Numbered()),
        batch_size=BATCH,
        epochs=EPOCHS,
        optimizer=sgd(model),
        policy=POLICY,
        cache_dir=where / "alone",
        **told,
    ) as freezer:
        freezer.load_state_dict(state["freezer"])
        shown = [n for _, numbers in freezer.batches(1) for n in numbers.tolist()]
        assert freezer.source == "cache"
    assert sorted(shown) == list(range(SAMPLES))


def test_a_state_of_two_ranks_within_an_epoch_goes_on_with_one(ranks: Runs, where: Path) -> None:
    """What both have shown is not shown again; the rest is, and the next epoch whole."""
    state = ranks[0]["broken"]["states"][-1]
    with Freezer(
        resnet(), Numbered(), batch_size=BATCH, policy=POLICY, epochs=EPOCHS, mode="cache", views=1, ladder="exact"
    ) as freezer:
        freezer.load_state_dict(state["freezer"])
        rest = [n for _, numbers in freezer.batches(2, 2) for n in numbers.tolist()]
        assert freezer.source == "cache"
        freezer.end_epoch()
        assert sorted(n for _, numbers in freezer.batches(3) for n in numbers.tolist()) == list(range(SAMPLES))
    shown = [n for rank in ranks for n in rank["broken"]["shown"][-1]]
    assert len(shown) == 4 * BATCH
    assert sorted(shown + rest) == list(range(SAMPLES))


def test_a_state_of_one_within_an_epoch_goes_on_with_two_ranks(ranks: Runs, where: Path) -> None:
    rest = [n for rank in ranks for n in rank["of one"]["shown"][0]]
    assert sorted(state_of_one(where / "again")["shown"] + rest) == list(range(SAMPLES))
    assert len({len(rank["of one"]["losses"]) for rank in ranks}) == 1
    assert sorted(n for rank in ranks for n in rank["of one"]["shown"][1]) == list(range(SAMPLES))


def test_what_is_told_of_a_state_is_what_rank_0_has(ranks: Runs) -> None:
    one, other = (rank["cached"]["states"][1] for rank in ranks)
    assert one["freezer"]["fingerprints"] == other["freezer"]["fingerprints"]
    assert one["freezer"]["decided"] == other["freezer"]["decided"]
