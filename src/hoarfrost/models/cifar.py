"""The small residual network for small images (He et al. 2016, section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..errors import ArgumentError

__all__ = ["CifarResNet", "cifar_resnet"]


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut: `relu(norm(conv(relu(norm(conv(x))))) + shortcut(x))`.

    The shortcut is the identity, or a 1x1 convolution where the shape changes (option B of the paper).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        inner = self.relu(self.norm1(self.conv1(x)))
        out: Tensor = self.relu(self.norm2(self.conv2(inner)) + self.shortcut(x))
        return out


class CifarResNet(nn.Module):
    """[N, in_channels, H, W] -> [N, num_classes], through `stem`, `layer1` ... `layerK`, `pool` and `fc`.

    The stem and `layer1` keep the images' size; each further layer halves it. See `cifar_resnet`.
    """

    def __init__(self, num_classes: int, in_channels: int, widths: Sequence[int], blocks: Sequence[int]) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, widths[0], 3, 1, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
        )
        self.layer_names = [f"layer{number}" for number in range(1, len(widths) + 1)]
        before = widths[0]
        for name, width, count in zip(self.layer_names, widths, blocks, strict=True):
            stride = 1 if name == "layer1" else 2
            rest = [Block(width, width, 1) for _ in range(count - 1)]
            self.add_module(name, nn.Sequential(Block(before, width, stride), *rest))
            before = width
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(before, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for name in self.layer_names:
            x = self.get_submodule(name)(x)
        out: Tensor = self.fc(self.pool(x))
        return out


def cifar_resnet(
    num_classes: int = 10,
    in_channels: int = 1,
    widths: Sequence[int] = (16, 32, 64),
    blocks: Sequence[int] = (1, 1, 1),
) -> CifarResNet:
    """A CIFAR-style residual network (He et al. 2016): `stem`, `layer1`, `layer2`, `layer3`, `pool`, `fc`.

    Args:
        num_classes: outputs.
        in_channels: of the images.
        widths: channels of each layer; the stem has the first layer's.
        blocks: residual blocks in each layer, two convolutions a block; (3, 3, 3) is ResNet-20.

    Raises:
        ArgumentError: `widths` and `blocks` differ in length or are empty, or a number is below 1.
    """
    if len(widths) != len(blocks) or not widths:
        raise ArgumentError(f"widths and blocks need one number a layer each, got {widths} and {blocks}")
    if min(*widths, *blocks, num_classes, in_channels) < 1:
        raise ArgumentError(
            "cifar_resnet needs numbers of at least 1, got "
            f"num_classes={num_classes}, in_channels={in_channels}, widths={widths}, blocks={blocks}"
        )
    return CifarResNet(num_classes, in_channels, widths, blocks)
