"""The most important test of the project: stored features train as the recomputed ones do, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.transforms import v2

from hoarfrost import Freezer, Schedule, TrainState
from hoarfrost.cache import MemoryCache
from hoarfrost.storing.build import fill
from hoarfrost.storing.fingerprint import fingerprint_of
from hoarfrost.storing.storage import Storage
from shared.grids import grid
from shared.images import NORMALISE, PLAIN, RANDOM, images
from shared.nets import in_place, resnet, vit
from shared.runs import Trace, adamw, assert_same_run, assert_same_tensors, sgd, train


def one_deeper_each_epoch(state: TrainState) -> int:
    return min(state.epoch, len(state.cuts) - 1)


def as_losses_fall(state: TrainState) -> int:
    return min(2 * len(state.metrics), len(state.cuts) - 1) if state.metrics else 0


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[str, str]]] = {
    "cifar_resnet": (resnet, ("layer1", "layer2")),
    "in place": (in_place, ("features.2", "features.7")),
    "vit": (vit, ("encoder.layers.encoder_layer_0", "encoder.layers.encoder_layer_1")),
}


def both(make: Callable[[], nn.Module], **options: Any) -> tuple[Trace, Trace]:
    data = images(150, options.pop("transform", PLAIN))
    cached = train(make(), data, mode="cache", **options)
    recomputed = train(make(), data, mode="recompute", **options)
    assert set(cached.choices) == {"cache"}
    assert set(recomputed.choices) == {"recompute"}
    return cached, recomputed


@grid(kind=MODELS, make_optimizer={"sgd": sgd, "adamw": adamw})
def test_a_cached_run_is_the_recomputing_run(
    kind: tuple[Callable[[], nn.Module], tuple[str, str]], make_optimizer: Callable[[nn.Module], Any]
) -> None:
    make, points = kind
    policy = Schedule({1: points[0], 2: points[1]})
    assert_same_run(*both(make, policy=policy, make_optimizer=make_optimizer, epochs=3))


POLICIES: dict[str, Any] = {
    "even": "schedule",
    "from the start": {0: "stem", 2: "layer2"},
    "depths": {1: 2},
    "each epoch": one_deeper_each_epoch,
    "by metrics": as_losses_fall,
}


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_the_law_holds_for_the_policy(policy: Any) -> None:
    cached, recomputed = both(resnet, policy=policy)
    assert_same_run(cached, recomputed)


def test_the_law_holds_in_channels_last() -> None:
    def make() -> nn.Module:
        return resnet().to(memory_format=torch.channels_last)

    assert_same_run(*both(make, policy={1: "layer1"}, channels_last=True, epochs=3))


def test_the_law_holds_for_a_prefix_with_batches_of_odd_sizes() -> None:
    assert_same_run(*both(in_place, policy={1: "features.2"}, batch_size=37, window=1, epochs=3))


def test_the_law_holds_with_workers() -> None:
    assert_same_run(*both(in_place, policy={1: "features.2"}, workers=1, epochs=3))


def test_the_law_holds_for_other_dtypes() -> None:
    double = v2.Compose([*NORMALISE, v2.ToDtype(torch.float64)])
    assert_same_run(*both(lambda: resnet().double(), policy={1: "layer1"}, transform=double, epochs=3))


def test_a_cached_run_is_the_run_on_the_cache_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    data = images(150, RANDOM)
    options: dict[str, Any] = {"policy": {1: "layer1"}, "views": 2, "ladder": 4, "epochs": 4}
    on_disk = train(resnet(), data, **options)

    def in_memory(
        self: Storage, division: Any, plan: Any, way: Any, source: Any, built: Any, content: Any
    ) -> tuple[tuple[MemoryCache, ...], list[str]]:
        (spec,) = plan.specs
        writer = MemoryCache.create(None, fingerprint_of(division, self._data, spec, way, "random"), spec)
        fill({0: writer}, division, self._data, self._views, [spec], source, None, None)  # type: ignore[dict-item]
        cache = writer.commit()
        cache.path = self._directory
        return (cache,), []

    monkeypatch.setattr(Storage, "_stored", in_memory)
    assert_same_run(train(resnet(), data, **options), on_disk)


def test_one_seed_gives_one_run() -> None:
    data = images(150, RANDOM)
    options: dict[str, Any] = {"policy": {1: "features.2"}, "views": 2, "ladder": "auto", "epochs": 3}
    assert_same_run(train(in_place(), data, **options), train(in_place(), data, **options))


def test_another_seed_gives_another_run() -> None:
    data = images(150, PLAIN)
    assert train(resnet(), data, epochs=1).losses != train(resnet(), data, epochs=1, seed=1).losses


@pytest.mark.parametrize("mode", ["cache", "recompute"])
@pytest.mark.parametrize(("make", "points"), MODELS.values(), ids=MODELS)
def test_training_moves_no_parameter_or_buffer_of_the_prefix(
    make: Callable[[], nn.Module], points: tuple[str, str], mode: str
) -> None:
    model = make()
    frozen: dict[str, torch.Tensor] = {}

    def remember(freezer: Freezer, epoch: int) -> None:
        if epoch == 0:
            assert freezer._front.division is not None
            frozen.update({name: value.clone() for name, value in freezer._front.division.prefix.state_dict().items()})

    end = train(model, images(100, PLAIN), policy={1: points[1]}, mode=mode, epochs=3, after_epoch=remember)
    assert frozen
    assert_same_tensors(frozen, {name: end.weights[name] for name in frozen})
    moved = [name for name in end.weights if name not in frozen]
    start = make().state_dict()
    assert any(not torch.equal(start[name], end.weights[name]) for name in moved)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("make", "points"), MODELS.values(), ids=MODELS)
def test_the_law_holds_on_cuda(
    make: Callable[[], nn.Module], points: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    try:
        assert_same_run(*both(lambda: make().cuda(), policy=Schedule({1: points[0], 2: points[1]}), epochs=3))
    finally:
        torch.use_deterministic_algorithms(False)
