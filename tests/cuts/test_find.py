from __future__ import annotations

import random
import time

import numpy as np
import pytest
import torch
import torchvision
from cut_nets import NETS, ConvBlock, Functional, Recurrent, Skip, residual
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hoarfrost.cuts import Cut, find_cut, find_cuts, require_cuts
from hoarfrost.errors import ArgumentError, CutError, NoCutError, UnknownCutError


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    return NETS["resnet18"].model()


@pytest.fixture(scope="module")
def resnet_cuts(resnet: nn.Module) -> list[Cut]:
    return find_cuts(resnet, NETS["resnet18"].batch())


def test_cuts_of_resnet18_are_its_stem_and_its_blocks(resnet_cuts: list[Cut]) -> None:
    blocks = [f"layer{stage}{end}" for stage in (1, 2, 3, 4) for end in (".0", "")]
    assert [cut.label for cut in resnet_cuts] == ["conv1", "bn1", "relu", "maxpool", *blocks, "avgpool"]


def test_recommended_cuts_of_resnet18_end_its_blocks(resnet_cuts: list[Cut]) -> None:
    blocks = [f"layer{stage}{end}" for stage in (1, 2, 3, 4) for end in (".0", "")]
    assert [cut.label for cut in resnet_cuts if cut.recommended] == blocks


def test_shapes_leave_out_the_batch(resnet_cuts: list[Cut]) -> None:
    cut = find_cut(resnet_cuts, "layer2")
    assert (cut.shape, cut.dtype, cut.layout) == ((128, 4, 4), torch.float32, "NCHW")
    assert cut.bytes_per_sample == 128 * 4 * 4 * 4


def test_indices_count_from_the_front(resnet_cuts: list[Cut]) -> None:
    assert [cut.index for cut in resnet_cuts] == list(range(len(resnet_cuts)))


def test_batch_norm_before_an_in_place_activation_is_marked_as_mutated(resnet_cuts: list[Cut]) -> None:
    assert [cut.label for cut in resnet_cuts if cut.mutated] == ["bn1"]


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "functional", "recurrent"])
def test_flops_agree_with_torchs_counter(name: str) -> None:
    model, x = NETS[name].model().eval(), NETS[name].batch(4)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x)
    for cut in find_cuts(model, x):
        assert cut.prefix_flops + cut.suffix_flops == counter.get_total_flops() / 4


def test_flops_in_front_never_fall(resnet_cuts: list[Cut]) -> None:
    flops = [cut.prefix_flops for cut in resnet_cuts]
    assert flops == sorted(flops)


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("residual", ["3.0", "3", "6"]),
        ("functional", ["conv2", "fc1"]),
        ("mlp", ["3"]),
        ("vit", ["encoder.layers.encoder_layer_0", "encoder.layers.encoder_layer_1", "encoder.layers", "encoder"]),
        ("dictionary", ["layers.0", "layers.1", "layers.2"]),
    ],
)
def test_recommended_cuts(name: str, labels: list[str]) -> None:
    cuts = find_cuts(NETS[name].model(), NETS[name].batch())
    assert [cut.label for cut in cuts if cut.recommended] == labels


def test_a_model_with_cuts_has_a_recommended_one() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    cuts = find_cuts(model, torch.zeros(2, 3, 4, 4))
    assert any(cut.recommended for cut in cuts)


def test_a_skip_leaves_no_cut_beneath_it() -> None:
    labels = [cut.label for cut in find_cuts(Skip(), torch.randn(2, 3, 8, 8))]
    assert labels == ["first"]


def test_calls_of_one_module_are_cuts_of_their_own() -> None:
    cuts = find_cuts(Recurrent(), torch.randn(2, 3, 8, 8))
    assert [cut.label for cut in cuts if cut.name == "block"] == ["block", "block#1", "block#2"]


def test_parameters_on_both_sides_are_reported() -> None:
    cuts = find_cuts(Recurrent(), torch.randn(2, 3, 8, 8))
    assert find_cut(cuts, "stem").shared_parameters == ()
    shared = find_cut(cuts, "block#1").shared_parameters
    assert set(shared) == {f"block.{name}" for name in ("0.weight", "0.bias", "1.weight", "1.bias")}
    assert find_cut(cuts, "block#2").shared_parameters == ()


