"""Who has ended, where an exchange with it has broken off: by its last word, or by its silence."""

from __future__ import annotations

import pytest
from torch import distributed

from hoarfrost.distributed import Ranks, board
from hoarfrost.distributed.board import Board
from hoarfrost.errors import RankError

BROKEN = (
    "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:561] Connection closed by peer [10.0.0.2]:35735. This is "
    "typically caused by a remote worker crashing."
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(board, "LONGEST_PAUSE", 0.01)


def broken(ranks: Ranks, text: str = BROKEN) -> None:
    with ranks.exchanging("step 3 of epoch 2"):
        raise RuntimeError(text)


def test_who_has_said_why_is_quoted() -> None:
    store = distributed.HashStore()
    mine, other = Board(store, 0), Board(store, 1)
    other.leave("failed: DatasetError: sample 3 cannot be read")
    with pytest.raises(RankError) as caught:
        broken(Ranks((0, 1), 0, mine))
    assert str(caught.value) == (
        "step 3 of epoch 2: rank 1 failed: DatasetError: sample 3 cannot be read. The exchange with it broke off: "
        "Connection closed by peer [10.0.0.2]:35735"
    )
    assert caught.value.told
    mine.leave("has ended")


def test_who_is_silent_is_named() -> None:
    store = distributed.HashStore()
    mine, alive = Board(store, 0), Board(store, 1)
    store.set("alive/2", "7")
    with pytest.raises(RankError, match="rank 2 gives no sign of life: it was killed") as caught:
        broken(Ranks((0, 1, 2), 0, mine))
    assert not caught.value.told
    mine.leave("has ended")
    alive.leave("has ended")


@pytest.mark.parametrize("text", ["mat1 and mat2 shapes cannot be multiplied", "CUDA out of memory"])
def test_other_errors_stay_what_they_are(text: str) -> None:
    mine = Board(distributed.HashStore(), 0)
    with pytest.raises(RuntimeError, match=text):
        broken(Ranks((0,), 0, mine), text)
    mine.leave("has ended")


def test_alone_nothing_is_exchanged() -> None:
    assert [Ranks().at_once("whether to stop", holds) for holds in (True, False)] == [True, False]
    with pytest.raises(RuntimeError, match="gloo"):
        broken(Ranks())
