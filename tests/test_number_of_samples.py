"""A data set that loses or gains samples while it is trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from hoarfrost import Freezer
from hoarfrost.errors import DatasetError

IMAGES = torch.rand(48, 1, 8, 8, generator=torch.Generator().manual_seed(0))


class Growing(Dataset[Any]):
    def __init__(self) -> None:
        self.count = 32

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return IMAGES[index], index % 4


def freezer_of(data: Growing, folder: Path, **told: Any) -> Freezer:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh()), nn.Sequential(nn.Flatten(), nn.Linear(72, 10)))
    given = {"policy": {0: "0"}, "settle": "last", "ladder": "exact", "views": 1, "verbose": False, **told}
    return Freezer(net, data, batch_size=8, epochs=3, cache_dir=folder, **given)


@pytest.mark.parametrize("count", [16, 48])
@pytest.mark.parametrize("mode", ["cache", "recompute"])
def test_another_number_is_refused_before_the_next_epoch(tmp_path: Path, mode: str, count: int) -> None:
    data = Growing()
    with freezer_of(data, tmp_path, mode=mode) as freezer:
        assert len(list(freezer.batches(0))) == 4
        freezer.end_epoch()
        data.count = count
        with pytest.raises(DatasetError, match=rf"Growing had 32 samples .*, and has {count} now: .* a new one"):
            next(iter(freezer.batches(1)))
        data.count = 32
        assert len(list(freezer.batches(1))) == 4


@pytest.mark.parametrize("mode", ["cache", "recompute"])
def test_a_number_that_changes_in_an_epoch_is_refused_behind_it(tmp_path: Path, mode: str) -> None:
    data = Growing()
    with freezer_of(data, tmp_path, mode=mode, policy={1: "0"}) as freezer:
        shown = 0
        for _ in freezer.batches(0):
            shown, data.count = shown + 1, 16
        assert shown == 4
        with pytest.raises(DatasetError, match=r"had 32 samples .*, and has 16 now"):
            freezer.end_epoch({"loss": 1.0})
        assert freezer.history[-1]["loss"] == 1.0
        state = freezer.state_dict()
    assert state["epoch"] == 1
    data.count = 32
    with freezer_of(data, tmp_path, mode=mode, policy={1: "0"}) as freezer:
        freezer.load_state_dict(state)
        assert len(list(freezer.batches(1))) == 4
