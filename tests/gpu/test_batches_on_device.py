"""From chunks to batches on a device: bytes from pinned memory, floats made there, on a stream of their own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from hoarfrost import Freezer
from hoarfrost.codecs import BFloat16, Codec, Exact, Half, Linear, Shared
from hoarfrost.feeding.loading import feature_batches
from hoarfrost.feeding.window import Window
from hoarfrost.samples.order import Order
from shared.images import PLAIN, images
from shared.nets import resnet
from shared.numbered_source import NumberedSource, spec_of
from shared.runs import sgd

CODECS = [Exact(), Half(), BFloat16(), Linear(8), Linear(3), Shared(200), Shared(20)]


@pytest.mark.parametrize("channel_axis", [1, 3], ids=["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_floats_made_there_are_those_made_on_the_cpu(
    codec: Codec, dtype: torch.dtype, channel_axis: int, device: torch.device
) -> None:
    features = torch.randn(16, 8, 6, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    payload = codec.encode(features, channel_axis)
    packed = codec.unpack(payload, features.shape, dtype, channel_axis)
    there = type(packed)(*(v.to(device) if isinstance(v, Tensor) else v for v in vars(packed).values()))
    assert torch.equal(there.dense().cpu(), packed.dense())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_features_that_lie_there_are_encoded_within_the_bound(
    codec: Codec, dtype: torch.dtype, device: torch.device
) -> None:
    features = torch.randn(16, 8, 6, 5, generator=torch.Generator().manual_seed(1)).to(dtype)
    decoded = codec.decode(codec.encode(features.to(device), 1), features.shape, dtype, 1)
    bound = codec.error_bound(features, 1).view(1, -1, 1, 1)
    assert bool(((decoded.double() - features.double()).abs() <= bound).all())


@pytest.mark.parametrize("concurrent", [False, True], ids=["in the caller", "in threads"])
@pytest.mark.parametrize("codec", [Exact(), Linear(8)], ids=str)
def test_batches_are_those_of_the_cpu(codec: Codec, concurrent: bool, device: torch.device) -> None:
    order = Order(500, 0, chunk_size=16, window=3)
    spec = spec_of(order, codec)
    for epoch in range(3):
        source = NumberedSource(order, spec, concurrent, damaged={2})
        expected = feature_batches(NumberedSource(order, spec), order, spec, epoch, 24)
        found = feature_batches(source, order, spec, epoch, 24, device=device)
        for mine, theirs in itertools.zip_longest(found, expected):
            assert torch.equal(mine.features.cpu(), theirs.features)
            assert torch.equal(mine.targets.cpu(), theirs.targets)
            assert torch.equal(mine.sample_ids, theirs.sample_ids)


def test_a_batch_stays_as_it_is_while_the_next_are_prepared(device: torch.device) -> None:
    """The training's stream lags behind with long products, and reads each batch late."""
    order = Order(4000, 0, chunk_size=64, window=4)
    spec = spec_of(order, Linear(8))
    expected = [batch.features for batch in feature_batches(NumberedSource(order, spec), order, spec, 0, 100)]
    slow = torch.randn(2048 if device.type == "cuda" else 64, 2048 if device.type == "cuda" else 64, device=device)
    found = []
    for batch in feature_batches(NumberedSource(order, spec, True), order, spec, 0, 100, device=device):
        for _ in range(4):
            slow = (slow @ slow).tanh()
        found.append(batch.features + slow.sum() * 0)
        batch.features.zero_()
    assert all(torch.equal(mine.cpu(), theirs) for mine, theirs in zip(found, expected, strict=True))


def test_what_travels_are_bytes_from_pinned_memory(device: torch.device) -> None:
    order = Order(64, 0, chunk_size=16, window=4)
    spec = spec_of(order, Linear(8))
    source, (chunks, rows) = NumberedSource(order, spec), next(iter(order.windows(0)))
    window = Window.gather([source.load(chunk, 0) for chunk in chunks], rows, chunks, order, device)
    assert window.values.dtype == torch.uint8
    pinned = [window.values, window.targets, window.chunk_of, window.scale]
    assert all(part is not None and part.is_pinned() == (device.type == "cuda") for part in pinned)
    assert window.with_tables_on(device).scale.device.type == device.type  # type: ignore[union-attr]


class Named(Dataset[Any]):
    """Items that are no pairs: batches of them are put together from what is carried by sample."""

    def __init__(self, n: int) -> None:
        self.data = images(n, PLAIN)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, number: int) -> dict[str, Any]:
        image, label = self.data[number]
        return {"x": image, "label": label, "name": str(number)}


@contextmanager
def no_waiting(device: torch.device) -> Iterator[None]:
    """Whatever waits for the device raises."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("whole_items", [False, True], ids=["pairs", "whole items"])
def test_a_frozen_epoch_never_waits_for_the_device(whole_items: bool, device: torch.device) -> None:
    model = resnet().to(device)
    optimizer = sgd(model)
    data: Any = Named(320) if whole_items else images(320, PLAIN)
    options: dict[str, Any] = {"policy": {0: "layer1"}, "mode": "cache", "views": 1, "ladder": 8}
    if whole_items:
        options |= {"input": "x"}
    with Freezer(model, data, batch_size=32, epochs=3, optimizer=optimizer, window=2, **options) as freezer:
        for epoch in range(3):
            model.train()
            batches = freezer.batches(epoch)
            # In front of it the front is built on, or looked at for what nobody told of: that waits.
            first = next(batches)
            del first
            with no_waiting(device):
                for batch in batches:
                    inputs, targets = (batch["x"], batch["label"]) if whole_items else batch
                    output = freezer(x=inputs) if whole_items else freezer(inputs)
                    nn.functional.cross_entropy(output, targets).backward()
                    optimizer.step()
                    optimizer.zero_grad()
            freezer.end_epoch()


def test_a_frozen_epoch_takes_less_memory_than_a_full_one(device: torch.device) -> None:
    if device.type != "cuda":
        pytest.skip("torch tells the most that was taken of CUDA devices alone")
    model = resnet().to(device)
    optimizer = sgd(model)
    most = []
    options: dict[str, Any] = {"policy": {1: "layer2"}, "mode": "cache", "views": 1, "ladder": 8}
    with Freezer(model, images(512, PLAIN), batch_size=256, epochs=3, optimizer=optimizer, **options) as freezer:
        for epoch in range(3):
            model.train()
            torch.cuda.reset_peak_memory_stats()
            for inputs, targets in freezer.batches(epoch):
                nn.functional.cross_entropy(freezer(inputs), targets).backward()
                optimizer.step()
                optimizer.zero_grad()
            most.append(torch.cuda.max_memory_allocated())
            freezer.end_epoch()
    assert most[2] < most[0]


def test_images_that_workers_read_are_pinned_and_the_same(device: torch.device) -> None:
    def shown(workers: int) -> list[tuple[Tensor, Tensor]]:
        options: dict[str, Any] = {"policy": "none", "workers": workers, "verbose": False}
        with Freezer(resnet().to(device), images(100, PLAIN), batch_size=32, **options) as freezer:
            assert freezer._data.samples.workers.pinned == (device.type == "cuda" and workers > 0)
            return [(inputs.cpu(), targets.cpu()) for inputs, targets in freezer.batches(0)]

    for (images_, targets), (others, theirs) in zip(shown(0), shown(2), strict=True):
        assert torch.equal(images_, others)
        assert torch.equal(targets, theirs)
