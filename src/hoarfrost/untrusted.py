"""Files that anybody may have written: opened only where they are regular, read up to a size, parsed up to a depth."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

__all__ = ["DEEPEST", "check_depth", "kind_of", "open_regular", "parse_json", "read_regular", "write_whole"]

DEEPEST = 40
"""How deep lists and mappings may lie in one another; what we write lies less than ten deep."""


def kind_of(mode: int) -> str:
    """What a file's mode says that it is, for an error."""
    kinds = {
        stat.S_IFREG: "a regular file",
        stat.S_IFDIR: "a directory",
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "something else")


def open_regular(path: str | Path, flags: int = os.O_RDONLY, *, follow: bool = False) -> int:
    """The descriptor of a regular file; a pipe is not waited for, and nothing else is opened.

    Args:
        flags: as for `os.open`.
        follow: whether the name may be that of a symbolic link to one.

    Raises:
        OSError: as `os.open`, or it is something else; says what.
    """
    try:
        fd = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW), 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            raise _not_regular(path, Path(path).stat(follow_symlinks=follow).st_mode) from error
        raise
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        os.close(fd)
        raise _not_regular(path, mode)
    return fd


def _not_regular(path: str | Path, mode: int) -> OSError:
    return OSError(errno.EINVAL, f"it is {kind_of(mode)}, not a regular file", str(path))


def read_regular(path: str | Path, most: int, *, follow: bool = False) -> bytes:
    """All bytes of a regular file.

    Raises:
        OSError: as `open_regular`, or the file is larger than `most` bytes.
    """
    with os.fdopen(open_regular(path, follow=follow), "rb") as file:
        nbytes = os.fstat(file.fileno()).st_size
        if nbytes > most:
            raise OSError(errno.EINVAL, f"it is {nbytes:,} bytes long, where {most:,} are the most", str(path))
        return file.read(most)


def write_whole(path: Path, data: bytes, *, durably: bool = False) -> None:
    """`data` at `path`, whole or not at all; a link at either name is replaced, not followed."""
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666), "wb") as file:
        file.write(data)
        file.flush()
        if durably:
            os.fsync(file.fileno())
    temporary.replace(path)


def parse_json(data: bytes | str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: no JSON, or nested deeper than `DEEPEST`.
    """
    try:
        value = json.loads(data)
    except RecursionError:
        raise ValueError(f"it is nested deeper than {DEEPEST} levels") from None
    check_depth(value)
    return value


def check_depth(value: Any) -> None:
    """Raises `ValueError` for lists and mappings that lie deeper than `DEEPEST` in one another."""
    level = [value]
    for _ in range(DEEPEST + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, list | dict)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, list | dict)
        ]
        if not level:
            return
    raise ValueError(f"it is nested deeper than {DEEPEST} levels")
