from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hoarfrost.samples.order import Order, batch_bounds, steps_left
from hoarfrost.samples.parts import Part
from shared.numbered_source import batch_sizes, epoch_of, epochs, ids_of, orders


@settings(max_examples=40, deadline=None)
@given(orders, batch_sizes, epochs)
def test_the_order_is_a_function_of_seed_and_epoch(order: Order, batch_size: int, epoch: int) -> None:
    torch.manual_seed(epoch + 1)
    twin = Order(order.samples, order.seed, order.chunk_size, order.window)
    assert ids_of(epoch_of(order, batch_size, epoch)) == ids_of(epoch_of(twin, batch_size, epoch, concurrent=True))


def test_epochs_and_seeds_differ_in_order() -> None:
    one, other = Order(80, 0, chunk_size=8, window=3), Order(80, 1, chunk_size=8, window=3)
    first = ids_of(epoch_of(one, 10))
    assert first != ids_of(epoch_of(one, 10, epoch=1))
    assert first != ids_of(epoch_of(other, 10))


def test_the_global_random_state_is_not_touched() -> None:
    before = torch.get_rng_state()
    epoch_of(Order(50, 3, chunk_size=8), 10)
    assert torch.equal(before, torch.get_rng_state())


def test_a_window_of_all_chunks_mixes_across_chunks() -> None:
    order = Order(64, 0, chunk_size=8, window=8)
    chunk_of = {i: chunk for chunk in range(8) for i in order.members(chunk).tolist()}
    assert all(len({chunk_of[i] for i in ids}) > 3 for ids in ids_of(epoch_of(order, 16)))


def test_members_are_a_random_part_of_the_data() -> None:
    order = Order(1000, 0, chunk_size=100)
    assert all(300 < float(order.members(chunk).float().mean()) < 700 for chunk in range(10))


@settings(max_examples=40, deadline=None)
@given(orders, epochs, st.integers(1, 5))
def test_ranks_share_the_epoch_without_overlap(order: Order, epoch: int, world_size: int) -> None:
    ranks = [
        Order(order.samples, order.seed, order.chunk_size, order.window, rank, world_size) for rank in range(world_size)
    ]
    stored = [i for rank in ranks for ids in ids_of(epoch_of(rank, 7, epoch)) for i in ids]
    live = [i for rank in ranks for i in rank.shuffled(epoch).tolist()]
    assert sorted(stored) == sorted(live) == list(range(order.samples))


@given(st.integers(0, 300), st.integers(1, 50))
def test_batches_are_full_but_the_last(rows: int, batch_size: int) -> None:
    bounds = batch_bounds(rows, batch_size)
    sizes = [end - begin for begin, end in bounds]
    assert [begin for begin, _ in bounds] == [sum(sizes[:i]) for i in range(len(sizes))]
    assert sum(sizes) == rows
    assert all(size == batch_size for size in sizes[:-1])
    assert all(0 < size <= batch_size + 1 for size in sizes[-1:])


@pytest.mark.parametrize(
    ("rows", "batch_size", "sizes"),
    [(9, 4, [4, 5]), (10, 4, [4, 4, 2]), (1, 4, [1]), (3, 1, [1, 1, 1]), (0, 4, [])],
    ids=["one left over", "two left over", "one in all", "batches of one", "none"],
)
def test_one_left_over_sample_joins_the_last_batch(rows: int, batch_size: int, sizes: list[int]) -> None:
    assert [end - begin for begin, end in batch_bounds(rows, batch_size)] == sizes


@given(st.integers(2, 300), st.integers(1, 50), st.integers(2, 7), st.booleans())
def test_all_ranks_have_as_many_batches_and_all_samples(
    samples: int, batch_size: int, world_size: int, drop_last: bool
) -> None:
    ranks = [Order(samples, 0, rank=rank, world_size=world_size) for rank in range(min(world_size, samples))]
    ranks = [Order(samples, 0, rank=rank, world_size=len(ranks)) for rank in range(len(ranks))]
    bounds = [batch_bounds(order.share(3), batch_size, drop_last, order.least(3)) for order in ranks]
    assert len({len(of_rank) for of_rank in bounds}) == 1
    for order, of_rank in zip(ranks, bounds, strict=True):
        assert all(0 < end - begin <= batch_size + 2 for begin, end in of_rank)
        assert drop_last or of_rank[-1][1] == order.share(3) == len(order.shuffled(3))
    assert sum(order.share(3) for order in ranks) == samples


def test_ranks_draw_apart_for_their_batches_and_the_first_as_one_process() -> None:
    seeds = [Order(64, 3, rank=rank, world_size=3).seed_of_rank for rank in range(3)]
    assert seeds[0] == Order(64, 3).seed_of_rank == 3
    assert len(set(seeds)) == 3


def test_a_share_that_ends_within_a_chunk_shows_the_rest_in_another() -> None:
    """Three ranks on two chunks: each has samples, none is shown twice."""
    shown = [i for rank in range(3) for ids in ids_of(epoch_of(Order(10, 0, 8, 16, rank, 3), 4)) for i in ids]
    assert sorted(shown) == list(range(10))


