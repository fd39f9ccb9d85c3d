"""Both parts of a divided model behave as any module does: in loops, in copies, under compilers and wrappers."""

from __future__ import annotations

import copy
import functools
import io
import pickle
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from cut_law import assert_law, assert_same
from cut_nets import Functional, small_vit
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
from torch.utils.checkpoint import checkpoint
from torchvision.models.efficientnet import EfficientNet, MBConvConfig
from torchvision.models.resnet import BasicBlock, ResNet

from hoarfrost.cuts import Cut, Prefix, Suffix, divide, find_cut, find_cuts
from hoarfrost.errors import InvalidCutError


def vit() -> nn.Module:
    """With a classifier that does something: torchvision begins with zeros, behind which nothing shows."""
    model = small_vit()
    nn.init.normal_(model.heads.head.weight)
    return model


def efficientnet() -> nn.Module:
    settings = [MBConvConfig(1, 3, 1, 16, 8, 1), MBConvConfig(4, 3, 2, 8, 16, 2), MBConvConfig(4, 3, 2, 16, 16, 1)]
    return EfficientNet(settings, dropout=0.2, stochastic_depth_prob=0.2, num_classes=5, last_channel=32)


MODELS: dict[str, tuple[Callable[[], nn.Module], str, tuple[int, ...]]] = {
    "resnet": (lambda: ResNet(BasicBlock, [1, 1, 1, 1], num_classes=5), "layer2", (3, 32, 32)),
    "vit": (vit, "encoder.layers.encoder_layer_0", (3, 32, 32)),
    "efficientnet": (efficientnet, "features.2.0", (3, 32, 32)),
    "plain": (Functional, "conv2", (3, 16, 16)),
}
every_model = pytest.mark.parametrize("name", MODELS)


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    return MODELS[name][0]()


def batch(name: str, samples: int = 4) -> Tensor:
    return torch.randn(samples, *MODELS[name][2], generator=torch.Generator().manual_seed(1))


@functools.cache
def cut_of(name: str) -> Cut:
    return find_cut(find_cuts(build(name), batch(name)), MODELS[name][1])


def parts(name: str, model: nn.Module | None = None) -> tuple[nn.Module, Prefix, Suffix, Tensor]:
    model, x = model or build(name), batch(name)
    return model, *divide(model, cut_of(name), x, verify=False), x


def evaluated(*modules: nn.Module) -> None:
    for module in modules:
        module.eval()


# -- what they hold


@every_model
def test_parameters_and_buffers_are_the_models_own(name: str) -> None:
    model, prefix, suffix, _ = parts(name)
    for part in (prefix, suffix):
        for key, parameter in part.named_parameters():
            assert parameter is model.get_parameter(key)
        for key, buffer in part.named_buffers():
            assert buffer is model.get_buffer(key)
    assert len(list(prefix.parameters())) + len(list(suffix.parameters())) == len(list(model.parameters()))


@every_model
def test_states_have_the_models_names_and_come_back_from_a_file(name: str) -> None:
    model, prefix, suffix, x = parts(name)
    assert {*prefix.state_dict(), *suffix.state_dict()} == set(model.state_dict())
    evaluated(model, prefix, suffix)
    expected, file = model(x), io.BytesIO()
    torch.save([prefix.state_dict(), suffix.state_dict()], file)
    file.seek(0)
    states = torch.load(file, weights_only=True)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    for part, state in zip((prefix, suffix), states, strict=True):
        part.load_state_dict(state)
    assert torch.equal(suffix(prefix(x)), expected)
    fresh = MODELS[name][0]().eval()
    fresh.load_state_dict(states[0] | states[1])
    assert torch.equal(fresh(x), expected)


