"""MixUp and CutMix of a batch, of images or of stored features, and of the labels with them.

After Zhang et al. 2018 (arXiv 1710.09412; on features, Verma et al. 2019, arXiv 1806.05236) and Yun et al. 2019
(arXiv 1905.04899), by torchvision's own rules: each sample is mixed with the one before it in the batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torchvision.transforms.v2 as v2
from torch import Tensor

from ...errors import ArgumentError
from ...provenance import describe_object
from ..geometry.grid import Grid
from .randomness import generator_for

__all__ = ["Mix", "Mixing", "is_mixing"]

SUPPORTED = "v2.MixUp, v2.CutMix, v2.Identity, and v2.RandomChoice, v2.RandomApply or v2.Compose of one of them"


def is_mixing(transform: object) -> bool:
    """Whether a transform mixes the samples of a batch, so that it has no place among those of single samples."""
    return isinstance(transform, (v2.MixUp, v2.CutMix))


@dataclass(frozen=True)
class Mix:
    """How one batch is mixed.

    Attributes:
        kind: "mixup", "cutmix" or "none".
        share: of each sample itself, from 0 to 1; of CutMix before its box is cut off at the borders.
        centre: of CutMix's box, vertical and horizontal, as shares of the image from 0 to 1.
    """

    kind: str
    share: float = 1.0
    centre: tuple[float, float] = (0.0, 0.0)

    def box(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """CutMix's box in a grid of `size`: top, left, bottom, right."""
        edges = []
        for length, centre in zip(size, self.centre, strict=True):
            half = int(0.5 * (1 - self.share) ** 0.5 * length)
            middle = int(centre * length)
            edges.append((max(0, middle - half), min(length, middle + half)))
        (top, bottom), (left, right) = edges
        return top, left, bottom, right

    def box_on(self, grid: Grid) -> tuple[int, int, int, int]:
        """The cells of a feature map whose centres the box covers."""
        cells = []
        for edge, axis in zip(self.box(grid.image_size), (0, 1, 0, 1), strict=True):
            first, step = grid.cells_of(axis)
            cells.append(min(max(0, math.ceil((edge - first - 0.5) / step)), grid.feature_size[axis]))
        top, left, bottom, right = cells
        return top, left, bottom, right


