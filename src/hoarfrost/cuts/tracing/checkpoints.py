"""Which calls of `torch.utils.checkpoint` are running."""

from __future__ import annotations

import inspect
import sys
import types

from torch.utils.checkpoint import CheckpointFunction, checkpoint

from .trace import Region

__all__ = ["Checkpoints"]


class Checkpoints:
    """Tells from the calling frames which checkpoints are running: without gradients nothing else does.

    Calling frames are looked at up to the function that makes it.
    """

    REENTRANT = CheckpointFunction.forward.__code__
    PLAIN = inspect.unwrap(checkpoint).__code__  # the frame around a reentrant one too

    def __init__(self, regions: list[Region]) -> None:
        self.regions = regions
        self.numbers: dict[types.FrameType, int] = {}  # holds the frames, so that none is taken for another
        self.outermost = sys._getframe(1).f_code

    def around(self, time: int) -> tuple[int, ...]:
        """The numbers of the regions around the caller, the innermost first."""
        found: list[int] = []
        frame: types.FrameType | None = sys._getframe(1)
        reentrant = False
        while frame is not None and frame.f_code is not self.outermost:
            if frame.f_code is self.REENTRANT or (frame.f_code is self.PLAIN and not reentrant):
                reentrant = frame.f_code is self.REENTRANT
                if frame not in self.numbers:
                    self.numbers[frame] = len(self.regions)
                    self.regions.append(Region(reentrant, time))
                found.append(self.numbers[frame])
            elif frame.f_code is self.PLAIN:
                reentrant = False
            frame = frame.f_back
        return tuple(found)