@every_model
def test_modes_reach_every_module_of_the_part_and_no_other(name: str) -> None:
    model, prefix, suffix, x = parts(name)
    model.eval(), prefix.eval(), suffix.train()
    assert all(module.training for module in suffix.modules())
    assert not any(module.training for module in prefix.modules())
    front = set(prefix.module_names)
    assert {key for key, module in model.named_modules() if not module.training} == front
    twin = copy.deepcopy(model)
    state = {key: tensor.clone() for key, tensor in prefix.state_dict().items()}
    suffix(prefix(x)), twin(x)
    # The statistics behind the cut moved, those in front did not.
    assert all(torch.equal(tensor, state[key]) for key, tensor in prefix.state_dict().items())
    counters = [key for key, _ in suffix.named_buffers() if key.endswith("num_batches_tracked")]
    assert all(torch.equal(model.get_buffer(key), twin.get_buffer(key)) for key in counters)


@every_model
@pytest.mark.parametrize("how", ["deepcopy", "pickle", "save"])
def test_copies_compute_the_same_and_are_on_their_own(name: str, how: str) -> None:
    model, prefix, suffix, x = parts(name)
    evaluated(model, prefix, suffix)
    expected = suffix(prefix(x))
    if how == "deepcopy":
        twins = copy.deepcopy(prefix), copy.deepcopy(suffix)
    elif how == "pickle":
        twins = pickle.loads(pickle.dumps(prefix)), pickle.loads(pickle.dumps(suffix))
    else:
        file = io.BytesIO()
        torch.save((prefix, suffix), file)
        file.seek(0)
        twins = torch.load(file, weights_only=False)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(twins[1](twins[0](x)), expected)
    assert not torch.equal(suffix(prefix(x)), expected)


# -- compilers and wrappers


@pytest.fixture
def _fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@every_model
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.usefixtures("_fresh_compiler")
def test_the_suffix_compiles_into_one_graph(name: str, backend: str) -> None:
    _, prefix, suffix, x = parts(name)
    evaluated(prefix, suffix)
    features = prefix(x).detach()
    expected = suffix(features)
    expected.sum().backward()
    gradients = {key: p.grad for key, p in suffix.named_parameters()}
    suffix.zero_grad(set_to_none=True)
    got = torch.compile(suffix, backend=backend, fullgraph=True)(features)
    got.sum().backward()
    torch.testing.assert_close(got, expected)
    for key, parameter in suffix.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[key])


@pytest.mark.parametrize("name", ["plain"])
@pytest.mark.usefixtures("_fresh_compiler")
def test_a_compiled_suffix_follows_mode_batch_size_and_weights(name: str) -> None:
    model, prefix, suffix, _ = parts(name)
    compiled = torch.compile(suffix, backend="eager", fullgraph=True)
    for samples, training in ((4, False), (4, True), (3, True), (6, False)):
        features = prefix.eval()(batch(name, samples)).detach()
        suffix.train(training)
        state = copy.deepcopy(model.state_dict())
        torch.manual_seed(3)
        expected = suffix(features)
        model.load_state_dict(state)
        torch.manual_seed(3)
        torch.testing.assert_close(compiled(features), expected)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(0.9)


@pytest.mark.parametrize("name", ["vit", "plain"])
@pytest.mark.usefixtures("_fresh_compiler")
def test_the_prefix_compiles(name: str) -> None:
    _, prefix, _, x = parts(name)
    prefix.eval()
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(prefix, backend="eager")(x), prefix(x))


