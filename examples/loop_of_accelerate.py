"""A loop on Accelerate that accumulates gradients: two lines change, `accumulate` and `backward` stay.

The images are the Fashion-MNIST subset inside Hoarfrost: nothing is downloaded.
"""

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, Dataset

from hoarfrost.data import default_transforms, open_data
from hoarfrost.integrations.accelerate import FreezingLoader  # changed
from hoarfrost.models import cifar_resnet
from three_ways import Outcome, three_ways

CUT, TRAINED = "layer2", 3  # what is frozen, and after how many epochs


def make_model() -> nn.Module:
    return cifar_resnet(widths=(16, 32, 64))


def loop(accelerator: Accelerator, model: nn.Module, optimizer: torch.optim.Optimizer, loader: DataLoader) -> None:
    for inputs, targets in loader:
        with accelerator.accumulate(model):
            accelerator.backward(F.cross_entropy(model(inputs), targets))
            optimizer.step()
            optimizer.zero_grad()


def as_it_was(model: nn.Module, data: Dataset, epochs: int) -> None:
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    optimizer, loader = torch.optim.AdamW(model.parameters(), 1e-3), DataLoader(data, 32, shuffle=True)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    for _ in range(epochs):
        loop(accelerator, model, optimizer, loader)


def with_hoarfrost(model: nn.Module, data: Dataset, epochs: int, mode: str) -> None:
    told = {"epochs": epochs, "policy": {TRAINED: CUT}, "mode": mode}
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    optimizer, loader = torch.optim.AdamW(model.parameters(), 1e-3), DataLoader(data, 32, shuffle=True)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    loader = FreezingLoader(accelerator, model, optimizer, loader, **told)  # changed
    for _ in range(epochs):
        loop(accelerator, model, optimizer, loader)
    loader.close()


def accuracy(model: nn.Module, data: Dataset) -> float:
    model.eval()
    with torch.no_grad():
        right = sum(int((model(images).argmax(1) == labels).sum()) for images, labels in DataLoader(data, 256))
    return right / len(data)


def main(samples: int = 1000, epochs: int = 8) -> dict[str, Outcome]:
    fashion = open_data("embedded")
    augmented, plain = default_transforms(fashion)
    train, test = fashion.train.first(samples), fashion.test
    train.transform, test.transform = augmented, plain
    return three_ways(
        make_model,
        lambda model: as_it_was(model, train, epochs),
        lambda model, mode: with_hoarfrost(model, train, epochs, mode),
        lambda model: accuracy(model, test),
        "accuracy",
    )


if __name__ == "__main__":
    main()
