"""Mixed precision and weights of 16 bits: the front runs as the loop runs, and the law of the house holds in each."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset
from torchvision.transforms import v2

from hoarfrost import Freezer, find_cuts, plan
from hoarfrost.errors import ArgumentError, CutError, NonFiniteError
from hoarfrost.running import fit
from shared.freezers import record
from shared.images import PLAIN, RANDOM, images
from shared.nets import in_place, resnet, vit
from shared.precisions import BF16, FP16, WAYS, Way, train
from shared.runs import assert_same_run, assert_same_tensors, sgd


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_the_law_holds_in_the_precision(way: Way) -> None:
    cached, recomputed = (train(resnet, way, mode=mode) for mode in ("cache", "recompute"))
    assert (cached.choices, recomputed.choices) == (["cache"], ["recompute"])
    assert_same_run(cached, recomputed)
    assert cached.history[1]["precision"] == (None if way.dtype is None else str(way.dtype).removeprefix("torch."))


@pytest.mark.parametrize("make", [in_place, vit])
def test_the_law_holds_under_autocast_for_other_models(make: Callable[[], nn.Module]) -> None:
    assert_same_run(*(train(make, Way(BF16), mode=mode) for mode in ("cache", "recompute")))


@pytest.mark.parametrize("options", [{}, {"policy": {0: "layer1", 1: "layer2"}}], ids=["later", "from the start"])
def test_what_is_ours_runs_without_the_autocast_of_the_loop(options: dict[str, Any]) -> None:
    """Images are blurred, features derived and mixed alike, wherever the loop has its autocast."""
    steps = v2.Compose([*RANDOM.transforms, v2.GaussianBlur(3)])
    ways = [Way(BF16, around, precision="bf16") for around in ("loop", "calls")]
    assert_same_run(*(train(resnet, way, steps, mode="cache", **{"views": 2, "ladder": 8, **options}) for way in ways))


def wrapped() -> nn.Module:
    """As Accelerate wraps a forward: with an autocast of its own, which keeps the casts of weights."""
    model = resnet()
    model.forward = torch.autocast("cpu", BF16, cache_enabled=True)(model.forward)
    return model


@pytest.mark.parametrize("precision", [None, "bf16"])
def test_a_model_with_an_autocast_of_its_own_is_cut_and_trained_like_any(precision: str | None) -> None:
    way = Way(BF16, "nothing", precision=precision)
    cached, recomputed = (train(wrapped, way, mode=mode) for mode in ("cache", "recompute"))
    assert (cached.choices, recomputed.choices) == (["cache"], ["recompute"])
    assert_same_run(cached, recomputed)


@pytest.mark.parametrize("policy", ["egeria", "budget:2x"])
@pytest.mark.parametrize("weights", [torch.float32, BF16])
def test_a_policy_that_measures_on_copies_measures_on_these(policy: str, weights: torch.dtype) -> None:
    """Of a model whose forward is bound to it by a function, and of one whose layers of 8 bits are given 16."""
    model = wrapped() if weights == torch.float32 else resnet().to(weights)
    data = images(48, PLAIN if weights == torch.float32 else v2.Compose([*PLAIN.transforms, v2.ToDtype(weights)]))
    optimizer = sgd(model)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "hoarfrost: Budget")  # nothing is saved of so little
        freezer = Freezer(model, data, batch_size=24, epochs=3, optimizer=optimizer, policy=policy, verbose=False)
        with freezer:
            for epoch in range(3):
                for inputs, targets in freezer.batches(epoch):
                    nn.functional.cross_entropy(freezer(inputs).float(), targets).backward()
                    optimizer.step()
                    optimizer.zero_grad()
                before = {name: value.clone() for name, value in model.state_dict().items()}
                freezer.end_epoch({"val_loss": 1.0})
                assert_same_tensors(model.state_dict(), before)
    assert len([entry for entry in freezer.history if entry["event"] == "epoch"]) == 3


@pytest.mark.slow
def test_a_plan_measures_on_a_copy_of_such_a_model() -> None:
    model = wrapped()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    made = plan(model, images(48, PLAIN), batch_size=24, epochs=4)
    assert made.cuts
    assert_same_tensors(model.state_dict(), before)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_what_the_freezer_does_itself_trains_as_the_loops_own_autocast() -> None:
    """The loss apart: outside of an autocast it is computed in what the model gives."""
    mine, theirs = (train(resnet, WAYS[f"bf16 {who}"], mode="cache") for who in ("by the freezer", "around the calls"))
    assert mine.losses == pytest.approx(theirs.losses, rel=0.02)


# -- an autocast that is not where it was expected


def small(precision: str | None = None, **options: Any) -> Freezer:
    given = {"policy": {0: "layer1"}, "mode": "cache", "ladder": "exact", "views": 1, **options}
    return Freezer(resnet(), images(80, PLAIN), batch_size=40, epochs=4, precision=precision, verbose=False, **given)


def epoch_of(freezer: Freezer, epoch: int, dtype: torch.dtype | None) -> list[tuple[torch.dtype, torch.dtype]]:
    """Types of features and outputs of an epoch whose calls stand under that autocast."""
    found = []
    for inputs, _ in freezer.batches(epoch):
        with torch.autocast("cpu", dtype or BF16, enabled=dtype is not None):
            output = freezer(inputs)
        output.float().sum().backward()
        found.append((inputs.dtype, output.dtype))
    freezer.end_epoch()
    return found


@pytest.mark.parametrize("mode", ["cache", "recompute"])
def test_an_autocast_that_is_seen_too_late_is_said_and_followed(mode: str) -> None:
    freezer = small(mode=mode)
    with pytest.warns(UserWarning, match="the frozen front was run without autocast, .* called under autocast to bfl"):
        assert set(epoch_of(freezer, 0, BF16)) == {(torch.float32, torch.float32)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert set(epoch_of(freezer, 1, BF16)) == {(BF16, BF16)}
        assert set(epoch_of(freezer, 2, BF16)) == {(BF16, BF16)}
    assert [entry["precision"] for entry in freezer.history if entry["event"] == "freeze"] == [None, "bfloat16"]
    assert {entry["epoch"] for entry in freezer.history if entry["event"] == "freeze"} == {0}


def test_an_autocast_around_the_constructor_alone_does_not_count_from_the_first_epoch_on() -> None:
    with torch.autocast("cpu", BF16):
        freezer = small()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert set(epoch_of(freezer, 0, None)) == {(torch.float32, torch.float32)}
    assert record(freezer)["precision"] is None


def test_two_precisions_at_once_are_refused() -> None:
    freezer = small("bf16")
    inputs, _ = next(iter(freezer.batches(0)))
    with torch.autocast("cpu", FP16), pytest.raises(ArgumentError, match=r"precision='bf16', .* autocast to float16"):
        freezer(inputs)
    with torch.autocast("cpu", BF16):
        assert freezer(inputs).dtype == BF16


def test_a_precision_that_there_is_not_is_refused() -> None:
    with pytest.raises(ArgumentError, match="precision must be one of 'bf16', 'fp16', not 'half'"):
        small("half")


def test_evaluating_runs_as_the_front_was_run() -> None:
    freezer = small("bf16")
    epoch_of(freezer, 0, None)
    freezer.model.eval()
    evaluation = freezer.evaluation(images(50, PLAIN), codec="exact")
    for _ in range(2):
        with torch.no_grad():
            found = [freezer(inputs) for inputs, _ in evaluation]
    with torch.no_grad(), torch.autocast("cpu", BF16):
        expected = freezer.model(next(iter(torch.utils.data.DataLoader(images(50, PLAIN), batch_size=50)))[0])
    assert torch.equal(torch.cat(found), expected)


def test_a_cache_of_another_precision_is_another(tmp_path: Path) -> None:
    digests = []
    for precision in (None, "bf16", "fp16", None):
        freezer = small(precision, cache_dir=tmp_path)
        epoch_of(freezer, 0, None)
        assert freezer.cache is not None
        digests.append(freezer.cache.fingerprint.digest)
        assert freezer.cache.fingerprint.fields["precision"]["autocast"] == record(freezer)["precision"]
    assert len(set(digests)) == 3
    assert digests[0] == digests[3]


def test_a_resumed_run_knows_what_its_steps_computed_in(tmp_path: Path) -> None:
    freezer = small(cache_dir=tmp_path, policy={1: "layer1"})
    epoch_of(freezer, 0, BF16)
    freezer.decide(store=True)
    state, weights = freezer.state_dict(), freezer.model.state_dict()
    resumed = small(cache_dir=tmp_path, policy={1: "layer1"})
    resumed.model.load_state_dict(weights)
    resumed.load_state_dict(state)
    assert resumed.cache is not None
    assert freezer.cache is not None
    assert resumed.cache.path == freezer.cache.path
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert set(epoch_of(resumed, 1, BF16)) == {(BF16, BF16)}


# -- what measures runs so too


@contextmanager
def types_at(name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[set[torch.dtype]]:
    """Of what the models' modules of that name give from here on, copies of them too."""
    found: set[torch.dtype] = set()
    forward = nn.Conv2d.forward

    def seen(self: nn.Conv2d, x: Tensor) -> Tensor:
        out = forward(self, x)
        found.add(out.dtype)
        return out

    monkeypatch.setattr(nn.Conv2d, "forward", seen)
    yield found
    monkeypatch.undo()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_trials_and_timings_run_in_the_precision(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = resnet()
    data, optimizer = images(200, PLAIN), sgd(model)
    freezer = Freezer(
        model, data, batch_size=20, epochs=4, optimizer=optimizer, precision=precision, policy="budget:2x"
    )
    measurements = freezer._asking._measurements
    with types_at("conv", monkeypatch) as found:
        trial, prices = measurements.trial(1, 3), measurements.prices()
    assert found == {BF16 if precision == "bf16" else FP16}
    assert trial is not None
    assert trial.free < trial.before
    assert prices.step > 0


def test_features_that_overflow_are_named_with_the_place() -> None:
    model = resnet()
    with torch.no_grad():
        model.stem[0].weight.mul_(1e6)  # type: ignore[index,union-attr]
    freezer = Freezer(model, images(80, PLAIN), batch_size=40, policy={0: "stem"}, mode="cache", precision="fp16")
    said = r"sample \d+, channel \d holds (-?inf|nan) at cut 'stem'; float16 ends at 65504"
    with pytest.raises(NonFiniteError, match=said):
        next(iter(freezer.batches(0)))


def test_inputs_of_another_type_than_the_weights_are_refused_with_the_way_out() -> None:
    data = TensorDataset(torch.rand(80, 1, 28, 28), torch.zeros(80).long())
    with pytest.raises(CutError, match=r"weights are bfloat16: .* v2.ToDtype\(torch.bfloat16\)"):
        Freezer(resnet().to(BF16), data, batch_size=40)


def test_cuts_are_the_same_under_autocast() -> None:
    x = torch.rand(4, 1, 28, 28)
    for make in (resnet, in_place, vit):
        with torch.autocast("cpu", BF16):
            found = find_cuts(make(), x)
        assert [cut.label for cut in found] == [cut.label for cut in find_cuts(make(), x)]
        assert BF16 in {cut.dtype for cut in found}


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_the_reference_loop_trains_and_resumes_in_the_precision(precision: str, tmp_path: Path) -> None:
    def fitted(name: str, **options: Any) -> dict[str, Tensor]:
        model = resnet()
        optimizer = sgd(model)
        torch.manual_seed(7)
        settings = {"policy": {1: "layer1"}, "mode": "cache", "ladder": "exact", "cache_dir": tmp_path / name}
        given = {"batch_size": 25, "epochs": 3, "optimizer": optimizer, "precision": precision, **settings}
        with Freezer(model, images(100, RANDOM), verbose=False, **given) as freezer:
            fit(freezer, optimizer, epochs=3, checkpoint=tmp_path / f"{name}.checkpoint", **options)
        return model.state_dict()

    steps = iter(range(99))
    whole = fitted("whole")
    fitted("broken", stop=lambda: next(steps) == 5)
    resumed = fitted("broken", resume=True)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
