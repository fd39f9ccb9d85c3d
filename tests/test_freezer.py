from __future__ import annotations

import gc
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Subset
from torchvision.transforms import v2

from hoarfrost import Freezer, Schedule, TrainState, Views
from hoarfrost.augment import Mixing
from hoarfrost.errors import (
    ArgumentError,
    CacheDirectoryError,
    CheckpointError,
    CodecError,
    DatasetError,
    ImageShapeError,
    NoCutError,
    PolicyError,
    UnknownCutError,
)
from hoarfrost.policies import Never
from shared.images import NORMALISE, PLAIN, RANDOM, CountingImages, images
from shared.nets import in_place, resnet, vit
from shared.runs import Trace, adamw, assert_same_run, assert_same_tensors, sgd, train, train_epoch

N = 120


def freezer_of(model: nn.Module | None = None, data: Any = None, **options: Any) -> Freezer:
    given = {"batch_size": 50, "epochs": 4, "mode": "cache", "ladder": "exact", "policy": {1: "layer1"}, **options}
    return Freezer(model or resnet(), data if data is not None else images(N, RANDOM), **given)


def run_epoch(freezer: Freezer, epoch: int) -> list[tuple[Tensor, Tensor]]:
    batches = [*freezer.batches(epoch)]
    freezer.end_epoch()
    return batches


# ---------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"batch_size": 0}, ArgumentError, "batch_size must be a whole number of at least 1, not 0"),
        ({"batch_size": 2.0}, ArgumentError, "batch_size must be a whole number of at least 1, not 2.0"),
        ({"epochs": 0}, ArgumentError, "epochs must be a whole number of at least 1, or None, not 0"),
        ({"mode": "fast"}, ArgumentError, "mode must be one of 'auto', 'cache', 'recompute', not 'fast'"),
        ({"disk_budget": -1}, ArgumentError, "disk_budget is a number of bytes, at least 0, not -1"),
        ({"window": 0}, ArgumentError, "window must be at least 1 chunk, not 0"),
        ({"seed": None}, ArgumentError, "seed must be a whole number, not None"),
        ({"views": 0}, ArgumentError, "views must be a whole number of at least 1, not 0"),
        ({"ladder": "steep"}, ArgumentError, "unknown ladder 'steep'; known ladders: auto"),
        ({"ladder": 9}, CodecError, "9"),
        ({"policy": "egria"}, PolicyError, "there is no policy 'egria'"),
        ({"policy": {1: "layer9"}}, UnknownCutError, "layer9.*layer1"),
        ({"policy": {2: "layer2", 3: "layer1"}}, PolicyError, "asks to thaw"),
        ({"policy": {2: 99}}, PolicyError, "depth 99 does not exist: the model has 8 cuts"),
        ({"policy": "schedule", "epochs": None}, PolicyError, "an even schedule needs to know the number of epochs"),
        ({"policy": lambda state: 99}, PolicyError, "past the last cut: the model has 8 cuts, the last is 'pool'"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_bad_arguments_are_refused_and_the_transform_is_given_back(
    options: dict[str, Any], error: type[Exception], text: str
) -> None:
    data = images(N, RANDOM)
    with pytest.raises(error, match=text):
        freezer_of(data=data, **options)
    assert data.transform is RANDOM


def test_what_is_no_module_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"model must be a torch.nn.Module, not function"):
        Freezer(lambda x: x, images(N), batch_size=5)  # type: ignore[arg-type]


