"""Segmentation with torchvision's LR-ASPP on (image, mask) pairs, its backbone frozen, its head training.

The head takes two tensors of the backbone, a shallow and a deep one: `max_tensors=2` allows to divide there. Masks are
`tv_tensors.Mask`, so that a flip of the image flips them too; each batch of features comes with the masks of the very
renditions that they are of. Pictures are made here: clothes of Fashion-MNIST, two of them on noise, to be told apart.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, default_collate
from torchvision.models.segmentation import lraspp_mobilenet_v3_large
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import pil_to_tensor
from torchvision.tv_tensors import Mask

import hoarfrost
from hoarfrost.data import open_data
from three_ways import Outcome, three_ways

CUT, TRAINED = "backbone", 3  # what is frozen, and after how many epochs
GROUPS = (1, 1, 1, 1, 1, 2, 1, 2, 3, 2)  # of the ten classes: clothes, shoes, bags; 0 is the background
AUGMENTED = v2.Compose([v2.RandomHorizontalFlip(), v2.ColorJitter(0.3, 0.3)])


def make_data(pairs: Dataset, count: int) -> list[tuple[Tensor, Mask]]:
    """Images [3, 64, 64] and masks [64, 64]."""
    drawn = torch.Generator().manual_seed(0)
    images = torch.rand(count, 64, 64, generator=drawn) * 0.3
    masks = torch.zeros(count, 64, 64, dtype=torch.long)
    for n in range(count):
        for left in (2, 34):
            picture, label = pairs[int(torch.randint(len(pairs), (1,), generator=drawn))]
            grey, top = pil_to_tensor(picture)[0] / 255, int(torch.randint(36, (1,), generator=drawn))
            place = n, slice(top, top + 28), slice(left, left + 28)
            images[place] = torch.maximum(images[place], grey)
            masks[place] = torch.where(grey > 0.2, GROUPS[label], 0)
    return [(image.expand(3, -1, -1), Mask(mask)) for image, mask in zip(images, masks, strict=True)]


def make_model() -> nn.Module:
    model = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = 0.1  # torchvision's 0.01 is for thousands of steps
    return model


def as_it_was(model: nn.Module, data: Dataset, epochs: int) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    loader = DataLoader(data, 16, True, collate_fn=lambda rows: default_collate([AUGMENTED(*row) for row in rows]))
    for _ in range(epochs):
        for images, masks in loader:
            loss = F.cross_entropy(model(images)["out"], masks)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()


def with_hoarfrost(model: nn.Module, data: Dataset, epochs: int, mode: str) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    told = {"policy": {TRAINED: CUT}, "mode": mode, "epochs": epochs, "max_tensors": 2, "transform": AUGMENTED}
    freezer = hoarfrost.Freezer(model, data, batch_size=16, optimizer=optimizer, **told)  # changed
    for epoch in range(epochs):
        for images, masks in freezer.batches(epoch):  # changed
            loss = F.cross_entropy(freezer(images)["out"], masks)  # changed
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        freezer.end_epoch()  # new
    freezer.close()


def overlap(model: nn.Module, data: Dataset) -> float:
    """Intersection over union, the mean of the four classes."""
    batches = [(model(images)["out"].argmax(1), masks) for images, masks in DataLoader(data, 64)]
    found, masks = (torch.cat(column) for column in zip(*batches, strict=True))

    def of(label: int) -> Tensor:
        return ((found == label) & (masks == label)).sum() / ((found == label) | (masks == label)).sum()

    return float(torch.stack([of(label) for label in range(4)]).mean())


def main(samples: int = 240, epochs: int = 8) -> dict[str, Outcome]:
    fashion = open_data("embedded")
    train, test = make_data(fashion.train, samples), make_data(fashion.test, max(samples // 4, 50))
    return three_ways(
        make_model,
        lambda model: as_it_was(model, train, epochs),
        lambda model, mode: with_hoarfrost(model, train, epochs, mode),
        lambda model: overlap(model, test),
        "mean IoU",
    )


if __name__ == "__main__":
    main()
