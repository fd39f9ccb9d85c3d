"""What a freezer says once, before it begins."""

from __future__ import annotations

import logging
from collections.abc import Sequence

__all__ = ["announce"]

logger = logging.getLogger("hoarfrost")


def announce(lines: Sequence[str]) -> None:
    """Say these at INFO; on standard error where nobody has set up logging."""
    if not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("hoarfrost: %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    for line in lines:
        logger.info(line)
