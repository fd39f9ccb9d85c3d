"""MixUp and CutMix on images and on features, with labels that follow."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.transforms import v2

from hoarfrost.augment import Grid, Mix, Mixing, Pipeline
from hoarfrost.errors import ArgumentError

MIXUP, CUTMIX = v2.MixUp(num_classes=5), v2.CutMix(num_classes=5)
BOTH = v2.RandomChoice([MIXUP, CUTMIX])


def batch(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


LABELS = torch.tensor([0, 3, 4, 1, 2, 0])


@pytest.mark.parametrize("transform", [MIXUP, CUTMIX], ids=["mixup", "cutmix"])
@pytest.mark.parametrize("seed", range(5))
def test_images_and_labels_are_torchvisions_given_its_decisions(transform: Any, seed: int) -> None:
    images = batch(6, 3, 13, 20)
    torch.manual_seed(seed)
    params = transform.make_params([images])
    torch.manual_seed(seed)
    wanted, labels = transform(images, LABELS)
    mixing = Mixing.of(transform)
    if "box" in params:
        x1, y1, x2, y2 = params["box"]
        mix = Mix("cutmix", 0.5)
        object.__setattr__(mix, "box", lambda size: (y1, x1, y2, x2))
        found, share = mixing.on_images(images, mix)
        assert share == pytest.approx(params["lam_adjusted"])
    else:
        found, share = mixing.on_images(images, Mix("mixup", params["lam"]))
    assert torch.equal(found, wanted)
    assert torch.allclose(mixing.on_targets(LABELS, share), labels)


@given(st.floats(0, 1), st.floats(0, 0.999), st.floats(0, 0.999), st.integers(1, 40), st.integers(1, 40))
def test_a_box_is_that_of_torchvision_for_the_same_share_and_centre(
    share: float, y: float, x: float, height: int, width: int
) -> None:
    top, left, bottom, right = Mix("cutmix", share, (y, x)).box((height, width))
    r_y, r_x, r = int(y * height), int(x * width), 0.5 * (1 - share) ** 0.5
    assert (top, bottom) == (max(r_y - int(r * height), 0), min(r_y + int(r * height), height))
    assert (left, right) == (max(r_x - int(r * width), 0), min(r_x + int(r * width), width))


def draws(transform: Any, count: int = 400) -> list[Mix]:
    mixing = Mixing.of(transform)
    return [mixing.draw(0, 1, step) for step in range(count)]


def test_a_draw_is_a_function_of_seed_epoch_and_step() -> None:
    mixing = Mixing.of(BOTH)
    state = torch.get_rng_state()
    found = [mixing.draw(s, e, n) for s in range(3) for e in range(3) for n in range(3)]
    assert found == [mixing.draw(s, e, n) for s in range(3) for e in range(3) for n in range(3)]
    assert len(set(found)) == 27
    assert torch.equal(torch.get_rng_state(), state)


def test_shares_are_beta_centres_uniform_and_kinds_as_often_as_asked() -> None:
    shares = torch.tensor([mix.share for mix in draws(v2.MixUp(alpha=0.2, num_classes=5))])
    assert abs(float(shares.mean()) - 0.5) < 0.06
    assert abs(float(shares.var()) - 0.25 / (2 * 0.2 + 1)) < 0.03
    centres = torch.tensor([mix.centre for mix in draws(CUTMIX)])
    assert abs(centres.mean(0) - 0.5).max() < 0.05
    assert abs(centres.var(0) - 1 / 12).max() < 0.02
    chosen = [mix.kind for mix in draws(v2.RandomChoice([MIXUP, CUTMIX, v2.Identity()], p=[0.5, 0.3, 0.2]))]
    assert [round(chosen.count(kind) / 400, 1) for kind in ("mixup", "cutmix", "none")] == [0.5, 0.3, 0.2]
    applied = [mix.kind for mix in draws(v2.RandomApply([MIXUP], p=0.25))]
    assert abs(applied.count("mixup") / 400 - 0.25) < 0.07


@pytest.mark.parametrize("transform", [MIXUP, CUTMIX], ids=["mixup", "cutmix"])
@pytest.mark.parametrize("step", range(6))
def test_for_the_identity_features_are_mixed_as_images_are(transform: Any, step: int) -> None:
    mixing = Mixing.of(transform)
    images, mix = batch(6, 3, 12, 8), mixing.draw(0, 0, step)
    wanted, share = mixing.on_images(images, mix)
    found = mixing.on_features(images, mix, Grid((12, 8), (12, 8)))
    assert torch.equal(found[0], wanted)
    assert found[1] == share
    tokens = images.flatten(2).movedim(1, 2)
    found = mixing.on_features(tokens, mix, Grid((12, 8), (12, 8), "tokens"))
    assert torch.allclose(found[0], wanted.flatten(2).movedim(1, 2))
    assert found[1] == share


@pytest.mark.parametrize("bias", [False, True])
def test_mixup_commutes_with_a_linear_prefix(bias: bool) -> None:
    prefix, images = nn.Conv2d(3, 4, 3, 2, 1, bias=bias), batch(6, 3, 8, 8)
    mixing = Mixing.of(MIXUP)
    mix = mixing.draw(0, 0, 1)
    with torch.no_grad():
        wanted = prefix(mixing.on_images(images, mix)[0])
        found = mixing.on_features(prefix(images), mix)[0]
    assert torch.allclose(found, wanted, atol=1e-5)


def test_cutmix_is_exact_inside_the_box_of_a_strided_prefix() -> None:
    prefix, images = nn.AvgPool2d(4), batch(6, 3, 32, 32)
    mixing, mix = Mixing.of(CUTMIX), Mix("cutmix", 0.75, (0.5, 0.25))
    assert mix.box((32, 32)) == (8, 0, 24, 16)
    wanted, share = mixing.on_images(images, mix)
    found, cells = mixing.on_features(prefix(images), mix, Grid((32, 32), (8, 8)))
    assert torch.allclose(found, prefix(wanted))
    assert share == cells == 1 - 16 * 16 / 32**2


def test_a_box_covers_the_cells_whose_centres_lie_in_it() -> None:
    mix = Mix("cutmix", 0.75, (0.5, 0.25))
    assert mix.box((32, 32)) == (8, 0, 24, 16)
    even, overlapping = (Grid.of((32, 32), (8, 8), stride=(4, 4), offset=(at, at)) for at in (1.5, 0.0))
    assert mix.box_on(even) == mix.box_on(Grid((32, 32), (8, 8))) == (2, 0, 6, 4)
    assert mix.box_on(overlapping) == (2, 0, 6, 4)
    assert mix.box_on(Grid.of((32, 32), (8, 8), stride=(4, 4), offset=(6.0, 6.0))) == (1, 0, 5, 3)


@given(st.integers(0, 200), st.sampled_from([(7, 7), (4, 5), (1, 1), (14, 14)]))
def test_the_labels_are_the_share_of_the_cells_that_remain(step: int, size: tuple[int, int]) -> None:
    mixing = Mixing.of(CUTMIX)
    numbered = torch.arange(6.0)[:, None, None, None].expand(6, 1, *size)
    found, share = mixing.on_features(numbered, mixing.draw(0, 0, step), Grid((28, 28), size))
    kept = (found == numbered).float().mean((1, 2, 3))
    assert torch.allclose(kept, torch.full((6,), share))
    labels = mixing.on_targets(LABELS, share)
    assert torch.allclose(labels.sum(1), torch.ones(6))
    assert torch.allclose(labels[1, 3], torch.tensor(share))
    assert torch.allclose(labels[1, 0], torch.tensor(1 - share))


def test_a_class_token_is_blended_as_the_labels_are() -> None:
    mixing, mix = Mixing.of(CUTMIX), Mix("cutmix", 0.75, (0.5, 0.5))
    tokens = batch(6, 1 + 16, 3)
    found, share = mixing.on_features(tokens, mix, Grid((16, 16), (4, 4), "tokens", 1))
    assert share == 0.75
    assert torch.allclose(found[:, 0], 0.75 * tokens[:, 0] + 0.25 * tokens.roll(1, 0)[:, 0])
    assert torch.equal(found[:, 1], tokens[:, 1])


def test_vectors_are_blended_by_either() -> None:
    vectors = batch(6, 9)
    found, share = Mixing.of(CUTMIX).on_features(vectors, Mix("cutmix", 0.3))
    assert share == 0.3
    assert torch.allclose(found, 0.3 * vectors + 0.7 * vectors.roll(1, 0))


def test_channels_last_grids_half_precision_and_single_samples() -> None:
    mixing, mix = Mixing.of(CUTMIX), Mix("cutmix", 0.5, (0.5, 0.5))
    maps = batch(6, 3, 8, 8).half()
    wanted, share = mixing.on_features(maps, mix, Grid((32, 32), (8, 8)))
    found, cells = mixing.on_features(maps.movedim(1, -1), mix, Grid((32, 32), (8, 8), "NHWC"))
    assert torch.equal(found.movedim(-1, 1), wanted)
    assert (cells, wanted.dtype) == (share, torch.float16)
    alone = batch(1, 3, 8, 8)
    assert torch.equal(mixing.on_features(alone, mix, Grid((32, 32), (8, 8)))[0], alone)


def test_soft_labels_are_blended_and_hard_ones_need_a_number_of_classes() -> None:
    soft = torch.rand(6, 4)
    assert torch.allclose(Mixing.of(v2.MixUp()).on_targets(soft, 0.25), 0.25 * soft + 0.75 * soft.roll(1, 0))
    assert Mixing.of(v2.MixUp(), num_classes=7).on_targets(LABELS, 0.5).shape == (6, 7)
    assert Mixing.of(Mixing.of(MIXUP), num_classes=7).num_classes == Mixing.of(MIXUP, num_classes=7).num_classes == 5
    ones = torch.nn.functional.one_hot(LABELS, 5)
    assert torch.equal(Mixing.of(MIXUP).on_targets(ones, 0.25), Mixing.of(MIXUP).on_targets(LABELS, 0.25))
    with pytest.raises(ArgumentError, match=r"targets are \[6, 4\], but num_classes is 5"):
        Mixing.of(MIXUP).on_targets(soft, 0.25)
    with pytest.raises(ArgumentError, match=r"say how many classes there are: v2.MixUp\(num_classes=...\)"):
        Mixing.of(v2.MixUp()).on_targets(LABELS, 0.5)
    with pytest.raises(ArgumentError, match="a target is 3, but num_classes is 3"):
        Mixing.of(v2.MixUp(num_classes=3)).on_targets(LABELS, 0.5)
    with pytest.raises(ArgumentError, match="class numbers"):
        Mixing.of(MIXUP).on_targets(torch.rand(6), 0.5)


@pytest.mark.parametrize(
    "transform", [v2.RandomHorizontalFlip(), v2.Compose([MIXUP, CUTMIX]), "mixup", v2.RandomOrder([MIXUP])]
)
def test_what_cannot_be_taken_over_is_refused_with_what_can(transform: Any) -> None:
    with pytest.raises(ArgumentError, match=r"expected v2.MixUp, v2.CutMix, v2.Identity, and v2.RandomChoice"):
        Mixing.of(transform)


def test_parts_that_name_different_classes_are_refused() -> None:
    with pytest.raises(ArgumentError, match=r"different numbers of classes: \[5, 7\]"):
        Mixing.of(v2.RandomChoice([MIXUP, v2.CutMix(num_classes=7)]))


@pytest.mark.parametrize("transform", [MIXUP, CUTMIX, v2.RandomApply([MIXUP]), BOTH], ids=repr)
def test_among_the_transforms_of_single_samples_it_is_refused_and_told_where_to(transform: Any) -> None:
    with pytest.raises(ArgumentError, match=r"Freezer\(..., mix="):
        Pipeline.from_transform(v2.Compose([v2.RandomHorizontalFlip(), transform]))


def test_what_it_does_is_said_and_fingerprinted() -> None:
    assert Mixing.of(BOTH).describe() == "MixUp (50% of the batches), CutMix (50% of the batches)"
    configs = [Mixing.of(t).to_config() for t in (MIXUP, v2.MixUp(alpha=0.3, num_classes=5), CUTMIX, MIXUP)]
    assert configs[0] == configs[3]
    assert len({str(config) for config in configs}) == 3


def test_features_that_do_not_fit_the_grid_are_refused() -> None:
    mixing, mix = Mixing.of(CUTMIX), Mix("cutmix", 0.5, (0.5, 0.5))
    for features in (batch(6, 20), batch(6, 3, 4, 4), batch(6, 17, 3)):
        with pytest.raises(ArgumentError, match="features must be"):
            mixing.on_features(features, mix, Grid((32, 32), (8, 8)))


def test_what_cannot_be_blended_is_refused() -> None:
    mixing = Mixing.of(MIXUP)
    with pytest.raises(ArgumentError, match=r"only floats can be blended, not torch\.uint8"):
        mixing.on_images(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), Mix("mixup", 0.5))
    with pytest.raises(ArgumentError, match="a target is -1, but num_classes is 5"):
        mixing.on_targets(torch.tensor([0, -1]), 0.5)