class TwoStreams(nn.Module):
    """No tensor of it is ever the only one that the rest needs."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(28 * 28, 10)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(x.flatten(1)) + x.mean()
        return y


@pytest.mark.parametrize("policy", ["schedule", {1: 1}], ids=str)
def test_a_model_without_a_cut_is_refused_with_the_way_out(policy: Any) -> None:
    data = images(N, RANDOM)
    with pytest.raises(NoCutError, match=r'TwoStreams has no place where it can be divided: .*policy="none"'):
        freezer_of(TwoStreams(), data, policy=policy)
    assert data.transform is RANDOM


@pytest.mark.parametrize("policy", ["none", Never()], ids=["name", "object"])
def test_a_model_without_a_cut_trains_with_the_policy_none(policy: Any) -> None:
    trace = train(TwoStreams(), images(N, PLAIN), policy=policy, epochs=1)
    assert len(trace.losses) == 3


def test_a_refused_freezer_leaves_no_temporary_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(PolicyError, match="past the last cut"):
        freezer_of(policy=lambda state: 99)
    assert not [*tmp_path.iterdir()]


def test_an_empty_data_set_is_refused() -> None:
    with pytest.raises(DatasetError, match="the data set has 0 samples; training needs at least 2"):
        freezer_of(data=Subset(images(5), []))


def test_a_batch_larger_than_the_data_set_is_one_batch_an_epoch() -> None:
    with pytest.warns(UserWarning, match="batch_size 500 is larger than the data set; each epoch is one batch of its"):
        freezer = freezer_of(batch_size=500)
    with freezer:
        assert [len(run_epoch(freezer, epoch)) for epoch in range(3)] == [1, 1, 1]
        assert freezer.batches_per_epoch == 1


def test_a_cache_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("mine")
    data = images(N, RANDOM)
    with pytest.raises(CacheDirectoryError, match=r"cache_dir .*cache is a file; name a directory"):
        freezer_of(data=data, cache_dir=tmp_path / "cache")
    assert data.transform is RANDOM
    assert (tmp_path / "cache").read_text() == "mine"


def test_a_cache_directory_that_cannot_be_written_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(**_: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(CacheDirectoryError, match=r"cache_dir .* cannot be written: Permission denied"):
        freezer_of(cache_dir=tmp_path)


def test_images_of_differing_sizes_are_refused() -> None:
    sizes = iter(range(8, 1000))
    ragged = v2.Compose([*NORMALISE, v2.Lambda(lambda image: image[:, : next(sizes)])])
    with pytest.raises(ImageShapeError, match="images of a batch must have one size, but sample 0 is 8x28"):
        freezer_of(data=images(N, PLAIN), transform=ragged)


@pytest.mark.parametrize(
    ("epoch", "start", "text"),
    [
        (-1, 0, "epoch must be a whole number from 0 on, not -1"),
        (0.5, 0, "epoch must be a whole number from 0 on, not 0.5"),
        (0, -1, "start must be a whole number from 0 on, not -1"),
    ],
)
def test_batches_of_no_epoch_are_refused(epoch: Any, start: int, text: str) -> None:
    with freezer_of() as freezer, pytest.raises(ArgumentError, match=text):
        next(freezer.batches(epoch, start))


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        (lambda state: 2 if state.epoch < 2 else 1, "before epoch 2 for depth 1, but depth 2 is frozen already"),
        (lambda state: 2 if state.epoch < 2 else 9, "before epoch 2 for depth 9, past the last cut"),
    ],
    ids=["thaws", "past the end"],
)
def test_a_policy_that_asks_for_too_much_is_named_and_nothing_is_lost(
    policy: Callable[[TrainState], int], text: str
) -> None:
    with freezer_of(policy=policy) as freezer:
        run_epoch(freezer, 0)
        [*freezer.batches(1)]
        with pytest.raises(PolicyError, match=text):
            freezer.end_epoch()
        assert freezer.depth == 2
        assert freezer.history[-1]["event"] == "epoch"


# ---------------------------------------------------------------------- batches


def test_epochs_on_images_cover_every_sample_in_an_order_of_seed_and_epoch() -> None:
    data = images(N, RANDOM)
    with freezer_of(data=data, policy="none") as one:
        first, second = run_epoch(one, 0), run_epoch(one, 1)
    with freezer_of(data=data, policy="none") as other:
        again = [*other.batches(1)]
    assert sum(len(targets) for _, targets in first) == N
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(second, again, strict=True))
    assert not torch.equal(first[0][0], second[0][0])


@pytest.mark.parametrize("epoch", [0, 2], ids=["images", "features"])
def test_a_late_start_skips_the_batches_in_front(epoch: int) -> None:
    with freezer_of() as freezer:
        whole = [*freezer.batches(epoch)]
        late = [*freezer.batches(epoch, 1)]
    assert len(late) == len(whole) - 1
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(whole[1:], late, strict=True))


def test_targets_come_with_their_samples() -> None:
    data = images(N, PLAIN)
    own = {data[i][0].numpy().tobytes(): data[i][1] for i in range(N)}
    with freezer_of(data=data, policy="none") as freezer:
        for inputs, targets in freezer.batches(0):
            assert [own[image.numpy().tobytes()] for image in inputs] == targets.tolist()


def test_a_single_left_over_sample_joins_the_last_batch() -> None:
    with freezer_of(data=images(101, PLAIN)) as freezer:
        assert [len(targets) for _, targets in run_epoch(freezer, 0)] == [50, 51]
        assert [len(targets) for _, targets in run_epoch(freezer, 1)] == [50, 51]
        assert freezer.batches_per_epoch == 2


# ---------------------------------------------------------------------- calling it


def test_before_a_freeze_the_freezer_is_the_model() -> None:
    model = resnet().eval()
    x = torch.randn(4, 1, 28, 28)
    with freezer_of(model, policy="none") as freezer:
        assert torch.equal(freezer(x), model(x))


def test_on_features_the_freezer_is_the_rest_of_the_model() -> None:
    model = resnet()
    with freezer_of(model, policy={0: "layer1"}) as freezer:
        run_epoch(freezer, 0)
        model.eval()
        assert freezer._division is not None
        x = torch.randn(4, 1, 28, 28)
        assert torch.equal(freezer(freezer._division.prefix(x)), model(x))


def test_images_after_a_freeze_are_refused_with_what_to_call() -> None:
    with freezer_of(policy={0: "layer1"}) as freezer:
        text = (
            r"the freezer is at cut 'layer1' and takes features \[B, 4, 28, 28\] from batches\(\), "
            r"not \[4, 1, 28, 28\]; to evaluate on images call the model itself"
        )
        with pytest.raises(ArgumentError, match=text):
            freezer(torch.randn(4, 1, 28, 28))


def test_the_freezer_follows_the_models_train_and_eval_module_by_module() -> None:
    model = in_place()
    with freezer_of(model, policy={0: "features.2"}) as freezer:
        features, _ = next(freezer.batches(0))
        suffix = freezer._division.suffix  # type: ignore[union-attr]

        def flags() -> dict[str, bool]:
            freezer(features)
            behind = {name for name, _ in suffix.named_modules()}
            return {name: m.training for name, m in suffix.named_modules() if name in behind and name}

        model.train()
        trained = flags()
        assert trained["features.5"]
        assert trained["classifier.0"]
        model.get_submodule("features.5").eval()
        assert not flags()["features.5"]
        assert flags()["classifier.0"]
        model.eval()
        assert not any(flags().values())
        torch.manual_seed(0)
        once = freezer(features)
        assert torch.equal(once, freezer(features))


def test_only_the_running_statistics_of_the_suffix_move() -> None:
    model = resnet()
    with freezer_of(model, policy={0: "layer1"}) as freezer:
        features, _ = next(freezer.batches(0))
        before = {name: value.clone() for name, value in model.state_dict().items()}
        model.train()
        freezer(features)
        moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
        assert moved
        assert all(name.split(".")[0] in ("layer2", "layer3") for name in moved)


# ---------------------------------------------------------------------- the optimizer


@pytest.mark.parametrize("make", [sgd, adamw], ids=["sgd", "adamw"])
def test_a_freeze_frees_the_optimizers_state_of_what_froze_and_leaves_the_rest(
    make: Callable[[nn.Module], torch.optim.Optimizer],
) -> None:
    model = resnet()
    front = [*model.get_submodule("stem").parameters(), *model.get_submodule("layer1").parameters()]
    back = [p for p in model.parameters() if not any(p is q for q in front)]
    optimizer = make(model)
    optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(1))], "lr": 0.5})
    with freezer_of(model, optimizer=optimizer) as freezer:
        trace = Trace([], [], {}, [])
        for inputs, targets in freezer.batches(0):
            nn.functional.cross_entropy(freezer(inputs), targets).backward()
            optimizer.step()
            optimizer.zero_grad()
        before = {p: {k: torch.as_tensor(v).clone() for k, v in optimizer.state[p].items()} for p in back}
        freezer.end_epoch()
        assert freezer.cut is not None
        assert not any(p in optimizer.state for p in front)
        assert all(not p.requires_grad and p.grad is None for p in front)
        assert [len(group["params"]) for group in optimizer.param_groups] == [len(back), 1]
        for p in back:
            assert_same_tensors(before[p], {k: torch.as_tensor(v) for k, v in optimizer.state[p].items()})
        train_epoch(freezer, optimizer, 1, trace)
        assert all(any(name.startswith(b) for b in ("layer2", "layer3", "fc")) for name in trace.gradients[0])


def test_a_group_that_froze_whole_stays_as_an_empty_group() -> None:
    model = resnet()
    parts = [model.get_submodule(name) for name in ("stem", "layer1", "layer2", "layer3", "fc")]
    optimizer = torch.optim.SGD([{"params": [*part.parameters()]} for part in parts], lr=0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    with freezer_of(model, optimizer=optimizer, policy={0: "layer1"}) as freezer:
        train_epoch(freezer, optimizer, 0, Trace([], [], {}, []))
        schedule.step()
        assert [len(group["params"]) > 0 for group in optimizer.param_groups] == [False, False, True, True, True]


# ---------------------------------------------------------------------- policies and records


def test_a_policy_is_asked_once_before_each_epoch_with_what_is_known() -> None:
    seen: list[TrainState] = []

    def policy(state: TrainState) -> int:
        seen.append(state)
        return 4 if state.epoch >= 1 else 0

    with freezer_of(policy=policy, epochs=3) as freezer:
        for epoch in range(3):
            list(freezer.batches(epoch))
            freezer.end_epoch({"val_loss": float(epoch)})
        assert freezer.depth == 4
    assert [state.epoch for state in seen] == [0, 1, 2]
    assert [state.depth for state in seen] == [0, 0, 4]
    assert seen[2].metrics == ({"val_loss": 0.0}, {"val_loss": 1.0})
    assert seen[0].epochs == 3


def test_depth_cut_and_source_tell_where_the_run_stands() -> None:
    with freezer_of() as freezer:
        assert (freezer.depth, freezer.cut, freezer.source, freezer.cache) == (0, None, "images", None)
        run_epoch(freezer, 0)
        assert freezer.cut is not None
        assert (freezer.depth, freezer.cut.label, freezer.source) == (4, "layer1", "cache")


def test_an_epoch_is_recorded_with_its_metrics_as_json() -> None:
    heard: list[dict[str, Any]] = []
    with freezer_of() as freezer:
        freezer.listener = heard.append
        list(freezer.batches(0))
        freezer.end_epoch({"loss": torch.tensor(0.5), "accuracy": 0.25})
        entry = json.loads(json.dumps(freezer.history[0]))
        assert heard == freezer.history
    expected = {
        "event": "epoch",
        "epoch": 0,
        "depth": 0,
        "cut": None,
        "source": "images",
        "loss": 0.5,
        "accuracy": 0.25,
    }
    assert expected.items() <= entry.items()
    assert entry["images_per_second"] == pytest.approx(N / entry["seconds"])


def test_after_the_last_epoch_nothing_is_built(tmp_path: Path) -> None:
    with freezer_of(policy={2: "layer1"}, epochs=2, cache_dir=tmp_path) as freezer:
        for epoch in range(2):
            run_epoch(freezer, epoch)
        assert freezer.depth == 0


def test_the_flops_of_a_step_shrink_with_depth() -> None:
    with freezer_of() as freezer, freezer_of(mode="recompute") as recomputing:
        whole = freezer.step_flops()
        run_epoch(freezer, 0), run_epoch(recomputing, 0)
        assert recomputing.cut is not None
        assert freezer.step_flops() < whole
        assert recomputing.step_flops() == freezer.step_flops() + recomputing.cut.prefix_flops


def test_what_is_done_with_the_transform_is_described() -> None:
    with freezer_of() as freezer:
        lines = freezer.describe()
    assert [line.split(":")[0] for line in lines][:2] == ["RandomHorizontalFlip", "RandomCrop"]


# ---------------------------------------------------------------------- the end


def test_close_gives_the_transform_back_and_removes_the_temporary_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    data = images(N, RANDOM)
    with freezer_of(data=data, policy={0: "layer1"}) as freezer:
        run_epoch(freezer, 0)
        assert [*tmp_path.glob("hoarfrost-*/*/manifest.json")]
        assert data.transform is None
    assert not [*tmp_path.glob("hoarfrost-*")]
    assert data.transform is RANDOM
    freezer.close()


def test_a_closed_freezer_gives_no_batches() -> None:
    freezer = freezer_of(policy={0: "layer1"})
    freezer.close()
    with pytest.raises(ArgumentError, match="the freezer is closed: the data set has its transform back"):
        next(freezer.batches(0))


def test_a_forgotten_freezer_leaves_no_temporary_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    freezer: Freezer | None = freezer_of(policy={0: "layer1"})
    assert [*tmp_path.glob("hoarfrost-*")]
    freezer = None
    gc.collect()
    assert freezer is None
    assert not [*tmp_path.glob("hoarfrost-*")]


def test_a_cache_directory_of_the_users_stays(tmp_path: Path) -> None:
    with freezer_of(policy={0: "layer1"}, cache_dir=tmp_path / "new" / "deep") as freezer:
        run_epoch(freezer, 0)
    assert [*(tmp_path / "new" / "deep").glob("*/manifest.json")]


def test_the_model_keeps_its_own_names_and_runs_on_images() -> None:
    model = resnet()
    names = [*model.state_dict()]
    with freezer_of(model, policy={0: "layer1"}) as freezer:
        run_epoch(freezer, 0)
        assert [*model.state_dict()] == names
        assert model.eval()(torch.randn(3, 1, 28, 28)).shape == (3, 10)


# ---------------------------------------------------------------------- state


def start(tmp_path: Path, optimizer_of: Callable[[nn.Module], Any] = sgd, **options: Any) -> tuple[Any, ...]:
    data = options.pop("data", None) or CountingImages(N, RANDOM)
    model = options.pop("model", None) or in_place()
    optimizer = optimizer_of(model)
    policy = Schedule({1: "features.2", 3: "features.7"})
    options = {"policy": policy, "epochs": 5, "cache_dir": tmp_path, "views": 2, "ladder": 8, **options}
    return freezer_of(model, data, optimizer=optimizer, **options), model, optimizer, data


def finish(run: tuple[Any, ...], epochs: range, trace: Trace) -> Trace:
    freezer, model, optimizer, _ = run
    for epoch in epochs:
        train_epoch(freezer, optimizer, epoch, trace)
    trace.weights = {name: value.clone() for name, value in model.state_dict().items()}
    trace.history = list(freezer.history)
    return trace


@pytest.mark.parametrize("stop", [1, 2, 4], ids=["at the first freeze", "between freezes", "after the second"])
@pytest.mark.parametrize("make", [sgd, adamw], ids=["sgd", "adamw"])
def test_a_run_goes_on_from_its_state_bit_for_bit(
    tmp_path: Path, stop: int, make: Callable[[nn.Module], torch.optim.Optimizer]
) -> None:
    torch.manual_seed(3)
    with (whole := start(tmp_path / "whole", make))[0]:
        torch.manual_seed(3)
        wanted = finish(whole, range(5), Trace([], [], {}, []))
    with (run := start(tmp_path / "cache", make))[0]:
        torch.manual_seed(3)
        begun = finish(run, range(stop), Trace([], [], {}, []))
        saved = json.loads(json.dumps(run[0].state_dict()))
        weights, optimizer_state = begun.weights, run[2].state_dict()
        random = torch.get_rng_state()
    with (second := start(tmp_path / "cache", make, model=in_place(9)))[0]:
        second[1].load_state_dict(weights)
        second[0].load_state_dict(saved)
        second[2].load_state_dict(optimizer_state)
        torch.set_rng_state(random)
        ended = finish(second, range(stop, 5), Trace(begun.losses, begun.gradients, {}, []))
    assert_same_run(ended, wanted)


def saved_state(tmp_path: Path, **options: Any) -> tuple[dict[str, Any], nn.Module]:
    run = start(tmp_path, **options)
    with run[0]:
        finish(run, range(2), Trace([], [], {}, []))
        return json.loads(json.dumps(run[0].state_dict())), run[1]


def test_the_cache_of_an_earlier_process_is_read_without_an_image(tmp_path: Path) -> None:
    state, model = saved_state(tmp_path)
    freezer, _, _, data = start(tmp_path, model=model)
    with freezer:
        freezer.load_state_dict(state)
        data.reads = 0
        assert freezer.source == "cache"
        list(freezer.batches(2))
        assert data.reads == 0


def test_history_metrics_and_clock_go_on(tmp_path: Path) -> None:
    state, model = saved_state(tmp_path)
    with start(tmp_path, model=model)[0] as freezer:
        freezer.load_state_dict(state)
        again = json.loads(json.dumps(freezer.state_dict()))
        assert again.pop("wall") >= state.pop("wall")
        assert again == state
        assert [entry["event"] for entry in freezer.history] == ["epoch", "freeze", "epoch"]


def test_changed_data_are_named_and_the_cache_is_built_again(tmp_path: Path) -> None:
    state, model = saved_state(tmp_path)
    changed = CountingImages(N, RANDOM)
    changed.images = 255 - changed.images
    with start(tmp_path, model=model, data=changed)[0] as freezer:
        with pytest.warns(
            UserWarning, match="hoarfrost builds the cache again: 'data' is .* here, but .* in the cache"
        ):
            freezer.load_state_dict(state)
        assert freezer.cache is None
        list(freezer.batches(2))
        assert freezer.source == "cache"


def test_a_cache_that_is_gone_is_built_again(tmp_path: Path) -> None:
    state, model = saved_state(tmp_path / "old")
    with start(tmp_path / "new", model=model)[0] as freezer:
        freezer.load_state_dict(state)
        assert freezer.depth == 3
        list(freezer.batches(2))
        assert freezer.source == "cache"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"seed": 5}, "the checkpoint was made with seed 0, this run has 5"),
        ({"data": images(90, RANDOM)}, "the checkpoint was made with samples 120, this run has 90"),
        (
            {"model": resnet(), "policy": "none"},
            r"frozen up to cut 'features.2' \(depth 3\), where this model has 'stem'",
        ),
        ({"policy": {0: "features.7"}}, "the checkpoint has depth 3, but depth 7 is frozen already"),
    ],
    ids=["seed", "samples", "model", "deeper"],
)
def test_a_state_of_another_run_is_refused(tmp_path: Path, change: dict[str, Any], text: str) -> None:
    state, _ = saved_state(tmp_path)
    with start(tmp_path, **change)[0] as freezer, pytest.raises(CheckpointError, match=text):
        freezer.load_state_dict(state)


@pytest.mark.parametrize("state", [{}, {"version": 3}], ids=["none", "newer"])
def test_what_is_no_state_is_refused(state: dict[str, Any]) -> None:
    text = "a freezer's state of version 2 is needed, this one has"
    with freezer_of() as freezer, pytest.raises(CheckpointError, match=text):
        freezer.load_state_dict(state)


def test_the_memory_of_a_policy_goes_through_the_state() -> None:
    class Counting:
        def __init__(self) -> None:
            self.asked = 0

        def __call__(self, state: TrainState, /) -> int:
            self.asked += 1
            return 0

        def state_dict(self) -> dict[str, Any]:
            return {"asked": self.asked}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            self.asked = state["asked"]

    first, second = Counting(), Counting()
    with freezer_of(policy=first) as freezer:
        run_epoch(freezer, 0)
        state = freezer.state_dict()
    with freezer_of(policy=second) as freezer:
        freezer.load_state_dict(state)
    assert second.asked == first.asked == 2


def test_views_may_be_given_whole() -> None:
    with freezer_of(policy={0: "layer1"}, views=Views(1)) as freezer:
        run_epoch(freezer, 0)
        assert freezer.cache is not None
        assert freezer.cache.spec.views == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_device_is_that_of_the_model() -> None:
    with freezer_of(resnet().cuda(), policy={0: "layer1"}) as freezer:
        assert freezer.device.type == "cuda"
        features, targets = next(freezer.batches(0))
        assert features.is_cuda
        assert freezer(features).is_cuda
        assert targets.is_cuda


# ---------------------------------------------------------------------- mixed batches

MIXUP, CUTMIX = v2.MixUp(num_classes=10), v2.CutMix(num_classes=10)


def mixed_freezer(model: Any, mix: Any, **options: Any) -> Freezer:
    given = {"policy": {1: options.pop("cut", "layer1")}, "mode": "cache", "ladder": "exact", "epochs": 3, **options}
    return Freezer(model, images(150, RANDOM), batch_size=50, mix=mix, **given)


@pytest.mark.parametrize("mix", [MIXUP, CUTMIX, v2.RandomChoice([MIXUP, CUTMIX])], ids=["mixup", "cutmix", "either"])
@pytest.mark.parametrize(
    ("make", "cut"), [(resnet, "layer1"), (resnet, "pool"), (vit, "encoder.layers.encoder_layer_0")]
)
def test_images_and_then_features_are_mixed_with_their_labels(make: Any, cut: str, mix: Any) -> None:
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
