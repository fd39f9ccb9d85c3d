from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hoarfrost.codecs import Codec, Exact, Half, Linear, Packed
from hoarfrost.errors import ArgumentError
from hoarfrost.feeding.loading import Batch, feature_batches, sent_ahead
from hoarfrost.feeding.window import Window
from hoarfrost.samples.order import Order
from hoarfrost.samples.prefix_source import Block
from shared.numbered_source import NumberedSource, batch_sizes, epoch_of, epochs, features_of, ids_of, orders, spec_of


@settings(max_examples=60, deadline=None)
@given(orders, batch_sizes, epochs)
def test_batches_cover_every_sample_once(order: Order, batch_size: int, epoch: int) -> None:
    seen = [i for ids in ids_of(epoch_of(order, batch_size, epoch)) for i in ids]
    assert sorted(seen) == list(range(order.samples))


@settings(max_examples=40, deadline=None)
@given(orders, batch_sizes)
def test_features_and_targets_stay_with_their_samples(order: Order, batch_size: int) -> None:
    for batch in epoch_of(order, batch_size):
        assert torch.equal(batch.features, features_of(batch.sample_ids))
        assert torch.equal(batch.targets, batch.sample_ids * 10)


@settings(max_examples=40, deadline=None)
@given(orders, batch_sizes, epochs, st.integers(0, 12))
def test_to_start_at_a_batch_is_to_skip_those_before(order: Order, batch_size: int, epoch: int, start: int) -> None:
    assert ids_of(epoch_of(order, batch_size, epoch, start)) == ids_of(epoch_of(order, batch_size, epoch)[start:])


def test_a_late_start_loads_no_window_that_lies_in_front() -> None:
    order = Order(64, 0, chunk_size=8, window=2)
    spec = spec_of(order)
    source = NumberedSource(order, spec)
    assert len([*feature_batches(source, order, spec, 0, 8, start=6)]) == 2
    assert len(source.loaded) == 2


def test_a_batch_size_below_one_is_refused() -> None:
    with pytest.raises(ArgumentError, match="batch_size must be at least 1, not 0"):
        epoch_of(Order(10, 0), 0)


@pytest.mark.parametrize("channels_last", [False, True], ids=["NCHW", "channels_last"])
@pytest.mark.parametrize("codec", [Exact(), Half(), Linear(8), Linear(5)], ids=str)
def test_batches_hold_what_decoding_the_chunks_gives(codec: Codec, channels_last: bool) -> None:
    order = Order(50, 0, chunk_size=16, window=2)
    spec = spec_of(order, codec, channels_last)
    source = NumberedSource(order, spec)
    wanted = torch.empty(50, 3, 2, 2)
    for chunk in range(order.chunks):
        wanted[order.members(chunk)] = spec.logical(source.load(chunk, 0).features.dense())
    for batch in feature_batches(source, order, spec, 0, 12):
        assert torch.equal(batch.features, wanted[batch.sample_ids])
        assert batch.features.is_contiguous(
            memory_format=torch.channels_last if channels_last else torch.contiguous_format
        )


def test_quantised_and_dense_chunks_mix_in_one_window() -> None:
    order = Order(32, 0, chunk_size=8, window=4)
    spec = spec_of(order, Linear(8))
    quantised = NumberedSource(order, spec)

    class Mixed(NumberedSource):
        def load(self, chunk: int, epoch: int) -> Block:
            block = quantised.load(chunk, epoch)
            dense = Packed(block.features.dense(), None, None, torch.float32, 1)
            return Block(dense, block.targets) if chunk % 2 else block

    one = [*feature_batches(quantised, order, spec, 0, 8)]
    other = [*feature_batches(Mixed(order, spec), order, spec, 0, 8)]
    assert all(torch.equal(a.features, b.features) for a, b in zip(one, other, strict=True))


def test_a_source_that_may_not_run_in_threads_runs_in_the_caller() -> None:
    order = Order(32, 0, chunk_size=8, window=1)
    spec = spec_of(order)
    source = NumberedSource(order, spec)
    list(feature_batches(source, order, spec, 0, 8))
    assert source.threads == {threading.current_thread().name}


def test_the_next_window_is_loaded_ahead_in_threads() -> None:
    order = Order(32, 0, chunk_size=8, window=1)
    spec = spec_of(order)
    source = NumberedSource(order, spec, concurrent=True)
    list(feature_batches(source, order, spec, 0, 8))
    assert all(name.startswith("hoarfrost-read") for name in source.threads)


@pytest.mark.parametrize("concurrent", [False, True], ids=["caller", "threads"])
def test_a_damaged_chunk_is_recovered_in_the_caller_and_the_epoch_is_the_same(concurrent: bool) -> None:
    order = Order(40, 0, chunk_size=8, window=2)
    spec = spec_of(order)
    source = NumberedSource(order, spec, concurrent, damaged={1, 4})
    batches = [*feature_batches(source, order, spec, 0, 8)]
    assert ids_of(batches) == ids_of(epoch_of(order, 8))
    assert all(torch.equal(batch.features, features_of(batch.sample_ids)) for batch in batches)
    assert sorted(source.recovered) == [(chunk, threading.current_thread().name) for chunk in (1, 4)]


