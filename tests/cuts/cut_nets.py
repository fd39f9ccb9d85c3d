"""Small networks that the tests of the cuts divide."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F


class ConvBlock(nn.Module):
    """Residual, with the in-place activation at its end: the boundary is rewritten in place."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm(self.conv(x))
        out += x
        return self.relu(out)


class Functional(nn.Module):
    """A plain forward with functional operators and no containers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3)
        self.conv2 = nn.Conv2d(6, 8, 3)
        self.fc1 = nn.Linear(8 * 2 * 2, 16)
        self.fc2 = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.relu_(self.conv2(x))
        x = F.adaptive_avg_pool2d(x, 2)
        x = F.dropout(F.relu(self.fc1(x.flatten(1))), 0.5, self.training)
        return self.fc2(x)


class Recurrent(nn.Module):
    """The same block three times."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.block = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.GELU())
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for _ in range(3):
            x = self.block(x)
        return self.head(x.mean((2, 3)))


class Dictionary(nn.Module):
    """Gives a dictionary, as models of transformers do, from layers that give tuples."""

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(6, 6)
            self.dropout = nn.Dropout(0.2)

        def forward(self, x: Tensor) -> tuple[Tensor, None]:
            return x + self.dropout(torch.tanh(self.linear(x))), None

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(3, 6)
        self.layers = nn.ModuleList(self.Layer() for _ in range(3))
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor | int]:
        batch = x.shape[0]
        x = self.embed(x.flatten(2).transpose(1, 2))
        for layer in self.layers:
            x = layer(x)[0]
        return {"logits": self.head(x.mean(1)).reshape(batch, 2), "samples": batch}


class Skip(nn.Module):
    """A skip from the first layer to the last: nothing between them is a cut."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.middle = nn.Conv2d(4, 4, 3, padding=1)
        self.last = nn.Conv2d(4, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.last(x + torch.relu(self.middle(x)))


def residual() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Sequential(ConvBlock(8), ConvBlock(8)),
        nn.MaxPool2d(2),
        nn.Dropout(0.3),
        ConvBlock(8),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )


def small_vit() -> nn.Module:
    return torchvision.models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=3, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=5, dropout=0.1
    )


def small_convnext() -> nn.Module:
    from torchvision.models.convnext import CNBlockConfig

    settings = [CNBlockConfig(8, 16, 1), CNBlockConfig(16, 24, 2), CNBlockConfig(24, None, 1)]
    return torchvision.models.ConvNeXt(settings, stochastic_depth_prob=0.2, num_classes=5)


def small_vgg() -> nn.Module:
    """vgg11_bn with a classifier of 1 x 1 instead of 7 x 7 pixels: the original's 120 million weights are slow."""
    model = torchvision.models.vgg11_bn()
    model.avgpool = nn.AdaptiveAvgPool2d(1)
    model.classifier = nn.Sequential(nn.Linear(512, 32), nn.ReLU(True), nn.Dropout(), nn.Linear(32, 5))
    return model


def small_densenet() -> nn.Module:
    return torchvision.models.DenseNet(4, (2, 2, 2), 8, num_classes=5, drop_rate=0.1)


@dataclass(frozen=True)
class Net:
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]

    def model(self) -> nn.Module:
        torch.manual_seed(0)
        return self.build()

    def batch(self, samples: int = 4) -> Tensor:
        return torch.randn(samples, *self.shape, generator=torch.Generator().manual_seed(1))


IMAGE = (3, 32, 32)
NETS = {
    "resnet18": Net(torchvision.models.resnet18, IMAGE),
    "vgg11_bn": Net(small_vgg, IMAGE),
    "mobilenet_v2": Net(lambda: torchvision.models.mobilenet_v2(width_mult=0.25, num_classes=5), IMAGE),
    "mobilenet_v3_small": Net(torchvision.models.mobilenet_v3_small, IMAGE),
    "efficientnet_b0": Net(torchvision.models.efficientnet_b0, IMAGE),
    "densenet": Net(small_densenet, IMAGE),
    "vit": Net(small_vit, IMAGE),
    "convnext": Net(small_convnext, IMAGE),
    "residual": Net(residual, (3, 16, 16)),
    "functional": Net(Functional, (3, 16, 16)),
    "recurrent": Net(Recurrent, (3, 8, 8)),
    "dictionary": Net(Dictionary, (3, 4, 4)),
    "mlp": Net(lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)), (4,)),
}
