"""What a run leaves in its folder."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..errors import RunBusyError
from ..untrusted import open_regular

__all__ = ["Journal", "RunFiles"]


class RunFiles:
    """Where a run's files lie in its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "config.yaml"
        self.model = folder / "model.safetensors"
        self.metrics = folder / "metrics.jsonl"
        self.report = folder / "report.html"
        self.checkpoint = folder / "checkpoint.safetensors"
        self.cache = folder / "cache"
        self.curves = folder / "tensorboard"

    @contextmanager
    def held(self) -> Iterator[None]:
        """No other process trains in the folder meanwhile; the lock is the system's, so that a killed run leaves none.

        A run that is refused before it has written anything leaves nothing at all.

        Raises:
            RunBusyError: another one does.
        """
        made = not self.folder.exists()
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / ".run.lock"
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise RunBusyError(
                f"another process is training in {self.folder}: wait for it, or name another --out"
            ) from error
        try:
            yield
        finally:
            if all(found == path or found.is_dir() for found in self.folder.rglob("*")):
                with suppress(OSError):
                    path.unlink()
                if made:
                    shutil.rmtree(self.folder, ignore_errors=True)
            lock.release()


class Journal:
    """metrics.jsonl: one record a line, flushed at once.

    A run that goes on adds to what an earlier process wrote; a line that this one left torn is dropped.

    Args:
        listener: called with each record that was written.

    Attributes:
        records: those written by this process.
    """

    def __init__(
        self, path: Path, *, goes_on: bool = False, listener: Callable[[dict[str, Any]], None] | None = None
    ) -> None:
        self.records: list[dict[str, Any]] = []
        self._listener = listener
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not through a link: another's folder may be gone on with.
        fd = open_regular(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        self._file = os.fdopen(fd, "r+", encoding="utf-8")
        whole = path.read_bytes().rfind(b"\n") + 1 if goes_on else 0
        self._file.truncate(whole)
        self._file.seek(whole)

    def write(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps(record, default=float) + "\n")
        self._file.flush()
        self.records.append(record)
        if self._listener is not None:
            self._listener(record)

    def close(self) -> None:
        self._file.close()
