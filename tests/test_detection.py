"""Models that take lists of images with their targets, and give losses in training and detections in eval."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.models import detection
from torchvision.models.detection import faster_rcnn, keypoint_rcnn, mask_rcnn
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.ops import MultiScaleRoIAlign

from hoarfrost import Freezer, TrainState
from hoarfrost.cuts import find_cut
from hoarfrost.errors import ArgumentError, CutError, DatasetError, ImageShapeError

N, SIZE = 20, 32


class Squares(Dataset[tuple[Tensor, dict[str, Tensor]]]):
    """One or two bright squares on an image, with boxes, labels, masks and keypoints.

    Args:
        heights: of the images, one after the other.
    """

    def __init__(self, heights: tuple[int, ...] = (SIZE,)) -> None:
        self.heights = heights

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        drawn = torch.Generator().manual_seed(index)
        height = self.heights[index % len(self.heights)]
        image, count = torch.rand(3, height, SIZE, generator=drawn) / 5, 1 + index % 2
        corners = torch.randint(16, (count, 2), generator=drawn)
        masks = torch.zeros(count, height, SIZE, dtype=torch.uint8)
        for (x, y), mask in zip(corners.tolist(), masks, strict=True):
            image[x % 3, y : y + 14, x : x + 14] = 1
            mask[y : y + 14, x : x + 14] = 1
        boxes = torch.cat([corners, corners + 14], 1).float()
        points = torch.cat([corners.float() + 7, torch.ones(count, 1)], 1)[:, None]
        return image, {"boxes": boxes, "labels": 1 + corners[:, 0] % 3, "masks": masks, "keypoints": points}


class Backbone(nn.Module):
    """Three stages, with batch norms; one map of features."""

    out_channels: Any = 32

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 6, 8, 32)
        self.stages = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(a, b, 3, 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True))
                for a, b in itertools.pairwise(widths)
            )
        )

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.stages(images)
        return found


SIZES: dict[str, Any] = {"min_size": SIZE, "max_size": 2 * SIZE}
ANCHORS: dict[str, Any] = {"anchor_generator": AnchorGenerator(((8, 16),), ((1.0,),))}


def two_stages(kind: Callable[..., nn.Module], **more: Any) -> nn.Module:
    return kind(
        Backbone(),
        **SIZES,
        rpn_anchor_generator=ANCHORS["anchor_generator"],
        box_roi_pool=MultiScaleRoIAlign(["0"], 3, 2),
        box_head=faster_rcnn.TwoMLPHead(32 * 9, 16),
        box_predictor=faster_rcnn.FastRCNNPredictor(16, 4),
        box_batch_size_per_image=16,
        **more,
    )


def masks() -> nn.Module:
    pool, predictor = MultiScaleRoIAlign(["0"], 4, 2), mask_rcnn.MaskRCNNPredictor(8, 8, 4)
    heads = mask_rcnn.MaskRCNNHeads(32, (8,), 1)
    return two_stages(detection.MaskRCNN, mask_roi_pool=pool, mask_head=heads, mask_predictor=predictor)


def keypoints() -> nn.Module:
    pool, predictor = MultiScaleRoIAlign(["0"], 4, 2), keypoint_rcnn.KeypointRCNNPredictor(8, 1)
    told = {"keypoint_head": keypoint_rcnn.KeypointRCNNHeads(32, (8,)), "keypoint_predictor": predictor}
    return two_stages(detection.KeypointRCNN, keypoint_roi_pool=pool, **told)


def one_shot() -> nn.Module:
    backbone = Backbone()
    backbone.out_channels = [32]
    return detection.ssd.SSD(backbone, DefaultBoxGenerator([[2]]), (SIZE, SIZE), 4)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "faster rcnn": lambda: two_stages(detection.FasterRCNN),
    "mask rcnn": masks,
    "keypoint rcnn": keypoints,
    "retinanet": lambda: detection.RetinaNet(Backbone(), 4, **SIZES, **ANCHORS),
    "fcos": lambda: detection.FCOS(Backbone(), 4, **SIZES, anchor_generator=AnchorGenerator(((8,),), ((1.0,),))),
    "ssd": one_shot,
}
CUT = "backbone.stages.1"
SLOW = {"mask rcnn", "keypoint rcnn", "retinanet", "fcos"}
"""One model of two stages and one of a single stage are quick."""


def pairs(items: list[Any]) -> Any:
    return tuple(zip(*items, strict=True))


def loader(data: Dataset[Any] | None = None) -> DataLoader[Any]:
    return DataLoader(data or Squares(), batch_size=6, shuffle=True, collate_fn=pairs)


def train(kind: str, data: Dataset[Any] | None = None, **more: Any) -> tuple[nn.Module, list[float], Freezer]:
    torch.manual_seed(0)
    model = MODELS[kind]().train()
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    told = {"policy": {1: CUT}, "epochs": 3, **more}
    freezer = Freezer(model, loader(data), optimizer=optimizer, verbose=False, **told)
    losses = []
    for epoch in range(3):
        for images, targets in freezer.batches(epoch):
            loss = sum(freezer(images, targets).values())
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        freezer.end_epoch()
    return model, losses, freezer


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] if kind in SLOW else []) for kind in MODELS]
)
def test_a_cached_run_is_a_recomputing_run_and_evaluates_as_ever(kind: str) -> None:
    cached, stored, freezer = train(kind, mode="cache", ladder="exact", views=1)
    recomputing, computed, other = train(kind, mode="recompute")
    assert stored == computed
    assert all(map(torch.equal, cached.state_dict().values(), recomputing.state_dict().values()))
    assert (freezer.source, other.source) == ("cache", "recompute")
    (record,) = [record for record in freezer.history if record["event"] == "freeze"]
    assert (record["harm"], record["beside"]) == ("loss", [])
    cached.eval()
    with torch.no_grad():
        whole = [found for images, _ in DataLoader(Squares(), 6, collate_fn=pairs) for found in cached(images)]
        evaluation = freezer.evaluation(Squares(), batch_size=6, codec="exact")
        for _ in range(2):
            shown = [found for features, _ in evaluation for found in freezer(features)]
            assert all(torch.equal(a[key], b[key]) for a, b in zip(whole, shown, strict=True) for key in a)
    freezer.close()
    other.close()


def test_the_targets_of_the_call_count() -> None:
    _, _, freezer = train("faster rcnn", mode="cache", ladder="exact", views=1)
    images, targets = next(iter(freezer.batches(2)))
    assert images.shape == (6, 8, 8, 8)

    def loss(targets: Any) -> float:
        torch.manual_seed(0)
        return sum(freezer(images, targets=targets).values()).item()

    moved = [{**target, "boxes": target["boxes"] + 4} for target in targets]
    assert loss(list(targets)) == loss(targets) != loss(moved)
    with pytest.raises(AssertionError, match="targets should not be none when in training mode"):
        freezer(images)


def test_it_is_stored_as_finely_as_its_losses_need() -> None:
    _, _, freezer = train("retinanet", mode="cache", tolerance=1e-2)
    (record,) = [record for record in freezer.history if record["event"] == "freeze"]
    chosen = next(rung for rung in record["rungs"] if rung["chosen"])
    assert record["harm"] == "loss"
    assert 0 < chosen["kl"] <= 1e-2
    assert record["cache_bytes"] < record["dense_bytes"] / 3


def test_a_trial_trains_on_its_losses() -> None:
    _, _, freezer = train("fcos", policy={2: CUT}, mode="recompute")
    found = freezer._asking._measurements.trial(freezer.depth, 2)
    assert found is not None
    assert found.before > found.free > 0


def test_images_of_several_sizes_are_refused_with_the_way_out() -> None:
    with pytest.raises(
        ImageShapeError, match=r"must have one size, .* where boxes or masks go with the image, resize both"
    ):
        train("faster rcnn", Squares((SIZE, SIZE - 4)))


def test_images_that_the_model_itself_brings_to_one_size_are_refused_too() -> None:
    # Features would be right; but the suffix scales boxes by the size that the model was divided on.
    _, _, freezer = train("faster rcnn", mode="recompute")
    division = freezer._front.division
    assert division is not None
    images, targets = pairs([Squares()[n] for n in range(2)])
    larger = [nn.functional.interpolate(image[None], scale_factor=2)[0] for image in images]
    assert division.prefix(larger, list(targets))[0].shape == (2, 8, 8, 8)
    with pytest.raises(
        DatasetError, match=r"samples are \[3, 64, 64\], the first ones \[3, 32, 32\].* in the data set"
    ):
        freezer._data.source(division.prefix).run((larger, list(targets)))


def test_a_model_that_takes_targets_is_called_with_them() -> None:
    with Freezer(MODELS["fcos"](), loader(), epochs=1, policy="none", verbose=False) as freezer:
        assert freezer.describe()[0].startswith("items: the model is called with 0, 1; features take the place of 0")


def test_a_collate_that_sorts_items_is_refused() -> None:
    sorting = DataLoader(Squares(), 6, collate_fn=lambda items: pairs(sorted(items, key=lambda item: -item[0].sum())))
    with pytest.raises(DatasetError, match="sorts, mixes, draws or drops items"):
        Freezer(MODELS["fcos"](), sorting, epochs=1, policy="none", verbose=False)


def test_outputs_that_cannot_be_judged_are_refused_in_the_constructor() -> None:
    class Named(nn.Module):
        """Gives a list of mappings, in training too."""

        def __init__(self) -> None:
            super().__init__()
            self.stages = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))

        def forward(self, rows: Tensor) -> list[dict[str, Tensor]]:
            return [{"scores": row} for row in self.stages(rows)]

    data = torch.utils.data.TensorDataset(torch.rand(8, 4), torch.zeros(8))
    told: dict[str, Any] = {"batch_size": 4, "epochs": 2, "policy": {1: "stages.1"}, "verbose": False}
    with pytest.raises(ArgumentError, match=r"Named gives list, in which there is no tensor with a row .* Give criter"):
        Freezer(Named(), data, **told)
    for way_out in ({"mode": "recompute"}, {"criterion": lambda found, targets: found[0]["scores"].sum()}):
        Freezer(Named(), data, **told, **way_out).close()


def test_targets_that_the_model_is_not_told_are_asked_for() -> None:
    with pytest.raises(CutError, match="in train mode"):
        Freezer(MODELS["fcos"](), loader(), epochs=1, input=0, verbose=False)


def test_a_freeze_within_an_epoch_keeps_the_law() -> None:
    class Midway:
        every_steps = 2

        def __call__(self, state: TrainState) -> int:
            return find_cut(state.cuts, CUT).index + 1 if state.step >= 2 else 0

    _, stored, freezer = train("retinanet", policy=Midway(), mode="cache", ladder="exact", views=1)
    _, computed, _ = train("retinanet", policy=Midway(), mode="recompute")
    assert stored == computed
    assert "midway" in [record["event"] for record in freezer.history]


def test_workers_render_the_same_batches() -> None:
    def losses(workers: int) -> list[float]:
        return train("retinanet", mode="cache", ladder="exact", views=1, workers=workers)[1]

    assert losses(0) == losses(1)
