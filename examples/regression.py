"""Regression: a target is a number, and the loss is given as `criterion=`.

The loss tells what the outputs are for: features are stored as finely as errors relative to the targets' spread need.
The number is the angle by which a piece of clothing of Fashion-MNIST, from the subset inside Hoarfrost, was turned.
"""

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

import hoarfrost
from hoarfrost.data import open_data
from hoarfrost.models import resolve_model
from three_ways import Outcome, three_ways

CUT, TRAINED = "layer2", 2  # what is frozen, and after how many epochs
LOSS = nn.MSELoss()
DEGREES = 60  # to either side, the unit of targets
PLAIN = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.286], [0.353])]
AUGMENTED = [v2.RandomCrop(28, padding=3), v2.ColorJitter(0.3, 0.3), *PLAIN]


class Turned(Dataset):
    """Images [1, 28, 28] and targets [1], from -1 to 1."""

    def __init__(self, pairs: Dataset, count: int, steps: list[nn.Module]) -> None:
        self.pairs, self.transform = pairs, v2.Compose(steps)
        self.targets = 2 * torch.rand(count, 1, generator=torch.Generator().manual_seed(0)) - 1

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        clothes, _ = self.pairs[index]
        return self.transform(clothes.rotate(DEGREES * float(self.targets[index]))), self.targets[index]


def make_model() -> nn.Module:
    return resolve_model("cifar_resnet", classes=1, channels=1)


def as_it_was(model: nn.Module, data: Dataset, epochs: int) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    loader = DataLoader(data, batch_size=64, shuffle=True)
    for _ in range(epochs):
        for images, targets in loader:
            loss = LOSS(model(images), targets)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()


def with_hoarfrost(model: nn.Module, data: Dataset, epochs: int, mode: str) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    told = {"policy": {TRAINED: CUT}, "mode": mode, "epochs": epochs, "criterion": LOSS}
    freezer = hoarfrost.Freezer(model, data, batch_size=64, optimizer=optimizer, **told)  # changed
    for epoch in range(epochs):
        for images, targets in freezer.batches(epoch):  # changed
            loss = LOSS(freezer(images), targets)  # changed
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        freezer.end_epoch()  # new
    freezer.close()


def error(model: nn.Module, data: Dataset) -> float:
    """Root of the mean square error, in degrees."""
    squares = sum(float((model(images) - targets).square().sum()) for images, targets in DataLoader(data, 256))
    return DEGREES * (squares / len(data)) ** 0.5


def main(samples: int = 1500, epochs: int = 8) -> dict[str, Outcome]:
    fashion = open_data("embedded")
    train = Turned(fashion.train, samples, AUGMENTED)
    test = Turned(fashion.test, len(fashion.test), PLAIN)
    return three_ways(
        make_model,
        lambda model: as_it_was(model, train, epochs),
        lambda model, mode: with_hoarfrost(model, train, epochs, mode),
        lambda model: error(model, test),
        "RMSE in degrees",
    )


if __name__ == "__main__":
    main()
