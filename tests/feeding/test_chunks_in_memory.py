from __future__ import annotations

import torch

from hoarfrost.codecs import Packed
from hoarfrost.feeding.chunks_in_memory import Resident
from hoarfrost.samples.prefix_source import Block

LEVELS = torch.arange(24, dtype=torch.uint8).view(2, 3, 4)


def block() -> Block:
    """56 bytes: 24 of levels, 24 of scales and lows, 8 of targets."""
    return Block(Packed(LEVELS, torch.rand(3), torch.rand(3), torch.float32, 1), torch.zeros(2))


def test_what_was_kept_is_found() -> None:
    resident, kept = Resident(1000), block()
    assert resident.keep("a", kept) is kept
    assert resident.find("a") is kept
    assert resident.find("b") is None


def test_no_more_is_kept_than_there_is_room_for() -> None:
    resident = Resident(120)
    for name in "abc":
        resident.keep(name, block())
    assert (len(resident), resident.nbytes) == (2, 112)
    assert resident.find("c") is None


def test_a_budget_of_nothing_keeps_nothing() -> None:
    resident, given = Resident(0, floats=True), block()
    assert resident.keep("a", given) is given
    assert len(resident) == 0


def test_floats_are_the_bits_of_decoding() -> None:
    resident, given = Resident(1000, floats=True), block()
    kept = resident.keep("a", given)
    assert kept.features.scale is None
    assert torch.equal(kept.features.dense(), given.features.dense())
    assert resident.nbytes == 24 * 4 + 8


def test_files_that_were_written_to_are_read_again() -> None:
    resident = Resident(1000)
    resident.current((1, 2))
    resident.keep("a", block())
    resident.current((1, 2))
    assert resident.find("a") is not None
    resident.current((1, 3))
    assert (resident.find("a"), resident.nbytes) == (None, 0)
    resident.keep("a", block())
    assert resident.find("a") is not None
