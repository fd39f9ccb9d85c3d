from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.transforms import v2

from hoarfrost import Exact, Half, Ladder, Linear, Selection, Views, divide, find_cut, find_cuts
from hoarfrost.codecs import RungMeasure, divergence
from hoarfrost.errors import CodecError, NonFiniteError
from hoarfrost.freezing import Division
from hoarfrost.samples import WAYS, Order, TrainingData, UserLoader, Way
from hoarfrost.settings import Settings, Storing, from_flat
from hoarfrost.storing import Calibration, calibrate, feature_spec, pick
from shared.images import NORMALISE, PLAIN, RANDOM, images
from shared.nets import resnet, vit


def calibration(
    model: nn.Module | None = None, label: str = "layer1", transform: Any = RANDOM, n: int = 100, **options: Any
) -> Calibration:
    model = model if model is not None else resnet()
    told = {"views": Views(2), "mode": "cache", **options}
    measured = {name: told.pop(name) for name in ("floor", "way") if name in told}
    epochs_left = told.pop("epochs_left", 10)
    settings = from_flat(Settings, {"batch_size": 4, "views": told["views"]})
    loader = UserLoader.of(images(n, transform), 4, None, 0)
    data = TrainingData.of(loader, None, settings, torch.device("cpu"), model)
    cut = find_cut(find_cuts(model, data.example), label)
    prefix, suffix = divide(model, cut, data.example)
    prefix.eval()
    division = Division(cut, prefix, suffix, event=1)
    return calibrate(division, data, Storing(**told), epochs_left=epochs_left, **measured)


def measure(index: int, harm: float, refused: str | None = None) -> RungMeasure:
    return RungMeasure(index, Linear(8 - index), harm, 100.0 - index, 4.0, harm <= 1e-3, refused)


def test_the_strongest_harmless_rung_is_picked() -> None:
    rungs = [measure(0, 1e-5), measure(1, 1e-4), measure(2, 1e-2)]
    assert pick(rungs, 1e-3, 0).index == 1


def test_compression_does_not_weaken_as_more_layers_freeze() -> None:
    chosen = calibration(floor=2, tolerance=10.0)
    assert chosen.rung is not None
    assert chosen.rung.index >= 2


def test_a_ladder_of_one_rung_is_taken_at_its_word() -> None:
    assert pick([measure(0, 5.0)], 1e-3, 0).harm == 5.0


def test_where_no_rung_is_harmless_the_gentlest_is_picked() -> None:
    assert pick([measure(0, 0.1), measure(1, 0.5)], 1e-3, 1).index == 0


def test_features_that_every_rung_refuses_are_an_error_with_the_reason() -> None:
    with pytest.raises(CodecError, match="no rung of the ladder takes these features: too wide"):
        pick([measure(0, float("inf"), "too wide"), measure(1, float("inf"), "wider")], 1e-3, 0)


def test_the_choice_and_all_rungs_of_a_short_ladder_are_reported() -> None:
    ladder = Ladder.of([8, 6, 4, 2])
    found = calibration(ladder=ladder)
    assert [rung.codec for rung in found.rungs] == list(ladder)
    assert found.rung in found.rungs


def test_of_a_long_ladder_the_strongest_rung_within_the_tolerance_is_found() -> None:
    found, ladder = calibration(), Ladder.named("auto")
    assert len(found.rungs) < len(ladder)
    assert all(ladder[rung.index].levels == rung.codec.levels for rung in found.rungs)  # type: ignore[attr-defined]
    assert found.rung in found.rungs
    assert found.rung is not None
    assert found.rung.harm <= 1e-3
    assert found.codec == found.rung.codec


def test_further_views_store_the_share_of_channels_that_is_most_sensitive() -> None:
    found = calibration(views=Views(3, Selection(share=0.5)))
    assert found.sensitivity is not None
    wanted = tuple(found.sensitivity.argsort(descending=True)[:2].sort().values.tolist())
    assert found.spec.view_channels == (None, wanted, wanted)


