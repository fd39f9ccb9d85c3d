"""Self-supervised learning on two random views of each image (SimCLR, Chen et al. 2020), its front frozen.

The transform gives a list of two views, as it is usually written. The model is called with each, and so is the
Freezer: features of both are stored by sample, and come in the place of the views. Clothes of Fashion-MNIST, from the
subset inside Hoarfrost; labels serve the figure alone: how often the nearest training image is of a test image's class.
"""

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision.transforms import v2

import hoarfrost
from hoarfrost.data import ImageArray, embedded
from hoarfrost.models import resolve_model
from three_ways import Outcome, three_ways

CUT, TRAINED = "layer2", 3  # what is frozen, and after how many epochs
PLAIN = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.286], [0.353])])
AUGMENTED = v2.Compose([v2.RandomResizedCrop(28, (0.4, 1)), v2.RandomHorizontalFlip(), v2.ColorJitter(0.4, 0.4), PLAIN])


class TwoViews:
    """Two random views of an image."""

    def __init__(self, transform: nn.Module) -> None:
        self.transform = transform

    def __call__(self, image: Image.Image) -> list[Tensor]:
        return [self.transform(image), self.transform(image)]


def make_model() -> nn.Module:
    return resolve_model("cifar_resnet", classes=64, channels=1)


def contrast(one: Tensor, other: Tensor) -> Tensor:
    """Each view is to be nearer to the other of its image than to those of all other images."""
    both = F.normalize(torch.cat([one, other]))
    near = (both @ both.T / 0.2).fill_diagonal_(float("-inf"))
    return F.cross_entropy(near, torch.arange(len(both)).roll(len(one)))


def as_it_was(model: nn.Module, data: Dataset, epochs: int) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    loader = DataLoader(data, batch_size=128, shuffle=True)
    for _ in range(epochs):
        for (one, other), _ in loader:
            loss = contrast(model(one), model(other))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()


def with_hoarfrost(model: nn.Module, data: Dataset, epochs: int, mode: str) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    told = {"policy": {TRAINED: CUT}, "mode": mode, "epochs": epochs}
    freezer = hoarfrost.Freezer(model, data, batch_size=128, optimizer=optimizer, **told)  # changed
    for epoch in range(epochs):
        for (one, other), _ in freezer.batches(epoch):  # changed
            loss = contrast(freezer(one), freezer(other))  # changed
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        freezer.end_epoch()  # new
    freezer.close()


def nearest(model: nn.Module, known: Dataset, asked: ImageArray) -> float:
    """Share of the images asked for whose nearest known one is of their class."""
    sides = []
    for data in (known, asked):
        made = [(F.normalize(model(images)), labels) for images, labels in DataLoader(data, 256)]
        sides.append([torch.cat(column) for column in zip(*made, strict=True)])
    (found, labels), (wanted, truth) = sides
    return float((labels[(wanted @ found.T).argmax(1)] == truth).float().mean())


def main(samples: int = 1000, epochs: int = 8) -> dict[str, Outcome]:
    train = Subset(embedded(transform=TwoViews(AUGMENTED)), range(samples))
    known, test = Subset(embedded(transform=PLAIN), range(samples)), embedded(train=False, transform=PLAIN)
    return three_ways(
        make_model,
        lambda model: as_it_was(model, train, epochs),
        lambda model, mode: with_hoarfrost(model, train, epochs, mode),
        lambda model: nearest(model, known, test),
        "accuracy of the nearest image",
    )


if __name__ == "__main__":
    main()