@pytest.fixture(scope="module")
def _one_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    store = dist.FileStore(str(Path(tmp_path_factory.mktemp("store")) / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@every_model
@pytest.mark.usefixtures("_one_process")
def test_gradients_in_distributed_data_parallel(name: str) -> None:
    _, prefix, suffix, x = parts(name)
    evaluated(prefix, suffix)
    features = prefix(x).detach()
    suffix(features).square().sum().backward()
    gradients = {key: p.grad for key, p in suffix.named_parameters()}
    suffix.zero_grad(set_to_none=True)
    wrapped = DistributedDataParallel(suffix)
    for _ in range(2):  # it would fail in the second pass if a parameter had no gradient in the first
        wrapped.zero_grad(set_to_none=True)
        wrapped(features).square().sum().backward()
    reached = {key.removeprefix("module.") for key, p in wrapped.named_parameters() if p.grad is not None}
    assert reached == gradients.keys()
    for key, parameter in suffix.named_parameters():
        assert torch.equal(parameter.grad, gradients[key])  # type: ignore[arg-type]


@every_model
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_autocast_on_both_sides(name: str, training: bool) -> None:
    model, prefix, suffix, x = parts(name)
    for part in (model, prefix, suffix):
        part.train(training)
    with torch.autocast("cpu", torch.bfloat16):
        torch.manual_seed(5)
        expected = model(x)
        torch.manual_seed(5)
        features = prefix(x).detach()
        got = suffix(features)
    assert expected.dtype == torch.bfloat16
    assert torch.equal(got, expected)
    model.zero_grad(set_to_none=True)
    expected.float().square().sum().backward()
    gradients = {key: p.grad for key, p in suffix.named_parameters()}
    model.zero_grad(set_to_none=True)
    got.float().square().sum().backward()
    for key, parameter in suffix.named_parameters():
        assert torch.equal(parameter.grad, gradients[key])  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["resnet", "efficientnet", "plain"])
def test_channels_last(name: str) -> None:
    model, prefix, suffix, x = parts(name, build(name).to(memory_format=torch.channels_last))
    evaluated(model, prefix, suffix)
    x = x.to(memory_format=torch.channels_last)
    features = prefix(x)
    assert features.is_contiguous(memory_format=torch.channels_last)
    assert not features.is_contiguous()
    assert torch.equal(suffix(features), model(x))


# -- hooks, parametrizations, checkpoints


def fired_in(
    model: nn.Module, prefix: Prefix, suffix: Suffix, x: Tensor, fired: Counter[str]
) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """How often each hook fires in the model, in the prefix and in the suffix, forward and backward."""
    found = []
    evaluated(model, prefix, suffix)
    features = prefix(x).detach()
    for run in (lambda: model(x), lambda: prefix(x), lambda: suffix(features)):
        fired.clear()
        output = run()
        if output.shape != features.shape:
            output.sum().backward()
        found.append(fired.copy())
    return found[0], found[1], found[2]


@every_model
def test_hooks_fire_once_in_the_part_that_owns_the_module(name: str) -> None:
    model, fired = build(name), Counter[str]()
    for key, module in model.named_modules():
        if key and not any(True for _ in module.children()):
            module.register_forward_pre_hook(lambda *_, key=key: fired.update([f"{key} before"]))
            module.register_forward_hook(lambda *_, key=key: fired.update([f"{key} after"]))
    model, prefix, suffix, x = parts(name, model)
    whole, front, back = fired_in(model, prefix, suffix, x, fired)
    assert front
    assert back
    assert front + back == whole
    in_front = set(prefix.module_names)
    assert all(key.split()[0] in in_front for key in front)
    assert not any(key.split()[0] in in_front for key in back)


def test_backward_hooks_fire_in_the_suffix() -> None:
    model, fired = build("vit"), Counter[str]()
    for key in ("encoder.layers.encoder_layer_0", "encoder.layers.encoder_layer_1.mlp", "encoder.ln"):
        model.get_submodule(key).register_full_backward_hook(lambda *_, key=key: fired.update([key]))
    model, prefix, suffix, x = parts("vit", model)
    whole, front, back = fired_in(model, prefix, suffix, x, fired)
    assert set(whole.values()) == {1}
    assert not front
    assert back == whole - Counter(["encoder.layers.encoder_layer_0"])


def test_what_hooks_change_is_changed_in_the_parts_too() -> None:
    model = build("resnet")
    model.layer1.register_forward_pre_hook(lambda _, args: (args[0] * 2,))
    model.layer2.register_forward_hook(lambda _, __, output: output + 1)
    model.layer4.register_forward_pre_hook(lambda _, args: (args[0] - 3,))
    model, prefix, suffix, x = parts("resnet", model)
    evaluated(model, prefix, suffix)
    plain = build("resnet").eval()
    assert torch.equal(suffix(prefix(x)), model(x))
    assert not torch.equal(model(x), plain(x))


@pytest.mark.parametrize("norm", [weight_norm, spectral_norm], ids=["weight_norm", "spectral_norm"])
@pytest.mark.parametrize("name", ["1", "3"])
def test_parametrizations_on_both_sides(norm: Callable[[nn.Module], nn.Module], name: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        norm(nn.Conv2d(3, 4, 3)), nn.GELU(), norm(nn.Conv2d(4, 4, 3)), nn.GELU(), nn.Flatten(), norm(nn.Linear(64, 2))
    )
    x = torch.randn(3, 3, 8, 8)
    prefix, suffix = divide(model, find_cut(find_cuts(model, x), name), x)
    assert_law(model, prefix, suffix, x)
    keys = {key.partition(".")[0] for key, _ in suffix.named_parameters()}
    assert keys == ({"2", "5"} if name == "1" else {"5"})


class Checkpointed(nn.Module):
    """Activations are computed again in the backward pass: those of each block, or of all blocks at once."""

    def __init__(self, reentrant: bool = False, at_once: bool = False) -> None:
        super().__init__()
        self.reentrant, self.at_once = reentrant, at_once
        self.stem, self.head = nn.Linear(4, 6), nn.Linear(6, 2)
        layers = [nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Dropout(0.3), nn.Linear(6, 6)) for _ in range(3)]
        self.blocks = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in [self.blocks] if self.at_once else self.blocks:
            x = checkpoint(block, x, use_reentrant=self.reentrant)
        return self.head(x)


