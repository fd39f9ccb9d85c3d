"""Batches that are mixed, as images and then as features."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torchvision.transforms import v2

from hoarfrost import Freezer
from hoarfrost.augment import Mixing
from hoarfrost.errors import (
    ArgumentError,
)
from shared.grids import grid
from shared.images import RANDOM, images
from shared.nets import resnet, vit

MIXUP, CUTMIX = v2.MixUp(num_classes=10), v2.CutMix(num_classes=10)


def mixed_freezer(model: Any, mix: Any, **options: Any) -> Freezer:
    given = {"policy": {1: options.pop("cut", "layer1")}, "mode": "cache", "ladder": "exact", "epochs": 3, **options}
    return Freezer(model, images(150, RANDOM), batch_size=50, mix=mix, **given)


CUTS = {"map": (resnet, "layer1"), "vector": (resnet, "pool"), "tokens": (vit, "encoder.layers.encoder_layer_0")}
MIXES = {"mixup": MIXUP, "cutmix": CUTMIX, "either": v2.RandomChoice([MIXUP, CUTMIX])}


@grid(where=CUTS, mix=MIXES)
def test_images_and_then_features_are_mixed_with_their_labels(where: tuple[Any, str], mix: Any) -> None:
    make, cut = where
    # In eval, so that running the mixed batches moves no statistics.
    with mixed_freezer(make().eval(), mix, cut=cut) as mixing, mixed_freezer(make().eval(), None, cut=cut) as plain:
        for epoch in range(3):
            for step, ((inputs, targets), (alone, labels)) in enumerate(
                zip(mixing.batches(epoch), plain.batches(epoch), strict=True)
            ):
                drawn = Mixing.of(mix).draw(0, epoch, step)
                assert inputs.shape == alone.shape
                assert torch.allclose(targets.sum(1), torch.ones(len(targets)))
                one_hot = torch.nn.functional.one_hot(labels, 10).float()
                share = float(((targets * one_hot).sum(1)).min())
                assert torch.allclose(targets, share * one_hot + (1 - share) * one_hot.roll(1, 0), atol=1e-5)
                if drawn.kind == "mixup" or cut == "pool":
                    wanted = drawn.share * alone + (1 - drawn.share) * alone.roll(1, 0)
                    if epoch or drawn.kind == "mixup":
                        assert torch.allclose(inputs, wanted, atol=1e-5)
                loss = torch.nn.functional.cross_entropy(mixing(inputs), targets)
                assert bool(loss.isfinite())
            mixing.end_epoch()
            plain.end_epoch()


def test_mixed_batches_are_the_same_when_an_epoch_is_taken_up_in_the_middle() -> None:
    with mixed_freezer(resnet(), MIXUP) as freezer:
        whole = list(freezer.batches(0))
        rest = list(freezer.batches(0, start=1))
    assert all(torch.equal(a, b) and torch.equal(s, t) for (a, s), (b, t) in zip(whole[1:], rest, strict=True))


def test_what_is_mixed_is_said() -> None:
    with mixed_freezer(resnet(), CUTMIX) as freezer:
        assert freezer.describe()[-1] == "each batch: CutMix (100% of the batches)"


def test_the_data_sets_classes_are_the_number_of_classes() -> None:
    with mixed_freezer(resnet(), v2.MixUp()) as freezer:
        assert next(iter(freezer.batches(0)))[1].shape == (50, 10)


def test_mixing_needs_one_tensor_across_the_cut() -> None:
    with pytest.raises(ArgumentError, match="mix needs cuts that one tensor crosses"):
        mixed_freezer(resnet(), MIXUP, max_tensors=2)
