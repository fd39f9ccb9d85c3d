from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hoarfrost import Cache, Linear, Views
from hoarfrost.codecs import Packed
from hoarfrost.feeding.chunks_in_memory import ChunksInMemory
from hoarfrost.samples.prefix_source import Block
from shared.small_cache import CASES, Stand, batches_of

LEVELS = torch.arange(24, dtype=torch.uint8).view(2, 3, 4)


def block() -> Block:
    """56 bytes: 24 of levels, 24 of scales and lows, 8 of targets."""
    return Block(Packed(LEVELS, torch.rand(3), torch.rand(3), torch.float32, 1), torch.zeros(2))


def test_what_was_kept_is_found() -> None:
    resident, kept = ChunksInMemory(1000), block()
    assert resident.keep("a", kept) is kept
    assert resident.find("a") is kept
    assert resident.find("b") is None


def test_no_more_is_kept_than_there_is_room_for() -> None:
    resident = ChunksInMemory(120)
    for name in "abc":
        resident.keep(name, block())
    assert (len(resident), resident.nbytes) == (2, 112)
    assert resident.find("c") is None


def test_a_budget_of_nothing_keeps_nothing() -> None:
    resident, given = ChunksInMemory(0, floats=True), block()
    assert resident.keep("a", given) is given
    assert len(resident) == 0


def test_floats_are_the_bits_of_decoding() -> None:
    resident, given = ChunksInMemory(1000, floats=True), block()
    kept = resident.keep("a", given)
    assert kept.features.scale is None
    assert torch.equal(kept.features.dense(), given.features.dense())
    assert resident.nbytes == 24 * 4 + 8


def test_files_that_were_written_to_are_read_again() -> None:
    resident = ChunksInMemory(1000)
    resident.current((1, 2))
    resident.keep("a", block())
    resident.current((1, 2))
    assert resident.find("a") is not None
    resident.current((1, 3))
    assert (resident.find("a"), resident.nbytes) == (None, 0)
    resident.keep("a", block())
    assert resident.find("a") is not None


def watched(stand: Stand, monkeypatch: pytest.MonkeyPatch, resident: ChunksInMemory) -> list[int]:
    """Lets the stand keep chunks in memory; the list fills with the chunks that are read."""
    stand.source.resident = resident
    read: list[int] = []
    of_the_cache = Cache.read
    monkeypatch.setattr(
        Cache, "read", lambda cache, chunk, view: (read.append(chunk), of_the_cache(cache, chunk, view))[1]
    )
    return read


@pytest.mark.parametrize("floats", [False, True], ids=["levels", "floats"])
def test_chunks_in_memory_are_not_read_again_and_give_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, floats: bool
) -> None:
    stand = Stand(tmp_path, Linear(4))
    wanted = [batches_of(stand, epoch) for epoch in range(4)]
    read = watched(stand, monkeypatch, ChunksInMemory(1 << 20, floats=floats))
    # A batch that is written to must leave what is kept as it is.
    for epoch in range(4):
        for batch, expected in zip(batches_of(stand, epoch), wanted[epoch], strict=True):
            assert torch.equal(batch.features, expected.features)
            assert torch.equal(batch.targets, expected.targets)
            batch.features.zero_()
        assert len(read) == 3 * min(epoch + 1, 2)
    rest = batches_of(stand, 3, start=2)
    assert all(torch.equal(a.features, b.features) for a, b in zip(rest, wanted[3][2:], strict=True))


def test_what_has_no_room_in_memory_is_read_in_every_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand = Stand(tmp_path, Linear(4), Views(1))
    wanted = [batches_of(stand, epoch) for epoch in range(3)]
    resident = ChunksInMemory(16 * 3 * 14 * 14 + 200)
    read = watched(stand, monkeypatch, resident)
    for epoch in range(3):
        found = batches_of(stand, epoch)
        assert all(torch.equal(a.features, b.features) for a, b in zip(found, wanted[epoch], strict=True))
    assert len(resident) == 1
    assert len(read) == 3 + 2 + 2


def test_damage_is_met_in_the_next_epoch_though_chunks_are_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand = Stand(tmp_path, Linear(4), Views(1))
    watched(stand, monkeypatch, ChunksInMemory(1 << 20))
    wanted = batches_of(stand, 0)
    stand.overwrite()
    batches_of(stand, 1)
    assert sorted(chunk for chunk, _, _ in stand.healed) == [0, 1, 2]
    assert all(torch.equal(a.features, b.features) for a, b in zip(batches_of(stand, 0), wanted, strict=True))


def test_a_rendition_that_is_outdated_is_not_taken_from_memory(tmp_path: Path) -> None:
    plain, kept = (Stand(tmp_path / name, Linear(4), Views(2, refresh_every=2)) for name in ("plain", "kept"))
    kept.source.resident = ChunksInMemory(1 << 20)
    for epoch in range(3, 9):
        for batch, expected in zip(batches_of(kept, epoch), batches_of(plain, epoch), strict=True):
            assert torch.equal(batch.features, expected.features)


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_views_that_are_derived_are_the_same_with_chunks_in_memory(tmp_path: Path, options: dict[str, Any]) -> None:
    stand = Stand(tmp_path, **options)
    wanted = [batches_of(stand, epoch) for epoch in range(4)]
    stand.source.resident = ChunksInMemory(1 << 20, floats=True)
    for epoch in range(4):
        found = batches_of(stand, epoch)
        assert all(torch.equal(a.features, b.features) for a, b in zip(found, wanted[epoch], strict=True))