@pytest.mark.parametrize("cut", ["stem", "blocks.0", "blocks.1"])
def test_gradient_checkpointing_in_the_suffix(cut: str) -> None:
    torch.manual_seed(0)
    model, x = Checkpointed(), torch.randn(5, 4)
    prefix, suffix = divide(model, find_cut(find_cuts(model, x), cut), x)
    assert_law(model, prefix, suffix, x)


@pytest.mark.parametrize("cut", ["blocks.0", "blocks.1"])
def test_batch_norms_in_checkpoints_in_front_of_the_cut(cut: str) -> None:
    """The model's backward pass runs them once more, and they count a batch twice; those behind the cut must agree."""
    torch.manual_seed(0)
    model, x = Checkpointed(), torch.randn(5, 4)
    for block in model.blocks:
        block.append(nn.BatchNorm1d(6))
    prefix, suffix = divide(model, find_cut(find_cuts(model, x), cut), x)
    for part in (model, prefix, suffix):
        part.eval()
    assert torch.equal(suffix(prefix(x)), model(x))


@pytest.mark.parametrize("verify", [False, True], ids=["unverified", "verified"])
def test_reentrant_checkpoints_in_the_suffix(verify: bool) -> None:
    torch.manual_seed(0)
    model, x = Checkpointed(reentrant=True), torch.randn(5, 4)
    prefix, suffix = divide(model, find_cut(find_cuts(model, x), "stem"), x, verify=verify)
    assert_law(model, prefix, suffix, x)
    features = prefix(x).detach()
    assert not suffix.requires_grad_(False)(features).requires_grad
    assert not features.requires_grad


def test_ordinary_suffixes_ask_for_no_gradient_of_the_features() -> None:
    model, prefix, suffix, x = parts("resnet")
    for part in model, prefix, suffix:
        part.requires_grad_(False)
    model.fc.requires_grad_(True)
    asked: list[bool] = []
    model, prefix, suffix, x = parts("resnet", model)
    suffix.layer4.register_forward_pre_hook(lambda _, inputs: asked.append(inputs[0].requires_grad))
    suffix(prefix(x).detach())
    assert asked == [False]


