"""Several labels an image: a target is a row of zeros and ones, and the loss is given as `criterion=`.

The loss tells what the outputs are for: each is a probability of its own, and features are stored as finely as that
needs. Pictures are two clothes of Fashion-MNIST side by side, from the subset inside Hoarfrost.
"""

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

import hoarfrost
from hoarfrost.data import open_data
from hoarfrost.models import resolve_model
from three_ways import Outcome, three_ways

CUT, TRAINED = "layer2", 2  # what is frozen, and after how many epochs
LOSS = nn.BCEWithLogitsLoss()
PLAIN = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.286], [0.353])]
AUGMENTED = [v2.RandomHorizontalFlip(), v2.RandomCrop((28, 56), padding=3), *PLAIN]


class Two(Dataset):
    """Images [1, 28, 56] and targets [10]: sample n on the left, another on the right."""

    def __init__(self, pairs: Dataset, count: int, steps: list[nn.Module]) -> None:
        self.pairs, self.count, self.transform = pairs, count, v2.Compose(steps)
        self.right = torch.randperm(count, generator=torch.Generator().manual_seed(0)).tolist()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, target = Image.new("L", (56, 28)), torch.zeros(10)
        for left, number in ((0, index), (28, self.right[index])):
            clothes, label = self.pairs[number]
            image.paste(clothes, (left, 0))
            target[label] = 1
        return self.transform(image), target


def make_model() -> nn.Module:
    return resolve_model("cifar_resnet", classes=10, channels=1)


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


def accuracy(model: nn.Module, data: Dataset) -> float:
    """Of single labels."""
    right = sum(int(((model(images) > 0) == targets.bool()).sum()) for images, targets in DataLoader(data, 256))
    return right / (10 * len(data))


def main(samples: int = 1500, epochs: int = 8) -> dict[str, Outcome]:
    fashion = open_data("embedded")
    train = Two(fashion.train, samples, AUGMENTED)
    test = Two(fashion.test, len(fashion.test), PLAIN)
    return three_ways(
        make_model,
        lambda model: as_it_was(model, train, epochs),
        lambda model, mode: with_hoarfrost(model, train, epochs, mode),
        lambda model: accuracy(model, test),
        "accuracy of labels",
    )


if __name__ == "__main__":
    main()
