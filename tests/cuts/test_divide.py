from __future__ import annotations

import copy
import functools
import pickle
import random
from dataclasses import replace

import pytest
import torch
from cut_law import assert_law, assert_same
from cut_nets import NETS, Recurrent, residual, small_vit
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from hoarfrost.cuts import Cut, Prefix, Suffix, divide, find_cut, find_cuts, join
from hoarfrost.errors import ArgumentError, InvalidCutError
from shared.grids import grid


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def divided(name: str, label: str, samples: int = 4) -> tuple[nn.Module, Prefix, Suffix, Tensor]:
    model, x = NETS[name].model(), NETS[name].batch(samples)
    return model, *divide(model, find_cut(find_cuts(model, x), label), x), x


@functools.cache
def surveyed(name: str) -> tuple[nn.Module, Tensor, list[Cut]]:
    model, x = NETS[name].model(), NETS[name].batch()
    return model, x, find_cuts(model, x)


@grid(name=NETS.keys(), depth=[0.0, 0.35, 0.65, 1.0])
def test_the_law(name: str, depth: float) -> None:
    model, x, cuts = surveyed(name)
    prefix, suffix = divide(model, cuts[round(depth * (len(cuts) - 1))], x, verify=False)
    assert_law(model, prefix, suffix, x)


@grid(name=["residual", "vit", "dictionary", "functional"], samples=[1, 2, 7])
def test_any_batch_size(name: str, samples: int) -> None:
    net = NETS[name]
    model = net.model().eval()
    for cut in find_cuts(model, net.batch()):
        prefix, suffix = divide(model, cut, net.batch(), verify=False)
        x = net.batch(samples)
        with torch.no_grad():
            assert_same(model(x), suffix.eval()(prefix.eval()(x)))


def test_verification_changes_nothing_of_the_model() -> None:
    model, x = residual(), torch.randn(4, 3, 16, 16)
    model[3].eval()
    flags = [module.training for module in model.modules()]
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    chance, python = torch.get_rng_state(), random.getstate()
    divide(model, find_cut(find_cuts(model, x), "3"), x, verify=True)
    assert flags == [module.training for module in model.modules()]
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(chance, torch.get_rng_state())
    assert python == random.getstate()


def test_gradients_flow_through_both_parts() -> None:
    model, prefix, suffix, x = divided("residual", "3")
    reference = copy.deepcopy(model)
    for part in (prefix, suffix, reference):
        part.eval()
    reference(x).sum().backward()
    suffix(prefix(x)).sum().backward()
    for name, parameter in reference.named_parameters():
        assert torch.equal(parameter.grad, model.get_parameter(name).grad)  # type: ignore[arg-type]


def test_the_same_features_serve_many_times() -> None:
    _model, prefix, suffix, x = divided("resnet18", "bn1")
    with torch.no_grad():
        features = prefix.eval()(x)
        first = suffix.eval()(features)
        assert torch.equal(first, suffix(features))


def test_features_are_plain_tensors() -> None:
    _, prefix, _, x = divided("residual", "3")
    assert type(prefix(x)) is Tensor


def test_channels_last_is_kept() -> None:
    model = residual().to(memory_format=torch.channels_last)
    x = torch.randn(2, 3, 16, 16).to(memory_format=torch.channels_last)
    prefix, _suffix = divide(model, find_cut(find_cuts(model, x), "3"), x)
    features = prefix(x)
    assert features.is_contiguous(memory_format=torch.channels_last)
    assert not features.is_contiguous()


# -- names and sharing


@pytest.mark.parametrize(
    ("name", "label"), [("residual", "3"), ("vit", "conv_proj"), ("vit", "encoder.layers"), ("recurrent", "block")]
)
def test_states_together_are_the_models(name: str, label: str) -> None:
    model, prefix, suffix, _ = divided(name, label)
    together = {**prefix.state_dict(), **suffix.state_dict()}
    whole = model.state_dict()
    assert together.keys() == whole.keys()
    assert all(together[key].data_ptr() == whole[key].data_ptr() for key in whole)
    both = prefix.state_dict().keys() & suffix.state_dict().keys()
    assert both == set(prefix.shared_parameters)


def test_parameters_are_parted() -> None:
    model, prefix, suffix, _ = divided("vit", "encoder.layers.encoder_layer_0")
    front = {name for name, _ in prefix.named_parameters()}
    assert front == set(prefix.parameter_names)
    assert {"class_token", "encoder.pos_embedding", "conv_proj.weight"} < front
    assert {name for name, _ in suffix.named_parameters()} == {n for n, _ in model.named_parameters()} - front


