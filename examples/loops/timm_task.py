"""timm's training task, as its `train.py` makes it, on a loader that freezes; one line changes.

timm's package holds all that the script is made of but the script's own loop: `ClassificationTask`, `create_transform`,
`create_optimizer_v2`, `create_scheduler_v2`, `CheckpointSaver`. In `train.py` the line stands behind `create_loader`,
and everything else stays. The images are the Fashion-MNIST subset inside Hoarfrost; the weights are random.
"""

import tempfile
from argparse import Namespace

import timm
import torch
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.task import ClassificationTask
from timm.utils import CheckpointSaver
from torch import nn

from hoarfrost.data import open_data
from hoarfrost.integrations.timm import adopt

CUT, TRAINED = "blocks.2", 3  # what is frozen, and after how many epochs
SIZES = {"img_size": 28, "patch_size": 7, "embed_dim": 96, "depth": 6, "num_heads": 3, "in_chans": 1}


def arguments(**told: object) -> Namespace:
    """As `train.py` parses them."""
    data = {"input_size": (1, 28, 28), "mean": (0.286,), "std": (0.353,), "num_classes": 10}
    augmentation = {"scale": (0.5, 1.0), "hflip": 0.5, "color_jitter": None, "reprob": 0.1, "smoothing": 0.1}
    run = {"model": "vit_tiny_patch16_224", "batch_size": 64, "epochs": 8, "seed": 0, "prefetcher": True, "resume": ""}
    return Namespace(**{**data, **augmentation, **run, **told})


def train_one_epoch(task: nn.Module, loader: object, optimizer: torch.optim.Optimizer) -> float:
    task.train()
    total = 0.0
    for images, labels in loader:
        optimizer.zero_grad()
        loss = task(images, labels)["loss"]
        loss.backward()
        optimizer.step()
        task.update_ema()
        total += float(loss.detach())
    return total / len(loader)


def main(samples: int = 2000, epochs: int = 8) -> tuple[list[float], list]:
    args = arguments(epochs=epochs)
    torch.manual_seed(args.seed)
    model = timm.create_model(args.model, num_classes=args.num_classes, **SIZES)
    task = ClassificationTask(model, criterion_kwargs={"smoothing": args.smoothing}, verbose=False)
    task.setup_ema(decay=0.99)
    optimizer = create_optimizer_v2(model, "adamw", lr=1e-3, weight_decay=0.05)
    dataset_train = open_data("embedded").train.first(samples)
    loader_train = adopt(task, dataset_train, optimizer, args, policy={TRAINED: CUT})  # changed
    scheduler, epochs = create_scheduler_v2(optimizer, num_epochs=args.epochs)
    losses = []
    with tempfile.TemporaryDirectory() as folder:
        saver = CheckpointSaver(model, optimizer, args, checkpoint_dir=folder, decreasing=True, task=task)
        for epoch in range(epochs):
            losses.append(train_one_epoch(task, loader_train, optimizer))
            saver.save_checkpoint(epoch, metric=losses[-1])
            scheduler.step(epoch + 1)
    history = loader_train.freezer.history
    loader_train.close()
    return losses, history


if __name__ == "__main__":
    losses, history = main()
    seconds = [record["seconds"] for record in history if record["event"] == "epoch"]
    for epoch, (loss, took) in enumerate(zip(losses, seconds, strict=True)):
        print(f"epoch {epoch}: loss {loss:.3f} {took:6.1f} s")