def test_samples_leave_a_batch_with_all_their_entries() -> None:
    lengths, gone = torch.tensor([2, 0, 3, 1]), torch.tensor([False, False, True, False])
    batch = Batch(torch.arange(12.0).view(6, 2), torch.arange(4), torch.tensor([9, 8, 7, 6]), lengths)
    left = batch.without(gone)
    assert left.features[:, 0].tolist() == [0.0, 2.0, 10.0]
    assert left.targets.tolist() == [0, 1, 3]
    assert left.sample_ids.tolist() == [9, 8, 6]
    assert left.lengths is not None
    assert left.lengths.tolist() == [2, 0, 1]
    plain = Batch(torch.arange(8.0).view(4, 2), torch.arange(4), torch.arange(4)).without(gone)
    assert plain.features[:, 1].tolist() == [1.0, 3.0, 7.0]
    assert plain.lengths is None


def test_an_epoch_that_is_broken_off_leaves_no_thread() -> None:
    order = Order(64, 0, chunk_size=8, window=1)
    spec = spec_of(order)
    batches = feature_batches(NumberedSource(order, spec, concurrent=True), order, spec, 0, 8)
    assert len([*islice(batches, 2)]) == 2
    batches.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("hoarfrost-read")]


CPU = torch.device("cpu")
"""Where batches go when it is named: by the way that those for other devices take."""


@pytest.mark.parametrize("damaged", [set(), {1, 4}], ids=["whole", "damaged"])
def test_for_another_device_a_thread_puts_windows_together_with_the_same_bits(
    damaged: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    gather, threads = Window.gather, set()

    def noted(*given: Any) -> Window:
        threads.add(threading.current_thread().name)
        return gather(*given)

    monkeypatch.setattr(Window, "gather", noted)
    order = Order(70, 0, chunk_size=8, window=2)
    spec = spec_of(order, Linear(8))
    expected = [*feature_batches(NumberedSource(order, spec), order, spec, 0, 12)]
    assert threads == {threading.current_thread().name}
    source = NumberedSource(order, spec, concurrent=True, damaged=set(damaged))
    found = [*feature_batches(source, order, spec, 0, 12, device=CPU)]
    assert any(name.startswith("hoarfrost-window") for name in threads)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.features, other.features)
        assert torch.equal(one.targets, other.targets)
        assert torch.equal(one.sample_ids, other.sample_ids)
    assert {name for _, name in source.recovered} <= {threading.current_thread().name}
    assert {chunk for chunk, _ in source.recovered} == damaged


def test_what_is_kept_in_memory_is_loaded_by_nobody_and_put_together_in_the_thread() -> None:
    order = Order(40, 0, chunk_size=8, window=2)
    spec = spec_of(order)

    class Keeping(NumberedSource):
        def kept(self, chunk: int, epoch: int) -> Block | None:
            return NumberedSource(order, spec).load(chunk, epoch)

    source = Keeping(order, spec)
    found = [*feature_batches(source, order, spec, 0, 8, device=CPU)]
    assert source.loaded == []
    assert all(torch.equal(batch.features, features_of(batch.sample_ids)) for batch in found)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("hoarfrost-")]


def test_what_may_not_be_loaded_ahead_is_loaded_in_the_caller() -> None:
    order = Order(40, 0, chunk_size=8, window=2)
    spec = spec_of(order)

    class Mixed(NumberedSource):
        def ahead(self, chunk: int, epoch: int) -> bool:
            return chunk % 2 == 0

        def load(self, chunk: int, epoch: int) -> Block:
            assert threading.current_thread().name.startswith("hoarfrost-read") == (chunk % 2 == 0)
            return super().load(chunk, epoch)

    source = Mixed(order, spec)
    assert ids_of([*feature_batches(source, order, spec, 0, 8)]) == ids_of(epoch_of(order, 8))
    assert sorted(source.loaded) == list(range(order.chunks))


