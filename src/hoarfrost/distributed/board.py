"""Where the processes of a training leave each other word: the store of their process group, asked again and again.

No collective waits meanwhile, so that no backend's time runs out, and who has ended is noticed.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable
from typing import Any

from ..errors import RankError

__all__ = ["Board"]

BEAT_SECONDS = 2.0
"""From one sign of life to the next."""

SILENT_SECONDS = 30.0
"""Who has given one and gives none for so long has ended."""

BEATS_TO_SEE = 2.5
"""After so many an end is seen where an exchange has broken off already."""

JOINING_SECONDS = 1800.0
"""For the first one: others may read their data for a while before they make their freezer."""

LIMIT_SECONDS = 6 * 3600.0
"""For what another rank is at work on, at most."""

FAILED = "failed: "
"""How the last word of a rank begins that knows why it ends."""

FIRST_PAUSE, LONGEST_PAUSE = 0.001, 0.1


class Board:
    """Words by name, that all ranks can read. What is written is JSON, so that nothing is unpickled.

    Args:
        store: of the process group.
        rank: this process's.
    """

    def __init__(self, store: Any, rank: int) -> None:
        self._store, self._rank = store, rank
        self._over = threading.Event()
        # At once: of who is killed before a first sign nobody could say that he has ended.
        self._store.set(f"alive/{rank}", "0")
        threading.Thread(target=self._beat, name="hoarfrost-alive", daemon=True).start()

    def put(self, name: str, value: Any) -> None:
        """Write a word.

        Raises:
            RankError: the store has gone.
        """
        try:
            self._store.set(name, json.dumps(value))
        except RuntimeError as error:
            raise RankError(f"the process group's store has gone, and with it most likely rank 0: {error}") from error

    def take(self, names: Iterable[tuple[str, int]], what: str) -> list[Any]:
        """The words of these names, once they are there.

        Args:
            names: each with the rank that writes it.
            what: for messages.

        Raises:
            RankError: one of these ranks has ended, or said nothing in `LIMIT_SECONDS`; or the store has gone.
        """
        wanted, found = list(names), dict[str, Any]()
        seen: dict[int, tuple[bytes, float]] = {}
        began, pause = time.monotonic(), FIRST_PAUSE
        try:
            while len(found) < len(wanted):
                for name, rank in wanted:
                    if name not in found and self._store.check([name]):
                        found[name] = json.loads(self._store.get(name))
                    elif name not in found:
                        self._see_alive(rank, seen, what)
                if len(found) < len(wanted):
                    if time.monotonic() - began > LIMIT_SECONDS:
                        late = [rank for name, rank in wanted if name not in found]
                        raise RankError(f"{what}: nothing from rank {late[0]} in {LIMIT_SECONDS:.0f} s")
                    time.sleep(pause)
                    pause = min(2 * pause, LONGEST_PAUSE)
        except RuntimeError as error:
            raise RankError(
                f"{what}: the process group's store has gone, and with it most likely rank 0: {error}"
            ) from error
        return [found[name] for name, _ in wanted]

    def leave(self, why: str) -> None:
        """This process takes no further part; whoever waits for it is told so. The first reason counts."""
        if self._over.is_set():
            return
        self._over.set()
        try:
            self._store.set(f"gone/{self._rank}", json.dumps(why))
        except RuntimeError:
            return  # nobody is left to read it

    def ended(self, ranks: Iterable[int]) -> tuple[str, bool]:
        """Which of these has most likely ended, in words, and whether it has said so itself.

        For when an exchange with them has broken off; it takes no longer than `BEATS_TO_SEE` signs of life.
        """
        others = [rank for rank in ranks if rank != self._rank]
        until = time.monotonic() + BEATS_TO_SEE * BEAT_SECONDS
        try:
            before = {rank: self._sign(rank) for rank in others}
            while time.monotonic() < until:
                for rank in others:
                    if (why := self._last_word(rank)) is not None:
                        return f"rank {rank} {why}", why.startswith(FAILED)
                time.sleep(LONGEST_PAUSE)
            silent = [rank for rank in others if self._sign(rank) == before[rank]]
        except RuntimeError:
            return "the process group's store has gone, and with it most likely rank 0", False
        if not silent:
            return "another rank has ended", False
        return f"rank {silent[0]} gives no sign of life: it was killed, or its machine cannot be reached", False

    def _see_alive(self, rank: int, seen: dict[int, tuple[bytes, float]], what: str) -> None:
        now = time.monotonic()
        if (why := self._last_word(rank)) is not None:
            raise RankError(f"{what}: rank {rank} {why}", told=why.startswith(FAILED))
        before, since = seen.get(rank, (b"", now))
        if rank in seen and now - since < BEAT_SECONDS:
            return
        beat = self._sign(rank)
        if rank not in seen or beat != before:
            seen[rank] = beat, now
        elif now - since > (SILENT_SECONDS if beat else JOINING_SECONDS):
            raise RankError(
                f"{what}: rank {rank} has given no sign of life for {now - since:.0f} s: it was killed, or its machine "
                "cannot be reached. Start all ranks again from the last checkpoint"
            )

    def _last_word(self, rank: int) -> str | None:
        """Why it takes no further part; None: it has not said that it does not."""
        gone = f"gone/{rank}"
        why: str | None = json.loads(self._store.get(gone)) if self._store.check([gone]) else None
        return why

    def _sign(self, rank: int) -> bytes:
        """Its last sign of life; empty before the first."""
        sign: bytes = self._store.get(f"alive/{rank}") if self._store.check([f"alive/{rank}"]) else b""
        return sign

    def _beat(self) -> None:
        beats = 0
        while not self._over.wait(BEAT_SECONDS):
            beats += 1
            try:
                self._store.set(f"alive/{self._rank}", str(beats))
            except RuntimeError:
                return  # who waits for others will see that the store has gone
