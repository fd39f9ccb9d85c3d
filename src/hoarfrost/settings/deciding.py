"""Settings by which a training decides: a state goes on only with those that it was made with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import CheckpointError

__all__ = ["check_deciding"]


def check_deciding(saved: Mapping[str, Any], mine: Mapping[str, Any]) -> None:
    """Raise CheckpointError where a state was decided by other settings than those that go on with it."""
    other = [name for name in mine if saved.get(name) != mine[name]]
    if other:
        then, now = (", ".join(f"{name}={told.get(name)!r}" for name in other) for told in (saved, mine))
        raise CheckpointError(
            f"the checkpoint was made with {then}, this run has {now}: what was decided would go on beside what is "
            "decided now. Make the Freezer as it was then, or begin anew from the model's weights alone"
        )
