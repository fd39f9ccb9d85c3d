"""IDX files: written and read again, and refused when damaged."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoarfrost.data.idx import read_idx, write_idx
from hoarfrost.errors import DatasetError


@given(shape=st.lists(st.integers(0, 5), min_size=1, max_size=3), seed=st.integers(0, 99))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, shape: list[int], seed: int) -> None:
    path = tmp_path_factory.mktemp("idx") / "a.gz"
    array = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    write_idx(path, array)
    np.testing.assert_array_equal(read_idx(path), array)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"no gzip", "cannot be read", id="not-gzip"),
        pytest.param(gzip.compress(bytes((0, 0, 8, 1, 0, 0, 0, 2, 7)))[:-9], "cannot be read", id="cut-short"),
        pytest.param(gzip.compress(b"\x01\x02\x03\x04"), "not an IDX file", id="magic"),
        pytest.param(gzip.compress(bytes((0, 0, 8, 1, 0, 0, 0, 2, 7))), "holds 1 bytes", id="too-few"),
        pytest.param(gzip.compress(bytes((0, 0, 8, 3, 0))), "holds -11 bytes", id="header-cut"),
        pytest.param(b"", "not an IDX file|cannot be read", id="empty"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        read_idx(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nothing\.gz is missing"):
        read_idx(tmp_path / "nothing.gz")
