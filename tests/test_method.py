"""`method="paper"` is a set of defaults, each an option; and the law holds for the options that it is made of."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from hoarfrost import Chunks, Freezer, Noise, Selection, Views, plan
from hoarfrost.codecs import ZFP, Bounded
from hoarfrost.errors import ArgumentError
from hoarfrost.policies import Stages
from hoarfrost.running import RunConfig
from hoarfrost.settings import METHODS, Settings, fields_of, with_method
from shared.freezers import N, end_epoch, freezer_of, record
from shared.images import NORMALISE, PLAIN, RANDOM, images
from shared.nets import resnet
from shared.runs import Trace, assert_same_run, sgd, train, train_epoch

EIGHT = Chunks(8, "neighbours")
CHUNKED: dict[str, Any] = {"chunks": EIGHT, "window": 0, "batch_size": 64}


def both(**options: Any) -> tuple[Trace, Trace]:
    data = images(N, options.pop("transform", PLAIN))
    cached, recomputed = (train(resnet(), data, mode=mode, epochs=4, **options) for mode in ("cache", "recompute"))
    assert (set(cached.choices), set(recomputed.choices)) == ({"cache"}, {"recompute"})
    return cached, recomputed


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"chunks": 8},
        {"window": 3},
        {"batch_size": 50},
        {"noise": Noise((0.1, 0.05), (0.0, 1.0))},
        {"policy": {1: "layer1", 2: "layer2"}, "noise": {"std": [0.1, 0.05], "blur": 0.7, "alike": True}},
    ],
    ids=["neighbours", "random", "window", "uneven batches", "noise", "deeper"],
)
def test_the_law_holds_for_chunks_of_eight_and_for_noise(more: dict[str, Any]) -> None:
    assert_same_run(*both(policy=more.pop("policy", {1: "layer1"}), **{**CHUNKED, **more}))


@pytest.mark.long
def test_the_law_holds_for_the_method() -> None:
    with pytest.warns(UserWarning, match="no step of the transform flips from side to side"):
        runs = both(
            method="paper", ladder="exact", batch_size=64, policy={1: "layer1", 2: "layer2"}, views={"count": 2}
        )
    assert_same_run(*runs)


def test_noise_does_something() -> None:
    data = images(N, PLAIN)
    quiet, loud = (train(resnet(), data, noise=noise, epochs=3) for noise in (0.0, 0.1))
    assert quiet.losses[:3] == loud.losses[:3]
    assert quiet.losses[3:] != loud.losses[3:]


def test_only_chunks_are_shuffled_and_their_members_are_neighbours() -> None:
    with freezer_of(data=images(128, PLAIN), policy={0: "layer1"}, **CHUNKED) as freezer:
        orders = []
        for epoch in range(2):
            batches = [ids for *_, ids in _ids(freezer, epoch)]
            assert [len(batch) for batch in batches] == [64, 64]
            chunks = [{int(i) // 8 for i in batch} for batch in batches]
            assert all(len(a & b) == 0 for n, a in enumerate(chunks) for b in chunks[n + 1 :])
            orders.append(chunks)
        assert orders[0] != orders[1]


def _ids(freezer: Freezer, epoch: int) -> Iterator[tuple[list[int], Tensor]]:
    order, size = freezer._data.order, freezer.batch_size
    seen = torch.cat([torch.cat([order.members(c) for c in chunks])[rows] for chunks, rows in order.windows(epoch)])
    for ids in seen.split(size):
        yield ids.tolist(), ids


def test_each_value_is_that_of_the_authors_code() -> None:
    told = with_method({"method": "paper"})
    views = Views.of(told["views"])
    assert (views.metric, views.channels, views.base, views.further) == (
        "ssim",
        Selection(share=0.3),
        "clean",
        "mirrored",
    )
    assert (views.derived, views.border, views.grain, views.count) == (1.0, "zeros", "chunk", 2)
    assert Chunks.of(told["chunks"]) == EIGHT
    assert Noise.of(told["noise"]) == Noise((0.03, 0.01), (0.0, 1.0), alike=True)
    assert set(METHODS["paper"]) <= set(fields_of(Settings))


def test_what_is_told_beside_the_method_wins() -> None:
    told = with_method({"method": "paper", "window": 16, "views": {"metric": "psnr"}, "chunks": 16, "noise": 0})
    views = Views.of(told["views"])
    assert (views.metric, views.grain, told["window"]) == ("psnr", "chunk", 16)
    assert Chunks.of(told["chunks"]) == Chunks(16, "neighbours")
    assert Noise.of(told["noise"]) == Noise()
    assert with_method({"method": "paper", "views": Views(3)})["views"] == Views(3)
    assert with_method({"method": "paper", "views": 1})["views"]["count"] == 1
    assert with_method({"window": 3}) == {"window": 3}
    with pytest.raises(ArgumentError, match="method must be one of 'paper', not 'papyrus'"):
        with_method({"method": "papyrus"})


@pytest.mark.long
def test_a_freezer_takes_the_method_and_freezes_as_it_says() -> None:
    """Stages at 3/16 and 6/16 of the epochs; of the mirror image three channels in ten."""
    model = resnet()
    optimizer = sgd(model)
    with Freezer(
        model, images(N, RANDOM), batch_size=64, epochs=16, optimizer=optimizer, method="paper", verbose=False
    ) as freezer:
        assert freezer.policy == Stages()
        trace = Trace([], [], {}, [])
        for epoch in range(7):
            train_epoch(freezer, optimizer, epoch, trace)
        freezes = [entry for entry in freezer.history if entry["event"] == "freeze"]
        assert [(entry["epoch"], entry["cut"], entry["choice"]) for entry in freezes] == [
            (3, "layer1", "cache"),
            (6, "layer2", "cache"),
        ]
        assert freezer.cache is not None
        spec = freezer.cache.spec
        assert (spec.chunk_size, spec.views, len(spec.view_channels[1] or ())) == (8, 2, round(0.3 * spec.channels))
        assert isinstance(spec.codec, ZFP | Bounded)
        assert freezer.cache.fingerprint.fields["order"]["members"] == "neighbours"
        assert freezer.cache.fingerprint.fields["views"]["further"] == "mirrored"


@pytest.mark.long
def test_a_run_that_goes_on_in_the_middle_of_an_epoch_sees_the_same(tmp_path: Path) -> None:
    options: dict[str, Any] = {"method": "paper", "batch_size": 64, "policy": {1: "layer1"}, "cache_dir": tmp_path}
    model = resnet()
    optimizer = sgd(model)
    with freezer_of(model, images(N, RANDOM), optimizer=optimizer, ladder=8, **_without("ladder", options)) as freezer:
        trace = Trace([], [], {}, [])
        for epoch in range(2):
            train_epoch(freezer, optimizer, epoch, trace)
        state, weights, momenta = freezer.state_dict(), _copied(model), optimizer.state_dict()
        wanted = [*freezer.batches(2)]
        again = resnet()
        again.load_state_dict(weights)
        other = sgd(again)
        with freezer_of(again, images(N, RANDOM), optimizer=other, ladder=8, **_without("ladder", options)) as resumed:
            resumed.load_state_dict(state)
            other.load_state_dict(momenta)
            for start in (0, 1, 2):
                found = [*resumed.batches(2, start)]
                assert len(found) == len(wanted) - start
                assert all(torch.equal(a, b) for (a, _), (b, _) in zip(found, wanted[start:], strict=True))


def _without(name: str, options: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key != name}


def _copied(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_every_epoch_sees_other_renditions_and_no_other_channels_than_those_stored_are_exact() -> None:
    views = {"base": "clean", "further": "mirrored", "derived": 1.0, "grain": "chunk", "metric": "ssim"}
    with freezer_of(
        data=images(N, RANDOM), policy={0: "layer1"}, views={**views, "channels": {"share": 0.5}}, **CHUNKED
    ) as freezer:
        first, second = ([*freezer.batches(epoch)] for epoch in range(2))
        assert not torch.equal(first[0][0], second[0][0])
        assert record(freezer)["views"] == 2
        assert len(record(freezer)["stored_channels"]) == 2


def test_with_no_channel_stored_there_is_no_further_view() -> None:
    views = {"base": "clean", "further": "mirrored", "derived": 1.0, "channels": {"share": 0.0}}
    with freezer_of(data=images(N, RANDOM), policy={0: "layer1"}, views=views) as freezer:
        assert len([*freezer.batches(0)]) == 3
        assert record(freezer)["views"] == 1


def test_one_rendition_for_a_chunk_needs_targets_that_stay() -> None:
    class Masks(torch.utils.data.Dataset[Any]):
        transform = None

        def __len__(self) -> int:
            return 40

        def __getitem__(self, index: int) -> Any:
            from torchvision import tv_tensors

            image = torch.full((1, 28, 28), index / 40)
            return tv_tensors.Image(image), tv_tensors.Mask((image[0] > 0).long())

    moving = v2.Compose([v2.RandomHorizontalFlip()])
    with pytest.raises(ArgumentError, match='views of the grain "chunk" need targets that do not move'):
        Freezer(
            torch.nn.Sequential(torch.nn.Conv2d(1, 3, 3), torch.nn.ReLU(), torch.nn.Conv2d(3, 2, 3)),
            Masks(),
            transform=moving,
            batch_size=8,
            epochs=2,
            views={"grain": "chunk"},
            policy={0: 1},
        )


def test_a_configuration_keeps_the_method_and_what_is_told_beside_it(tmp_path: Path) -> None:
    told = {"method": "paper", "window": 16, "views": {"metric": "psnr"}, "chunks": 16, "out": str(tmp_path)}
    config = RunConfig.told(**told)
    assert (config.storing.views.metric, config.storing.views.further) == ("psnr", "mirrored")
    assert (config.reading.window, config.reading.chunks, config.points) == (16, Chunks(16, "neighbours"), "stages")
    config.write(tmp_path / "config.yaml")
    assert RunConfig.told(tmp_path / "config.yaml") == config
    ordinary = RunConfig.told(
        method="paper", views={"further": "random", "count": 2, "base": "random"}, chunks=Chunks()
    )
    ordinary.write(tmp_path / "other.yaml")
    assert RunConfig.told(tmp_path / "other.yaml") == ordinary
    assert RunConfig.told(tmp_path / "other.yaml", window=4).reading.window == 4


def test_the_keywords_of_a_configuration_make_the_same_freezer() -> None:
    keywords = RunConfig.told(method="paper", epochs=8, window=5, batch_size=32).keywords
    model = resnet()
    given = {**keywords, "cache_dir": None, "optimizer": sgd(model), "verbose": False}
    with Freezer(model, images(N, RANDOM), **given) as freezer:
        assert (freezer.policy, freezer._data.order.window, freezer._data.order.chunk_size) == (Stages(), 5, 8)


@pytest.mark.long
def test_a_plan_knows_the_method() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = plan(resnet(), images(N, RANDOM), batch_size=64, epochs=16, method="paper", ladder=4, probe=N)
    assert [(stage.epoch, stage.cut, stage.choice) for stage in found.stages] == [
        (0, None, "images"),
        (3, "layer1", "cache"),
        (6, "layer2", "cache"),
    ]
    cut = next(cut for cut in found.cuts if cut.cut.name == "layer1")
    assert cut.views == 2
    assert 0 < cut.rung.further_bytes < cut.rung.view_bytes


def test_harm_by_structure_is_measured_on_what_a_flip_does(tmp_path: Path) -> None:
    """Channels are stored by the similarity of front(flip(x)) and flip(front(x)), whatever else the transform does."""
    views = {"base": "clean", "further": "mirrored", "derived": 1.0, "metric": "ssim", "channels": {"share": 0.5}}
    transform = v2.Compose([v2.RandomCrop(28, padding=4), v2.RandomHorizontalFlip(), *NORMALISE])
    with freezer_of(data=images(N, transform), policy={0: "layer1"}, views=views, batch_size=64) as freezer:
        end_epoch(freezer)
        found = torch.tensor(record(freezer)["sensitivity"])
        model = freezer.model.eval()
        ids = torch.cat([freezer._data.order.members(chunk) for chunk in range(1)])
        plain = images(N, PLAIN)
        x = torch.stack([plain[int(i)][0] for i in ids])
        with torch.no_grad():
            front = [model.layer1(model.stem(images)) for images in (x, x.flip(3))]  # type: ignore[operator, union-attr]
        from hoarfrost.storing.structural_similarity import structural_similarity

        wanted = 1 - structural_similarity(front[1], front[0].flip(3)).mean(0)
        assert torch.allclose(found.double(), wanted.clamp(min=0), atol=1e-5)
