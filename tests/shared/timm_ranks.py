"""timm's training task in two processes, as its script makes it, on a freezer's loader."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import resume_checkpoint
from timm.task import ClassificationTask
from timm.utils import CheckpointSaver, distribute_bn
from torch import distributed, nn

from hoarfrost.data import ImageArray
from hoarfrost.errors import HoarfrostError
from hoarfrost.integrations.timm import adopt
from shared.images import images

SAMPLES, BATCH, EPOCHS = 59, 8, 4
STEPS = 4  # of 8, 8, 8 and 6 or 5 samples
EXACT: dict[str, Any] = {"ladder": "exact", "views": 1, "verbose": False}


def numbered() -> ImageArray:
    data = images(SAMPLES)
    data.targets = torch.arange(SAMPLES)
    return data


def vit() -> nn.Module:
    torch.manual_seed(0)
    sizes = {"img_size": 28, "patch_size": 7, "embed_dim": 24, "depth": 3, "num_heads": 2, "in_chans": 1}
    model: nn.Module = timm.create_model("vit_tiny_patch16_224", num_classes=SAMPLES, **sizes)
    return model


def convolutional() -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = timm.create_model("test_efficientnet", num_classes=SAMPLES, in_chans=1)
    return model


def args_of(resume: Path | None) -> Namespace:
    plain = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0), "hflip": 0.0, "color_jitter": None, "aa": None, "reprob": 0.0}
    sizes = {"input_size": (1, 28, 28), "mean": (0.286,), "std": (0.353,), "num_classes": SAMPLES, "model": "vit"}
    rest = {"batch_size": BATCH, "epochs": EPOCHS, "seed": 0, "no_aug": True, "prefetcher": True, "distributed": True}
    return Namespace(**{**plain, **sizes, **rest, "resume": "" if resume is None else str(resume)})


def steps(task: Any, loader: Any, optimizer: Any, seed: int) -> Iterator[tuple[float, list[int]]]:
    """An epoch as train.py has it: of each step the loss, and the targets that it was shown."""
    torch.manual_seed(seed)
    task.train()
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = task(inputs, targets)["loss"]
        loss.backward()
        optimizer.step()
        yield loss.item(), targets.tolist()


def trained(
    rank: int,
    make: Any = vit,
    policy: Any = None,
    resume: Path | None = None,
    folder: Path | None = None,
    **keywords: Any,
) -> dict[str, Any]:
    """What train.py does, as far as a loader meets it."""
    args, model, start = args_of(resume), make(), 0
    task = ClassificationTask(model, nn.CrossEntropyLoss(), verbose=False)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    if resume is not None:
        start = resume_checkpoint(model, args.resume, optimizer, log_info=False)
    args.distributed = distributed.is_initialized()
    if args.distributed:
        task.prepare_distributed()
    chosen = {1: "blocks.0", 3: "blocks.1"} if policy is None else policy
    loader = adopt(task, numbered(), optimizer, args, policy=chosen, **EXACT, **keywords)
    saver = CheckpointSaver(model, optimizer, args, checkpoint_dir=folder, task=task) if folder and not rank else None
    losses, shown = [], []
    for epoch in range(start, EPOCHS):
        loader.sampler.set_epoch(epoch)
        for loss, targets in steps(task, loader, optimizer, 10 * epoch + rank):
            losses.append(loss)
            shown.append(targets)
        if args.distributed:
            distribute_bn(model, 2, reduce=True)
        if saver is not None:
            saver.save_checkpoint(epoch)
    model.eval()
    with torch.no_grad():
        evaluated = model(torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(1)))
    loader.close()
    return {
        "losses": losses,
        "shown": shown,
        "evaluated": evaluated,
        "weights": {name: value.clone() for name, value in model.state_dict().items()},
        "history": loader.freezer.history,
        "thawed": all(parameter.requires_grad for parameter in model.parameters()),
    }


def plain(rank: int) -> dict[str, Any]:
    """timm's task over the same batches, without a freezer."""
    model = vit()
    task = ClassificationTask(model, nn.CrossEntropyLoss(), verbose=False)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    task.prepare_distributed()
    fed = ClassificationTask(vit(), nn.CrossEntropyLoss(), verbose=False).prepare_distributed()
    loader = adopt(fed, numbered(), torch.optim.AdamW(fed.parameters()), args_of(None), policy="none", **EXACT)
    losses = []
    for epoch in range(EPOCHS):
        losses += [loss for loss, _ in steps(task, loader, optimizer, 10 * epoch + rank)]
    loader.close()
    return {"losses": losses, "weights": model.state_dict()}


def everything(rank: int, where: Path) -> dict[str, Any]:
    unwrapped = ClassificationTask(vit(), nn.CrossEntropyLoss(), verbose=False)
    try:
        adopt(unwrapped, numbered(), torch.optim.AdamW(unwrapped.parameters()), args_of(None), **EXACT)
        refused = "nothing"
    except HoarfrostError as error:
        refused = f"{type(error).__name__}: {error}"
    (where / "saved").mkdir(exist_ok=True)
    cached = trained(rank, folder=where / "saved", mode="cache", cache_dir=where / "cache")
    distributed.barrier()  # rank 0 has saved
    statistics = {"make": convolutional, "policy": {1: "blocks.0", 2: "blocks.1"}}
    return {
        "cached": cached,
        "recomputed": trained(rank, mode="recompute"),
        "convolutional": trained(rank, mode="cache", **statistics),
        "convolutional recomputed": trained(rank, mode="recompute", **statistics),
        "resumed": {
            epoch: trained(
                rank,
                mode="cache",
                cache_dir=where / "cache",
                resume=where / "saved" / f"checkpoint-{epoch}.pth.tar",
            )
            for epoch in (0, 1)
        },
        "of one": trained(
            rank, mode="cache", cache_dir=where / "cache-of-one", resume=where / "one" / "checkpoint-1.pth.tar"
        ),
        "none": trained(rank, policy="none"),
        "plain": plain(rank),
        "refused": refused,
    }
