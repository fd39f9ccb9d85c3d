"""A law: whatever single thing is changed behind a cache, the next run notices it, by name."""

from __future__ import annotations

import os
import shutil
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Subset

from hoarfrost import Freezer
from hoarfrost.errors import StaleCacheError

SOURCE = '''
import enum
import functools
from fractions import Fraction
from types import SimpleNamespace
import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import Dataset
import user_helpers

SCALE, OFFSET, SHIFT, DIM = 2.0, 0.1, 0.25, 1.0
LABELS = list(range(24))
HIDDEN = {"hidden": 1.0}

def helper(x):
    return x * SCALE

def deeper(x, slope=0.5):
    return user_helpers.moved(helper(x)) + slope

def closing(value):
    def closed(x):
        return x + value
    return closed

closed = closing(0.125)

def doubled(x):
    return x * 2

def same(x):
    return x

class Slotted:
    __slots__ = ("amount",)
    def __init__(self, amount):
        self.amount = amount

class Way(enum.Enum):
    PLAIN = 0.0

class Base:
    bend = 0.0

class Config(Base):
    tilt = 0.0
    itself = None
    class Inner:
        rise = 0.0

class Gauge:
    mark = 0.0

Config.itself, GAUGE = Config, Gauge()

class Chosen:
    tip = 0.0

def configured(x, chosen=Chosen):
    own = chosen.tip + Config.itself.tilt + Config.bend + Config.Inner.rise
    return x + own + user_helpers.Settings.turn + GAUGE.mark

PICKED = {"doubled": doubled, "same": same}
TURNS = [doubled, same]
SLOTTED, SPACE, SHARE, WAY = Slotted(0.0), SimpleNamespace(amount=0.0), Fraction(0, 1), Way.PLAIN

def picked(x):
    extra = SLOTTED.amount + SPACE.amount + float(SHARE) + WAY.value
    return (PICKED["doubled"](x) + TURNS[0](x) + TURNS[1](x)) * 0.2 + extra

@functools.singledispatch
def turned(x):
    return x

@turned.register
def _(x: torch.Tensor):
    return x * 1.0

class Level:
    def __init__(self, amount):
        self.amount = amount
    def __get__(self, thing, kind):
        return self.amount + 0.0
    def __set__(self, thing, value):
        pass

class Kind(type(nn.Module)):
    lift = 0.0

    @property
    def raised(cls):
        return 0.0

class Block(nn.Module, metaclass=Kind):
    gain = 1.0
    level = Level(0.0)

    @functools.singledispatchmethod
    def bent(self, x):
        return x

    @bent.register
    def _(self, x: torch.Tensor):
        return x / 1.0

    def raises(self, x, by):
        return x + by

    raised = functools.partialmethod(raises, by=0.0)

    @property
    def note(self):
        return self.calls

    @note.setter
    def note(self, value):
        self.calls = value + 0

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.act = nn.LeakyReLU(0.1)
        self.power, self.squash, self.small = 1.0, F.relu, lambda x: x * 0.5
        self.calls, self.kept = 0, None

    def forward(self, x):
        """What a block does."""
        self.note = self.calls + 1
        self.kept = x.mean()
        x = configured(self.raised(self.bent(turned(x)))) + self.level + type(self).lift + type(self).raised
        return self.shaped(self.act(self.bn(self.conv(x)))) + globals()["HID" + "DEN"]["hidden"]

    def shaped(self, x):
        return self.squash(deeper(closed(picked(x)))) * self.gain ** self.power + self.small(x)

    def unused(self):
        return 1

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.front = Block()
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))

    def forward(self, x):
        return self.head(self.front(x))

def brighter(x):
    return x * DIM

class Dim:
    low = 0.0

class Step:
    def __init__(self, amount):
        self.amount = amount

    def __call__(self, image):
        return brighter(image) * self.amount + OFFSET + Dim.low

class Decoding:
    floor = 0.0

def decoded(image):
    return image + SHIFT + Decoding.floor

class InMemory(Dataset):
    def __init__(self, images, targets):
        self.images, self.targets = images, targets

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return decoded(self.images[index]), int(self.targets[index])

class Later(Dataset):
    """The second half of another one."""
    def __init__(self, whole):
        self.whole = whole

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return self.whole[index + 12]

class Parts(Dataset):
    def __init__(self, **held):
        vars(self).update(held)

    def __len__(self):
        return 24

    def __getitem__(self, index):
        first, second = self.parts.values() if hasattr(self, "parts") else (self.first, self.second)
        return first[index] if index < 12 else second[index - 12]

class Files(Dataset):
    def __init__(self, root, names, targets):
        self.root, self.samples = root, list(zip(names, targets))

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        import numpy
        from PIL import Image
        name, target = self.samples[index]
        with Image.open(f"{self.root}/{name}") as image:
            return torch.from_numpy(numpy.asarray(image).copy()).permute(2, 0, 1) / 255, target

class Unseen(Dataset):
    """Where its items come from cannot be seen."""
    def __init__(self, images, targets):
        self.read = lambda index: (images[index].clone(), int(targets[index]))

    def __len__(self):
        return 24

    def __getitem__(self, index):
        return self.read(index)

class Numbered(Dataset):
    """Its targets are in a list of the module's."""
    def __init__(self, images):
        self.images = images

    def __len__(self):
        return 24

    def __getitem__(self, index):
        return self.images[index], LABELS[index] % 5

def stacked(items):
    images, targets = zip(*items)
    return torch.stack(images) * 1.0, torch.tensor(targets)
'''
HELPERS = """
import user_helpers

class Settings:
    turn = 0.0

def moved(x):
    return x - 0.25
"""
N = 24


