"""The processes of one training: what one of them decides is told to all."""

from __future__ import annotations

import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from .. import errors
from ..errors import CacheError, RankError
from .board import FAILED, Board

__all__ = ["Ranks", "failure"]

T = TypeVar("T")

_made = 0


def failure(told: Sequence[str], rank: int | None = None) -> CacheError:
    """The error of a cache that was told as its kind and its text.

    Args:
        rank: whose it is; None: this process's.
    """
    kind, text = told
    made: CacheError = getattr(errors, kind)(text if rank is None else f"rank {rank}: {text}")
    return made


def _broken_off(error: RuntimeError) -> bool:
    """Whether a collective raised it; gloo's are plain ones."""
    return isinstance(error, distributed.DistError) or "gloo" in str(error).lower()


def _brief(error: RuntimeError) -> str:
    """What a backend says, without where in its code and without what it recommends."""
    return str(error).strip().split("\n")[0].split("] ", 1)[-1].split(". ")[0][:200]


class Ranks:
    """Which of the processes of a training this one is, and what they tell each other; alone, nothing is told.

    All of them call the same methods in the same order. Values go through JSON.

    Args:
        members: their ranks in the process group, in rising order.
        own: this process's among these.
        board: where they leave each other word; None for one process.
    """

    def __init__(self, members: Sequence[int] = (0,), own: int = 0, board: Board | None = None, name: str = "") -> None:
        self._members, self._board, self._name = tuple(members), board, name
        self.rank, self.world = self._members.index(own), len(self._members)
        self._told = 0
        self._group: Any = None

    @classmethod
    def now(cls) -> Ranks:
        """Those of the process group that torch.distributed has started; one where it has not.

        Made by all of them, so often as by any.
        """
        if not distributed.is_available() or not distributed.is_initialized() or distributed.get_world_size() < 2:
            return cls()
        global _made
        _made += 1
        # What init_process_group was given, or made: torch has no public name for it.
        whole = distributed.distributed_c10d._get_default_store()
        own = distributed.get_rank()
        mine = distributed.PrefixStore(f"hoarfrost/{_made}", whole)  # type: ignore[attr-defined]
        board = Board(mine, own)
        made = cls(range(distributed.get_world_size()), own, board)
        weakref.finalize(made, board.leave, "has ended")
        return made

    @property
    def alone(self) -> bool:
        """Whether there is one process."""
        return self._board is None

    @property
    def leads(self) -> bool:
        """Whether this is the one that decides."""
        return self.rank == 0

    def own(self, name: str) -> str:
        """A name for what each rank has for itself, since one of them may be alone in doing it."""
        return name if self.leads else f"{name}-{self.rank}"

    def lead(self, what: str, work: Callable[[], T]) -> T:
        """What `work` gives in the process that leads; the others do none.

        Args:
            what: for messages, and to see that all are at the same place.

        Raises:
            RankError: on the others, where it failed there, or that process has ended or is elsewhere.
        """
        board = self._board
        if board is None:
            return work()
        place = self._next(what)
        if self.leads:
            with self.telling():
                value = work()
            board.put(place, [what, value])
            return value
        (word,) = board.take([(place, self._members[0])], what)
        told: T = self._same_place(what, word, 0)
        return told

    def gather(self, what: str, value: T) -> list[T]:
        """The values of all of them, by rank; so it ends nowhere before all are here.

        Raises:
            RankError: one of them has ended or is elsewhere.
        """
        board = self._board
        if board is None:
            return [value]
        place = self._next(what)
        board.put(f"{place}/{self.rank}", [what, value])
        words = board.take([(f"{place}/{rank}", member) for rank, member in enumerate(self._members)], what)
        return [self._same_place(what, word, rank) for rank, word in enumerate(words)]

    def attempt(self, what: str, work: Callable[[], T]) -> T:
        """What `work` gives, where it fails in none of them.

        Raises:
            CacheError: with which it failed in the first of those in which it did; the same kind in all.
            RankError: one of them has ended or is elsewhere.
        """
        if self._board is None:
            return work()
        failed: list[str] | None = None
        try:
            value = work()
        except CacheError as error:
            failed = [type(error).__name__, str(error)]
        for rank, told in enumerate(self.gather(what, failed)):
            if told is not None:
                raise failure(told, None if rank == self.rank else self._members[rank])
        return value

    def any(self, what: str, holds: bool) -> bool:
        """Whether it holds in one of them."""
        return any(self.gather(what, holds))

    def at_once(self, what: str, holds: bool) -> bool:
        """Whether it holds in one of them, for where all come step by step: by a collective, in a fraction of a
        millisecond, and on the CPU, so that no device is waited for.

        Raises:
            RankError: one of them has ended.
        """
        if self._board is None:
            return holds
        told = torch.tensor(int(holds))
        with self.exchanging(what):
            if self._group is None:
                by_gloo = distributed.get_backend() == "gloo"
                self._group = distributed.group.WORLD if by_gloo else distributed.new_group(backend="gloo")
            distributed.all_reduce(told, distributed.ReduceOp.MAX, group=self._group)
        return bool(told)

    def beside(self, directory: Path) -> Ranks:
        """Those among them that see this process's files in a directory: all on a shared file system, those of one
        machine elsewhere.

        Raises:
            RankError: one of them has ended or is elsewhere.
        """
        if self._board is None:
            return self
        mine = f".seen-{uuid.uuid4().hex}"
        with suppress(OSError):  # who cannot write there reads what others have built, and is alone with that
            (directory / mine).touch()
        marks = self.gather("which ranks share a directory", mine)
        # By name: a listing may be an old one on a network's file system, a name that nobody has asked for is not.
        seen = [(directory / mark).exists() for mark in marks]
        seen[self.rank] = True
        sees = self.gather("which ranks share a directory", seen)
        with suppress(OSError):
            (directory / mine).unlink(missing_ok=True)
        together = [n for n in range(self.world) if sees[n] == seen and sees[n][self.rank] and seen[n]]
        members = [self._members[n] for n in together]
        return Ranks(members, self._members[self.rank], self._board, f"{self._next('beside')}-{members[0]}/")

    def same(self, tensors: Iterable[Tensor]) -> None:
        """Give all processes of the training the values of the one that leads."""
        if self._board is None:
            return
        self.gather("front", 0)  # no collective waits for who is still at work
        with torch.no_grad(), self.exchanging("front"):
            for tensor in tensors:
                distributed.broadcast(tensor.data, self._members[0])

    def mean(self, tensors: Iterable[Tensor]) -> None:
        """Give all processes of the training the mean of their values."""
        if self._board is None:
            return
        self.gather("gradients", 0)
        with self.exchanging("gradients"):
            for tensor in tensors:
                distributed.all_reduce(tensor)
                tensor /= self.world

    @contextmanager
    def exchanging(self, what: str) -> Iterator[None]:
        """Around collectives, torch's own among them: where one breaks off, it is said who has ended.

        Raises:
            RankError: in place of the backend's error.
        """
        try:
            yield
        except RuntimeError as error:
            if self._board is None or not _broken_off(error):
                raise
            who, told = self._board.ended(self._members)
            raise RankError(f"{what}: {who}. The exchange with it broke off: {_brief(error)}", told=told) from error

    @contextmanager
    def telling(self) -> Iterator[None]:
        """What fails in the block is told to whoever waits for this process."""
        try:
            yield
        except Exception as error:
            if self._board is not None:
                self._board.leave(f"{FAILED}{type(error).__name__}: {error}")
            raise

    def close(self) -> None:
        """This process takes no further part."""
        if self._board is not None:
            self._board.leave("has closed its freezer")

    def _next(self, what: str) -> str:
        self._told += 1
        return f"{self._name}{self._told}"

    def _same_place(self, what: str, word: Any, rank: int) -> Any:
        there, value = word
        if there != what:
            raise RankError(
                f"rank {self._members[self.rank]} is at {what!r}, rank {self._members[rank]} at {there!r}: all ranks "
                "call the same methods of their freezers in the same order"
            )
        return value
