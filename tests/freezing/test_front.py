"""The freezer when called, and the optimizer behind a freeze."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from hoarfrost.errors import (
    ArgumentError,
)
from shared.freezers import freezer_of, run_epoch
from shared.nets import in_place, resnet
from shared.runs import Trace, adamw, assert_same_tensors, sgd, train_epoch


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
        assert freezer._front.division is not None
        x = torch.randn(4, 1, 28, 28)
        assert torch.equal(freezer(freezer._front.division.prefix(x)), model(x))


def test_images_after_a_freeze_are_refused_with_what_to_call() -> None:
    with freezer_of(policy={0: "layer1"}) as freezer:
        freezer.decide()
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
        suffix = freezer._front.division.suffix  # type: ignore[union-attr]

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