@pytest.mark.parametrize(
    ("reentrant", "at_once", "offered", "reason"),
    [
        (True, False, ["stem"], "it lies in a reentrant checkpoint.* use_reentrant=False does"),
        (True, True, ["stem"], "it lies in a reentrant checkpoint"),
        (False, True, ["stem", "blocks"], "a checkpoint goes round it, and would run what is in front of it again"),
    ],
    ids=["reentrant", "reentrant around all", "around all"],
)
def test_no_cuts_that_a_checkpoint_would_run_across(
    reentrant: bool, at_once: bool, offered: list[str], reason: str
) -> None:
    torch.manual_seed(0)
    model, x = Checkpointed(reentrant, at_once), torch.randn(5, 4)
    cuts = find_cuts(model, x)
    assert [cut.label for cut in cuts] == offered
    inside = find_cut(find_cuts(Checkpointed(), x), "blocks.1")
    with pytest.raises(InvalidCutError, match=reason):
        divide(model, inside, x)
    for cut in cuts:
        assert_law(model, *divide(model, cut, x), x)


# -- recurrence


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.LSTM(4, 6, num_layers=2, dropout=0.5, batch_first=True)
        self.second = nn.LSTM(6, 6, num_layers=2, dropout=0.5, batch_first=True)
        self.last = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.second(self.first(x)[0])[0][:, -1])


@pytest.mark.parametrize("cut", ["first", "second"])
def test_dropout_between_the_layers_of_an_lstm(cut: str) -> None:
    torch.manual_seed(0)
    model, x = Recurrent(), torch.randn(5, 3, 4)
    prefix, suffix = divide(model, find_cut(find_cuts(model, x), cut), x)
    torch.manual_seed(7)
    expected = model(x)
    torch.manual_seed(7)
    assert torch.equal(suffix(prefix(x).detach()), expected)
    torch.manual_seed(7)
    with torch.no_grad():  # other kernels, which round otherwise, but the same draws
        features = prefix(x)
    torch.testing.assert_close(suffix(features), expected)
    assert prefix.rounding is not None
    assert prefix.rounding < 1e-6


# -- training


@every_model
@pytest.mark.parametrize("when", ["before", "after"])
def test_an_optimizer_from_before_or_after_the_division(name: str, when: str) -> None:
    model = build(name).eval()
    twin = copy.deepcopy(model)
    before = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    model, prefix, suffix, x = parts(name, model)
    evaluated(prefix, suffix)
    optimizer = before if when == "before" else torch.optim.SGD(suffix.parameters(), lr=0.05, momentum=0.9)
    names = [key for key, _ in suffix.named_parameters()]
    reference = torch.optim.SGD([twin.get_parameter(key) for key in names], lr=0.05, momentum=0.9)
    features = prefix(x).detach()  # not under no_grad, which rounds otherwise in attention
    for _ in range(2):
        suffix(features).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        twin(x).square().mean().backward()
        reference.step()
        twin.zero_grad()
    for key, parameter in twin.named_parameters():
        assert torch.equal(parameter, model.get_parameter(key)), key
    assert_same(model(x), suffix(prefix(x)))


@every_model
def test_requires_grad_that_changes_after_the_division_is_seen_by_both(name: str) -> None:
    model, prefix, suffix, x = parts(name)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    assert not suffix(prefix(x)).requires_grad
    first = next(iter(dict(prefix.named_parameters()).values()))
    first.requires_grad_(True)
    assert prefix(x).requires_grad
    last = list(suffix.parameters())[-1]
    last.requires_grad_(True)
    suffix(prefix(x).detach()).sum().backward()
    assert last.grad is not None
    assert first.grad is None
    assert all(p.grad is None for p in suffix.parameters() if p is not last)


def test_features_carry_gradients_to_what_made_them() -> None:
    _, prefix, suffix, x = parts("resnet")
    evaluated(prefix, suffix)
    features = prefix(x).detach().requires_grad_()
    suffix(features).sum().backward()
    assert features.grad is not None
    assert features.grad.abs().sum() > 0
