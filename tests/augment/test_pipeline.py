"""A pipeline gives the bits of the user's own transform, as a pure function of sample and seed."""

from __future__ import annotations

import functools
import importlib
import json
import pkgutil
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import transforms as v1
from torchvision import tv_tensors
from torchvision.transforms import functional as v1f
from torchvision.transforms import v2

from hoarfrost import augment
from hoarfrost.augment import Draw, HorizontalFlip, PaddedCrop, Pipeline, deterministic, image_size
from hoarfrost.errors import ArgumentError, DataError, ImageShapeError
from hoarfrost.provenance import describe_object

N = 12


def arrays(height: int = 14, width: int = 14, channels: int = 3) -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    shape = (height, width) if channels == 1 else (height, width, channels)
    return [rng.integers(0, 256, shape, dtype=np.uint8) for _ in range(N)]


def pictures(channels: int = 3, height: int = 14, width: int = 14) -> list[Image.Image]:
    return [Image.fromarray(array) for array in arrays(height, width, channels)]


def forced(transform: Any, item: Any, pipeline: Pipeline, decisions: tuple[Any, ...], sample: int) -> Any:
    """The user's own steps on one item, with torchvision's functions in place of the random ones."""
    for step, rows in zip(pipeline.steps, decisions, strict=True):
        if isinstance(step.paired, HorizontalFlip):
            item = v1f.hflip(item) if int(rows[sample, 0]) else item
        elif isinstance(step.paired, PaddedCrop):
            crop, size = step.paired, torch.tensor([image_size(item)])
            corner = crop.offsets(rows[sample : sample + 1], size)[0].tolist()
            own = step.transform
            padding = own.padding
            if isinstance(own, v2.RandomCrop) and padding is not None:
                padding = [padding[0], padding[2], padding[1], padding[3]]
            if padding is not None:
                item = v1f.pad(item, padding, own.fill, own.padding_mode)
            item = v1f.crop(item, *corner, *crop.size)
        else:
            item = step.transform(item)
    return item


