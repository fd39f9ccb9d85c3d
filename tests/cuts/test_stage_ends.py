"""Stages are stretches of one resolution; a model of one resolution has thirds."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from hoarfrost import find_cut, find_cuts
from hoarfrost.cuts import stage_ends, stage_of
from hoarfrost.models import cifar_resnet
from shared.nets import vit


def ends(model: nn.Module, *shape: int) -> list[str]:
    return [cut.name for cut in stage_ends(find_cuts(model.eval(), torch.randn(2, *shape)))]


def test_a_residual_networks_stages_are_its_layers() -> None:
    assert ends(cifar_resnet(blocks=(2, 2, 2), widths=(4, 8, 8)), 1, 28, 28) == ["layer1", "layer2"]
    assert ends(resnet18(), 3, 64, 64) == ["layer1", "layer2", "layer3"]


def test_tokens_have_one_resolution_so_thirds_of_the_work_are_taken() -> None:
    cuts = find_cuts(vit().eval(), torch.randn(2, 1, 28, 28))
    found = stage_ends(cuts)
    shares = [cut.prefix_flops / (cut.prefix_flops + cut.suffix_flops) for cut in found]
    assert shares == pytest.approx([1 / 3, 2 / 3], abs=0.15)


def test_a_cut_lies_in_the_stage_that_it_ends_or_stands_in() -> None:
    cuts = find_cuts(cifar_resnet(blocks=(2, 2, 2), widths=(4, 8, 8)).eval(), torch.randn(2, 1, 28, 28))
    found = {
        name: stage_of(cuts, find_cut(cuts, name)) for name in ("stem", "layer1.0", "layer1", "layer2.0", "layer2")
    }
    assert found == {"stem": 0, "layer1.0": 0, "layer1": 0, "layer2.0": 1, "layer2": 1}
    assert stage_of(cuts, find_cut(cuts, "layer3")) == 2


def test_a_model_without_cuts_has_no_stages() -> None:
    assert stage_ends(()) == ()
