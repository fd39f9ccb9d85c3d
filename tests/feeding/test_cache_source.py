from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from hoarfrost import Cache, Linear, Views
from hoarfrost.augment import Grid, derive
from hoarfrost.errors import CorruptChunkError
from hoarfrost.feeding.chunks_in_memory import ChunksInMemory
from hoarfrost.samples.prefix_source import PrefixSource
from shared.small_cache import CASES, KEPT, Stand


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_a_whole_view_is_the_prefix_on_its_rendition(tmp_path: Path, epoch: int) -> None:
    stand = Stand(tmp_path)
    for chunk in range(stand.order.chunks):
        exact, targets = stand.prefix.features(chunk, stand.draws[(chunk + epoch) % 2])
        assert torch.equal(stand.shown(chunk, epoch), exact)
        assert torch.equal(stand.source.load(chunk, epoch).targets, targets)


def test_of_a_partly_stored_view_the_stored_channels_are_exact_and_the_rest_derived(tmp_path: Path) -> None:
    stand = Stand(tmp_path, kept=KEPT)
    chunk, epoch = 1, 0
    ids = stand.order.members(chunk)
    base, exact = (stand.prefix.features(chunk, draw)[0] for draw in stand.draws)
    place = [stand.samples.pipeline.placement(draw, ids, (28, 28)) for draw in stand.draws]
    wanted = derive(base, place[0], place[1], Grid((28, 28), (14, 14)), "zeros")
    assert not torch.equal(wanted, exact)
    wanted[:, list(KEPT)] = exact[:, list(KEPT)]
    assert torch.equal(stand.shown(chunk, epoch), wanted)


def test_in_feature_space_each_epoch_moves_the_base_view_anew(tmp_path: Path) -> None:
    stand = Stand(tmp_path, views=Views(1, derived=1.0))
    ids = stand.order.members(1)
    base = stand.prefix.features(1, stand.draws[0])[0]
    for epoch in (2, 3):
        placements = [
            stand.samples.pipeline.placement(draw, ids, (28, 28))
            for draw in (stand.draws[0], stand.renditions.live(epoch))
        ]
        wanted = derive(base, placements[0], placements[1], Grid((28, 28), (14, 14)), "zeros")
        assert torch.equal(stand.shown(1, epoch), wanted)
    assert not torch.equal(stand.shown(1, 2), stand.shown(1, 3))


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_a_healed_chunk_is_as_it_was_and_stays_so(tmp_path: Path, options: dict[str, Any]) -> None:
    stand = Stand(tmp_path, **options)
    before = [[stand.shown(chunk, epoch) for chunk in range(3)] for epoch in range(2)]
    stand.overwrite()
    for epoch in range(2):
        for chunk in range(3):
            try:
                found = stand.shown(chunk, epoch)
            except CorruptChunkError as error:
                found = stand.source.recover(chunk, epoch, error).features.dense()
            assert torch.equal(found, before[epoch][chunk])
            assert torch.equal(stand.shown(chunk, epoch), before[epoch][chunk])
    assert len(stand.healed) == len(stand.spec.records)
    assert all("checksum" in reason for _, _, reason in stand.healed)


def test_only_what_is_damaged_is_computed_again(tmp_path: Path) -> None:
    stand = Stand(tmp_path, kept=KEPT)
    journal = stand.cache._journal.records[1, 1]
    with (stand.cache.path / "features.bin").open("r+b") as file:
        file.seek(journal.offset)
        file.write(bytes(journal.nbytes))
    with pytest.raises(CorruptChunkError, match="chunk 1, view 1") as caught:
        stand.source.load(1, 0)
    stand.source.recover(1, 0, caught.value)
    assert [(chunk, view) for chunk, view, _ in stand.healed] == [(1, 1)]


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_a_cache_that_has_vanished_is_computed_with_the_same_bits(tmp_path: Path, options: dict[str, Any]) -> None:
    stand = Stand(tmp_path, **options)
    before = stand.shown(1, 0)
    shutil.rmtree(stand.cache.path)
    found = stand.source.recover(1, 0, CorruptChunkError("gone"))
    assert torch.equal(found.features.dense(), before)
    assert all("has vanished" in reason for _, _, reason in stand.healed)


@pytest.mark.parametrize("kept", [None, KEPT], ids=["whole", "partly stored"])
@pytest.mark.parametrize("refresh", ["rolling", "together"])
def test_a_refreshed_chunk_is_what_a_cache_of_the_new_renditions_would_show(
    tmp_path: Path, refresh: str, kept: Any
) -> None:
    views = Views(2, refresh_every=3, refresh=refresh)
    stand = Stand(tmp_path, views=views, kept=kept)
    for epoch in range(3, 12):
        for chunk in range(stand.order.chunks):
            edition, view = views.edition(chunk, epoch, 3), (chunk + epoch) % 2
            base, exact = (stand.prefix.features(chunk, stand.renditions.view(3, v, edition))[0] for v in (0, 1))
            wanted = (base, exact)[view]
            if kept is not None and view == 1:
                ids = stand.order.members(chunk)
                place = [
                    stand.samples.pipeline.placement(stand.renditions.view(3, v, edition), ids, (28, 28))
                    for v in (0, 1)
                ]
                wanted = derive(base, place[0], place[1], Grid((28, 28), (14, 14)), "zeros")
                wanted[:, list(KEPT)] = exact[:, list(KEPT)]
            assert torch.equal(stand.shown(chunk, epoch), wanted)
            assert stand.source.ahead(chunk, epoch)
    assert stand.healed == []


