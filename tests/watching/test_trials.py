"""What a trial says of a freeze."""

from __future__ import annotations

from hoarfrost.watching import Trial


def test_a_trial_is_lost_where_less_is_learned_in_the_time() -> None:
    def learned(free: float, frozen: float, error: float = 0.01) -> Trial:
        return Trial(8, 1.0, 1.0 - free, 1.0 - frozen, error)

    assert not learned(0.4, 0.2).hurts(0.5)
    assert learned(0.4, 0.1).hurts(0.5)
    assert not learned(0.4, 0.1).hurts(0.25)
    assert not learned(0.4, 0.1, error=0.06).hurts(0.5)
    assert learned(0.4, -0.1).hurts(0.1)
    assert learned(-0.2, -0.1).hurts(0.5)
    assert not learned(-0.2, 0.0).hurts(0.5)