def test_tied_weights_are_reported_under_both_names() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Linear(4, 2))
    model[2].weight = model[0].weight
    assert find_cut(find_cuts(model, torch.randn(2, 4)), "1").shared_parameters == ("0.weight", "2.weight")


class Escape(nn.Module):
    """An older name for the cut's memory is read behind the cut."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.first, self.activation, self.last = nn.Linear(4, 4), activation, nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        y = self.activation(x)
        return self.last(y) + x


@pytest.mark.parametrize("activation", [nn.ReLU(inplace=True), nn.Identity(), nn.ReLU()], ids=str)
def test_another_name_for_the_same_memory_forbids_the_cut(activation: nn.Module) -> None:
    assert "activation" not in [cut.label for cut in find_cuts(Escape(activation), torch.randn(2, 4))]


class Chance(nn.Module):
    def __init__(self, where: str) -> None:
        super().__init__()
        self.first, self.last, self.where = nn.Linear(4, 4), nn.Linear(4, 4), where

    def forward(self, x: Tensor) -> Tensor:
        if self.where == "item" and x.sum().item() > 1e9:
            return x
        noise = torch.rand(x.shape[0], 1)
        x = self.first(x)
        return self.last(x) * noise if self.where == "noise" else self.last(x)


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("item", "argument 1 [2, 4], of which the model's own forward makes a Python value"),
        ("noise", "random numbers [2, 1]"),
    ],
)
def test_decisions_and_chance_in_front_forbid_the_cut(where: str, words: str) -> None:
    with pytest.raises(NoCutError) as caught:
        require_cuts(Chance(where), torch.randn(2, 4))
    assert words in str(caught.value)


def test_statistics_that_move_on_both_sides_forbid_the_cut() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
            self.head = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.block(self.block(x)))

    assert [cut.label for cut in find_cuts(Twice(), torch.randn(2, 4)) if cut.name == "block"] == ["block#1"]


def test_a_dropout_is_no_cut_of_its_own() -> None:
    assert "5" not in [cut.label for cut in find_cuts(residual(), torch.randn(2, 3, 16, 16))]


def test_finding_cuts_changes_nothing() -> None:
    model, x = residual().train(), torch.randn(3, 3, 16, 16)
    model[3][1].eval()
    flags = [module.training for module in model.modules()]
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]
    kept, chances = x.clone(), (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy())
    find_cuts(model, x)
    assert flags == [module.training for module in model.modules()]
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert hooks == [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]
    assert torch.equal(kept, x)
    assert torch.equal(chances[0], torch.get_rng_state())
    assert chances[1] == random.getstate()
    assert (chances[2] == np.random.get_state()[1]).all()


def test_finding_the_cuts_of_resnet18_is_quick() -> None:
    model, x = torchvision.models.resnet18(), torch.randn(2, 3, 64, 64)
    begin = time.process_time()
    find_cuts(model, x)
    assert time.process_time() - begin < 3  # about 0.4 s alone on one core


def test_a_tuple_of_arguments() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor, scale: float) -> Tensor:
            return self.b(self.a(x) * scale)

    assert [cut.label for cut in find_cuts(Scaled(), (torch.randn(2, 4), 2.0))] == ["a"]


# -- names


@pytest.mark.parametrize(
    ("name", "label"), [("layer1", "layer1"), ("layer1.1", "layer1"), ("0", "conv1"), (4, "layer1.0")], ids=str
)
def test_a_cut_is_found_by_label_alias_or_index(resnet_cuts: list[Cut], name: str | int, label: str) -> None:
    assert find_cut(resnet_cuts, name).label == label


def test_a_label_goes_before_an_index() -> None:
    cuts = find_cuts(residual(), torch.randn(2, 3, 16, 16))
    assert find_cut(cuts, "6").label == "6"


def test_an_unknown_name_gets_the_near_ones(resnet_cuts: list[Cut]) -> None:
    with pytest.raises(UnknownCutError, match=r"no cut named 'layer5' among 13; near it: layer\d, layer\d"):
        find_cut(resnet_cuts, "layer5")


def test_a_name_of_the_wrong_kind(resnet_cuts: list[Cut]) -> None:
    with pytest.raises(ArgumentError, match="a name or an index is needed, not None"):
        find_cut(resnet_cuts, None)  # type: ignore[arg-type]


# -- odd input


@pytest.mark.parametrize(
    ("example", "words"),
    [
        ([1.0, 2.0], "a batch of inputs"),
        ({"x": 1}, "a batch of inputs"),
        ((), "a batch of inputs"),
        (("text", torch.zeros(2)), "begins with str"),
        (torch.tensor(1.0), "at least one sample"),
        (torch.zeros(0, 3, 8, 8), "at least one sample"),
    ],
    ids=["list", "dict", "empty tuple", "text first", "scalar", "no samples"],
)
def test_an_example_of_the_wrong_kind(example: object, words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        find_cuts(Functional(), example)  # type: ignore[arg-type]


def test_something_else_than_a_model() -> None:
    with pytest.raises(ArgumentError, match=r"a torch.nn.Module is needed, not function"):
        find_cuts(lambda x: x, torch.zeros(1, 2))  # type: ignore[arg-type]


def test_a_lazy_model_must_have_run() -> None:
    with pytest.raises(ArgumentError, match="run the model once first"):
        find_cuts(nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 2)), torch.zeros(2, 4))


def test_the_models_own_error_is_chained_and_the_shape_is_told() -> None:
    with pytest.raises(
        CutError, match=r"fails in eval mode on 2 samples of the example \(\[2, 5, 8, 8\] float32\)"
    ) as e:
        find_cuts(Functional(), torch.zeros(3, 5, 8, 8))
    assert isinstance(e.value.__cause__, RuntimeError)


def test_a_model_that_needs_keywords_is_told_so() -> None:
    class Keyword(nn.Module):
        def forward(self, x: Tensor, *, mask: Tensor) -> Tensor:
            return x * mask

    with pytest.raises(CutError, match="missing 1 required keyword-only argument: 'mask'"):
        find_cuts(Keyword(), torch.zeros(2, 3))


def test_an_output_without_tensors() -> None:
    class Number(nn.Module):
        def forward(self, x: Tensor) -> str:
            return "seven"

    with pytest.raises(CutError, match="output holds no tensor: it is a str"):
        find_cuts(Number(), torch.zeros(2, 3))


def test_no_cut_says_why() -> None:
    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.left(x) * self.right(x)

    assert find_cuts(Wide(), torch.randn(2, 4)) == []
    words = r"left: besides what it gives, 1 more cross it: the model's argument 1 \[2, 4\], read later in 'right'"
    with pytest.raises(NoCutError, match=words):
        require_cuts(Wide(), torch.randn(2, 4))


def test_a_block_in_a_container_is_one_end() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), ConvBlock(8), nn.Flatten(), nn.Linear(8 * 16, 2))
    cuts = find_cuts(model, torch.randn(2, 3, 4, 4))
    assert [cut.label for cut in cuts if cut.recommended] == ["1"]


def test_scripted_modules_are_refused_by_name() -> None:
    with pytest.warns(FutureWarning):
        scripted = torch.jit.trace(nn.Linear(4, 4), torch.ones(2, 4))
    with pytest.raises(ArgumentError, match="model: '1' is a ScriptModule"):
        find_cuts(nn.Sequential(nn.Linear(4, 4), scripted, nn.Linear(4, 2)), torch.ones(2, 4))


def test_blocks_in_stages_of_a_class_of_their_own_are_recommended() -> None:
    class Stage(nn.Sequential):
        """As timm's and torchvision's stages: a name for a sequence."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.body(x)

    model = nn.Sequential(nn.Linear(4, 4), Stage(Block(), Block()), Stage(Block(), Block()), nn.Linear(4, 2))
    chosen = [cut.label for cut in find_cuts(model, torch.ones(2, 4)) if cut.recommended]
    assert chosen == ["1.0", "1", "2.0", "2"]
