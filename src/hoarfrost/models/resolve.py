"""A model by name: Hoarfrost's own, torchvision's classifiers, or a function of the user's."""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn

from ..errors import ArgumentError
from .cifar import cifar_resnet
from .dino import PHOTO_SIZE, dinov2_small
from .inputs import adapt_input
from .lite import efficientnet_lite0

__all__ = ["model_names", "resolve_model"]

OWN_NAMES = ("cifar_resnet", "dinov2_small", "efficientnet_lite0")


def model_names() -> list[str]:
    """The names that `resolve_model` knows, sorted."""
    return sorted([*OWN_NAMES, *torchvision.models.list_models(module=torchvision.models)])


def resolve_model(
    spec: str, *, classes: int, channels: int, pretrained: bool = False, image_size: int | None = None
) -> nn.Module:
    """Build a classifier from a name.

    Args:
        spec: a name of `model_names()`, or `"module:function"`. A function is found as Python imports
        modules,
            the working directory included, and called with those of `num_classes`, `in_channels` and
            `pretrained` that it takes; it may be a class.
        classes: outputs of the classifier.
        channels: of the images. The first convolution of a torchvision model is made to fit; a pretrained one
            keeps its kernels, summed over the colours for grey images.
        pretrained: with ImageNet weights and a new classifier, which torchvision downloads.
        image_size: if given, one blank image of that size is tried, so that a model which cannot take it, or
        gives
            other than `classes` outputs, is refused here and not in the first epoch.

    Raises:
        ArgumentError: no such model (the near names are listed), it cannot be built so, or it does not take
            these images.
    """
    if min(classes, channels) < 1:
        raise ArgumentError(f"a model needs classes and channels of at least 1, got {classes} and {channels}")
    if ":" in spec:
        model = _users(spec, num_classes=classes, in_channels=channels, pretrained=pretrained)
    elif spec == "cifar_resnet":
        if pretrained:
            raise ArgumentError("cifar_resnet has no pretrained weights; leave pretrained out")
        model = cifar_resnet(classes, channels)
    elif spec == "efficientnet_lite0":
        model = efficientnet_lite0(classes, channels, pretrained)
    elif spec == "dinov2_small":
        model = dinov2_small(classes, channels, pretrained, image_size or PHOTO_SIZE)
    else:
        model = _torchvision(spec, classes, channels, pretrained)
    if image_size is not None:
        _try_image(spec, model, classes, channels, image_size)
    return model


def _torchvision(name: str, classes: int, channels: int, pretrained: bool) -> nn.Module:
    known = model_names()
    if name not in known:
        near = difflib.get_close_matches(name.lower(), known, 3)
        names = f"did you mean {', '.join(near)}?" if near else f"known are {', '.join(known)}."
        raise ArgumentError(f"unknown model {name!r}: {names} A function of your own is named 'module:function'")
    builder = torchvision.models.get_model_builder(name)
    options: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        # Their auxiliary classifiers turn the output into a tuple in training.
        options = {"aux_logits": False, "init_weights": True}
    if pretrained:
        options.pop("init_weights", None)
        model: nn.Module = builder(weights="DEFAULT", **options)
        _replace_classifier(model, classes)
    else:
        model = builder(weights=None, num_classes=classes, **options)
    adapt_input(model, channels, keep_weights=pretrained)
    if channels != 3 and hasattr(model, "transform_input"):
        setattr(model, "transform_input", False)  # noqa: B010  # it is a plain flag, not a module
    return model


def _replace_classifier(model: nn.Module, classes: int) -> None:
    """Put a new last layer in place of the one with 1,000 outputs (SqueezeNet's is a 1x1 convolution)."""
    for name, module in reversed(list(model.named_modules())):
        parent = model.get_submodule(name.rpartition(".")[0])
        if isinstance(module, nn.Linear):
            layer: nn.Module = nn.Linear(module.in_features, classes, bias=module.bias is not None)
        elif isinstance(module, nn.Conv2d):
            layer = nn.Conv2d(module.in_channels, classes, 1)
        else:
            continue
        setattr(parent, name.rpartition(".")[2], layer)
        return


def _users(spec: str, **offered: Any) -> nn.Module:
    module_name, _, path = spec.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except (ImportError, ValueError) as error:
        raise ArgumentError(f"model {spec!r}: the module {module_name!r} cannot be imported: {error}") from error
    for part in path.split("."):
        if not hasattr(found, part):
            public = [name for name, value in vars(found).items() if callable(value) and not name.startswith("_")]
            near = difflib.get_close_matches(part, public, 3)
            hint = f"; did you mean {', '.join(near)}?" if near else ""
            raise ArgumentError(f"model {spec!r}: {module_name} has no {part!r}{hint}")
        found = getattr(found, part)
    if not callable(found):
        raise ArgumentError(f"model {spec!r} is a {type(found).__name__}, a function or class is needed")
    model = found(**{name: value for name, value in offered.items() if _takes(found, name)})
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"model {spec!r} gave a {type(model).__name__}, an nn.Module is needed")
    return model


def _takes(function: Callable[..., Any], name: str) -> bool:
    try:
        parameters = inspect.signature(function).parameters
    except ValueError:
        return False
    named = parameters.get(name)
    if named is not None:
        return named.kind is not inspect.Parameter.POSITIONAL_ONLY
    return any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())


def _try_image(spec: str, model: nn.Module, classes: int, channels: int, size: int) -> None:
    training = {module: module.training for module in model.modules()}
    what = f"{channels}-channel images of {size}x{size} pixels"
    try:
        parameter = next(model.parameters(), torch.zeros(()))
        example = torch.zeros(2, channels, size, size, device=parameter.device, dtype=parameter.dtype)
        with torch.no_grad(), torch.random.fork_rng():
            output = model.eval()(example)
    except (RuntimeError, ValueError, AssertionError, TypeError, IndexError) as error:
        raise ArgumentError(f"model {spec!r} cannot take {what} (another size may fit): {error}") from error
    finally:
        for module, flag in training.items():
            module.training = flag
    shape = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
    if shape != (2, classes):
        raise ArgumentError(f"model {spec!r} gives {shape} for two {what}, (2, {classes}) is needed")
