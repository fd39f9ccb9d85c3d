"""Models by name: torchvision's, the two that the demo trains, and a pretrained vision transformer.

In come a name or a function of the user's, classes and channels. Out goes a model that takes such images.
"""

from .cifar import CifarResNet, cifar_resnet
from .dino import dinov2_small
from .lite import EfficientNetLite0, efficientnet_lite0
from .resolve import model_names, resolve_model

__all__ = [
    "CifarResNet",
    "EfficientNetLite0",
    "cifar_resnet",
    "dinov2_small",
    "efficientnet_lite0",
    "model_names",
    "resolve_model",
]