STATS = ([0.5, 0.4, 0.3], [0.2, 0.3, 0.25])
TRANSFORMS = {
    "v1, crop and flip of PIL": v1.Compose(
        [v1.RandomCrop(14, padding=4), v1.RandomHorizontalFlip(), v1.ToTensor(), v1.Normalize(*STATS)]
    ),
    "v1, filled with a colour": v1.Compose([v1.RandomCrop(12, padding=4, fill=(1, 128, 255)), v1.ToTensor()]),
    "v1, reflected": v1.Compose([v1.RandomCrop(14, padding=4, padding_mode="reflect"), v1.ToTensor()]),
    "v1, on tensors": v1.Compose(
        [
            v1.ToTensor(),
            v1.Normalize(*STATS),
            v1.RandomHorizontalFlip(0.7),
            v1.RandomCrop(14, (1, 2), fill=0.5),
        ]
    ),
    "v2, on tensors": v2.Compose(
        [
            v2.ToImage(),
            v2.RandomCrop(14, padding=[1, 2, 3, 4], padding_mode="symmetric"),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(*STATS),
            v2.ToPureTensor(),
        ]
    ),
    "v2, on PIL": v2.Compose([v2.RandomHorizontalFlip(), v2.RandomCrop(13), v2.PILToTensor()]),
    "resized PIL": v1.Compose([v1.Resize(18), v1.CenterCrop(16), v1.RandomHorizontalFlip(), v1.ToTensor()]),
    "grey": v1.Compose([v1.RandomHorizontalFlip(), v1.Grayscale(), v1.ToTensor()]),
    "nested": v1.Compose([v1.Compose([v1.RandomHorizontalFlip()]), v1.ToTensor(), v1.Compose([v1.CenterCrop(9)])]),
    "sequential": nn.Sequential(v2.PILToTensor(), v2.RandomHorizontalFlip(), v2.ConvertImageDtype()),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_rendition_has_the_bits_of_the_users_own_transform(name: str) -> None:
    transform = TRANSFORMS[name]
    pipeline = Pipeline.from_transform(transform)
    draw, items = pipeline.draw(N, seed=3), pictures()
    expected = [forced(transform, item, pipeline, draw.decisions, i) for i, item in enumerate(items)]
    rendered = pipeline.render(items, range(N), draw)
    assert torch.equal(rendered, torch.stack([torch.as_tensor(image) for image in expected]))
    assert rendered.is_contiguous()
    assert type(rendered) is torch.Tensor


@pytest.mark.parametrize("name", TRANSFORMS)
def test_rendition_does_not_depend_on_its_batch(name: str) -> None:
    pipeline = Pipeline.from_transform(TRANSFORMS[name])
    draw, items = pipeline.draw(N, seed=1), pictures()
    whole = pipeline.render(items, range(N), draw)
    order = [7, 0, 11, 3]
    assert torch.equal(pipeline.render([items[i] for i in order], order, draw), whole[order])
    assert torch.equal(pipeline.render([items[5]], [5], draw), whole[5:6])


def test_a_large_batch_is_split_without_a_trace() -> None:
    pipeline = Pipeline.from_transform(TRANSFORMS["v1, crop and flip of PIL"])
    items = [item for item in pictures(3) for _ in range(50)]
    draw = pipeline.draw(len(items), 0)
    whole = pipeline.render(items, range(len(items)), draw)
    for i in (0, 445, 446, 447, 599):
        assert torch.equal(pipeline.render([items[i]], [i], draw)[0], whole[i])


def test_grey_images_and_grey_pil() -> None:
    pipeline = Pipeline.from_transform(v1.Compose([v1.RandomCrop(14, 2), v1.ToTensor()]))
    draw, items = pipeline.draw(N, 0), pictures(1)
    expected = [forced(None, item, pipeline, draw.decisions, i) for i, item in enumerate(items)]
    assert torch.equal(pipeline.render(items, range(N), draw), torch.stack(expected))


def test_unusual_pil_modes_go_one_by_one() -> None:
    items = [picture.convert("P") for picture in pictures()]
    pipeline = Pipeline.from_transform(v1.Compose([v1.RandomHorizontalFlip(), v1.ToTensor()]))
    draw = pipeline.draw(N, 0)
    expected = [forced(None, item, pipeline, draw.decisions, i) for i, item in enumerate(items)]
    assert torch.equal(pipeline.render(items, range(N), draw), torch.stack(expected))


@pytest.mark.parametrize("channels", [1, 3], ids=["HW", "HWC"])
def test_numpy_images_become_tensors_as_by_to_tensor(channels: int) -> None:
    items = arrays(channels=channels)
    expected = torch.stack([v1f.to_tensor(item) for item in items])
    for transform in (None, v1.ToTensor()):
        pipeline = Pipeline.from_transform(transform)
        assert torch.equal(pipeline.render(items, range(N), pipeline.draw(N, 0)), expected)


def test_without_a_transform() -> None:
    pipeline = Pipeline.from_transform(None)
    draw = pipeline.draw(N, 0)
    assert pipeline.steps == ()
    assert not pipeline.is_random
    items = pictures()
    expected = torch.stack([v1f.to_tensor(item) for item in items])
    assert torch.equal(pipeline.render(items, range(N), draw), expected)
    vectors = torch.randn(N, 5)
    assert torch.equal(pipeline.render(list(vectors), range(N), draw), vectors)
    assert torch.equal(pipeline.render(vectors, range(N), draw), vectors)
    pixels = torch.randint(0, 256, (N, 3, 4, 4), dtype=torch.uint8)
    assert pipeline.render(list(pixels), range(N), draw).dtype == torch.uint8
    assert pipeline.render(list(np.zeros((N, 6))), range(N), draw).shape == (N, 6)


@pytest.mark.parametrize("name", ["v1, filled with a colour", "v1, crop and flip of PIL", "v1, on tensors"])
def test_blank_is_what_the_borders_show(name: str) -> None:
    transform = TRANSFORMS[name]
    pipeline = Pipeline.from_transform(transform)
    blank = pipeline.blank(pictures()[0])
    assert blank is not None
    crop = next(step.paired for step in pipeline.steps if isinstance(step.paired, PaddedCrop))
    draw = pipeline.draw(N, 0)
    assert blank.shape == pipeline.render(pictures(), range(N), draw)[:1].shape
    # Samples whose window lies at the padded image's top left corner show the fill there.
    corner = torch.zeros(1, 2, dtype=torch.int64)
    decisions = tuple(
        corner if step.paired is crop else rows[:1] * 0 if rows is not None else None
        for step, rows in zip(pipeline.steps, draw.decisions, strict=True)
    )
    shown = pipeline.render(pictures()[:1], [0], Draw(0, 1, decisions))
    assert torch.equal(shown[0, :, 0, 0], blank[0, :, 5, 5])
    assert (blank == blank[:, :, :1, :1]).all()


@pytest.mark.parametrize("transform", [None, v1.RandomCrop(8), v1.RandomCrop(8, 2, padding_mode="edge")], ids=str)
def test_without_a_fill_there_is_no_blank(transform: Any) -> None:
    assert Pipeline.from_transform(transform).blank(pictures()[0]) is None


def random_states() -> tuple[Any, ...]:
    return torch.random.get_rng_state().tolist(), random.getstate(), str(np.random.get_state())


class Noise:
    """Draws from all three global random states."""

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        return image + torch.rand(()) + random.random() + float(np.random.rand())


def test_image_only_steps_are_pure_and_leave_the_random_states_alone() -> None:
    transform = v1.Compose([v1.ColorJitter(0.4, 0.4), v1.RandomResizedCrop(10), v1.ToTensor(), Noise()])
    pipeline = Pipeline.from_transform(transform)
    draw, items = pipeline.draw(N, 5), pictures()
    before = random_states()
    first = pipeline.render(items, range(N), draw)
    assert random_states() == before
    torch.manual_seed(99)
    random.seed(99)
    np.random.seed(99)
    back = list(reversed(range(N)))
    assert torch.equal(pipeline.render([items[i] for i in back], back, draw), first[back])
    assert not torch.equal(first[0], pipeline.render([items[0]], [1], draw)[0]), "each sample has its own seed"
    other = pipeline.draw(N, 6)
    assert not torch.equal(pipeline.render(items, range(N), other), first)


def test_random_states_are_restored_after_an_error() -> None:
    def broken(image: Any) -> Any:
        torch.rand(3)
        raise RuntimeError("broken")

    pipeline = Pipeline.from_transform(broken)
    before = random_states()
    with pytest.raises(RuntimeError, match="broken"):
        pipeline.render(pictures(), range(N), pipeline.draw(N, 0))
    assert random_states() == before


def test_steps_get_the_type_of_object_that_they_would_have_got() -> None:
    seen: list[type] = []

    def look(item: Any) -> Any:
        seen.append(type(item))
        return item

    steps = [
        v2.RandomHorizontalFlip(),
        look,
        v2.ToImage(),
        v2.RandomHorizontalFlip(),
        look,
        v2.ToPureTensor(),
        look,
    ]
    pipeline = Pipeline.from_transform(v2.Compose(steps))
    pipeline.render(pictures(), range(N), pipeline.draw(N, 0))
    assert seen == [Image.Image] * N + [tv_tensors.Image] * N + [torch.Tensor] * N


def test_a_draw_is_a_function_of_samples_and_seed() -> None:
    pipeline = Pipeline.from_transform(
        v1.Compose([v1.RandomHorizontalFlip(), v1.RandomHorizontalFlip(), v1.ColorJitter(0.1), v1.ToTensor()])
    )
    before = random_states()
    one, two, other = pipeline.draw(500, 1), pipeline.draw(500, 1), pipeline.draw(500, 2)
    assert random_states() == before
    for a, b, c in zip(one.decisions[:3], two.decisions, other.decisions, strict=False):
        assert torch.equal(a, b)  # type: ignore[arg-type]
        assert not torch.equal(a, c)  # type: ignore[arg-type]
    assert one.decisions[3] is None
    assert not torch.equal(one.decisions[0], one.decisions[1]), "equal steps decide apart"  # type: ignore[arg-type]
    agree = (one.decisions[0] == other.decisions[0]).double().mean()  # type: ignore[union-attr]
    assert agree == pytest.approx(0.5, abs=0.1), "near seeds are unrelated"


KINDS: list[tuple[Callable[[], Any], str]] = [
    (lambda: v1.RandomHorizontalFlip(), "paired"),
    (lambda: v2.RandomVerticalFlip(0.2), "paired"),
    (lambda: v2.RandomCrop(8, padding=2), "paired"),
    (lambda: v1.RandomCrop(8, pad_if_needed=True), "paired"),
    (lambda: v1.RandomCrop(8, pad_if_needed=True, padding_mode="edge"), "image-only"),
    (lambda: v2.RandomCrop(8, padding=2, fill={tv_tensors.Image: 3, "others": 0}), "image-only"),
    (lambda: v1.ToTensor(), "deterministic"),
    (lambda: v1f.to_tensor, "deterministic"),
    (lambda: functools.partial(v1f.resize, size=[4, 4]), "deterministic"),
    (lambda: deterministic(lambda x: x), "deterministic"),
    (lambda: nn.Identity(), "deterministic"),
    (lambda: v1.Lambda(lambda x: x), "image-only"),
    (lambda: lambda x: x, "image-only"),
    (lambda: v1.RandomApply([v1.ToTensor()]), "image-only"),
    (lambda: v2.RandAugment(), "image-only"),
    (lambda: v1.RandomErasing(), "paired"),
    (lambda: v2.RandomErasing(value="random"), "image-only"),
    (lambda: v1.RandomErasing(value="random"), "image-only"),
    (lambda: v1.RandomResizedCrop(8), "paired"),
    (lambda: v2.RandomRotation(8), "paired"),
    (lambda: v2.RandomRotation(8, expand=True), "image-only"),
    (lambda: v1.RandomAffine(8), "paired"),
    (lambda: v2.RandomPerspective(), "paired"),
    (lambda: v1.GaussianBlur(3), "image-only"),
]


@pytest.mark.parametrize(("make", "kind"), KINDS)
def test_kinds(make: Callable[[], Any], kind: str) -> None:
    (step,) = Pipeline.from_transform(make()).steps
    assert step.kind == kind


def test_a_subclass_may_do_anything() -> None:
    class Twice(v1.RandomHorizontalFlip):  # type: ignore[misc]
        def forward(self, image: Any) -> Any:
            return super().forward(super().forward(image))

    class Shuffled(v1.Compose):  # type: ignore[misc]
        pass

    for transform in (Twice(), Shuffled([v1.ToTensor()])):
        (step,) = Pipeline.from_transform(transform).steps
        assert step.kind == "image-only"


def test_describe_says_what_and_why() -> None:
    steps = [v1.RandomHorizontalFlip(), v1.ColorJitter(), v1.ToTensor(), lambda x: x]
    assert Pipeline.from_transform(v1.Compose(steps)).describe() == [
        "RandomHorizontalFlip: paired, has a form on images and one on features",
        "ColorJitter: image-only, random, without a form on features; run on images under a seed of each sample",
        "ToTensor: deterministic, the same for every rendition of an image",
        "<lambda>: image-only, a function that we do not know: rendered anew each time, the global random states "
        "seeded for each sample (wrap it in hoarfrost.augment.deterministic if it decides nothing at random)",
    ]


def test_properties() -> None:
    paired = Pipeline.from_transform(v1.Compose([v1.RandomHorizontalFlip(), v1.ToTensor()]))
    assert (paired.is_random, paired.is_derivable, paired.uses_global_random_states) == (True, True, False)
    mixed = Pipeline.from_transform(v1.Compose([v1.RandomHorizontalFlip(), v1.ColorJitter(), v1.ToTensor()]))
    assert (mixed.is_random, mixed.is_derivable, mixed.uses_global_random_states) == (True, False, True)
    fixed = Pipeline.from_transform(v1.Compose([v1.RandomHorizontalFlip(0.0), v1.ToTensor()]))
    assert (fixed.is_random, fixed.is_derivable) == (False, True)
    assert Pipeline.from_transform(fixed) is fixed


def test_wrong_calls_are_named() -> None:
    pipeline = Pipeline.from_transform(v1.RandomHorizontalFlip())
    draw = pipeline.draw(4, 0)
    with pytest.raises(ArgumentError, match="expected a torchvision transform, a callable or None, got int 3"):
        Pipeline.from_transform(3)
    with pytest.raises(ArgumentError, match="samples must be 0 or more, got -1"):
        pipeline.draw(-1, 0)
    with pytest.raises(ArgumentError, match="2 items, but 1 ids"):
        pipeline.render(pictures()[:2], [0], draw)
    with pytest.raises(ArgumentError, match="no items; a batch has at least one"):
        pipeline.render([], [], draw)
    with pytest.raises(ArgumentError, match="sample 4 is not in this draw of 4 samples"):
        pipeline.render(pictures()[:1], [4], draw)
    with pytest.raises(ArgumentError, match="has decisions for 1 steps, this pipeline has 0: it was drawn from"):
        Pipeline.from_transform(None).render(pictures()[:1], [0], draw)
    with pytest.raises(ArgumentError, match=r"RandomHorizontalFlip cannot take a ndarray; put ToTensor\(\)"):
        pipeline.render(arrays()[:1], [0], draw)
    with pytest.raises(ArgumentError, match=r"image_size must be \(height, width\), or one such pair for each"):
        pipeline.placement(draw, [0, 1, 2], (1, 2, 3))


def test_images_of_differing_sizes_are_named() -> None:
    items = [pictures()[0], pictures()[1], pictures(height=20, width=10)[0]]
    pipeline = Pipeline.from_transform(v1.Compose([v1.RandomHorizontalFlip(), v1.ToTensor()]))
    draw = pipeline.draw(10, 0)
    text = (
        r"sample 4 is 14x14 with 3 channels and sample 9 is 20x10 with 3 channels after the transform; "
        r"add Resize\(\(height, width\)\) or RandomResizedCrop\(size\)"
    )
    with pytest.raises(ImageShapeError, match=text):
        pipeline.render(items, [4, 5, 9], draw)
    with pytest.raises(ImageShapeError, match=r"sample 1 is 14x14 with 1 channel after .* convert all images"):
        pipeline.render([pictures()[0], pictures(1)[0]], [0, 1], draw)
    with pytest.raises(ImageShapeError, match=r"sample 0 is of shape \[3\] and sample 1 is of shape \[4\]"):
        Pipeline.from_transform(None).render(
            [torch.zeros(3), torch.zeros(4)], [0, 1], Pipeline.from_transform(None).draw(2, 0)
        )


def test_differing_sizes_are_fine_where_the_transform_makes_them_equal() -> None:
    items = [*pictures()[:3], *pictures(height=20, width=18)[:3]]
    for steps in (
        [v1.RandomHorizontalFlip(), v1.RandomCrop(12, 1)],
        [v1.Resize((9, 9))],
        [v1.RandomCrop(13)],
    ):
        pipeline = Pipeline.from_transform(v1.Compose([*steps, v1.ToTensor()]))
        draw = pipeline.draw(6, 0)
        expected = [forced(None, item, pipeline, draw.decisions, i) for i, item in enumerate(items)]
        assert torch.equal(pipeline.render(items, range(6), draw), torch.stack(expected))
    sizes = torch.tensor([image_size(item) for item in items])
    assert len(pipeline.placement(draw, range(6), sizes)) == 6


def test_what_is_no_image_is_named() -> None:
    pipeline = Pipeline.from_transform(v1.FiveCrop(8))
    with pytest.raises(DataError, match="sample 0 is a tuple after the transform; it must be one image or tensor"):
        pipeline.render(pictures()[:1], [0], pipeline.draw(1, 0))
    with pytest.raises(DataError, match=r"sample 0 is torch.float32 and sample 1 is torch.float64"):
        Pipeline.from_transform(None).render(
            [torch.zeros(3), torch.zeros(3).double()], [0, 1], Pipeline.from_transform(None).draw(2, 0)
        )
    with pytest.raises(DataError, match="a str is not an image"):
        image_size("cat.png")


CONFIG = """
import json, torch
from torchvision import transforms as v1
from hoarfrost.augment import Pipeline
steps = [v1.RandomCrop(8, 2, fill=3), v1.Lambda(lambda x: x + 1 if x is not None else {1, 2, "a"}), v1.ToTensor()]
steps += [v1.Normalize([0.5], [0.25]), v1.Resize(8), torch.nn.Conv2d(1, 1, 1, bias=False).requires_grad_(False)]
torch.nn.init.constant_(steps[-1].weight, 2.0)
print(json.dumps(Pipeline.from_transform(v1.Compose(steps)).to_config(), sort_keys=True))
"""


def test_config_is_the_same_in_every_process(capsys: pytest.CaptureFixture[str]) -> None:
    exec(CONFIG, {"__name__": "__main__"})
    here = capsys.readouterr().out
    elsewhere = subprocess.run([sys.executable, "-c", CONFIG], capture_output=True, text=True, check=True).stdout
    assert here == elsewhere
    assert [step["kind"] for step in json.loads(here)["steps"]][:2] == ["paired", "image-only"]
    assert " at 0x" not in here


def adds(k: int) -> Callable[[int], int]:
    return lambda x: x + k


CHANGES = {
    "fill": (v1.RandomCrop(8, 2), v1.RandomCrop(8, 2, fill=1)),
    "padding mode": (v1.RandomCrop(8, 2), v1.RandomCrop(8, 2, padding_mode="edge")),
    "p": (v1.RandomHorizontalFlip(0.5), v1.RandomHorizontalFlip(0.4)),
    "v1 or v2": (v1.RandomHorizontalFlip(), v2.RandomHorizontalFlip()),
    "code": (lambda x: x + 1, lambda x: x + 2),
    "closure": (adds(1), adds(2)),
    "interpolation": (v1.Resize(8), v1.Resize(8, v1.InterpolationMode.NEAREST)),
    "inner": (v1.RandomApply([v1.ColorJitter(0.1)]), v1.RandomApply([v1.ColorJitter(0.2)])),
    "partial": (functools.partial(v1f.resize, size=[4]), functools.partial(v1f.resize, size=[5])),
    "tensor": (
        v1.LinearTransformation(torch.eye(2), torch.ones(2)),
        v1.LinearTransformation(torch.eye(2), torch.zeros(2)),
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_config_changes_with_the_transform(name: str) -> None:
    one, other = (json.dumps(Pipeline.from_transform(t).to_config()) for t in CHANGES[name])
    assert one != other


class Bare:
    def __call__(self, image: Any) -> Any:
        return image


NAMED = {
    "at the door": (PaddedCrop(8, 2), "hoarfrost.augment.PaddedCrop"),
    "behind it": (deterministic(Bare()), "hoarfrost.augment.Deterministic"),
    "a user's": (Bare(), f"{__name__}.Bare"),
    "torchvision's": (v2.Normalize([0.0], [1.0]), "torchvision.transforms.v2._misc.Normalize"),
}


@pytest.mark.parametrize("case", NAMED)
def test_what_is_ours_is_named_by_its_wing_so_that_a_moved_file_leaves_caches_fresh(case: str) -> None:
    transform, name = NAMED[case]
    assert describe_object(transform)["type"] == name


def test_nothing_in_a_description_tells_the_file() -> None:
    transform = v2.Compose([HorizontalFlip(), PaddedCrop(8, 2), deterministic(Bare())])
    assert re.findall(r"hoarfrost\.\w+\.[a-z]\w*", json.dumps(Pipeline.from_transform(transform).to_config())) == []


def test_within_the_wing_a_name_tells_one_class_from_another() -> None:
    modules = [
        importlib.import_module(found.name) for found in pkgutil.walk_packages(augment.__path__, "hoarfrost.augment.")
    ]
    classes = {value for module in modules for value in vars(module).values() if isinstance(value, type)}
    names = [value.__qualname__ for value in classes if value.__module__.startswith("hoarfrost.augment.")]
    assert sorted(names) == sorted(set(names))


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def fastest(call: Callable[[], object]) -> float:
    seconds = []
    for _ in range(7):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


@pytest.mark.usefixtures("one_thread")
def test_a_batch_of_small_pil_images_is_faster_than_one_by_one() -> None:
    items = [Image.fromarray(np.zeros((28, 28), dtype=np.uint8)) for _ in range(128)]
    steps = [v1.RandomCrop(28, 4), v1.RandomHorizontalFlip(), v1.ToTensor(), v1.Normalize([0.3], [0.3])]
    transform = v1.Compose(steps)
    pipeline = Pipeline.from_transform(transform)
    draw, ids = pipeline.draw(128, 0), torch.arange(128)
    batched = fastest(lambda: pipeline.render(items, ids, draw))
    singly = fastest(lambda: torch.stack([transform(item) for item in items]))
    assert batched < singly / 3, "1.5 ms against 14 ms on one core of an AMD Zen 4"
