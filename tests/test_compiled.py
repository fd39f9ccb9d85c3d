"""Models that are compiled, whole or in parts, are frozen as any other: the same names, bits and losses."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter
from torch.utils.data import TensorDataset

from hoarfrost import Freezer, divide, find_cut, find_cuts
from hoarfrost.errors import FrontChangedError
from hoarfrost.provenance import describe_module

POLICY = {1: "layer1", 2: "layer2.0"}
DATA = TensorDataset(
    torch.randn(40, 3, 8, 8, generator=torch.Generator().manual_seed(1)),
    torch.randint(0, 5, (40,), generator=torch.Generator().manual_seed(2)),
)


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.norm, self.last = (
            nn.Conv2d(width, width, 3, 1, 1),
            nn.BatchNorm2d(width),
            nn.Conv2d(width, width, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.last(torch.relu(self.norm(self.conv(x)))))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down = nn.Conv2d(3, 8, 3, 1, 1), nn.Conv2d(8, 16, 2, 2)
        self.layer1, self.layer2 = nn.Sequential(Block(8), Block(8)), nn.Sequential(Block(16), Block(16))
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer2(self.down(self.layer1(self.stem(x)))).mean((2, 3)))


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compiled(how: str, backend: Any = "eager") -> tuple[nn.Module, nn.Module]:
    """What the user calls, and the model as it was written."""
    torch.manual_seed(0)
    model = Net()
    if how == "wrapped":
        return torch.compile(model, backend=backend), model
    if how == "in place":
        model.compile(backend=backend)
    if how == "layers wrapped":
        model.layer1 = torch.compile(model.layer1, backend=backend)
        model.layer2 = torch.compile(model.layer2, backend=backend)
    if how == "blocks in place":
        for block in (*model.layer1, *model.layer2):
            block.compile(backend=backend)
    return model, model


WAYS = ("wrapped", "in place", "layers wrapped", "blocks in place")


def trained(how: str, mode: str, backend: Any = "eager", *, route: bool = False) -> tuple[list[float], list[Tensor]]:
    """Losses, and the weights at the end."""
    called, model = compiled(how, backend)
    optimizer = torch.optim.AdamW(called.named_parameters(), lr=0.01)
    losses = []
    options: dict[str, Any] = {"mode": mode, "ladder": "exact", "optimizer": optimizer, "route": route}
    with Freezer(called, DATA, batch_size=20, epochs=3, policy=POLICY, verbose=False, **options) as freezer:
        assert freezer.model is called
        for epoch in range(3):
            called.train()
            for images, targets in freezer.batches(epoch):
                loss = F.cross_entropy((called if route else freezer)(images), targets)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
            freezer.end_epoch()
        assert freezer.cut is not None
        assert freezer.cut.label == "layer2.0"
    named = [name for group in optimizer.param_groups for name in group["param_names"]]
    assert set(named) == {name for name, _ in called.named_parameters()}
    return losses, [value.detach().clone() for value in model.state_dict().values()]


def same(one: tuple[list[float], list[Tensor]], other: tuple[list[float], list[Tensor]]) -> bool:
    return one[0] == other[0] and all(map(torch.equal, one[1], other[1]))


@pytest.mark.slow
@pytest.mark.parametrize("route", [False, True], ids=["freezer", "routed"])
@pytest.mark.parametrize("how", WAYS)
def test_a_compiled_model_trains_as_it_does_uncompiled_cached_or_recomputed(how: str, route: bool) -> None:
    expected = trained("not", "cache")
    assert same(trained(how, "cache", route=route), expected)
    torch._dynamo.reset()
    assert same(trained(how, "recompute", route=route), expected)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["wrapped", "layers wrapped"])
def test_the_law_holds_with_a_compiler_of_other_bits(how: str) -> None:
    cached = trained(how, "cache", "aot_eager")
    torch._dynamo.reset()
    assert same(trained(how, "recompute", "aot_eager"), cached)


@pytest.mark.long
@pytest.mark.skipif(shutil.which("g++") is None, reason="Inductor compiles C++")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("how", ["wrapped", "blocks in place"])
def test_the_law_holds_with_inductor_and_nothing_is_compiled_again_for_a_batch(how: str) -> None:
    torch._dynamo.utils.counters.clear()
    losses, weights = trained(how, "cache", "inductor")
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert graphs <= (3 if how == "wrapped" else 8), "the model and two suffixes; or blocks with and without gradients"
    expected = trained("not", "cache")
    assert losses == pytest.approx(expected[0], rel=1e-4)
    torch._dynamo.reset()
    assert same(trained(how, "recompute", "inductor"), (losses, weights))


@pytest.mark.parametrize("how", WAYS)
def test_cuts_are_those_of_the_model_itself_and_nothing_is_compiled_to_find_them(how: str) -> None:
    counter, x = CompileCounter(), DATA.tensors[0][:4]
    expected = find_cuts(compiled("not")[0], x)
    called, _ = compiled(how, counter)
    found = find_cuts(called, x)
    assert [(c.label, c.aliases, c.recommended, c.prefix_flops) for c in found] == [
        (c.label, c.aliases, c.recommended, c.prefix_flops) for c in expected
    ]
    for spelling in ("layer1.0", "_orig_mod.layer1.0", "layer1._orig_mod.0"):
        assert find_cut(found, spelling).label == "layer1.0"
    prefix, suffix = divide(called, find_cut(found, "layer1.0"), x)
    assert counter.frame_count == 0
    features = prefix.eval()(x)
    assert torch.equal(suffix.eval()(features), compiled("not")[0].eval()(x))


def test_either_spelling_names_the_layers_of_the_only_cut() -> None:
    for how in ("wrapped", "layers wrapped"):
        called, _ = compiled(how)
        for spelling in ("layer1", "layer1._orig_mod", "_orig_mod.layer1"):
            with Freezer(called, DATA, batch_size=20, epochs=1, policy="none", cuts=spelling, verbose=False) as freezer:
                assert "layer1" in (freezer.cuts[0].label, *freezer.cuts[0].aliases)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["wrapped", "in place"])
def test_a_suffix_is_compiled_once_for_each_freeze_and_for_each_mode(how: str) -> None:
    x, y = DATA.tensors
    counter = CompileCounter()
    called, _ = compiled(how, counter)
    cuts = find_cuts(called, x[:4])
    for number, label in enumerate(("stem", "layer1.0", "layer1", "down", "layer2.0"), 1):
        prefix, suffix = divide(called, find_cut(cuts, label), x[:4], verify=False)
        features = prefix.eval()(x).detach()
        suffix.train()
        for first in (0, 10, 20, 30):
            F.cross_entropy(suffix(features[first : first + 10]), y[first : first + 10]).backward()
        assert counter.frame_count == number
        suffix.release()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["layers wrapped", "blocks in place"])
def test_compiled_parts_behind_the_cut_run_compiled_and_those_in_front_are_not_entered(how: str) -> None:
    counter, x = CompileCounter(), DATA.tensors[0]
    called, model = compiled(how, counter)
    prefix, suffix = divide(called, find_cut(find_cuts(called, x[:4]), "layer1"), x[:4])
    features = prefix.eval()(x).detach()
    suffix.train()
    for first in (0, 10, 20, 30):
        suffix(features[first : first + 10]).sum().backward()
    assert 1 <= counter.frame_count <= 2
    before = counter.frame_count
    assert torch.isfinite(model.eval()(x)).all()
    assert counter.frame_count > before


def test_a_front_that_is_replaced_is_noticed_and_attributes_survive_a_compiled_suffix() -> None:
    x = DATA.tensors[0][:4]
    called, model = compiled("wrapped")
    prefix, suffix = divide(called, find_cut(find_cuts(called, x), "layer1"), x)
    features = prefix.eval()(x).detach()
    suffix(features)
    kept, model.stem = model.stem, nn.Conv2d(3, 8, 3, 1, 1)
    with pytest.raises(FrontChangedError, match="'stem' is no longer what it was"):
        suffix(features)
    model.stem = kept
    assert torch.isfinite(suffix(features)).all()


@pytest.mark.slow
def test_a_state_goes_on_whether_the_model_is_compiled_or_not() -> None:
    states, caches = {}, {}
    for how in ("not", "wrapped", "layers wrapped"):
        called, _ = compiled(how)
        with Freezer(
            called, DATA, batch_size=20, epochs=3, policy={1: "layer1"}, mode="cache", verbose=False
        ) as freezer:
            for _ in freezer.batches(0):
                pass
            freezer.end_epoch()
            next(iter(freezer.batches(1)))
            assert freezer.cache is not None
            states[how], caches[how] = copy.deepcopy(freezer.state_dict()), freezer.cache.fingerprint
    told = {how: dict(fingerprint.fields) for how, fingerprint in caches.items()}
    for field in told["not"]:
        assert told["not"][field] == told["wrapped"][field] == told["layers wrapped"][field], field
    for written, read in (("wrapped", "not"), ("not", "layers wrapped"), ("layers wrapped", "wrapped")):
        called, _ = compiled(read)
        with Freezer(
            called, DATA, batch_size=20, epochs=3, policy={1: "layer1"}, mode="cache", verbose=False
        ) as freezer:
            freezer.load_state_dict(states[written])
            assert freezer.cut is not None
            assert freezer.cut.label == "layer1"


def test_what_a_framework_notes_of_a_compiled_model_is_no_setting_of_it() -> None:
    """Lightning, once imported, writes the compiler's arguments through the wrapper into the model."""
    called, model = compiled("wrapped")
    before = describe_module(model)
    called._compile_kwargs = {"backend": "eager"}
    assert "_compile_kwargs" in model.__dict__
    assert describe_module(model) == before


@pytest.mark.slow
def test_a_compiled_freezer_runs_what_its_model_runs() -> None:
    expected = trained("not", "cache")
    counter = CompileCounter()
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    options: dict[str, Any] = {"mode": "cache", "ladder": "exact", "optimizer": optimizer, "policy": POLICY}
    losses, graphs = [], []
    with Freezer(model, DATA, batch_size=20, epochs=3, verbose=False, **options) as freezer:
        run = torch.compile(freezer, backend=counter)
        for epoch in range(3):
            for images, targets in freezer.batches(epoch):
                loss = F.cross_entropy(run(images), targets)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
                graphs.append(counter.frame_count)
            freezer.end_epoch()
    assert losses == expected[0]
    assert graphs[-1] <= 6
