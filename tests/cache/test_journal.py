from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from hoarfrost.cache.journal import Record, read_line, write_line

ids = st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5).map(tuple)
numbers = st.integers(0, 2**40)
records = st.builds(Record, numbers, numbers, numbers, numbers, numbers, numbers, ids)
A = Record(0, 0, 0, 100, 1, 2, (5, 6))
B = Record(0, 1, 100, 50, 3, 2, (5, 6))


def read_journal(data: bytes) -> dict[tuple[int, int], Record]:
    """The last good line of each place, whatever the cache's shape."""
    return {record.place: record for record in map(read_line, data.split(b"\n")) if record is not None}


@settings(max_examples=50, deadline=None)
@given(records)
def test_lines_round_trip_and_are_json(record: Record) -> None:
    line = write_line(record)
    assert read_journal(line) == {(record.chunk, record.view): record}
    assert json.loads(line)["offset"] == record.offset


def test_a_torn_last_line_does_not_count() -> None:
    whole = write_line(A) + write_line(B)
    for length in range(len(write_line(A)), len(whole) - 1):
        assert read_journal(whole[:length]) == {(0, 0): A}
    assert read_journal(whole[:-1]) == read_journal(whole) == {(0, 0): A, (0, 1): B}


def test_no_flipped_bit_makes_another_record() -> None:
    data = write_line(A) + write_line(B)
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        found = read_journal(bytes(flipped))
        assert set(found.values()) <= {A, B}


def test_the_later_line_is_right() -> None:
    healed = Record(0, 0, 150, 90, 9, 2, (5, 6))
    assert read_journal(write_line(A) + write_line(B) + b"\n" + write_line(healed))[0, 0] == healed