def test_a_view_of_which_most_channels_are_sensitive_is_stored_whole() -> None:
    assert calibration(views=Views(2, Selection(share=0.9))).spec.view_channels == (None, None)


def test_a_view_without_a_sensitive_channel_stores_the_most_sensitive_one() -> None:
    found = calibration(views=Views(2, Selection(threshold=5.0)))
    assert found.sensitivity is not None
    assert found.spec.view_channels == (None, (int(found.sensitivity.argmax()),))


def test_sensitivity_is_the_distance_to_what_would_be_derived() -> None:
    found = calibration(model=resnet(), n=64)
    other = calibration(model=resnet(), n=64, views=Views(2, metric="relative"))
    assert found.sensitivity is not None
    assert other.sensitivity is not None
    assert found.sensitivity.shape == (4,)
    assert bool((found.sensitivity >= 0).all())
    assert not torch.equal(found.sensitivity, other.sensitivity)


def test_a_flip_alone_leaves_a_symmetric_prefix_without_sensitivity() -> None:
    model = resnet()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
                module.weight.copy_((module.weight + module.weight.flip(3)) / 2)
    found = calibration(model, transform=v2.Compose([v2.RandomHorizontalFlip(), *NORMALISE]))
    assert found.sensitivity is not None
    assert float(found.sensitivity.max()) < 1e-5


def test_the_way_of_deriving_is_the_one_that_harms_the_outputs_least(monkeypatch: pytest.MonkeyPatch) -> None:
    harms: list[float] = []

    def watched(*given: Any) -> float:
        harms.append(divergence(*given))
        return harms[-1]

    monkeypatch.setattr("hoarfrost.storing.further_view.divergence", watched)
    found = calibration()
    assert len(harms) == len(WAYS)
    assert found.way == WAYS[harms.index(min(harms))]
    monkeypatch.setattr("hoarfrost.storing.further_view.divergence", lambda *given: -divergence(*given))
    assert calibration().way == WAYS[harms.index(max(harms))]


def test_what_lies_beyond_the_border_is_known_where_each_cell_sees_one_pixel() -> None:
    front = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU())
    model = nn.Sequential(OrderedDict(front=front, back=nn.Sequential(nn.Flatten(), nn.Linear(4 * 28 * 28, 4))))
    nn.init.ones_(front[0].bias)
    shifts = v2.Compose([v2.RandomCrop(28, padding=3), *NORMALISE])
    found = calibration(model, "front", shifts, views=Views(2, base="clean"))
    assert found.way == Way("blank", "cells")
    assert found.sensitivity is not None
    assert float(found.sensitivity.max()) < 1e-5


@pytest.mark.parametrize(
    ("model", "label", "transform"),
    [
        (resnet, "pool", RANDOM),
        (resnet, "layer1", v2.Compose([v2.ColorJitter(0.5), v2.ToDtype(torch.float32)])),
    ],
    ids=["vectors", "no geometry"],
)
def test_where_nothing_can_be_derived_views_are_stored_whole(model: Any, label: str, transform: Any) -> None:
    if transform is not RANDOM:
        transform = v2.Compose([*NORMALISE, transform])
    found = calibration(model(), label, transform, views=Views(2, Selection(share=0.25)))
    assert found.sensitivity is None
    assert found.spec.view_channels == (None, None)


def test_without_random_augmentation_one_view_is_enough() -> None:
    found = calibration(transform=PLAIN, views=Views(4))
    assert found.spec.view_channels == (None,)
    assert found.sensitivity is None


def test_feature_space_stores_the_base_view_alone() -> None:
    found = calibration(views=Views(3, base="clean", derived=1.0))
    assert found.spec.view_channels == (None,)
    assert found.sensitivity is not None