some_parts = st.builds(
    Part, st.integers(1, 4), st.integers(1, 9), st.just(False), st.integers(1, 5), st.sampled_from([True, False])
)


@settings(max_examples=60, deadline=None)
@given(orders, epochs, st.lists(some_parts, min_size=1, max_size=3), st.integers(1, 4))
def test_an_epoch_that_others_go_on_with_shows_each_sample_once(
    order: Order, epoch: int, parts: list[Part], world_size: int
) -> None:
    """Whoever showed which part of it: ranks, batches of another size, chunk by chunk or not."""
    parts = [replace(part, ranks=min(part.ranks, order.samples)) for part in parts]
    shown: list[int] = []
    for number, part in enumerate(parts):
        left = order.behind(epoch, parts[:number])
        for rank in range(part.ranks):
            mine = replace(order, rank=rank, world_size=part.ranks, left={epoch: left})
            rows, least = mine.share(epoch), mine.least(epoch)
            bounds = batch_bounds(rows, part.batch_size, least=least)[: part.batches] if least else []
            ids = [i for chunk in ids_of(epoch_of(mine, 7, epoch)) for i in chunk] if part.by_chunks else None
            shown += (mine.shuffled(epoch).tolist() if ids is None else ids)[: bounds[-1][1] if bounds else 0]
    left = order.behind(epoch, parts)
    assert left.batches == sum(part.batches for part in parts)
    least = replace(order, world_size=world_size, left={epoch: left}).least(epoch)
    coming = Part(world_size, 5, drop_last=False, batches=1, by_chunks=False)
    assert steps_left(order.samples, parts, coming) == len(batch_bounds(least, 5))
    ranks = [replace(order, rank=n, world_size=world_size, left={epoch: left}) for n in range(world_size)]
    stored = [i for rank in ranks for ids in ids_of(epoch_of(rank, 7, epoch)) for i in ids]
    live = [i for rank in ranks for i in rank.shuffled(epoch).tolist()]
    assert sorted(shown + stored) == sorted(shown + live) == list(range(order.samples))
    assert sorted(i for rank in ranks for i in rank.shuffled(epoch + 1).tolist()) == list(range(order.samples))


@pytest.mark.parametrize(("batches", "left"), [(1, 44), (2, 28), (3, 0)])
def test_what_filled_no_batch_of_a_whole_epoch_is_not_left_of_it(batches: int, left: int) -> None:
    """Three batches of eight on each of two ranks, and six samples on each that drop_last leaves out."""
    parts = [Part(2, 8, drop_last=True, batches=batches, by_chunks=False)]
    assert Order(60, 0).behind(1, parts).count == left
    assert steps_left(60, parts, Part(1, 4, drop_last=True, batches=1, by_chunks=False)) == left // 4


ragged_orders = st.builds(
    lambda samples, seed, chunk_size, window: Order(
        samples,
        seed,
        chunk_size,
        window,
        lengths=torch.randint(1, 50, (samples,), generator=torch.Generator().manual_seed(seed)),
    ),
    st.integers(2, 300),
    st.integers(0, 5),
    st.integers(1, 20),
    st.integers(1, 9),
)


@settings(max_examples=40, deadline=None)
@given(ragged_orders, epochs)
def test_every_sample_comes_once_where_lengths_differ(order: Order, epoch: int) -> None:
    shown = []
    for chunks, rows in order.windows(epoch):
        members = torch.cat([order.members(chunk) for chunk in chunks])
        assert sorted(rows.tolist()) == list(range(len(members)))
        shown += members[rows].tolist()
    assert sorted(shown) == list(range(order.samples))
    twin = Order(order.samples, order.seed, order.chunk_size, order.window, lengths=order.lengths)
    assert [(c, r.tolist()) for c, r in twin.windows(epoch)] == [(c, r.tolist()) for c, r in order.windows(epoch)]


def test_chunks_and_windows_are_of_samples_about_as_long() -> None:
    lengths = torch.randint(5, 61, (5000,), generator=torch.Generator().manual_seed(0))
    order = Order(5000, 0, lengths=lengths)
    chunks = [lengths[order.members(chunk)] for chunk in range(order.chunks)]
    assert sum(len(own) * int(own.max()) for own in chunks) < 1.03 * int(lengths.sum())
    windows = [torch.cat([order.members(chunk) for chunk in chunks]) for chunks, _ in order.windows(0)]
    assert sum(_waste(lengths[ids]) * len(ids) for ids in windows) / 5000 < 0.25
    # The order of windows and their bounds are drawn anew, and chunks are numbered in no order of length.
    others = [torch.cat([order.members(chunk) for chunk in chunks]) for chunks, _ in order.windows(1)]
    assert {tuple(sorted(ids.tolist())) for ids in windows} != {tuple(sorted(ids.tolist())) for ids in others}
    means = [float(lengths[order.members(chunk)].float().mean()) for chunk in range(8)]
    assert means != sorted(means)


def _waste(lengths: torch.Tensor) -> float:
    """The share of padding where all are padded to the longest."""
    return 1 - float(lengths.float().mean() / lengths.max())