def test_the_prefix_runs_once_for_each_renewal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand = Stand(tmp_path, views=Views(2, refresh_every=4))
    runs: list[tuple[int, int]] = []
    honest = PrefixSource.told
    monkeypatch.setattr(
        PrefixSource, "told", lambda self, chunk, draw: (runs.append((chunk, epoch)), honest(self, chunk, draw))[1]
    )
    for epoch in range(3, 3 + 12):
        for chunk in range(stand.order.chunks):
            due = not stand.source.ahead(chunk, epoch)
            before = len(runs)
            stand.shown(chunk, epoch)
            assert len(runs) - before == due
    editions = {(c, (c + e) % 2, stand.views.edition(c, e, 3)) for c in range(3) for e in range(3, 3 + 12)}
    assert len(runs) == sum(edition > 0 for _, _, edition in editions)


def test_another_runs_rendition_is_not_taken_for_ones_own(tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    before = stand.shown(1, 0)
    features, targets = stand.prefix.features(1, stand.renditions.view(3, 1, 5))
    Cache.open(stand.cache.path).renew(1, 1, 5, features, targets=targets, sample_ids=stand.order.members(1))
    found = stand.source.recover(1, 0, CorruptChunkError("seen")) if stand.source.ahead(1, 0) else None
    assert found is not None
    assert torch.equal(found.features.dense(), before)


def test_a_record_without_room_is_computed_in_every_epoch_with_the_same_bits(tmp_path: Path) -> None:
    stand, twin = (Stand(tmp_path / name, Linear(4), Views(1, refresh_every=2)) for name in ("small", "large"))
    stand.source.stored.budget_bytes = 1
    for epoch in range(3, 9):
        for chunk in range(3):
            assert torch.equal(stand.shown(chunk, epoch), twin.shown(chunk, epoch))
    assert [stand.cache.edition(chunk, 0) for chunk in range(3)] == [0, 0, 0]


@pytest.mark.parametrize("kept", [None, KEPT], ids=["whole", "partly stored"])
def test_part_of_the_chunks_is_shown_moved_to_the_epochs_own_rendition(tmp_path: Path, kept: Any) -> None:
    views = Views(2, derived=0.5)
    stand = Stand(tmp_path, views=views, kept=kept)
    seen = set()
    for epoch in range(3, 9):
        for chunk in range(3):
            moved, view = views.moved(chunk, epoch), (chunk + epoch) % 2
            seen.add(moved)
            source = view if kept is None else 0
            ids, drawn = stand.order.members(chunk), stand.renditions.view(3, source)
            features = stand.prefix.features(chunk, drawn)[0]
            place = [
                stand.samples.pipeline.placement(draw, ids, (28, 28)) for draw in (drawn, stand.renditions.live(epoch))
            ]
            wanted = derive(features, place[0], place[1], Grid((28, 28), (14, 14)), "zeros")
            assert torch.equal(stand.shown(chunk, epoch), wanted) == moved
    assert seen == {True, False}


@pytest.mark.parametrize("grain", ["sample", "chunk"])
@pytest.mark.parametrize("kept", [None, KEPT], ids=["whole", "partly stored"])
def test_what_is_to_be_mirrored_is_moved_from_the_mirror_image(tmp_path: Path, kept: Any, grain: str) -> None:
    """Stored channels of a mirrored rendition are the prefix's own, cropped; others are flipped in feature space."""
    views = Views(2, derived=1.0, base="clean", further="mirrored", grain=grain)
    stand = Stand(tmp_path, views=views, kept=kept)
    grid, seen = Grid((28, 28), (14, 14)), set()
    for epoch in range(3, 9):
        target = stand.renditions.moved(epoch)
        for chunk in range(3):
            ids = stand.order.members(chunk)
            base, mirror = (stand.prefix.features(chunk, draw)[0] for draw in stand.draws)
            place = [stand.samples.pipeline.placement(draw, ids, (28, 28)) for draw in (*stand.draws, target)]
            if kept is not None:
                flipped = derive(base, place[0], place[1], grid, "zeros")
                flipped[:, list(KEPT)] = mirror[:, list(KEPT)]
                mirror = flipped
            turned = place[2].sign[:, 1] < 0
            seen |= set(turned.tolist())
            assert grain == "sample" or len(set(turned.tolist())) == 1
            here, there = (derive(x, p, place[2], grid, "zeros") for x, p in ((base, place[0]), (mirror, place[1])))
            assert torch.equal(stand.shown(chunk, epoch), torch.where(turned[:, None, None, None], there, here))
    assert seen == {True, False}


def test_records_that_are_always_moved_stay_in_memory(tmp_path: Path) -> None:
    views = Views(2, derived=1.0, base="clean", further="mirrored", grain="chunk")
    stand, twin = Stand(tmp_path / "one", views=views, kept=KEPT), Stand(tmp_path / "two", views=views, kept=KEPT)
    stand.source.resident = ChunksInMemory(1 << 20, floats=True)
    first = [[stand.shown(chunk, epoch) for chunk in range(3)] for epoch in range(3, 8)]
    stand.overwrite()
    for epoch in range(3, 8):
        for chunk in range(3):
            assert torch.equal(stand.shown(chunk, epoch), first[epoch - 3][chunk])
            assert torch.equal(twin.shown(chunk, epoch), first[epoch - 3][chunk])