def noise() -> torch.Tensor:
    return torch.rand(N, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@dataclass(frozen=True)
class World:
    """All that a cache is made from."""

    folder: Path
    source: str = SOURCE
    helpers: str = HELPERS
    data: str = "memory"
    images: torch.Tensor = field(
        default_factory=lambda: torch.rand(N, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    )
    targets: torch.Tensor = field(default_factory=lambda: torch.arange(N) % 5)
    on_model: Callable[[Any], object] = lambda net: None
    on_data: Callable[[Any], Any] = lambda data: data
    steps: tuple[Any, ...] = (("Step", 0.5), ("Normalize", 0.5))
    options: dict[str, Any] = field(default_factory=dict)

    def module(self) -> types.ModuleType:
        made = {}
        for name, source in (("user_helpers", self.helpers), ("user_files", self.source)):
            made[name] = sys.modules[name] = types.ModuleType(name)
            exec(compile(source, f"{name}.py", "exec"), made[name].__dict__)
        return made["user_files"]

    def freezer(self, stale: str = "error") -> Freezer:
        own = self.module()
        torch.manual_seed(0)
        net = own.Net()
        self.on_model(net)
        images, targets = self.images.clone(), self.targets.clone()
        if self.data == "files":
            names = sorted(path.name for path in (self.folder / "images").glob("*.png"))
            data = own.Files(str(self.folder / "images"), names, targets.tolist())
        else:
            kinds = {"memory": own.InMemory, "unseen": own.Unseen, "numbered": own.Numbered}
            data = kinds[self.data](images) if self.data == "numbered" else kinds[self.data](images, targets)
        options: dict[str, Any] = {"views": 1, "ladder": "exact", **self.options}
        if options.get("collate_fn") == "stacked":
            options["collate_fn"] = own.stacked
        return Freezer(
            *(net, self.on_data(data)),
            transform=_transform(own, self.steps),
            batch_size=8,
            epochs=2,
            policy={0: "front"},
            cuts="front",
            mode="cache",
            settle="last",
            cache_dir=self.folder / "cache",
            stale=stale,
            verbose=False,
            **options,
        )

    def train(self, stale: str = "error") -> str:
        with self.freezer(stale) as freezer:
            for _ in freezer.batches(0):
                pass
            freezer.end_epoch()
            return next(entry["decision"] for entry in freezer.history if entry["event"] == "freeze")


def _transform(own: Any, steps: tuple[Any, ...]) -> Any:
    from torchvision.transforms import v2

    made = []
    for name, value in steps:
        made.append(own.Step(value) if name == "Step" else v2.Normalize([value] * 3, [1.0] * 3))
    return v2.Compose(made)


def edited(old: str, new: str, of: str = "source") -> Callable[[World], World]:
    def change(world: World) -> World:
        assert old in getattr(world, of)
        return replace(world, **{of: getattr(world, of).replace(old, new, 1)})

    return change


def on_model(change: Callable[[Any], object]) -> Callable[[World], World]:
    return lambda world: replace(world, on_model=change)


def on_data(change: Callable[[Any], Any]) -> Callable[[World], World]:
    return lambda world: replace(world, on_data=change)


def set_to(target: Callable[[Any], Any], **attributes: Any) -> Callable[[World], World]:
    return on_model(lambda net: [setattr(target(net), name, value) for name, value in attributes.items()])


def on_images(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[World], World]:
    return lambda world: replace(world, images=change(world.images.clone()))


def one_pixel(images: torch.Tensor) -> torch.Tensor:
    images[13, 2, 7, 1] += 1e-3
    return images


def swapped(images: torch.Tensor) -> torch.Tensor:
    images[[3, 9]] = images[[9, 3]]
    return images


def relabelled(world: World) -> World:
    targets = world.targets.clone()
    targets[16] = 0 if targets[16] else 1
    return replace(world, targets=targets)


def dilated(net: Any) -> None:
    conv = net.front.conv
    conv.dilation, conv.padding = (2, 2), (2, 2)


def weighted(net: Any) -> None:
    with torch.no_grad():
        net.front.conv.weight[0, 0, 0, 0] += 1e-4


def hooked(net: Any) -> None:
    net.front.bn.register_forward_hook(lambda module, args, output: output * 1.5)


def hidden(net: Any) -> None:
    sys.modules["user_files"].HIDDEN["hidden"] = 1.0001  # type: ignore[attr-defined]


def shorter(world: World) -> World:
    return replace(world, images=world.images[:-1], targets=world.targets[:-1])


def longer(world: World) -> World:
    more = torch.cat([world.images, world.images[:1] / 2])
    return replace(world, images=more, targets=torch.cat([world.targets, world.targets[:1]]))


PIECES: dict[str, tuple[Callable[[World], World], str]] = {
    # Samples that lie in memory.
    "a pixel": (on_images(one_pixel), "data"),
    "two samples swapped": (on_images(swapped), "data"),
    "a sample fewer": (shorter, "samples"),
    "a sample more": (longer, "samples"),
    "another order": (on_data(lambda data: Subset(data, [*range(1, N), 0])), "data"),
    "what reads a sample": (
        edited("return decoded(self.images[index]), ", "return decoded(self.images[index] * 2), "),
        "data",
    ),
    "what reading calls": (edited("return image + SHIFT", "return image - SHIFT"), "data"),
    "a constant of reading": (
        edited("OFFSET, SHIFT, DIM = 2.0, 0.1, 0.25", "OFFSET, SHIFT, DIM = 2.0, 0.1, 0.26"),
        "data",
    ),
    "a constant of a class that reading names": (edited("floor = 0.0", "floor = 0.5"), "data"),
    # The prefix.
    "a weight": (on_model(weighted), "weights"),
    "a statistic": (on_model(lambda net: net.front.bn.running_mean.add_(0.1)), "weights"),
    "eps": (set_to(lambda net: net.front.bn, eps=2e-5), "modules"),
    "the mode of padding": (set_to(lambda net: net.front.conv, padding_mode="circular"), "modules"),
    "dilation": (on_model(dilated), "modules"),
    "the slope of an activation": (set_to(lambda net: net.front.act, negative_slope=0.2), "modules"),
    "a number of the user's own": (set_to(lambda net: net.front, power=2.0), "modules"),
    "a function that is held": (set_to(lambda net: net.front, squash=torch.tanh), "modules"),
    "a lambda that is held": (edited("lambda x: x * 0.5", "lambda x: x * 0.6"), "(code|modules)"),
    "another layer of no weights": (set_to(lambda net: net.front, act=torch.nn.ReLU()), "modules"),
    "a hook": (on_model(hooked), "code"),
    "forward": (edited("self.act(self.bn(self.conv(x)))", "self.bn(self.act(self.conv(x)))"), "code"),
    "a helper": (edited("return x * SCALE", "return x + SCALE"), "code"),
    "a helper's helper in another file": (edited("x - 0.25", "x - 0.26", of="helpers"), "code"),
    "a global constant": (edited("SCALE, OFFSET, SHIFT, DIM = 2.0", "SCALE, OFFSET, SHIFT, DIM = 2.5"), "code"),
    "a constant of the class": (edited("gain = 1.0", "gain = 1.25"), "code"),
    "a constant of another class": (edited("tilt = 0.0", "tilt = 0.5"), "code"),
    "a constant that it inherits": (edited("bend = 0.0", "bend = 0.5"), "code"),
    "a constant of a class in it": (edited("rise = 0.0", "rise = 0.5"), "code"),
    "a constant of a class in another file": (edited("turn = 0.0", "turn = 0.5", of="helpers"), "code"),
    "a constant of an object's class": (edited("mark = 0.0", "mark = 0.5"), "code"),
    "a constant of a class that is a default": (edited("tip = 0.0", "tip = 0.5"), "code"),
    "a default": (edited("slope=0.5", "slope=0.75"), "code"),
    "what a function closes over": (edited("closing(0.125)", "closing(0.25)"), "code"),
    "a function in a mapping": (edited("return x * 2\n", "return x * 3\n"), "code"),
    "two functions that change places": (edited("[doubled, same]", "[same, doubled]"), "code"),
    "another function in a mapping": (edited('"doubled": doubled', '"doubled": same'), "code"),
    "a value in slots": (edited("Slotted(0.0)", "Slotted(0.5)"), "code"),
    "a value in a namespace": (edited("SimpleNamespace(amount=0.0)", "SimpleNamespace(amount=0.5)"), "code"),
    "a fraction": (edited("Fraction(0, 1)", "Fraction(1, 2)"), "code"),
    "what a word stands for": (edited("PLAIN = 0.0", "PLAIN = 0.5"), "code"),
    "a function that is chosen by kind": (edited("return x * 1.0\n", "return x * 1.1\n"), "code"),
    "which kind a function is chosen for": (edited("def _(x: torch.Tensor)", "def _(x: float)"), "code"),
    "a method that is chosen by kind": (edited("return x / 1.0", "return x / 1.1"), "code"),
    "what a method is called with": (edited("raises, by=0.0", "raises, by=0.5"), "code"),
    "a method that is called in part": (edited("return x + by", "return x - by"), "code"),
    "an object that answers for an attribute": (edited("Level(0.0)", "Level(0.5)"), "code"),
    "how it answers": (edited("self.amount + 0.0", "self.amount + 0.5"), "code"),
    "how it is set": (edited("self.calls = value + 0", "self.calls = value + 2"), "code"),
    "a constant of the class's class": (edited("lift = 0.0", "lift = 0.5"), "code"),
    "a property of the class's class": (edited("return 0.0\n", "return 0.5\n"), "code"),
    "what no name tells": (on_model(hidden), "output"),
    # The transform.
    "a parameter": (lambda world: replace(world, steps=(("Step", 0.5), ("Normalize", 0.4))), "transform"),
    "an attribute of a step": (lambda world: replace(world, steps=(("Step", 0.6), ("Normalize", 0.5))), "transform"),
    "the order of steps": (lambda world: replace(world, steps=(("Normalize", 0.5), ("Step", 0.5))), "transform"),
    "a step fewer": (lambda world: replace(world, steps=(("Step", 0.5),)), "transform"),
    "the code of a step": (edited("* self.amount + OFFSET", "* self.amount - OFFSET"), "transform"),
    "a helper of a step": (edited("return x * DIM", "return x / DIM"), "transform"),
    "a constant of a step": (edited("OFFSET, SHIFT, DIM = 2.0, 0.1", "OFFSET, SHIFT, DIM = 2.0, 0.2"), "transform"),
    "a constant of a class that a step names": (edited("low = 0.0", "low = 0.5"), "transform"),
    "a constant of its helper": (edited("0.25, 1.0\n", "0.25, 1.1\n"), "transform"),
}
"""What is changed -> the field that names it."""


def build(folder: Path, **more: Any) -> World:
    world = World(folder, **more)
    world.train()
    return world


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("built")).folder


@pytest.fixture
def world(built: Path, tmp_path: Path) -> World:
    shutil.copytree(built, tmp_path, dirs_exist_ok=True)
    return World(tmp_path)


@pytest.fixture(autouse=True)
def modules() -> Iterator[None]:
    yield
    for name in ("user_files", "user_helpers"):
        sys.modules.pop(name, None)


def keys(world: World) -> set[str]:
    return {path.name for path in (world.folder / "cache").iterdir() if path.is_dir()}


def test_where_nothing_is_changed_the_cache_is_read(world: World, recwarn: pytest.WarningsRecorder) -> None:
    before = keys(world)
    world.train()
    assert keys(world) == before
    assert not [str(w.message) for w in recwarn if "hoarfrost" in str(w.message)]


@pytest.mark.parametrize("what", PIECES)
def test_a_change_is_noticed_by_name(world: World, what: str) -> None:
    change, name = PIECES[what]
    with pytest.raises(StaleCacheError, match=f"'{name}'"):
        change(world).train()


NO_CHANGES: dict[str, Callable[[World], World]] = {
    "a docstring": edited("What a block does.", "What this block does."),
    "a comment": edited("def helper(x):\n", "def helper(x):\n    # doubled\n\n"),
    "a method that nobody calls": edited("return 1\n", "return 2\n"),
    "behind the cut": on_model(lambda net: net.head[2].weight.data.add_(1)),
    "what a module counts and keeps for itself": on_model(lambda net: net.eval()(torch.rand(1, 3, 8, 8))),
}


@pytest.mark.parametrize("what", NO_CHANGES)
def test_what_changes_no_feature_leaves_a_cache_fresh(world: World, what: str) -> None:
    before = keys(world)
    NO_CHANGES[what](world).train()
    assert keys(world) == before


OTHER_CACHES = {"the seed": {"seed": 1}, "the codec": {"ladder": 8}, "views": {"views": 2}}


@pytest.mark.parametrize("what", OTHER_CACHES)
def test_another_choice_means_another_cache(world: World, what: str, recwarn: pytest.WarningsRecorder) -> None:
    before = keys(world)
    changed = replace(world, options=OTHER_CACHES[what], steps=(("Step", 0.5), ("Normalize", 0.5)))
    changed.train()
    assert before < keys(world)
    assert not [str(w.message) for w in recwarn if "stale" in str(w.message)]


NUMERICS: dict[str, tuple[str, Any]] = {
    "threads": ("torch.get_num_threads", lambda: 64),
    "deterministic": ("torch.are_deterministic_algorithms_enabled", lambda: True),
    "matmul_precision": ("torch.get_float32_matmul_precision", lambda: "medium"),
    "cpu": ("torch.backends.cpu.get_cpu_capability", lambda: "OTHER"),
    "torch": ("torch.__version__", "9.9.9"),
}


@pytest.mark.parametrize("what", NUMERICS)
def test_other_numerics_warn(world: World, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    before = keys(world)
    monkeypatch.setattr(*NUMERICS[what])
    with pytest.warns(UserWarning, match=rf"'numerics' \({what}\) is .* may differ in their last bits"):
        world.train()
    assert keys(world) == before


def test_other_targets_are_trained_on_and_told(world: World) -> None:
    before, other = keys(world), relabelled(world)
    with pytest.warns(UserWarning, match="'targets' is .*; those of today are trained on"), other.freezer() as freezer:
        seen = torch.cat([targets for _, targets in freezer.batches(0)])
    assert keys(world) == before
    assert seen.bincount(minlength=5).tolist() == other.targets.bincount(minlength=5).tolist()


# Other kinds of data sets.


def files_of(folder: Path) -> list[Path]:
    (folder / "images").mkdir()
    noise = np.random.default_rng(0)
    paths = []
    for number in range(N):
        path = folder / "images" / f"{number:03}.png"
        Image.fromarray(noise.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(path, compress_level=0)
        os.utime(path, (1_000_000_000, 1_000_000_000))
        paths.append(path)
    return paths


def repainted(path: Path, seed: int = 1) -> None:
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(
        path, compress_level=0
    )


def replaced_later(paths: list[Path]) -> None:
    repainted(paths[7])


def replaced_with_its_time(paths: list[Path]) -> None:
    repainted(paths[7])
    os.utime(paths[7], (1_000_000_000, 1_000_000_000))


def another_size(paths: list[Path]) -> None:
    paths[7].write_bytes(paths[7].read_bytes() + b"more")
    os.utime(paths[7], (1_000_000_000, 1_000_000_000))


def exchanged(paths: list[Path]) -> None:
    paths[4].rename(paths[4].with_name("x"))
    paths[10].rename(paths[4])
    paths[4].with_name("x").rename(paths[10])


FILES: dict[str, tuple[Callable[[list[Path]], None], str]] = {
    "a file replaced": (replaced_later, "data': sample 7 "),
    "a file replaced, its size and time kept": (replaced_with_its_time, "data': sample 7 "),
    "a file of another size": (another_size, r"data' \(sizes"),
    "two files exchanged": (exchanged, "data': sample (4|10) "),
    "a file renamed": (lambda paths: paths[0].rename(paths[0].with_name("0000.png")), r"data' \(names"),
}


@pytest.mark.parametrize("what", FILES)
def test_a_change_of_files_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.setattr("hoarfrost.storing.sample_check.AT_ONCE", N)  # else it is a matter of chance
    paths = files_of(tmp_path)
    world = build(tmp_path, data="files")
    change, told = FILES[what]
    change(paths)
    with pytest.raises(StaleCacheError, match=f"'{told}"):
        world.train()


def test_a_file_that_was_only_touched_is_no_change(tmp_path: Path) -> None:
    paths = files_of(tmp_path)
    world = build(tmp_path, data="files")
    before = keys(world)
    paths[7].touch()
    world.train()
    assert keys(world) == before


def test_where_items_come_from_nowhere_known_samples_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hoarfrost.storing.sample_check.AT_ONCE", N)
    world = build(tmp_path, data="unseen")
    with pytest.raises(StaleCacheError, match="'data': sample 13 "):
        on_images(one_pixel)(world).train()
    with pytest.raises(StaleCacheError, match="'targets': what sample 16 has beside its input"):
        relabelled(world).train()


HELD: dict[str, Callable[[Any, Any], Any]] = {
    "in a list": lambda first, second: ConcatDataset([first, second]),
    "in a mapping": lambda first, second: sys.modules["user_files"].Parts(parts={"first": first, "second": second}),
    "as attributes": lambda first, second: sys.modules["user_files"].Parts(first=first, second=second),
}


@pytest.mark.parametrize("how", HELD)
def test_the_code_of_all_that_a_data_set_reads_from_is_part_of_the_data(tmp_path: Path, how: str) -> None:
    def in_parts(data: Any) -> Any:
        own: Any = sys.modules["user_files"]
        return HELD[how](Subset(data, range(12)), own.Later(data))

    world = build(tmp_path, on_data=in_parts)
    before = keys(world)
    world.train()
    assert keys(world) == before
    with pytest.raises(StaleCacheError, match=r"'data' \(code.user_files.Later.__getitem__\)"):
        edited("self.whole[index + 12]", "self.whole[12 + index]")(world).train()


def test_targets_that_reading_takes_from_elsewhere_are_named_with_their_place(tmp_path: Path) -> None:
    world = build(tmp_path, data="numbered")
    with pytest.raises(StaleCacheError, match=r"'data' \(code.user_files.LABELS\)"):
        edited("LABELS = list(range(24))", "LABELS = list(range(23)) + [0]")(world).train()


def test_a_collate_of_the_users_own_is_part_of_the_data(tmp_path: Path) -> None:
    world = build(tmp_path, options={"collate_fn": "stacked"})
    with pytest.raises(StaleCacheError, match=r"'data' .*stacked"):
        edited("torch.stack(images) * 1.0", "torch.stack(images) / 1.0")(world).train()


# What is done about it.


def test_it_is_built_again_beside_the_old_one_and_the_reason_told(world: World) -> None:
    before, other = keys(world), on_images(one_pixel)(world)
    with pytest.warns(UserWarning, match=r"hoarfrost builds the cache again: 'data' \(memory\) is .* is stale"):
        decision = other.train("rebuild")
    assert "'data' (memory)" in decision
    assert before < keys(world)
    other.train()  # it stands now, and nothing is stale


def test_a_cache_of_another_training_is_no_news(world: World, recwarn: pytest.WarningsRecorder) -> None:
    decision = on_model(weighted)(world).train("rebuild")
    assert "'weights' is" in decision
    assert not [str(w.message) for w in recwarn if "again" in str(w.message)]


def test_a_stale_cache_is_reused_where_that_is_asked_for(world: World) -> None:
    before, other = keys(world), edited("return x * SCALE", "return x + SCALE")(world)
    with pytest.warns(UserWarning, match="hoarfrost reuses stale features, as asked: 'code'"):
        decision = other.train("reuse")
    assert "stale features were reused: 'code'" in decision
    assert keys(world) == before


@pytest.mark.parametrize("stale", ["error", "rebuild"])
def test_images_that_the_loop_writes_into_are_noticed_before_the_next_batch(tmp_path: Path, stale: str) -> None:
    with World(tmp_path).freezer(stale) as freezer:
        for _ in freezer.batches(0):
            pass
        freezer.end_epoch()
        data: Any = freezer._data.samples.dataset
        data.images.mul_(1.0)  # the same values are no change
        batches = freezer.batches(1)
        next(batches)
        data.images[3] += 0.5
        if stale == "error":
            with pytest.raises(StaleCacheError, match="'data': 'images' was written to since the cache was built"):
                next(batches)
            return
        with pytest.warns(UserWarning, match="hoarfrost builds the cache again: 'data': 'images' was written to"):
            list(batches)
        assert [entry["step"] for entry in freezer.history if entry["event"] == "stale"] == [1]
