from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hoarfrost import Cache, Exact, Linear, Views
from hoarfrost.augment import Grid, derive
from hoarfrost.cache import CacheSpec, Fingerprint
from hoarfrost.codecs import Codec
from hoarfrost.errors import CorruptChunkError
from hoarfrost.feeding.cache_source import CacheSource
from hoarfrost.feeding.chunks_in_memory import Resident
from hoarfrost.feeding.loading import Batch, feature_batches
from hoarfrost.samples.dataset import Samples
from hoarfrost.samples.derivation import Deriver
from hoarfrost.samples.order import Order
from hoarfrost.samples.prefix_source import PrefixSource
from hoarfrost.samples.renditions import Renditions
from shared.images import PLAIN, RANDOM, images

N, CHUNK, KEPT = 40, 16, (0, 2)


def prefix() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3, 2, 1), nn.ReLU()).eval()


class Stand:
    """A cache of two views of forty images, and the source that reads it."""

    def __init__(self, root: Path, codec: Codec | None = None, views: Views | None = None, kept: Any = None) -> None:
        self.samples = Samples(images(N, RANDOM))
        self.order = Order(N, 0, CHUNK)
        self.renditions = Renditions(self.samples, 0)
        self.views = views or Views(2)
        count = self.views.count
        self.spec = CacheSpec(
            N, CHUNK, (3, 14, 14), torch.float32, 1, False, codec or Exact(), (None, *[kept] * (count - 1))
        )
        self.draws = [self.renditions.view(3, view) for view in range(count)]
        self.prefix = PrefixSource(
            prefix(),
            self.samples,
            self.order,
            self.spec,
            lambda chunk, epoch: self.renditions.live(epoch),
            torch.device("cpu"),
        )
        writer = Cache.create(root, Fingerprint({}), self.spec)
        for view, channels in enumerate(self.spec.view_channels):
            for chunk in range(self.order.chunks):
                features, targets = self.prefix.features(chunk, self.draws[view])
                stored = features if channels is None else features[:, list(channels)]
                writer.append(chunk, view, self.order.members(chunk), targets, stored)
        self.cache = writer.commit()
        self.healed: list[tuple[int, int, str]] = []
        example, _ = self.samples.images(torch.arange(2), self.draws[0])
        frame = self.samples.frame(example)
        assert frame is not None
        self.source = CacheSource(
            cache=self.cache,
            order=self.order,
            views=self.views,
            event=3,
            renditions=self.renditions,
            deriver=Deriver(self.samples, self.order, frame, Grid((28, 28), (14, 14)), "zeros"),
            healer=self.prefix,
            on_heal=lambda chunk, view, reason: self.healed.append((chunk, view, reason)),
        )

    def shown(self, chunk: int, epoch: int) -> Tensor:
        return self.source.load(chunk, epoch).features.dense()

    def overwrite(self) -> None:
        path = self.cache.path / "features.bin"
        path.write_bytes(bytes(path.stat().st_size))


def test_renditions_are_functions_of_seed_and_purpose() -> None:
    samples = Samples(images(N, RANDOM))
    one, other = Renditions(samples, 0), Renditions(samples, 0)
    other.live(5)
    assert one.live(2).seed == other.live(2).seed
    assert one.view(2, 0).seed == other.view(2, 0).seed


def test_every_purpose_has_a_draw_of_its_own() -> None:
    renditions = Renditions(Samples(images(N, RANDOM)), 0)
    draws = [
        renditions.live(1),
        renditions.live(2),
        renditions.view(1, 0),
        renditions.view(1, 1),
        renditions.view(2, 0),
    ]
    assert len({draw.seed for draw in draws}) == 5


def test_another_seed_draws_otherwise() -> None:
    samples = Samples(images(N, RANDOM))
    assert Renditions(samples, 0).live(0).seed != Renditions(samples, 1).live(0).seed


def test_a_clean_base_is_still_and_further_views_are_not() -> None:
    samples = Samples(images(N, RANDOM))
    renditions = Renditions(samples, 0)
    ids = torch.arange(N)
    plain = images(N, PLAIN)
    clean = samples.images(ids, renditions.view(0, 0, base="clean"))[0]
    assert torch.equal(clean, torch.stack([plain[i][0] for i in range(N)]))
    moved = samples.pipeline.placement(renditions.view(0, 1, base="clean"), ids, (28, 28))
    assert bool((moved.sign == -1).any())