def test_names_of_the_front() -> None:
    _, prefix, _, _ = divided("residual", "3.0")
    assert set(prefix.module_names) == {"0", "1", "2", "3.0", "3.0.conv", "3.0.norm", "3.0.relu"}
    norms = ("1", "3.0.norm")
    kinds = ("running_mean", "running_var", "num_batches_tracked")
    assert set(prefix.buffer_names) == {f"{norm}.{kind}" for norm in norms for kind in kinds}


def test_a_module_used_on_both_sides_is_not_of_the_front() -> None:
    _, prefix, suffix, _ = divided("recurrent", "block#1")
    assert set(prefix.module_names) == {"stem"}
    assert set(prefix.parameter_names) == {"stem.weight", "stem.bias"}
    assert "block.0.weight" in dict(suffix.named_parameters())


def test_modes_of_the_suffix_are_the_models_and_the_prefix_has_its_own() -> None:
    model, prefix, suffix, _ = divided("residual", "3")
    model.train()
    prefix.eval()
    assert suffix.training
    assert all(module.training for module in model.modules())
    assert not any(module.training for module in prefix.modules())
    suffix.eval()
    front = set(prefix.module_names)
    assert {name for name, module in model.named_modules() if module.training} == front
    assert not model.training
    model.train()
    assert all(module.training for module in suffix.modules())


def test_weights_learned_in_the_suffix_are_the_models() -> None:
    model, prefix, suffix, x = divided("residual", "3")
    optimizer = torch.optim.SGD(suffix.parameters(), lr=0.1)
    suffix(prefix(x).detach()).square().sum().backward()
    optimizer.step()
    for part in (model, prefix, suffix):
        part.eval()
    assert torch.equal(model(x), suffix(prefix(x)))


def test_moving_the_model_moves_its_parts() -> None:
    model, prefix, suffix, x = divided("residual", "3")
    model.double().eval()
    assert torch.equal(model(x.double()), suffix.eval()(prefix.eval()(x.double())))


def test_loading_a_state_into_the_suffix() -> None:
    model, _, suffix, _ = divided("residual", "3")
    state = {key: torch.ones_like(tensor) for key, tensor in suffix.state_dict().items()}
    suffix.load_state_dict(state)
    assert (model[9].weight == 1).all()


def test_join_is_the_inverse() -> None:
    model, prefix, suffix, _ = divided("residual", "3")
    assert join(prefix, suffix) is model


def test_parts_of_two_divisions_do_not_join() -> None:
    _, prefix, _, _ = divided("residual", "3")
    _, _, suffix, _ = divided("residual", "6")
    with pytest.raises(ArgumentError, match=r"the prefix ends at '3' of Sequential, the suffix begins at '6'"):
        join(prefix, suffix)


# -- copies


@pytest.mark.parametrize(("name", "label"), [("residual", "3"), ("vit", "encoder.layers"), ("recurrent", "block#1")])
@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_copies_compute_the_same(name: str, label: str, how: str) -> None:
    model, prefix, suffix, x = divided(name, label)
    model.eval()
    suffix.eval()(prefix.eval()(x))  # fills what the suffix remembers
    pair = (prefix, suffix)
    p, s = copy.deepcopy(pair) if how == "deepcopy" else pickle.loads(pickle.dumps(pair))
    assert torch.equal(model(x), s(p(x)))
    assert join(p, s) is not model
    s.train()
    assert not suffix.training


def test_a_deep_copy_learns_alone() -> None:
    _model, _, suffix, _ = divided("residual", "3")
    twin = copy.deepcopy(suffix)
    with torch.no_grad():
        next(twin.parameters()).add_(1)
    assert not torch.equal(next(twin.parameters()), next(suffix.parameters()))


# -- refusals


def test_a_cut_under_a_skip_is_refused_with_the_reason() -> None:
    model, x = residual(), torch.randn(2, 3, 16, 16)
    cut = replace(find_cuts(model, x)[0], name="3.0.conv")
    with pytest.raises(
        InvalidCutError, match=r"cut '3.0.conv': besides .* \[2, 8, 16, 16\] made in '2' and read later in '3.0'"
    ):
        divide(model, cut, x)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "nowhere"}, "Sequential has no module 'nowhere'"),
        ({"name": "9"}, "no parameter is read behind it"),
        ({"name": "5"}, "hands on a tensor that was made in front of it"),
        ({"call": 3}, "does not run"),
        ({"shape": (8, 2, 2)}, r"found with features of \[8, 2, 2\] a sample"),
    ],
    ids=["unknown", "last layer", "dropout", "fourth call", "other size"],
)
def test_invalid_cuts(change: dict[str, object], words: str) -> None:
    model, x = residual(), torch.randn(2, 3, 16, 16)
    cut = replace(find_cuts(model, x)[0], **change)  # type: ignore[arg-type]
    with pytest.raises(InvalidCutError, match=words):
        divide(model, cut, x)


