"""Features on a disk that nothing can be written to are read as ever."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hoarfrost import Views
from hoarfrost.errors import CacheDirectoryError
from shared.freezers import epoch_of, frozen, record, run_epoch, same


@contextmanager
def read_only(root: Path) -> Iterator[None]:
    """Whatever would write below `root` fails as on a disk that is mounted so; modes would not stop the root user."""

    def refused(name: str) -> Callable[..., Any]:
        own = getattr(os, name)

        def call(path: Any, *rest: Any, **more: Any) -> Any:
            below = not isinstance(path, int) and Path(os.fsdecode(path)).is_relative_to(root)
            writes = name != "open" or (rest[0] if rest else more.get("flags", 0)) & (
                os.O_WRONLY | os.O_RDWR | os.O_CREAT
            )
            if below and writes:
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), os.fsdecode(path))
            return own(path, *rest, **more)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("open", "mkdir", "rename", "replace", "unlink", "rmdir"):
            patch.setattr(os, name, refused(name))
        yield


def test_a_finished_cache_is_used(tmp_path: Path) -> None:
    with frozen(cache_dir=tmp_path) as freezer:
        expected = epoch_of(freezer)
    files = {path.name: path.read_bytes() for path in freezer_files(tmp_path)}
    with read_only(tmp_path), frozen(cache_dir=tmp_path) as freezer:
        assert same(epoch_of(freezer), expected)
        assert freezer.source == "cache"
        assert record(freezer)["choice"] == "cache"
        assert [entry for entry in freezer.history if entry["event"] == "fault"] == []
    assert {path.name: path.read_bytes() for path in freezer_files(tmp_path)} == files


def freezer_files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and not path.name.startswith(".")]


def test_a_damaged_record_is_computed_and_not_written(tmp_path: Path) -> None:
    with frozen(cache_dir=tmp_path) as freezer:
        expected = epoch_of(freezer)
        assert freezer.cache is not None
        file = freezer.cache.path / "features.bin"
    damaged = bytes(8) + bytes(byte ^ 1 for byte in file.read_bytes()[8:])
    file.write_bytes(damaged)
    with read_only(tmp_path), frozen(cache_dir=tmp_path) as freezer:
        with pytest.warns(UserWarning, match="computes in each epoch what cannot be stored"):
            assert same(epoch_of(freezer), expected)
        assert record(freezer, "fault")["kind"] == "CacheDirectoryError"
    assert file.read_bytes() == damaged


def test_where_there_is_nothing_to_read_it_is_refused(tmp_path: Path) -> None:
    with read_only(tmp_path), pytest.raises(CacheDirectoryError, match="cannot be written: Read-only file system"):
        frozen(cache_dir=tmp_path)


def test_a_budget_that_stops_renewal_is_said_in_the_record(tmp_path: Path) -> None:
    with frozen(cache_dir=tmp_path, views=Views(1, refresh_every=1)) as freezer:
        run_epoch(freezer, 0)
        assert freezer.cache is not None
        size = freezer.cache.nbytes
    with frozen(views=Views(1, refresh_every=1), disk_budget=size + 2000) as freezer:
        run_epoch(freezer, 0)
        with pytest.warns(UserWarning, match="computes in each epoch what cannot be stored"):
            run_epoch(freezer, 1)
        fault = record(freezer, "fault")
    assert fault["kind"] == "BudgetError"
    assert "more than the budget has left" in fault["reason"]
