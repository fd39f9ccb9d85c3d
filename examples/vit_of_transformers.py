"""A ViT of transformers on items that are mappings, `pixel_values` and `labels`, with the loss that it computes itself.

Behind a freeze a batch is the same mapping, with features under `pixel_values`. The model has random weights, since the
script downloads nothing; the images are the Fashion-MNIST subset inside Hoarfrost.
"""

import torch
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision.transforms import v2
from transformers import ViTConfig, ViTForImageClassification

import hoarfrost
from hoarfrost.data import default_transforms, open_data
from three_ways import Outcome, three_ways

CUT, TRAINED = "vit.layers.2", 3  # what is frozen, and after how many epochs


class Mappings(Dataset):
    """Items as an image processor of transformers gives them."""

    def __init__(self, pairs: Dataset, transform: v2.Transform) -> None:
        self.pairs, self.transform = pairs, transform

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict:
        image, label = self.pairs[index]
        return {"pixel_values": self.transform(image), "labels": label}


def make_model() -> ViTForImageClassification:
    sizes = {"hidden_size": 96, "num_hidden_layers": 6, "num_attention_heads": 3, "intermediate_size": 192}
    return ViTForImageClassification(ViTConfig(image_size=28, patch_size=7, num_channels=1, num_labels=10, **sizes))


def as_it_was(model: ViTForImageClassification, data: Dataset, epochs: int) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    loader = DataLoader(data, batch_size=64, shuffle=True)
    for _ in range(epochs):
        for batch in loader:
            loss = model(**batch).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()


def with_hoarfrost(model: ViTForImageClassification, data: Dataset, epochs: int, mode: str) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    told = {"policy": {TRAINED: CUT}, "mode": mode}
    freezer = hoarfrost.Freezer(model, data, batch_size=64, epochs=epochs, optimizer=optimizer, **told)  # changed
    for epoch in range(epochs):
        for batch in freezer.batches(epoch):  # changed
            loss = freezer(**batch).loss  # changed
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        freezer.end_epoch()  # new
    freezer.close()


def accuracy(model: ViTForImageClassification, data: Dataset) -> float:
    batches = list(DataLoader(data, batch_size=256))
    right = sum(int((model(batch["pixel_values"]).logits.argmax(1) == batch["labels"]).sum()) for batch in batches)
    return right / len(data)


def main(samples: int = 1000, epochs: int = 8) -> dict[str, Outcome]:
    fashion = open_data("embedded")
    augmented, plain = default_transforms(fashion)
    train = Mappings(Subset(fashion.train, range(samples)), augmented)
    test = Mappings(fashion.test, plain)
    return three_ways(
        make_model,
        lambda model: as_it_was(model, train, epochs),
        lambda model, mode: with_hoarfrost(model, train, epochs, mode),
        lambda model: accuracy(model, test),
        "accuracy",
    )


if __name__ == "__main__":
    main()
