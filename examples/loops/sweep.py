"""Six heads trained side by side on one reading of the stored features: three rates, two random states each.

All share the front of one model, frozen from the start. `hoarfrost.Sweep` reads each batch of the cache once and gives
it to each variant in turn, with the variant's own random state: each ends with the bits of a training of its own.
"""

import copy
import tempfile

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader
from torchvision.transforms import v2

import hoarfrost
from hoarfrost.data import open_data
from hoarfrost.models import cifar_resnet

CUT, RATES, SEEDS = "layer2", (0.2, 0.05, 0.01), (0, 1)
PLAIN = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.286], [0.353])])


def pretrained(data: torch.utils.data.Dataset) -> nn.Module:
    """Something to start from: one epoch."""
    torch.manual_seed(0)
    model = cifar_resnet(widths=(16, 32, 64))
    optimizer = torch.optim.SGD(model.parameters(), 0.05, 0.9)
    for images, labels in DataLoader(data, 64, shuffle=True):
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def accuracy(model: nn.Module, data: torch.utils.data.Dataset) -> float:
    model.eval()
    with torch.no_grad():
        right = sum(int((model(images).argmax(1) == labels).sum()) for images, labels in DataLoader(data, 256))
    return right / len(data)


def main(samples: int = 2000, epochs: int = 4) -> dict[tuple[float, int], float]:
    fashion = open_data("embedded")
    train, test = fashion.train.first(samples), fashion.test.first(samples)
    train.transform = test.transform = PLAIN
    start = pretrained(train)
    variants = [(rate, seed) for rate in RATES for seed in SEEDS]
    with tempfile.TemporaryDirectory() as folder:
        told = {"policy": {0: CUT}, "views": 1, "ladder": 8, "cache_dir": folder, "mode": "cache", "verbose": False}
        freezers = []
        for rate, seed in variants:
            model = copy.deepcopy(start)
            torch.manual_seed(seed)
            model.fc.reset_parameters()
            optimizer = torch.optim.SGD(model.parameters(), rate, 0.9)
            data = copy.deepcopy(train)
            freezers.append(hoarfrost.Freezer(model, data, batch_size=64, epochs=epochs, optimizer=optimizer, **told))
        with hoarfrost.Sweep(freezers, seeds=[seed for _, seed in variants]) as sweep:
            for epoch in range(epochs):
                for freezer, (features, labels) in sweep.batches(epoch):
                    F.cross_entropy(freezer(features), labels).backward()
                    freezer.optimizer.step()
                    freezer.optimizer.zero_grad()
                sweep.end_epoch()
            return {variant: accuracy(f.model, test) for variant, f in zip(variants, freezers, strict=True)}


if __name__ == "__main__":
    for (rate, seed), found in main().items():
        print(f"rate {rate:4}, seed {seed}: accuracy {found:.3f}")
