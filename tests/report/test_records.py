"""Records read back: torn ends, resumed runs, missing numbers."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from hoarfrost.errors import ArgumentError
from hoarfrost.report import Run, read_records
from hoarfrost.report.records import codec_label, stored_channels


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines))
    return path


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    whole = {"event": "epoch", "epoch": 0, "loss": 0.5}
    path = write(tmp_path / "metrics.jsonl", json.dumps(whole), "", '{"event": "epo')
    assert read_records(path) == [whole]


def test_an_empty_file_has_no_records(tmp_path: Path) -> None:
    assert read_records(write(tmp_path / "metrics.jsonl", "")) == []


def test_other_damage_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "metrics.jsonl", "nonsense", '{"event": "end"}')
    with pytest.raises(ArgumentError, match=r"metrics\.jsonl, line 1 is not JSON"):
        read_records(path)
    with pytest.raises(ArgumentError, match="line 1 is not a record with an 'event'"):
        read_records(write(path, "[1, 2]"))
    with pytest.raises(ArgumentError, match=r"nothing\.jsonl cannot be read"):
        read_records(tmp_path / "nothing.jsonl")


def test_a_resumed_runs_last_records_count() -> None:
    run = Run(
        "resumed",
        [
            {"event": "start", "model": "a"},
            {"event": "epoch", "epoch": 0, "seconds": 10.0},
            {"event": "freeze", "epoch": 1, "build_seconds": 99.0},
            {"event": "start", "model": "b"},
            {"event": "freeze", "epoch": 1, "build_seconds": 5.0},
            {"event": "epoch", "epoch": 1, "seconds": 99.0},
            {"event": "epoch", "epoch": 1, "seconds": 2.0},
        ],
    )
    assert run.start["model"] == "a"
    assert [record["seconds"] for record in run.epochs] == [10.0, 2.0]
    assert run.elapsed_seconds == [10.0, 17.0]
    assert run.end == {}


def test_where_records_say_what_was_spent_that_counts() -> None:
    """Dividing and calibration are no part of an epoch, nor of a build."""
    spent = [
        {"event": "epoch", "epoch": 0, "seconds": 3.0, "spent_seconds": 3.5},
        {"event": "freeze", "epoch": 1, "build_seconds": 4.0},
        {"event": "epoch", "epoch": 1, "seconds": 3.0, "spent_seconds": 12.0},
    ]
    assert Run("run", spent).elapsed_seconds == [3.5, 12.0]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"stored_channels": [2, 0]}, {0, 2}),
        ({"stored_channels": [[1], [2, 0]]}, {0, 2}),
        ({"stored_channels": []}, set()),
        ({"stored_channels": None}, {0, 1, 2}),
        ({"stored_channels": [None]}, {0, 1, 2}),
        ({"stored_channels": None, "views": 1}, set()),
        ({"stored_channels": None, "choice": "recompute"}, set()),
    ],
    ids=["named", "per-view", "none-of-them", "all", "all-per-view", "base-alone", "recompute"],
)
def test_stored_channels(changes: dict[str, object], expected: set[int]) -> None:
    assert stored_channels({"sensitivity": [0.1, 0.9, 0.5], "views": 2, **changes}) == expected


def test_codecs_as_text() -> None:
    assert codec_label("half") == "half"
    assert codec_label({"name": "linear", "bits": 4}) == "linear bits=4"


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"event": 3}, "is not a record with an 'event'"),
        ({"event": "epoch"}, "is a record of the event 'epoch' without 'epoch'"),
        ({"event": "thaw", "epoch": 1}, "is a record of the event 'thaw' without 'step'"),
        ({"event": "epoch", "epoch": -1}, "'epoch' must be a whole number from 0 on"),
        ({"event": "epoch", "epoch": 10**30}, "'epoch' must be a whole number from 0 on"),
        ({"event": "epoch", "epoch": 0, "depth": 10**18}, "'depth' must be a whole number up to"),
        ({"event": "epoch", "epoch": 0, "seconds": 10**400}, "it holds a number beyond 1e\\+18"),
        ({"event": "freeze", "epoch": 0, "rungs": [1]}, "'rungs' must be a list of at most 1,024 mappings"),
        ({"event": "freeze", "epoch": 0, "sensitivity": ["x"]}, "'sensitivity' must be a list of at most"),
        ({"event": "start", "cuts": 3}, "'cuts' must be a list of names"),
        ({"event": "start", "model": "\ud800"}, "it holds half of a character"),
    ],
)
def test_a_record_from_a_stranger_is_refused_by_line_and_name(record: Any, words: str, tmp_path: Path) -> None:
    path = write(tmp_path / "metrics.jsonl", '{"event": "start"}', json.dumps(record), '{"event": "end"}')
    with pytest.raises(ArgumentError, match=rf"metrics\.jsonl, line 2 .*{words}"):
        read_records(path)


def test_records_are_nested_and_long_within_bounds(tmp_path: Path) -> None:
    path = write(tmp_path / "metrics.jsonl", "[" * 10**5, '{"event": "end"}')
    with pytest.raises(ArgumentError, match="line 1 is not JSON: it is nested deeper than 40 levels"):
        read_records(path)
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ArgumentError, match=r"cannot be read: it is .* bytes long"):
        read_records(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ArgumentError, match="cannot be read: it is a named pipe, not a regular file"):
        read_records(path)
