"""One seed from several numbers: what every order, rendition and choice of an epoch is drawn from."""

from __future__ import annotations

__all__ = ["mix"]


def mix(*parts: int) -> int:
    """One 63-bit seed from several numbers: (0, 1) and (1, 0) give unrelated ones (splitmix64, Steele et al. 2014)."""
    state = 0
    for part in parts:
        state = (state ^ (part & (2**64 - 1))) + 0x9E3779B97F4A7C15 & (2**64 - 1)
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & (2**64 - 1)
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB & (2**64 - 1)
        state ^= state >> 31
    return state >> 1