class Streams:
    """Stands for `torch.cuda`: says what was asked of the streams, and does it on the CPU."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.current = "training"

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        streams = self

        class Stream:
            def __init__(self, name: str) -> None:
                self.name = name

            def wait_stream(self, other: Stream) -> None:
                streams.said.append(f"{self.name} waits for {other.name}")

            def record_event(self) -> str:
                streams.said.append(f"event on {self.name}")
                return f"event {sum(line.startswith('event') for line in streams.said)}"

            def wait_event(self, event: str) -> None:
                streams.said.append(f"{self.name} waits for {event}")

        @contextmanager
        def stream(which: Stream) -> Iterator[None]:
            before, streams.current = streams.current, which.name
            yield
            streams.current = before

        monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream("side"))
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream(streams.current))
        monkeypatch.setattr(torch.cuda, "stream", stream)
        monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, s: streams.said.append(f"kept for {s.name}"))


def test_a_batch_is_prepared_on_a_stream_of_its_own_before_the_one_in_front_is_handed_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    streams = Streams()
    streams.install(monkeypatch)

    def batches() -> Iterator[Batch]:
        for number in range(3):
            streams.said.append(f"batch {number} made on {streams.current}")
            yield Batch(torch.full((2, 3), float(number)), torch.zeros(2), torch.arange(2))

    given = []
    for batch in sent_ahead(batches(), torch.device("cuda")):
        given.append(int(batch.features[0, 0]))
        streams.said.append(f"batch {given[-1]} handed out on {streams.current}")
    assert given == [0, 1, 2]
    assert streams.said[:10] == [
        "side waits for training",
        "batch 0 made on side",
        "event on side",
        "batch 1 made on side",
        "event on side",
        "training waits for event 1",
        "kept for training",
        "kept for training",
        "batch 0 handed out on training",
        "batch 2 made on side",
    ]
    assert streams.said[-1] == "batch 2 handed out on training"


@pytest.mark.parametrize("limit", [0, 1 << 30], ids=["bytes are gathered", "floats are gathered"])
@pytest.mark.parametrize("channels_last", [False, True], ids=["NCHW", "channels_last"])
@pytest.mark.parametrize("codec", [Exact(), Half(), Linear(8), Linear(3)], ids=str)
def test_large_and_small_windows_give_the_bits_of_decoding(
    codec: Codec, channels_last: bool, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hoarfrost.feeding.window.DENSE_WINDOW_BYTES", limit)
    order = Order(50, 0, chunk_size=16, window=2)
    spec = spec_of(order, codec, channels_last)

    class Signed(NumberedSource):
        """One chunk's least values are zeros, as behind a ReLU, the others' are not."""

        def load(self, chunk: int, epoch: int) -> Block:
            physical = spec.physical(features_of(self.order.members(chunk)) - (20.0 if chunk else 0.0)).clamp(min=-9)
            physical = physical.relu() if chunk == 1 else physical
            axis = spec.codec_axis
            packed = codec.unpack(codec.encode(physical, axis), tuple(physical.shape), torch.float32, axis)
            return Block(packed, self.order.members(chunk))

    source = Signed(order, spec)
    wanted = torch.empty(50, 3, 2, 2)
    for chunk in range(order.chunks):
        wanted[order.members(chunk)] = spec.logical(source.load(chunk, 0).features.dense())
    for batch in feature_batches(source, order, spec, 0, 12):
        assert batch.features.numpy().tobytes() == wanted[batch.sample_ids].numpy().tobytes()


def test_zeros_keep_their_sign_where_nothing_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hoarfrost.feeding.window.DENSE_WINDOW_BYTES", 0)
    order = Order(4, 0, chunk_size=4, window=1)
    spec = spec_of(order, Linear(8))
    scale = torch.tensor([1.0, -1.0, 0.5])

    class Falling(NumberedSource):
        def load(self, chunk: int, epoch: int) -> Block:
            levels = torch.zeros(4, 3, 2, 2, dtype=torch.uint8)
            return Block(Packed(levels, scale, torch.zeros(3), torch.float32, 1), torch.arange(4))

    (batch,) = feature_batches(Falling(order, spec), order, spec, 0, 4)
    assert not bool(torch.signbit(batch.features).any())


def test_who_writes_into_a_batch_changes_no_other_batch() -> None:
    order = Order(32, 0, chunk_size=8, window=4)
    weight = torch.ones(3, 2, 2, requires_grad=True)
    batches = feature_batches(NumberedSource(order, spec := spec_of(order)), order, spec, 0, 8)
    first, second = next(batches), next(batches)
    loss = (first.features * weight).sum()
    second.features.zero_()
    # Batches share a window's memory, but autograd must not take the writing for one into what it has saved.
    loss.backward()
    assert torch.equal(weight.grad, features_of(first.sample_ids).sum(0))
    assert all(torch.equal(batch.features, features_of(batch.sample_ids)) for batch in batches)


@dataclass
class CountingSource(NumberedSource):
    """Counts the chunks of which the levels are in memory at once."""

    alive: list[weakref.ref[Tensor]] = field(default_factory=list)
    most: int = 0
    lock: Any = field(default_factory=threading.Lock)

    def load(self, chunk: int, epoch: int) -> Block:
        levels = torch.zeros(32, 3, 2, 2, dtype=torch.uint8)
        with self.lock:
            self.alive = [found for found in self.alive if found() is not None] + [weakref.ref(levels)]
            self.most = max(self.most, len(self.alive))
        return Block(Packed(levels, torch.ones(3), torch.zeros(3), torch.float32, 1), torch.arange(32))


@pytest.mark.parametrize("chunks", [32, 256])
def test_no_more_than_a_windows_chunks_wait_whatever_the_size_of_the_data(chunks: int) -> None:
    order = Order(32 * chunks, 0, chunk_size=32, window=4)
    source = CountingSource(order, spec_of(order, Linear(8)), concurrent=True)
    for _ in feature_batches(source, order, source.spec, 0, 16):
        pass
    # Those of the window in front were copied and let go; each of the two threads may still hold its last one.
    assert 4 <= source.most <= 6
