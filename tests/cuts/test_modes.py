"""A module in front of the cut whose mode is asked for behind it."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor, nn

from hoarfrost import divide, find_cut, find_cuts
from hoarfrost.cuts.tracing.modes import mode_reads
from hoarfrost.errors import FrontChangedError
from hoarfrost.freezing import freeze, thaw


class Scale(nn.Module):
    """Goes to the network's scale, and in eval back to the image's, as a detector's transform does."""

    def forward(self, x: Tensor) -> Tensor:
        return x / 255

    def back(self, x: Tensor) -> Tensor:
        return x if self.training else x * 255


class Detector(nn.Module):
    """A transform that is read on both sides, a dropout that is not."""

    def __init__(self) -> None:
        super().__init__()
        self.transform = Scale()
        self.dropout = nn.Dropout(0.5)
        self.front = nn.Linear(4, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.transform.back(self.head(self.front(self.dropout(self.transform(x)))))


X = torch.arange(12.0).reshape(3, 4)


def test_it_is_in_the_mode_of_what_is_behind() -> None:
    model = Detector()
    prefix, suffix = divide(model, find_cut(find_cuts(model, X), "front"), X)
    model.train()
    prefix.eval(), suffix.eval()
    got = suffix(prefix(X))
    assert not model.transform.training
    assert model.dropout.training, "nothing behind asks for its mode"
    assert torch.equal(got, model.eval()(X))


@pytest.mark.parametrize("training", [False, True])
def test_a_freeze_leaves_it_to_the_model(training: bool) -> None:
    model = Detector()
    prefix, suffix = divide(model, find_cut(find_cuts(model, X), "front"), X)
    frozen = freeze(model, prefix)
    model.train(training)
    assert (model.transform.training, model.dropout.training) == (training, False)
    scale = 1 if training else 255
    assert torch.equal(suffix(prefix(X)), model.head(model.front(X / 255)) * scale)
    thaw(frozen)
    assert model.transform.training == model.dropout.training == training


class Nested(nn.Module):
    """What is read behind lies in a container that is over in front; in it sleeps what has tensors of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Identity(), nn.Dropout(0.5))
        self.blocks = nn.ModuleList([nn.Linear(8, 8)])  # never called
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(self.blocks[0](self.front(x)))
        norms = [module.training for module in self.modules() if isinstance(module, nn.BatchNorm1d)]
        return x * (1 if self.front[2].training else 2) * (3 if self.blocks.training else 5) * (7 if any(norms) else 11)


@pytest.mark.parametrize("training", [False, True])
def test_one_in_a_container_that_sleeps_follows_the_model_all_the_same(training: bool) -> None:
    model = Nested()
    prefix, suffix = divide(model, find_cut(find_cuts(model, X), "blocks.0"), X)
    frozen = freeze(model, prefix)
    for _ in range(2):
        model.train(training)
        asleep = {name for name, module in model.named_modules() if module.training != training}
        assert asleep == ({"front", "front.0", "front.1", "front.3", "blocks.0"} if training else set())
    features = prefix(X)
    assert torch.equal(suffix(features), model.head(features) * (1 * 3 if training else 2 * 5) * 11)
    thaw(frozen)
    model.train(training)
    assert {module.training for module in model.modules()} == {training}


def test_a_deeper_freeze_lets_it_sleep_where_nothing_behind_asks_any_more() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(4, 8), nn.ReLU()), Asking(), nn.Linear(8, 8), nn.Linear(8, 2))
    model[1].asked = [model[0][1]]
    cuts = find_cuts(model, X)
    parts = [divide(model, find_cut(cuts, name), X) for name in ("0", "1")]
    assert [set(prefix.heeded_names) for prefix, _ in parts] == [{"0.1"}, set()]
    for (prefix, _), mode in zip(parts, (True, False), strict=True):
        freeze(model, prefix)
        assert model.train()[0][1].training == mode


class Asking(nn.Linear):
    """Asks another module for its mode."""

    def __init__(self) -> None:
        super().__init__(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (2 if self.asked[0].training else 1)


def test_it_is_looked_after_as_all_of_the_front_is() -> None:
    model = Detector()
    prefix, suffix = divide(model, find_cut(find_cuts(model, X), "front"), X, verify=False)
    assert prefix.heeded_names == {"transform"}
    assert {"transform", "dropout"} <= set(prefix.module_names)
    features = prefix(X)
    model.transform = Scale()
    with pytest.raises(FrontChangedError, match="'transform' is no longer what it was"):
        suffix(features)


def test_reads_are_told_in_this_thread_alone() -> None:
    mine, theirs = nn.ReLU(), nn.ReLU()
    told: list[nn.Module] = []
    with mode_reads(told.append):
        assert mine.training
        mine.eval()
        assert not mine.training
        reader = threading.Thread(target=lambda: theirs.training)
        reader.start()
        reader.join()
        with mode_reads(lambda module: None):
            pass
        assert not mine.training
    assert told == [mine] * 3
    assert "training" not in vars(nn.Module)
    assert vars(mine)["training"] is False


def test_a_module_without_a_mode_has_none_meanwhile() -> None:
    bare = nn.ReLU()
    del bare.training
    with mode_reads(lambda module: None):
        assert not hasattr(bare, "training")
        bare.training = True
        assert bare.training
        del bare.training
    assert not hasattr(bare, "training")
