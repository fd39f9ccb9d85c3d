"""The IDX files of MNIST and its kin, gzipped: a magic number, the sizes, then bytes."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import DatasetError

__all__ = ["read_idx", "write_idx"]

_UINT8 = 0x08


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """Read a gzipped IDX file of unsigned bytes: images are [N, H, W], labels [N].

    Raises:
        DatasetError: the file is missing, damaged, or not an IDX file of unsigned bytes.
    """
    try:
        raw = gzip.decompress(path.read_bytes())
    except FileNotFoundError:
        raise DatasetError(f"the data file {path} is missing") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"the data file {path} cannot be read: {error}") from error
    if len(raw) < 4 or raw[:3] != bytes((0, 0, _UINT8)):
        raise DatasetError(f"{path} is not an IDX file of unsigned bytes (it begins with {raw[:4].hex(' ')})")
    start = 4 + 4 * raw[3]
    shape = struct.unpack(f">{raw[3]}I", raw[4:start]) if len(raw) >= start else ()
    if len(raw) - start != int(np.prod(shape)):
        raise DatasetError(f"{path} holds {len(raw) - start} bytes, its header says {shape}")
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape).copy()


def write_idx(path: Path, array: npt.NDArray[np.uint8]) -> None:
    """Write the inverse of `read_idx`; the bytes depend on the array alone (no name, no time)."""
    header = bytes((0, 0, _UINT8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes(), 9, mtime=0))
