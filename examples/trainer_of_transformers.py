"""A ViT in transformers' Trainer: two lines change, its loop, logs, checkpoints and evaluation stay.

The model has random weights, since the script downloads nothing; the images are the Fashion-MNIST subset inside
Hoarfrost.
"""

import tempfile

from torch.utils.data import Dataset, Subset
from torchvision.transforms import v2
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification

from hoarfrost.data import default_transforms, open_data
from hoarfrost.integrations.transformers import FreezingTrainer  # changed
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


def arguments(epochs: int) -> TrainingArguments:
    return TrainingArguments(
        tempfile.mkdtemp(),
        num_train_epochs=epochs,
        per_device_train_batch_size=64,
        learning_rate=1e-3,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )


def as_it_was(model: ViTForImageClassification, data: Dataset, epochs: int) -> None:
    Trainer(model, arguments(epochs), train_dataset=data).train()


def with_hoarfrost(model: ViTForImageClassification, data: Dataset, epochs: int, mode: str) -> None:
    told = {"policy": {TRAINED: CUT}, "mode": mode}
    FreezingTrainer(model, arguments(epochs), train_dataset=data, freezing=told).train()  # changed


def accuracy(model: ViTForImageClassification, data: Dataset) -> float:
    found = Trainer(model, arguments(1)).predict(data)
    return float((found.predictions.argmax(1) == found.label_ids).mean())


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
