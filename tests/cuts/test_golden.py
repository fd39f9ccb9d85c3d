"""The recommended cuts of well-known models, written down.

Names of numbered blocks are written as a range: `layer1.0..2` stands for `layer1.0`, `layer1.1` and `layer1.2`. The
last block of a stage bears the stage's name. A change here is a change of what users see: look at it before accepting.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn
from torchvision import models

from hoarfrost.cuts import find_cuts

RECOMMENDED: dict[str, tuple[Callable[[], nn.Module], int, str]] = {
    "resnet50": (
        models.resnet50,
        64,
        "layer1.0..1 layer1 layer2.0..2 layer2 layer3.0..4 layer3 layer4.0..1 layer4",
    ),
    "vgg16_bn": (
        models.vgg16_bn,
        32,
        """features.6 features.9 features.13 features.16 features.19 features.23 features.26 features.29 features.33
        features.36 features.39 features classifier.1 classifier.4""",
    ),
    "mobilenet_v3_small": (models.mobilenet_v3_small, 64, "features.1..11 features classifier.1"),
    "efficientnet_b0": (
        models.efficientnet_b0,
        64,
        """features.1 features.2.0 features.2 features.3.0 features.3 features.4.0..1 features.4 features.5.0..1
        features.5 features.6.0..2 features.6 features.7 features""",
    ),
    "densenet121": (
        models.densenet121,
        64,
        """features.denseblock1 features.transition1 features.denseblock2 features.transition2 features.denseblock3
        features.transition3 features.denseblock4 features""",
    ),
    "vit_b_16": (
        lambda: models.vit_b_16(image_size=32),
        32,
        "encoder.layers.encoder_layer_0..10 encoder.layers encoder",
    ),
    "swin_t": (
        models.swin_t,
        64,
        """features.1.0 features.1 features.2 features.3.0 features.3 features.4 features.5.0..4 features.5 features.6
        features.7.0 features""",
    ),
    "convnext_tiny": (
        models.convnext_tiny,
        64,
        """features.1.0..1 features.1 features.2 features.3.0..1 features.3 features.4 features.5.0..7 features.5
        features.6 features.7.0..1 features""",
    ),
    "inception_v3": (
        lambda: models.inception_v3(aux_logits=False, init_weights=False),
        96,
        """Conv2d_2a_3x3 Conv2d_2b_3x3 Conv2d_3b_1x1 Conv2d_4a_3x3 Mixed_5b Mixed_5c Mixed_5d Mixed_6a Mixed_6b Mixed_6c
        Mixed_6d Mixed_6e Mixed_7a Mixed_7b Mixed_7c""",
    ),
    "regnet_y_400mf": (
        models.regnet_y_400mf,
        64,
        """trunk_output.block1 trunk_output.block2.block2-0..1 trunk_output.block2 trunk_output.block3.block3-0..4
        trunk_output.block3 trunk_output.block4.block4-0..4 trunk_output""",
    ),
}


def written_out(text: str) -> Iterator[str]:
    for word in text.split():
        numbered = re.fullmatch(r"(.*?)(\d+)\.\.(\d+)", word)
        if numbered is None:
            yield word
        else:
            stem, first, last = numbered.groups()
            yield from (f"{stem}{number}" for number in range(int(first), int(last) + 1))


SLOW = {"densenet121", "regnet_y_400mf", "resnet50", "swin_t", "vgg16_bn"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in RECOMMENDED]
)
def test_recommended_cuts(name: str) -> None:
    build, size, text = RECOMMENDED[name]
    cuts = find_cuts(build(), torch.zeros(2, 3, size, size).uniform_(generator=torch.Generator().manual_seed(0)))
    assert [cut.label for cut in cuts if cut.recommended] == list(written_out(text))


def test_ranges_are_written_out() -> None:
    assert list(written_out("layer1.0..2 layer1")) == ["layer1.0", "layer1.1", "layer1.2", "layer1"]