def test_many_threads_get_the_draw_that_they_ask_for() -> None:
    samples = Samples(images(N, RANDOM))
    renditions, wanted = Renditions(samples, 0), [Renditions(samples, 0).live(epoch).seed for epoch in range(4)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: renditions.live(i % 4).seed, range(400)))
    assert found == [wanted[i % 4] for i in range(400)]


def test_the_prefix_source_gives_the_prefix_of_the_live_rendition(tmp_path: Path) -> None:
    stand = Stand(tmp_path)
    block = stand.prefix.load(1, 4)
    rendered, targets = stand.samples.images(stand.order.members(1), stand.renditions.live(4))
    with torch.no_grad():
        assert torch.equal(block.features.dense(), prefix()(rendered))
    assert torch.equal(block.targets, targets)


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


CASES: dict[str, dict[str, Any]] = {
    "whole views": {},
    "partly stored views": {"kept": KEPT},
    "feature space": {"views": Views(1, derived=1.0)},
    "quantised": {"codec": Linear(4), "kept": KEPT},
}


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


# ---------------------------------------------------------------------- drawn anew, recorded as they are shown


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


def test_editions_are_different_renditions() -> None:
    renditions = Renditions(Samples(images(N, RANDOM)), 0)
    draws = [renditions.view(3, view, edition) for edition in range(4) for view in range(2)]
    assert len({draw.seed for draw in draws}) == 8


def test_draws_that_no_epoch_needs_any_more_are_let_go() -> None:
    renditions = Renditions(Samples(images(N, RANDOM)), 0)
    for edition in range(20):
        for view in range(3):
            renditions.view(3, view, edition)
        renditions.live(edition)
    assert len(renditions._held) == 3 * 2 + 1
    renditions.view(9, 0)
    assert len(renditions._held) == 2


def test_the_prefix_runs_once_for_each_renewal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand = Stand(tmp_path, views=Views(2, refresh_every=4))
    runs: list[tuple[int, int]] = []
    honest = PrefixSource.features
    monkeypatch.setattr(
        PrefixSource, "features", lambda self, chunk, draw: (runs.append((chunk, epoch)), honest(self, chunk, draw))[1]
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
    stand.source.budget_bytes = 1
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


def watched(stand: Stand, monkeypatch: pytest.MonkeyPatch, resident: Resident) -> list[int]:
    """Lets the stand keep chunks in memory; the list fills with the chunks that are read."""
    stand.source.resident = resident
    read: list[int] = []
    of_the_cache = Cache.read
    monkeypatch.setattr(
        Cache, "read", lambda cache, chunk, view: (read.append(chunk), of_the_cache(cache, chunk, view))[1]
    )
    return read


def batches_of(stand: Stand, epoch: int, start: int = 0) -> list[Batch]:
    stand.source.begin()
    return [*feature_batches(stand.source, stand.order, stand.spec, epoch, 8, start=start)]


@pytest.mark.parametrize("floats", [False, True], ids=["levels", "floats"])
def test_chunks_in_memory_are_not_read_again_and_give_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, floats: bool
) -> None:
    stand = Stand(tmp_path, Linear(4))
    wanted = [batches_of(stand, epoch) for epoch in range(4)]
    read = watched(stand, monkeypatch, Resident(1 << 20, floats=floats))
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
    resident = Resident(16 * 3 * 14 * 14 + 200)
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
    watched(stand, monkeypatch, Resident(1 << 20))
    wanted = batches_of(stand, 0)
    stand.overwrite()
    batches_of(stand, 1)
    assert sorted(chunk for chunk, _, _ in stand.healed) == [0, 1, 2]
    assert all(torch.equal(a.features, b.features) for a, b in zip(batches_of(stand, 0), wanted, strict=True))


def test_a_rendition_that_is_outdated_is_not_taken_from_memory(tmp_path: Path) -> None:
    plain, kept = (Stand(tmp_path / name, Linear(4), Views(2, refresh_every=2)) for name in ("plain", "kept"))
    kept.source.resident = Resident(1 << 20)
    for epoch in range(3, 9):
        for batch, expected in zip(batches_of(kept, epoch), batches_of(plain, epoch), strict=True):
            assert torch.equal(batch.features, expected.features)


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_views_that_are_derived_are_the_same_with_chunks_in_memory(tmp_path: Path, options: dict[str, Any]) -> None:
    stand = Stand(tmp_path, **options)
    wanted = [batches_of(stand, epoch) for epoch in range(4)]
    stand.source.resident = Resident(1 << 20, floats=True)
    for epoch in range(4):
        found = batches_of(stand, epoch)
        assert all(torch.equal(a.features, b.features) for a, b in zip(found, wanted[epoch], strict=True))
