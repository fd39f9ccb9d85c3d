"""The sizes behind rendered images."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Frame"]


@dataclass(frozen=True)
class Frame:
    """Heights and widths in pixels: of the raw images, in which placements count, and of what the model gets."""

    raw: tuple[int, int]
    rendered: tuple[int, int]
