"""A LightningModule as it is, trained by Lightning's Trainer, its front layers frozen after three epochs and stored.

Three lines change, marked "# changed": the callback is made, given to the Trainer, and asked for the loader. The module
knows nothing of it: in training `self.model(images)` is called with stored features once layers are frozen, in
validation with images. The images are the Fashion-MNIST subset inside Hoarfrost; nothing is downloaded.
"""

import lightning as L
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from hoarfrost.data import open_data
from hoarfrost.integrations.lightning import Freeze
from hoarfrost.models import cifar_resnet

CUT, TRAINED = "layer2", 3  # what is frozen, and after how many epochs

PLAIN = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.286], [0.353])]
AUGMENTED = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomCrop(28, padding=4), *PLAIN])


class Classifier(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.model = cifar_resnet(widths=(16, 32, 64))

    def training_step(self, batch: tuple, batch_idx: int) -> torch.Tensor:
        images, labels = batch
        return F.cross_entropy(self.model(images), labels)

    def validation_step(self, batch: tuple, batch_idx: int) -> None:
        images, labels = batch
        self.log("accuracy", (self.model(images).argmax(1) == labels).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.05, momentum=0.9, weight_decay=5e-4)


def main(samples: int = 2000, epochs: int = 8) -> tuple[float, list]:
    fashion = open_data("embedded")
    train, test = fashion.train.first(samples), fashion.test.first(samples)
    train.transform, test.transform = AUGMENTED, v2.Compose(PLAIN)

    L.seed_everything(0)
    module = Classifier()
    freeze = Freeze(train, batch_size=64, policy={TRAINED: CUT})  # changed: a DataLoader(train, 64, shuffle=True)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}
    trainer = L.Trainer(max_epochs=epochs, callbacks=[freeze], accelerator="cpu", **quiet)  # changed
    trainer.fit(module, freeze.loader(), DataLoader(test, 256))  # changed
    return float(trainer.callback_metrics["accuracy"]), freeze.freezer.history


if __name__ == "__main__":
    accuracy, history = main()
    for record in history:
        if record["event"] == "epoch":
            print(f"epoch {record['epoch']}: {record['source']:9} {record['seconds']:6.1f} s")
    print(f"accuracy {accuracy:.3f}")
