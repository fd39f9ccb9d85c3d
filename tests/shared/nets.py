"""Small models of three kinds for grey images of 28 pixels: residual, in place, of tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from hoarfrost.models import cifar_resnet


def resnet(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return cifar_resnet(widths=(4, 8, 8))


class InPlace(nn.Module):
    """VGG-like: in-place activations, batch norm, dropout in front of and behind every cut."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 6, 3, 2, 1, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU6(inplace=True),
            nn.Dropout2d(0.1),
            nn.Conv2d(6, 6, 3, 1, 1, groups=6, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 8, 1),
            nn.Hardswish(inplace=True),
        )
        self.classifier = nn.Sequential(
            nn.Dropout(0.3), nn.Linear(8 * 49, 12), nn.ReLU(inplace=True), nn.Dropout(0.3), nn.Linear(12, 10)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.features(x).flatten(1))
        return out


def in_place(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return InPlace()


class GreyViT(VisionTransformer):
    def __init__(self) -> None:
        super().__init__(
            image_size=28,
            patch_size=7,
            num_layers=3,
            num_heads=2,
            hidden_dim=8,
            mlp_dim=16,
            dropout=0.1,
            num_classes=10,
        )
        self.conv_proj = nn.Conv2d(1, 8, 7, 7)


def vit(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    model = GreyViT()
    nn.init.normal_(model.heads.head.weight)  # torchvision starts it at zero, and no gradient would reach the front
    return model


def conv_block(ins: int, outs: int) -> nn.Sequential:
    """Convolution, batch norm, ReLU in place: what nets with skips are made of; the image keeps its size."""
    return nn.Sequential(nn.Conv2d(ins, outs, 3, 1, 1), nn.BatchNorm2d(outs), nn.ReLU(inplace=True))
