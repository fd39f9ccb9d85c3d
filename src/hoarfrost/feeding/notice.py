"""What a freezer says while it works: at first what it takes over, then what is frozen and why."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Notice"]

logger = logging.getLogger("hoarfrost")


class Notice:
    """Speaks at INFO; on standard error where nobody has set up logging.

    Args:
        speaks: whether anything is said.
    """

    def __init__(self, speaks: bool) -> None:
        self._speaks = speaks

    def say(self, lines: Sequence[str]) -> None:
        """One line each."""
        if not self._speaks:
            return
        if not logger.hasHandlers():
            handler = logging.StreamHandler()
            handler.setFormatter(logging.Formatter("hoarfrost: %(message)s"))
            logger.addHandler(handler)
            logger.setLevel(logging.INFO)
        for line in lines:
            logger.info(line)

    def hear(self, record: Mapping[str, Any]) -> None:
        """Say what a record tells of freezing; of others nothing."""
        place = f"epoch {record.get('epoch')}" + (f", batch {record['step']}" if record.get("step") else "")
        if record["event"] == "freeze":
            self.say([f"{place}: frozen up to {record['cut']}; {record['decision']}"])
        elif record["event"] == "midway":
            self.say([f"{place}: frozen up to {record['cut']}; recomputed until the epoch ends"])
        elif record["event"] == "thaw":
            self.say([f"{place}: thawed, {record['policy']}"])
