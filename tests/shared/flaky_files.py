"""A file system in memory that can be made to fail, at `flaky://`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

URL = "flaky://shared/caches"


class FlakyFiles(MemoryFileSystem):
    """As `memory://`, with a store of its own.

    Attributes:
        down: methods that fail from now on, each with how often it works before; "all" for all of them.
        asked: methods that were called, each with its first argument.
    """

    protocol = "flaky"
    cachable = False
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    down: ClassVar[dict[str, int]] = {}
    asked: ClassVar[list[tuple[str, Any]]] = []

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return super()._strip_protocol(str(path).removeprefix("flaky://"))

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name not in ("ls", "cat_file", "cat_ranges", "put_file", "get_file", "size", "rm_file"):
            return value
        cls = type(self)

        def called(*args: Any, **keywords: Any) -> Any:
            left = cls.down.get(name, cls.down.get("all"))
            if left is not None:
                if left <= 0:
                    raise ConnectionError(f"the network is down at {name}")
                cls.down[name] = left - 1
            cls.asked.append((name, args[0] if args else None))
            return value(*args, **keywords)

        return called


@contextmanager
def failing(name: str = "all", after: int = 0) -> Iterator[None]:
    """What a method of the file system is asked for in the block fails, once it has worked so often."""
    FlakyFiles.down = {name: after}
    try:
        yield
    finally:
        FlakyFiles.down = {}


@pytest.fixture
def flaky() -> Iterator[type[FlakyFiles]]:
    """Registered, and empty."""
    fsspec.register_implementation("flaky", FlakyFiles, clobber=True)
    FlakyFiles.store.clear()
    FlakyFiles.pseudo_dirs[:] = [""]
    FlakyFiles.asked.clear()
    yield FlakyFiles
    FlakyFiles.down = {}
