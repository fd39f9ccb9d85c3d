"""Detection with torchvision's FCOS, the front of its backbone frozen: images come in a list, targets beside them.

Batches are made of (image, {"boxes": ..., "labels": ...}) by the usual `zip` of detection; the model is called with
both and gives its losses. Behind the freeze features take the images' place. Pictures are made here.
"""

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.models.detection import FCOS
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import box_iou

import hoarfrost
from three_ways import Outcome, three_ways

CUT, TRAINED, SIZE = "backbone.2", 4, 64  # what is frozen, after how many epochs, and pixels


class Squares(Dataset):
    """One to three coloured squares on noise; `first` tells training from test."""

    def __init__(self, first: int, count: int) -> None:
        self.first, self.count = first, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        drawn = torch.Generator().manual_seed(self.first + index)
        image = torch.rand(3, SIZE, SIZE, generator=drawn) * 0.3
        boxes, colours = [], torch.randint(3, (1 + index % 3,), generator=drawn)
        for colour in colours:
            side = int(torch.randint(12, 24, (1,), generator=drawn))
            left, top = torch.randint(SIZE - side, (2,), generator=drawn).tolist()
            image[colour, top : top + side, left : left + side] = 1
            boxes.append([left, top, left + side, top + side])
        return image, {"boxes": torch.tensor(boxes).float(), "labels": colours + 1}


def stage(before: int, behind: int, stride: int = 2) -> nn.Module:
    return nn.Sequential(nn.Conv2d(before, behind, 3, stride, 1), nn.BatchNorm2d(behind), nn.ReLU())


def make_model() -> nn.Module:
    backbone = nn.Sequential(stage(3, 32), stage(32, 64), stage(64, 64), stage(64, 64, 1))
    backbone.out_channels = 64
    return FCOS(backbone, 4, SIZE, SIZE, anchor_generator=AnchorGenerator(((8,),), ((1.0,),)))


def as_it_was(model: nn.Module, data: Dataset, epochs: int) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    loader = DataLoader(data, batch_size=8, shuffle=True, collate_fn=lambda items: tuple(zip(*items, strict=True)))
    for _ in range(epochs):
        for images, targets in loader:
            loss = sum(model(images, targets).values())
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()


def with_hoarfrost(model: nn.Module, data: Dataset, epochs: int, mode: str) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    loader = DataLoader(data, batch_size=8, shuffle=True, collate_fn=lambda items: tuple(zip(*items, strict=True)))
    told = {"policy": {TRAINED: CUT}, "mode": mode, "epochs": epochs, "ladder": 8}
    freezer = hoarfrost.Freezer(model, loader, optimizer=optimizer, **told)  # changed
    for epoch in range(epochs):
        for images, targets in freezer.batches(epoch):  # changed
            loss = sum(freezer(images, targets).values())  # changed
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        freezer.end_epoch()  # new
    freezer.close()


def found(model: nn.Module, data: Dataset) -> float:
    """The share of squares of which the best box, of the right colour, covers more than half (IoU)."""
    hits = []
    for image, target in (data[n] for n in range(len(data))):
        (detections,) = model([image])
        right = (target["labels"][:, None] == detections["labels"]) & (detections["scores"] > 0.3)
        hits += ((box_iou(target["boxes"], detections["boxes"]) > 0.5) & right).any(1).tolist()
    return sum(hits) / len(hits)


def main(samples: int = 240, epochs: int = 12) -> dict[str, Outcome]:
    train, test = Squares(0, samples), Squares(100_000, max(samples // 4, 20))
    return three_ways(
        make_model,
        lambda model: as_it_was(model, train, epochs),
        lambda model, mode: with_hoarfrost(model, train, epochs, mode),
        lambda model: found(model, test),
        "squares found",
    )


if __name__ == "__main__":
    main()
