"""The test set as stored features behind a freeze."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hoarfrost import Freezer
from hoarfrost.errors import ArgumentError
from hoarfrost.feeding.evaluation import Evaluation
from shared.images import PLAIN, RANDOM, CountingImages, images
from shared.nets import resnet

N, TESTED = 130, 90


def freezer_of(model: nn.Module, **options: Any) -> Freezer:
    given = {
        "policy": {1: "layer1", 2: "layer2"},
        "mode": "cache",
        "epochs": 4,
        "batch_size": 65,
        "views": 1,
        **options,
    }
    return Freezer(model, images(N, RANDOM), **given)


def outputs(call: Callable[[Any], Any], batches: Any) -> list[Tensor]:
    with torch.no_grad():
        return [call(inputs) for inputs, _ in batches]


def on(freezer: Freezer, epoch: int) -> None:
    """Train one epoch's worth of nothing, and freeze what comes next."""
    [*freezer.batches(epoch)]
    freezer.end_epoch()


def equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_outputs_have_the_models_own_bits_and_no_image_is_read_twice_for_one_freeze() -> None:
    model, data = resnet(), CountingImages(TESTED)
    with freezer_of(model, settle="last") as freezer:
        evaluation = freezer.evaluation(data, PLAIN, batch_size=40, codec="exact")
        assert len(evaluation) == 3
        plain = [*evaluation]
        assert torch.equal(torch.cat([t for _, t in plain]), torch.tensor([data[i][1] for i in range(TESTED)]))
        model.eval()
        wanted = outputs(model, plain)
        assert equal(outputs(freezer, plain), wanted)
        for epoch in range(2):
            on(freezer, epoch)
            model.eval()
            for first in (True, False, False):
                data.reads = 0
                assert equal(outputs(freezer, evaluation), wanted)
                assert data.reads == (TESTED if first else 0)
        shapes = {tuple(inputs.shape[1:]) for inputs, _ in evaluation}
        assert freezer.cut is not None
        assert shapes == {freezer.cut.shape}


def test_eight_bits_are_near_and_every_pass_shows_the_same() -> None:
    model = resnet()
    with freezer_of(model, policy={0: "layer1"}) as freezer:
        freezer.decide()
        evaluation = freezer.evaluation(images(TESTED), PLAIN, batch_size=40)
        model.eval()
        wanted = outputs(model, [(x, t) for x, t in plain_batches()])
        first, second = outputs(freezer, evaluation), outputs(freezer, evaluation)
        assert equal(first, second)
        assert not equal(first, wanted)
        assert all(torch.allclose(a, b, atol=0.05) for a, b in zip(first, wanted, strict=True))


def plain_batches() -> list[tuple[Tensor, Tensor]]:
    data = images(TESTED, PLAIN)
    pairs = [data[i] for i in range(TESTED)]
    ids = torch.split(torch.arange(TESTED), 40)
    return [(torch.stack([pairs[i][0] for i in part]), torch.tensor([pairs[i][1] for i in part])) for part in ids]


def held(directory: Path) -> list[Path]:
    return [path for path in (directory / "evaluation").glob("*") if path.is_dir()]


def test_a_freeze_drops_what_belongs_to_the_cut_before_and_close_drops_the_rest(tmp_path: Path) -> None:
    with freezer_of(resnet(), cache_dir=tmp_path) as freezer:
        evaluation = freezer.evaluation(images(TESTED), PLAIN)
        on(freezer, 0)
        assert len([*evaluation]) == 1
        (first,) = held(tmp_path)
        assert evaluation.nbytes > 0
        on(freezer, 1)
        assert held(tmp_path) == []
        assert len([*evaluation]) == 1
        (second,) = held(tmp_path)
        assert first != second
    assert held(tmp_path) == []


def test_a_pass_that_is_broken_off_leaves_nothing_and_the_next_is_whole(tmp_path: Path) -> None:
    with freezer_of(resnet(), cache_dir=tmp_path, policy={0: "layer1"}) as freezer:
        evaluation = freezer.evaluation(images(TESTED), PLAIN, batch_size=40)
        for _ in evaluation:
            break
        assert held(tmp_path) == []
        assert len([*evaluation]) == len([*evaluation]) == 3


def test_without_room_the_prefix_runs_and_it_is_said_once(tmp_path: Path) -> None:
    model = resnet()
    with freezer_of(model, policy={0: "layer1"}, cache_dir=tmp_path, ladder=4) as freezer:
        [*freezer.batches(0)]
        budget = freezer._feeder.nbytes + 1000
    with freezer_of(model, policy={0: "layer1"}, cache_dir=tmp_path, ladder=4, disk_budget=budget) as tight:
        [*tight.batches(0)]
        assert tight.source == "cache"
        evaluation = tight.evaluation(images(TESTED), PLAIN, batch_size=40)
        model.eval()
        with pytest.warns(UserWarning, match="evaluates without stored features until the next freeze: "):
            first = outputs(tight, evaluation)
        assert equal(first, outputs(model, plain_batches()))
        assert equal(first, outputs(tight, evaluation))
        assert held(tmp_path) == []


def test_a_damaged_record_is_computed_again(tmp_path: Path) -> None:
    with freezer_of(resnet(), policy={0: "layer1"}, cache_dir=tmp_path) as freezer:
        freezer.decide()
        evaluation = freezer.evaluation(images(TESTED), PLAIN, codec="exact")
        before = [x for x, _ in evaluation]
        (path,) = held(tmp_path)
        file = path / "features.bin"
        file.write_bytes(bytes(file.stat().st_size))
        assert equal(before, [x for x, _ in evaluation])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"transform": RANDOM}, "evaluation needs a transform that gives the same image each time, not "),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, not 0"),
        ({"codec": "auto"}, "evaluation stores with one codec, not with a ladder of 26: 'auto'"),
    ],
    ids=["random", "batch size", "ladder"],
)
def test_what_cannot_be_meant_is_refused(options: dict[str, Any], words: str) -> None:
    with freezer_of(resnet()) as freezer, pytest.raises(ArgumentError, match=words):
        freezer.evaluation(images(TESTED), **{"transform": PLAIN, **options})


def test_a_run_that_recomputes_as_asked_stores_no_features_for_its_evaluation_either(tmp_path: Path) -> None:
    with freezer_of(resnet(), policy={0: "layer1"}, mode="recompute", cache_dir=tmp_path) as freezer:
        evaluation: Evaluation = freezer.evaluation(images(TESTED), PLAIN)
        assert len([*evaluation]) == 1
        assert not (tmp_path / "evaluation").exists()
