"""A ViT of timm with timm's own augmentation, `create_transform`, and a weighted sampler, since some classes are rare.

The loader with its sampler and the transform, which the data set holds, are taken over as they are:
`freezer.describe()` says what becomes of each step. The model has random weights, since the script downloads nothing;
the images are the Fashion-MNIST subset inside Hoarfrost, of five classes only every fourth.
"""

import timm
import torch
import torch.nn.functional as F
from timm.data import create_transform
from torch import nn
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler

import hoarfrost
from hoarfrost.data import open_data
from three_ways import Outcome, three_ways

CUT, TRAINED = "blocks.2", 3  # what is frozen, and after how many epochs
SIZE = 28


class Colours(Dataset):
    """(image in three channels, label), for timm's means of three."""

    def __init__(self, pairs: list, **told: float | tuple | bool) -> None:
        self.pairs, self.transform = pairs, create_transform(SIZE, **told)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image, label = self.pairs[index]
        return self.transform(image.convert("RGB")), label


def make_loader(data: Colours) -> DataLoader:
    weights = [0.8 if label >= 5 else 0.2 for _, label in data.pairs]
    return DataLoader(data, batch_size=64, sampler=WeightedRandomSampler(weights, len(data)))


def make_model() -> nn.Module:
    sizes = {"img_size": SIZE, "patch_size": 7, "embed_dim": 96, "depth": 6, "num_heads": 3}
    return timm.create_model("vit_tiny_patch16_224", num_classes=10, **sizes)


def as_it_was(model: nn.Module, loader: DataLoader, epochs: int) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    for _ in range(epochs):
        for images, labels in loader:
            loss = F.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()


def with_hoarfrost(model: nn.Module, loader: DataLoader, epochs: int, mode: str) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    told = {"policy": {TRAINED: CUT}, "mode": mode}
    freezer = hoarfrost.Freezer(model, loader, epochs=epochs, optimizer=optimizer, **told)  # changed
    for epoch in range(epochs):
        for images, labels in freezer.batches(epoch):  # changed
            loss = F.cross_entropy(freezer(images), labels)  # changed
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        freezer.end_epoch()  # new
    freezer.close()


def accuracy(model: nn.Module, data: Dataset) -> float:
    right = sum(int((model(images).argmax(1) == labels).sum()) for images, labels in DataLoader(data, 256))
    return right / len(data)


def main(samples: int = 1000, epochs: int = 8) -> dict[str, Outcome]:
    fashion = open_data("embedded")
    pairs = [fashion.train[number] for number in range(2 * samples)]
    rare = [pair for number, pair in enumerate(pairs) if pair[1] < 5 or number % 4 == 0][:samples]
    loader = make_loader(Colours(rare, is_training=True, scale=(0.5, 1.0)))
    test = Colours(list(fashion.test), is_training=False, crop_pct=1.0)
    return three_ways(
        make_model,
        lambda model: as_it_was(model, loader, epochs),
        lambda model, mode: with_hoarfrost(model, loader, epochs, mode),
        lambda model: accuracy(model, test),
        "accuracy",
    )


if __name__ == "__main__":
    main()
