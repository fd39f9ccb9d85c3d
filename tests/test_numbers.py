"""Numbers that no training can use are named, and large ones come out right."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hoarfrost import Freezer, Views
from hoarfrost.codecs import BFloat16, Codec, Exact, FirstTokens, Half, Linear, Shared
from hoarfrost.errors import ArgumentError, CodecError, NonFiniteError, PolicyError
from hoarfrost.policies import NAMED, resolve_policy
from hoarfrost.running import RunConfig
from hoarfrost.settings import fields_of

CODECS = [
    Exact(),
    Half(),
    BFloat16(),
    Linear(1),
    Linear(4),
    Linear(8),
    Shared(2),
    Shared(40),
    Shared(9, (0, 4, 1)),
    FirstTokens(1, Linear(4)),
]
BAD = pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")], ids=str)


# Codecs.


@BAD
@pytest.mark.parametrize("codec", CODECS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_a_codec_names_row_and_channel(dtype: torch.dtype, codec: Codec, value: float) -> None:
    features = torch.rand(5, 3, 4).to(dtype)
    features[3, 1, 2] = value
    with pytest.raises(NonFiniteError, match=f"sample row 3, channel 1 holds {value}"):
        codec.encode(features)


@pytest.mark.parametrize("scale", [1e37, 3e38, 1e-37, 1e-44, 0.0], ids=str)
@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_what_a_codec_takes_of_large_small_and_constant_channels_keeps_to_its_bound(codec: Codec, scale: float) -> None:
    features = torch.rand(6, 3, 4, generator=torch.Generator().manual_seed(0)) * scale
    features[:, 1] = scale
    features[:, 2] *= -1
    if isinstance(codec, Half) and scale > 65504:
        with pytest.raises(CodecError, match="channel 0 holds"):
            codec.encode(features)
        return
    decoded = codec.decode(codec.encode(features), features.shape, features.dtype)
    assert bool(decoded.isfinite().all())
    error = (decoded.double() - features.double()).abs().amax((0, 2))
    assert bool((error <= codec.error_bound(features)).all())
    if not isinstance(codec, Half | BFloat16):
        assert torch.equal(decoded[:, 1], features[:, 1])


# A training.


class Scaled(nn.Module):
    def __init__(self, scale: float, sample: float = 0.0) -> None:
        super().__init__()
        self.scale, self.sample = scale, sample

    def forward(self, images: Tensor) -> Tensor:
        # Images from a brightness on overflow or divide by zero, as a front might make of some alone.
        bright = images.flatten(1).mean(1) > 0.75 if self.sample else torch.zeros(len(images), dtype=torch.bool)
        factor = torch.full((len(images), images.shape[1], 1, 1), self.scale)
        factor[bright, 2:] = self.sample
        return images * factor


def trained(front: nn.Module, **told: Any) -> Freezer:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Sequential(front), nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(32, 3))
    data = [(torch.full((3, 6, 6), 0.02 * n), n % 3) for n in range(40)]
    optimizer = torch.optim.SGD(model.parameters(), told.pop("lr", 1e-45))
    freezer = Freezer(
        model, data, batch_size=8, epochs=3, optimizer=optimizer, **{"policy": {0: "0"}, "mode": "cache", **told}
    )
    for epoch in range(2):
        for inputs, targets in freezer.batches(epoch):
            loss = F.cross_entropy(freezer(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        freezer.end_epoch({"loss": float(loss)})
    freezer.close()
    return freezer


@BAD
def test_a_freeze_names_sample_and_channel(value: float) -> None:
    with pytest.raises(NonFiniteError, match=r"sample (38|39), channel 0 holds nan at cut '1'"):
        trained(Scaled(1.0, value))


def test_a_sample_behind_the_calibration_is_named_too() -> None:
    class Late(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images / (images.amax((1, 2, 3), keepdim=True) < 0.995).float()

    torch.manual_seed(0)
    model = nn.Sequential(nn.Sequential(Late()), nn.Conv2d(3, 3, 1), nn.Flatten(), nn.Linear(12, 3))
    brightness = torch.linspace(0.1, 0.9, 200)
    brightness[123] = 1.0
    data = [(torch.full((3, 2, 2), float(value)), 0) for value in brightness]
    with (
        Freezer(model, data, batch_size=50, epochs=2, policy={0: "0"}, mode="cache", seed=3) as freezer,
        pytest.raises(NonFiniteError, match=r"sample 123.*channel 0 holds nan"),
    ):
        list(freezer.batches(0))


@pytest.mark.parametrize("ladder", ["auto", "exact", "bfloat16", 4], ids=str)
def test_features_of_1e37_are_stored(ladder: Any) -> None:
    freezer = trained(Scaled(1e37), ladder=ladder)
    (freeze,) = [record for record in freezer.history if record["event"] == "freeze"]
    assert freeze["choice"] == "cache"
    assert [record for record in freezer.history if record["event"] == "fault"] == []


def test_what_half_precision_cannot_hold_is_named() -> None:
    with pytest.raises(CodecError, match=r"channel 0 holds .*e\+3\d, which torch.float16 cannot give back"):
        trained(Scaled(1e37), ladder="half")


@pytest.mark.slow
@pytest.mark.parametrize("policy", sorted(set(NAMED) - {"frozen"}))
def test_a_loss_of_nan_ends_in_a_name_or_in_the_trainings_own_nan(policy: str) -> None:
    try:
        freezer = trained(nn.Conv2d(3, 3, 1), policy=policy, mode="auto", lr=1e30)
    except NonFiniteError:
        return
    losses = [record["loss"] for record in freezer.history if record["event"] == "epoch"]
    assert not losses[-1] < 1e9


# Options.

FLOATS = [name for name, field in fields_of(RunConfig).items() if field.type == "float"]


@BAD
@pytest.mark.parametrize("name", FLOATS)
def test_an_option_that_is_no_number_is_refused_by_name(name: str, value: float, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=f"^{name} must be a finite number, not '{value}'"):
        RunConfig.told(**{name: value})
    (tmp_path / "run.yaml").write_text(f"{name}: {'.nan' if value != value else '.inf'}\n")
    with pytest.raises(ArgumentError, match=f"^{name} must be a finite number"):
        RunConfig.told(tmp_path / "run.yaml")


def test_the_options_that_hold_numbers_are_known() -> None:
    assert FLOATS == ["tolerance", "lr", "momentum", "weight_decay"]


@BAD
def test_views_take_finite_numbers(value: float) -> None:
    with pytest.raises(ArgumentError, match="views: derived must be a finite number"):
        Views(derived=value)


SETTINGS = [
    (name, field.name)
    for name, made in NAMED.items()
    for field in (fields(made()) if hasattr(made(), "__dataclass_fields__") else ())  # type: ignore[arg-type]
    if field.init and "float" in str(field.type)
]


@pytest.mark.parametrize(("policy", "setting"), SETTINGS, ids=lambda text: text)
def test_a_policys_numbers_are_finite(policy: str, setting: str) -> None:
    made: Any = NAMED[policy]
    with pytest.raises(PolicyError, match=setting):
        resolve_policy(made(**{setting: float("nan")}))
    with pytest.raises(PolicyError):
        resolve_policy(f"{policy}:{setting}=1e999")
    with pytest.raises(PolicyError):
        resolve_policy(f"{policy}:{setting}=soon")


def test_svcca_of_nan_is_like_no_other() -> None:
    from hoarfrost.watching.similarity import principal_directions, svcca

    rows = torch.rand(20, 4)
    basis, broken = principal_directions(rows), principal_directions(rows * float("inf"))
    assert svcca(basis, broken) != svcca(basis, broken)
    assert svcca(basis, basis) == pytest.approx(1.0)


def test_a_number_of_first_tokens_is_bounded() -> None:
    for tokens in (0, 1 << 31, 1 << 64):
        with pytest.raises(CodecError, match=f"a whole number of tokens from 1 on, not {tokens}"):
            FirstTokens(tokens, Exact())
    codec = FirstTokens(1_000_000_000, Exact()).for_lengths((1, 1))
    payload = codec.encode(torch.rand(2, 3))
    with pytest.raises(CodecError, match="1,000,000,000 first tokens of 2 samples have 6,000,000,000 values"):
        codec.decode(payload, (2, 3), torch.float32)


def test_finer_steps_for_too_few_channels_are_named() -> None:
    with pytest.raises(CodecError, match="finer steps for 2 channels, not for 6"):
        Shared(9, (0, 1)).among((0, 5))
