"""Levels of 1 to 8 bits to bytes and back: 1, 2 and 4 bits share a byte, first level lowest; others take one.

3, 5, 6 and 7 bits stay whole bytes: zstd's entropy coder squeezes the unused bits out, and bytes decode
faster than levels that straddle them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["levels_per_byte", "pack_levels", "packed_size", "unpack_levels"]

Bytes = NDArray[np.uint8]


def levels_per_byte(bits: int) -> int:
    return 8 // bits if bits in (1, 2, 4) else 1


def packed_size(count: int, bits: int) -> int:
    """Bytes that `count` levels take; a last byte that is not full is padded with zero bits."""
    return -(-count // levels_per_byte(bits))


def pack_levels(levels: Bytes, bits: int) -> Bytes:
    """`[count]` levels below `2**bits`, one a byte, as `[packed_size(count, bits)]` bytes."""
    share = levels_per_byte(bits)
    if share == 1:
        return levels
    if levels.size % share:
        levels = np.concatenate([levels, np.zeros(-levels.size % share, np.uint8)])
    if bits == 1:
        return np.packbits(levels, bitorder="little")
    # Neighbours are folded together inside a wider integer, which numpy does with vector instructions.
    wide: NDArray[Any]
    if bits == 4:
        wide = levels.view("<u2")
        wide = wide | (wide >> 4)
    else:
        wide = levels.view("<u4")
        wide = wide | (wide >> 6)
        wide |= wide >> 12
    return wide.astype(np.uint8)


def unpack_levels(packed: Bytes, count: int, bits: int) -> Bytes:
    """The inverse of `pack_levels`: `[count]` levels, one a byte."""
    share = levels_per_byte(bits)
    if share == 1:
        return packed[:count]
    if bits == 1:
        return np.unpackbits(packed, bitorder="little", count=count)
    if bits == 4:
        wide: NDArray[Any] = packed.astype("<u2")
        wide |= wide << 4
        wide &= 0x0F0F
    else:
        wide = packed.astype("<u4")
        wide |= wide << 12
        wide &= 0x000F000F
        wide |= wide << 6
        wide &= 0x03030303
    return wide.view(np.uint8)[:count]
