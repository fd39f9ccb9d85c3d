"""SyncBatchNorm: what is measured waits for no other process, and gives what plain batch norms give."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import distributed, nn

from hoarfrost import Freezer
from hoarfrost.cuts import find_cuts, unsynchronised
from shared.distributed_runs import Numbered
from shared.nets import resnet
from shared.runs import assert_same_tensors, sgd


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'rendezvous'}", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def net(synchronised: bool) -> Any:
    """A front of which each norm would wait for the others, and, on a CPU, refuse to train."""
    model = resnet()
    if synchronised:
        for name, child in model.named_children():
            if name not in ("layer2", "layer3"):
                setattr(model, name, nn.SyncBatchNorm.convert_sync_batchnorm(child))
    return model


def trained(synchronised: bool, settle: str) -> dict[str, torch.Tensor]:
    model = net(synchronised)
    optimizer = sgd(model)
    told: dict[str, Any] = {"policy": {0: "layer1"}, "ladder": "exact", "views": 1, "verbose": False}
    with Freezer(model, Numbered(32), batch_size=16, epochs=2, optimizer=optimizer, settle=settle, **told) as freezer:
        for epoch in range(2):
            for inputs, targets in freezer.batches(epoch):
                F.cross_entropy(freezer(inputs), targets % 10).backward()
                optimizer.step()
                optimizer.zero_grad()
            freezer.end_epoch()
    assert freezer.step_flops() > 0
    return model.state_dict()


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("settle", ["last", pytest.param("statistics", marks=pytest.mark.slow)])
def test_a_frozen_front_with_synchronised_norms_is_one_with_plain_ones(settle: str) -> None:
    assert_same_tensors(trained(True, settle), trained(False, settle))


@pytest.mark.usefixtures("group")
def test_cuts_are_found_by_one_process_alone() -> None:
    images = torch.zeros(4, 1, 28, 28)
    labels = [[cut.label for cut in find_cuts(net(synchronised), images)] for synchronised in (True, False)]
    assert labels[0] == labels[1]


@pytest.mark.usefixtures("group")
def test_outside_of_measurements_they_wait_as_ever() -> None:
    norm, batch = nn.SyncBatchNorm(2), torch.randn(8, 2)
    with unsynchronised():
        assert torch.equal(norm(batch), nn.BatchNorm1d(2)(batch))
    with pytest.raises(ValueError, match="SyncBatchNorm expected input tensor to be on GPU"):
        norm(batch)
