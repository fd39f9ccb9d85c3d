"""What another rank has met reaches the one that writes the records."""

from __future__ import annotations

from typing import Any

import pytest

from hoarfrost.distributed import Ranks
from hoarfrost.running.loop import _of_all
from hoarfrost.running.resuming import Tally
from hoarfrost.samples.unreadable import Unreadable

HEALED = {"event": "heal", "chunk": 3, "view": 0}


class WithAnother(Ranks):
    """Two ranks, of which the other one tells what it is made with."""

    def __init__(self, other: Any, leads: bool = True) -> None:
        super().__init__((0, 1), 0 if leads else 1)
        self.other = other
        self.gathered: list[Any] = []

    def gather(self, what: str, value: Any) -> list[Any]:
        self.gathered.append(value)
        return [value, self.other] if self.leads else [self.other, value]


def test_loss_and_answers_are_those_of_all_and_what_was_healed_is_heard_once() -> None:
    heard: list[dict[str, Any]] = []
    leading = WithAnother({"tally": [3.0, 1.0, 5], "healed": [HEALED]})
    tally = _of_all(leading, Tally(2.0, 4.0, 5), [{**HEALED, "chunk": 1}], heard.append)
    assert tally.metrics() == {"loss": 0.5, "accuracy": 0.5}
    assert heard == [{**HEALED, "rank": 1}]
    other = WithAnother({"tally": [2.0, 4.0, 5], "healed": []}, leads=False)
    _of_all(other, Tally(3.0, 1.0, 5), [{"event": "epoch"}, HEALED], None)
    assert other.gathered == [{"tally": (3.0, 1.0, 5), "healed": [HEALED]}]


def test_a_sample_that_another_cannot_read_is_recorded_here() -> None:
    unreadable, said = Unreadable("replace"), list[dict[str, Any]]()
    unreadable.tell(said.append)
    with pytest.warns(UserWarning, match="replaces sample 5, cut short"):
        unreadable.share(WithAnother({"5": "sample 5, cut short"}))
    assert [(record["sample"], record["count"]) for record in said] == [(5, 1)]
    unreadable.share(WithAnother({"5": "sample 5, cut short"}))
    assert len(said) == 1


def test_where_such_a_sample_is_an_error_nothing_is_told() -> None:
    ranks = WithAnother({})
    Unreadable("error").share(ranks)
    assert ranks.gathered == []