def test_a_name_is_no_cut() -> None:
    with pytest.raises(ArgumentError, match="a Cut is needed"):
        divide(residual(), "3", torch.randn(2, 3, 16, 16))  # type: ignore[arg-type]


class Counting(nn.Module):
    """A Python number that grows with each call, in front of the cut and behind it: no tensor shows it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        skip = random.random() < 0.5
        x = self.first(x)
        return self.last(x) * (1 + random.random()) if skip else self.last(x) * random.random()


def test_what_no_trace_shows_is_caught_by_the_law() -> None:
    model, x = Counting(), torch.randn(4, 4)
    with pytest.raises(InvalidCutError, match="cut 'first': in eval mode output 0 differs from the model's by up to"):
        divide(model, find_cuts(model, x)[0], x)


def test_features_of_another_shape_are_refused() -> None:
    _, _, suffix, _ = divided("residual", "3")
    with pytest.raises(
        ArgumentError, match=r"features of \[N, 8, 16, 16\] are needed at cut '3', not of \[2, 8, 4, 4\]"
    ):
        suffix(torch.zeros(2, 8, 4, 4))


# -- models that hold more than layers


def test_weight_norm_and_hooks_run_in_the_part_that_owns_them() -> None:
    model = nn.Sequential(weight_norm(nn.Linear(4, 4)), nn.Tanh(), weight_norm(nn.Linear(4, 4)), nn.Linear(4, 2))
    seen: list[str] = []
    for index in (0, 2):
        model[index].register_forward_hook(lambda *_, index=index: seen.append(str(index)))
    x = torch.randn(3, 4)
    prefix, suffix = divide(model, find_cut(find_cuts(model, x), "1"), x)
    seen.clear()
    out = suffix(prefix(x))
    assert seen == ["0", "2"]
    assert torch.equal(out, model(x))


def test_layers_in_a_plain_list_are_followed() -> None:
    class Listed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 4)
            self.order = [self.a, self.b, self.c]

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.order:
                x = layer(x)
            return x

    model, x = Listed(), torch.randn(3, 4)
    prefix, suffix = divide(model, find_cut(find_cuts(model, x), "a"), x)
    assert_law(model, prefix, suffix, x)
    model.train()
    assert torch.equal(suffix.eval()(prefix(x)), suffix(prefix(x)))


def test_a_noise_that_is_drawn_in_front_is_drawn_once() -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x + torch.randn(x.shape[0], 4))
            return self.last(x * torch.rand(x.shape[0], 4))

    model, x = Noisy(), torch.randn(3, 4)
    prefix, suffix = divide(model, find_cut(find_cuts(model, x), "first"), x)
    assert_law(model, prefix, suffix, x)


def test_parameters_that_meet_the_data_behind_belong_behind() -> None:
    class Early(nn.Module):
        """The scale is worked out at the beginning and used at the end."""

        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.zeros(4))
            self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            scale = self.scale.exp()
            return self.last(torch.relu(self.first(x)) * scale)

    model, x = Early(), torch.randn(3, 4)
    prefix, suffix = divide(model, find_cut(find_cuts(model, x), "first"), x)
    assert "scale" in dict(suffix.named_parameters())
    assert "scale" not in dict(prefix.named_parameters())
    assert_law(model, prefix, suffix, x)


def test_a_cut_may_be_found_at_one_batch_and_used_at_another() -> None:
    model = small_vit()
    cuts = find_cuts(model, torch.randn(1, 3, 32, 32))
    prefix, _suffix = divide(model, cuts[1], torch.randn(5, 3, 32, 32))
    assert prefix(torch.randn(2, 3, 32, 32)).shape == (2, *cuts[1].shape)


def test_calls_of_one_module_divide_between_them() -> None:
    model, x = Recurrent().eval(), torch.randn(2, 3, 8, 8)
    cut = find_cut(find_cuts(model, x), "block#1")
    prefix, suffix = divide(model, cut, x)
    expected = model.block(model.block(model.stem(x)))
    assert torch.equal(prefix.eval()(x), expected)
    assert isinstance(cut, Cut)
    assert torch.equal(suffix.eval()(expected), model(x))
