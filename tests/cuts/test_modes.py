"""A module in front of the cut whose mode is asked for behind it."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor, nn

from hoarfrost import divide, find_cut, find_cuts
from hoarfrost.cuts.tracing.modes import mode_reads
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


def test_without_the_check_of_the_law_it_is_seen_too() -> None:
    model = Detector()
    prefix, _ = divide(model, find_cut(find_cuts(model, X), "front"), X, verify=False)
    assert "transform" not in prefix.module_names
    assert "dropout" in prefix.module_names


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
