"""Chunks that stay in memory between epochs, up to a number of bytes."""

from __future__ import annotations

import os
import threading
from collections.abc import Hashable
from dataclasses import replace

from ..samples import Block

__all__ = ["ChunksInMemory"]


class ChunksInMemory:
    """What was read of a cache and is kept, so that the next epochs need not read it.

    First come, first kept: every chunk is wanted once in an epoch, so to let one go for another would gain nothing.
    Many threads may keep and find at once.

    Args:
        budget_bytes: that may be taken in memory; 0 keeps nothing.
        floats: keep floats in place of quantised levels, which are faster to use and take four times the memory.
    """

    def __init__(self, budget_bytes: int, *, floats: bool = False) -> None:
        self.budget_bytes, self.floats = budget_bytes, floats
        self.nbytes = 0
        """Bytes that are taken now."""
        self._blocks: dict[Hashable, Block] = {}
        self._written: tuple[int, ...] = ()
        self._mutex, self._process = threading.Lock(), os.getpid()

    @property
    def _lock(self) -> threading.Lock:
        """In a forked process a new one: a thread that is not there may have held the old one."""
        if os.getpid() != self._process:
            self._mutex, self._process = threading.Lock(), os.getpid()
        return self._mutex

    def __len__(self) -> int:
        return len(self._blocks)

    def current(self, written: tuple[int, ...]) -> None:
        """Lets go of everything if the files were written to since: what is on disk is what counts."""
        with self._lock:
            if written != self._written:
                self._blocks, self.nbytes, self._written = {}, 0, written

    def find(self, key: Hashable) -> Block | None:
        """The block that was kept under `key`."""
        return self._blocks.get(key)

    def keep(self, key: Hashable, block: Block) -> Block:
        """The block as it is to be used, kept if there is room."""
        if self.budget_bytes <= self.nbytes:
            return block
        if self.floats:
            block = replace(block, features=block.features.as_floats())
        size = _nbytes(block)
        with self._lock:
            if key not in self._blocks and self.nbytes + size <= self.budget_bytes:
                self._blocks[key] = block
                self.nbytes += size
        return block


def _nbytes(block: Block) -> int:
    beside = (block.targets, block.lengths)
    return block.features.nbytes + sum(tensor.nbytes for tensor in beside if tensor is not None)
