"""The cuts of a model by name, to be shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..cuts import Cut, cuts_of, survey
from ..data import open_data
from ..models import resolve_model
from ..report import Table, format_bytes, format_count, format_percent

__all__ = ["ModelCuts"]


@dataclass(frozen=True)
class ModelCuts:
    """The cuts of a model, front to back, to be shown.

    Attributes:
        model: as it was named.
        image: channels, height and width.
        cuts: recommended ones, or every one.
        parameters: for each of them how many lie in front of it and nowhere else: what freezing there freezes.
        hidden: how many more cuts there are.
    """

    model: str
    image: tuple[int, int, int]
    cuts: tuple[Cut, ...]
    parameters: tuple[int, ...]
    hidden: int

    @classmethod
    def of(
        cls,
        model: str,
        *,
        data: str | None = None,
        channels: int | None = None,
        image_size: int | None = None,
        classes: int | None = None,
        max_tensors: int = 1,
        every: bool = False,
    ) -> ModelCuts:
        """Find them.

        Args:
            model: as in `resolve_model`.
            data: gives what of the next three is None; without data they are 3, 224 and 10.
            max_tensors: as in `find_cuts`.
            every: also those inside a block, and right behind the stem.

        Raises:
            ArgumentError: no such model or data.
            CutError: the model does not take such images.
        """
        if data is not None:
            opened = open_data(data, image_size=image_size)
            channels, image_size = channels or opened.channels, opened.image_size
            classes = classes or len(opened.classes)
        channels, image_size, classes = channels or 3, image_size or 224, classes or 10
        network = resolve_model(model, classes=classes, channels=channels, image_size=image_size)
        seen = survey(network, torch.zeros(2, channels, image_size, image_size))
        found = cuts_of(seen, max_tensors)
        shown = tuple(cut for cut in found if cut.recommended or every)
        sizes = {name: parameter.numel() for name, parameter in network.named_parameters()}
        return cls(
            model=model,
            image=(channels, image_size, image_size),
            cuts=shown,
            parameters=tuple(
                sum(
                    size
                    for name, size in sizes.items()
                    if seen.used(name, seen.ends(cut.name, cut.call)) == (True, False)
                )
                for cut in shown
            ),
            hidden=len(found) - len(shown),
        )

    @property
    def flops(self) -> int:
        """Of one image's forward pass; 0 where there is no cut."""
        return self.cuts[0].prefix_flops + self.cuts[0].suffix_flops if self.cuts else 0

    def table(self) -> Table:
        """For people."""
        inside = any(not cut.recommended for cut in self.cuts)
        counted = f": {format_count(self.flops)} FLOPs forward" if self.flops else ""
        return Table(
            title=f"{self.model} on {' x '.join(map(str, self.image))}{counted}",
            header=["no.", "cut", "features", "layout", "fp32", "FLOPs", "params"],
            rows=[
                [
                    str(cut.index),
                    ("" if cut.recommended or not inside else "· ") + cut.label,
                    " + ".join("x".join(map(str, tensor.shape or ())) for tensor in cut.tensors),
                    cut.layout,
                    format_bytes(cut.bytes_per_sample),
                    format_percent(cut.prefix_flops / self.flops if self.flops else None),
                    format_count(parameters),
                ]
                for cut, parameters in zip(self.cuts, self.parameters, strict=True)
            ],
            note=self._note(inside),
        )

    def plain(self) -> dict[str, Any]:
        """For programs: everything in units of one, as JSON takes it."""
        return {
            "model": self.model,
            "image": list(self.image),
            "flops": self.flops,
            "cuts": [
                {
                    "index": cut.index,
                    "label": cut.label,
                    "recommended": cut.recommended,
                    "layout": cut.layout,
                    "tensors": [
                        {
                            "source": tensor.source,
                            "shape": None if tensor.shape is None else list(tensor.shape),
                            "dtype": None if tensor.dtype is None else str(tensor.dtype).removeprefix("torch."),
                        }
                        for tensor in cut.tensors
                    ],
                    "bytes_per_sample": cut.bytes_per_sample,
                    "flops_in_front": cut.prefix_flops,
                    "parameters_in_front": parameters,
                }
                for cut, parameters in zip(self.cuts, self.parameters, strict=True)
            ],
            "hidden": self.hidden,
        }

    def _note(self, inside: bool) -> str:
        if not self.cuts:
            return "the model has no place where it can be divided"
        shown = "features and fp32 bytes of one image; FLOPs and parameters in front of the cut"
        verb = "lies" if self.hidden == 1 else "lie"
        more = f"{self.hidden} more {verb} inside blocks or behind the stem (--all shows them)" if self.hidden else ""
        dot = "a dot marks those inside blocks or right behind the stem" if inside else ""
        return "; ".join(filter(None, [shown, more, dot]))