class Mixing:
    """torchvision's MixUp and CutMix with random decisions that belong to the seed, the epoch and the step.

    ```
    mixing = Mixing.of(v2.RandomChoice([v2.MixUp(num_classes=10), v2.CutMix(num_classes=10)]))
    mix = mixing.draw(seed, epoch, step)
    features, share = mixing.on_features(features, mix, grid)
    targets = mixing.on_targets(targets, share)                     # [B, classes]
    ```

    Law: for a prefix that is the identity the features are mixed as the images are, and MixUp commutes with any prefix
    that is linear. The labels follow what was mixed: CutMix's share is that of the pixels or cells that remained.
    """

    def __init__(self, kinds: list[tuple[float, str, float]], num_classes: int | None, transform: object) -> None:
        self._kinds = kinds
        self.num_classes = num_classes
        self._transform = transform

    @classmethod
    def of(cls, transform: Any, num_classes: int | None = None) -> Mixing:
        """Take over a torchvision transform.

        Args:
            num_classes: where the transform does not say it.

        Raises:
            ArgumentError: another kind of transform, or two numbers of classes.
        """
        if isinstance(transform, Mixing):
            return cls(transform._kinds, transform.num_classes or num_classes, transform._transform)
        kinds = [(weight, kind, alpha) for weight, kind, alpha, _ in _kinds_of(transform, 1.0)]
        named = {classes for *_, classes in _kinds_of(transform, 1.0) if classes is not None}
        if len(named) > 1:
            raise ArgumentError(f"mix: its parts name different numbers of classes: {sorted(named)}")
        return cls(kinds, named.pop() if named else num_classes, transform)

    def describe(self) -> str:
        """One line: what is mixed, and how often."""
        named = {"mixup": "MixUp", "cutmix": "CutMix", "none": "left as it is"}
        return ", ".join(f"{named[kind]} ({weight:.0%} of the batches)" for weight, kind, _ in self._kinds)

    def to_config(self) -> Any:
        """JSON that changes when the transform does."""
        return describe_object(self._transform)

    def draw(self, seed: int, epoch: int, step: int) -> Mix:
        """How the batch of this step is mixed: a pure function of the three numbers."""
        generator = generator_for("mix", seed, epoch, step)
        rng = np.random.default_rng(int(torch.randint(0, 1 << 62, (1,), generator=generator)))
        chosen = int(rng.choice(len(self._kinds), p=[weight for weight, *_ in self._kinds]))
        _, kind, alpha = self._kinds[chosen]
        if kind == "none":
            return Mix("none")
        return Mix(kind, float(rng.beta(alpha, alpha)), (float(rng.random()), float(rng.random())))

    def on_images(self, images: Tensor, mix: Mix) -> tuple[Tensor, float]:
        """Mixed images [B, ..., H, W], and the share of itself that each sample keeps."""
        if images.ndim < 3 and mix.kind == "cutmix":
            raise ArgumentError(f"mix: CutMix needs images [B, ..., H, W], got {list(images.shape)}")
        if mix.kind != "cutmix":
            return _blend(images, mix.share), mix.share
        size = (int(images.shape[-2]), int(images.shape[-1]))
        return _paste(images, mix.box(size), size)

    def on_features(self, features: Tensor, mix: Mix, grid: Grid | None = None) -> tuple[Tensor, float]:
        """Mixed features [B, ...], and the share of itself that each sample keeps.

        Args:
            grid: how features lie over the image. Without one there is no box, and CutMix blends as MixUp does.
                Tokens in front of the grid, such as a class token, have no place in the image: they are blended by
                the share that the labels get.
        """
        if mix.kind != "cutmix" or grid is None:
            return _blend(features, mix.share), mix.share
        grid.check(features, "mix")
        box, size = mix.box_on(grid), grid.feature_size
        if grid.layout == "NCHW":
            return _paste(features, box, size)
        if grid.layout == "NHWC":
            moved, share = _paste(features.movedim(-1, 1), box, size)
            return moved.movedim(1, -1), share
        count = grid.prefix_tokens
        cells = features[:, count:].reshape(len(features), *size, -1).movedim(-1, 1)
        moved, share = _paste(cells, box, size)
        tokens = moved.movedim(1, -1).flatten(1, 2)
        return (torch.cat([_blend(features[:, :count], share), tokens], 1) if count else tokens), share

    def on_targets(self, targets: Tensor, share: float) -> Tensor:
        """[B, classes] float: what remains of each sample's label, and what came from the one before it.

        Args:
            targets: [B] class numbers, or [B, classes]: probabilities, or 0 and 1.
            share: from `on_images` or `on_features`.

        Raises:
            ArgumentError: class numbers without a number of classes, or beyond it; targets of another kind or width.
        """
        classes = self.num_classes
        if targets.ndim == 2:
            if classes is not None and classes != targets.shape[1]:
                raise ArgumentError(f"mix: targets are {list(targets.shape)}, but num_classes is {classes}")
            return _blend(targets if targets.is_floating_point() else targets.to(torch.get_default_dtype()), share)
        if targets.ndim != 1 or targets.is_floating_point():
            raise ArgumentError(
                f"mix: targets must be class numbers [B] or probabilities [B, classes], got {targets.dtype} "
                f"{list(targets.shape)}"
            )
        if classes is None:
            raise ArgumentError("mix: say how many classes there are: v2.MixUp(num_classes=...)")
        outside = targets[(targets < 0) | (targets >= classes)]
        if len(outside):
            raise ArgumentError(f"mix: a target is {int(outside[0])}, but num_classes is {classes}")
        one_hot = torch.nn.functional.one_hot(targets.long(), classes).to(torch.get_default_dtype())
        return _blend(one_hot, share)


def _kinds_of(transform: Any, weight: float) -> list[tuple[float, str, float, int | None]]:
    """(probability, kind, alpha, classes) of what a transform may do to a batch."""
    exact = type(transform)
    if exact in (v2.MixUp, v2.CutMix):
        kind = "mixup" if exact is v2.MixUp else "cutmix"
        return [(weight, kind, float(transform.alpha), transform.num_classes)]
    if exact is v2.Identity:
        return [(weight, "none", 1.0, None)]
    if exact is v2.RandomChoice:
        parts = zip(transform.transforms, transform.p, strict=True)
        return [found for part, p in parts for found in _kinds_of(part, weight * p)]
    if exact in (v2.RandomApply, v2.Compose) and len(transform.transforms) == 1:
        p = transform.p if exact is v2.RandomApply else 1.0
        rest = [(weight * (1 - p), "none", 1.0, None)] if p < 1 else []
        return [*_kinds_of(transform.transforms[0], weight * p), *rest]
    raise ArgumentError(f"mix: expected {SUPPORTED}, got {exact.__name__}")


def _blend(values: Tensor, share: float) -> Tensor:
    """torchvision's order of operations, so that its bits come out."""
    if not values.is_floating_point():
        raise ArgumentError(f"mix: only floats can be blended, not {values.dtype}; put ToDtype(scale=True) in front")
    if share == 1:
        return values
    return values.roll(1, 0).mul_(1 - share).add_(values.mul(share))


def _paste(values: Tensor, box: tuple[int, int, int, int], size: tuple[int, int]) -> tuple[Tensor, float]:
    top, left, bottom, right = box
    if bottom <= top or right <= left:
        return values, 1.0
    mixed = values.clone()
    mixed[..., top:bottom, left:right] = values.roll(1, 0)[..., top:bottom, left:right]
    return mixed, 1.0 - (bottom - top) * (right - left) / (size[0] * size[1])