def test_predicted_bytes_count_the_stored_share_of_every_view() -> None:
    found = calibration(views=Views(3, Selection(share=0.5)))
    assert found.rung is not None
    assert found.further.bytes_per_sample < 0.75 * found.rung.bytes_per_sample
    features = round((found.rung.bytes_per_sample + 2 * found.further.bytes_per_sample) * 100)
    assert found.predicted_bytes == features + found.target_bytes + 3 * found.journal_bytes
    assert found.target_bytes == 100 * 8


def test_to_recompute_measures_nothing_that_it_does_not_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hoarfrost.storing.rungs.measure_rungs", None)
    monkeypatch.setattr("hoarfrost.storing.calibration.seconds_of", None)
    found = calibration(mode="recompute")
    assert (found.decision.choice, found.decision.reason) == ("recompute", "recomputed, as asked")
    assert found.rungs == ()


@pytest.mark.parametrize(
    ("read", "epochs_left", "choice", "views"),
    [(0.0, 10, "cache", 2), (0.0, 2, "cache", 1), (9.0, 10, "recompute", 0)],
    ids=["pays", "few epochs left", "slow disk"],
)
def test_auto_takes_the_cheaper_way(
    monkeypatch: pytest.MonkeyPatch, read: float, epochs_left: int, choice: str, views: int
) -> None:
    # In the order in which calibrate measures: read, write.
    answers = iter([read, 0.2])
    monkeypatch.setattr("hoarfrost.storing.calibration_sample.seconds_a_chunk", lambda _: 1.0)
    monkeypatch.setattr("hoarfrost.storing.calibration.seconds_of", lambda *_, **__: next(answers))
    found = calibration(mode="auto", epochs_left=epochs_left)
    assert (found.decision.choice, found.decision.views) == (choice, views)
    assert "2.00 s to recompute" in found.decision.reason
    assert len(found.spec.view_channels) == max(1, views)


@pytest.mark.parametrize("ladder", ["exact", "auto"])
def test_features_that_are_not_finite_name_sample_and_channel(ladder: str) -> None:
    model = resnet()
    with torch.no_grad():
        model.get_submodule("layer1.0.norm2").bias[2] = float("nan")  # type: ignore[index,union-attr,operator]
    first = int(Order(100, 0).members(0)[0])
    said = f"features must be finite: sample {first}, channel 2 holds nan at cut 'layer1'; lower"
    with pytest.raises(NonFiniteError, match=said):
        calibration(model, ladder=Ladder.named(ladder))


@pytest.mark.parametrize(
    ("features", "layout", "axis", "channels_last"),
    [
        (torch.randn(2, 3, 4, 4), "NCHW", 1, False),
        (torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last), "NCHW", 1, True),
        (torch.randn(2, 5, 8), "tokens", 2, False),
        (torch.randn(2, 8), "vector", 1, False),
        (torch.randn(2, 3, 1, 1).to(memory_format=torch.channels_last), "NCHW", 1, False),
    ],
    ids=["NCHW", "channels_last", "tokens", "vector", "one cell"],
)
def test_the_spec_is_that_of_the_features(features: torch.Tensor, layout: str, axis: int, channels_last: bool) -> None:
    model = resnet()
    cut = find_cuts(model, torch.randn(2, 1, 28, 28))[0]
    object.__setattr__(cut, "layout", layout)
    spec = feature_spec(cut, features, Order(10, 0), Half())
    assert (spec.channel_axis, spec.channels_last) == (axis, channels_last)
    assert spec.shape == tuple(features.shape[1:])
    assert spec.codec == Half()


def test_an_exact_ladder_does_no_harm() -> None:
    found = calibration(ladder=Ladder.of(Exact()))
    assert found.rung is not None
    assert found.rung.harm == 0


def test_channels_of_tokens_are_derived_on_their_grid() -> None:
    found = calibration(vit(), "encoder.layers.encoder_layer_0", views=Views(2, Selection(share=0.25)))
    assert found.sensitivity is not None
    assert found.sensitivity.shape == (8,)
    assert found.spec.view_channels == (
        None,
        tuple(found.sensitivity.argsort(descending=True)[:2].sort().values.tolist()),
    )
