"""What one training is made of, for those who steer its epochs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..costs import Clock
from ..cuts import Cut
from ..freezing import Front
from ..policies import Asking
from ..samples import TrainingData
from .feeder import Feeder

__all__ = ["Components"]


@dataclass(frozen=True)
class Components:
    """The parts of one training.

    Attributes:
        say: called with each record: `epoch`, `decision`, `midway`, `thaw`, `changed`, `stale`.
        on_changed_front: as in `hoarfrost.settings.Freezing`.
    """

    data: TrainingData
    cuts: tuple[Cut, ...]
    asking: Asking
    front: Front
    feeder: Feeder
    clock: Clock
    say: Callable[[dict[str, Any]], None]
    on_changed_front: str
