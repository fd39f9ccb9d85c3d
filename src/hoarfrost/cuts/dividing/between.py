"""The part of a model between two cuts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import InvalidCutError
from ..finding.find import cut_at
from ..sandbox.arguments import Example
from ..sandbox.clone import shadow
from ..sandbox.hooks import hooks_apart
from ..sandbox.pytrees import tensors_in
from ..tracing.survey import survey
from .capture import Catch, Reached, Shown
from .partition import Plan
from .prefix import Prefix
from .script import Script
from .suffix import Suffix

__all__ = ["Between", "between"]


class Between(Suffix):
    """What a model does from one cut to a deeper one: the suffix of the first, stopped at the second.

    All of it lies in front of the deeper cut: as a prefix does, it runs on a second body of the model, `whole`.

    Attributes:
        until: the deeper cut.
    """

    _divided: nn.Module

    def __init__(self, plan: Plan, deeper: Plan, model: nn.Module) -> None:
        script = Script.of(plan)
        super().__init__(script, shadow(model, hooks_apart=False)[0])
        handed_on = {name: len(part.ended[False]) for name, part in script.parts.items() if part.ended is not None}
        self._catch = Catch(deeper.ports, handed_on)
        self.until = deeper.cut
        self.__dict__["_divided"] = model
        for name in dict.fromkeys(name for name, _, _ in deeper.ports):
            Shown.at(self.get_submodule(name), name, self._catch)

    @contextmanager
    def hooks_apart(self) -> Iterator[None]:
        """As of a prefix."""
        with hooks_apart(self.whole, self._divided):
            yield

    def forward(self, features: Tensor | Sequence[Any]) -> Any:
        """The features of the deeper cut, from those of the first; see `Suffix.forward`."""
        self._catch.clear()
        try:
            super().forward(features)
        except Reached:
            deeper = self._catch.features()
            return deeper if len(deeper) > 1 else deeper[0]
        raise InvalidCutError(f"from '{self.cut.label}' on the model ended without reaching '{self.until.label}'")

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, up to '{self.until.label}'"


def between(shallow: Prefix, deep: Prefix, example: Example) -> Between:
    """What leads from the features of one frozen prefix to those of a deeper one, in eval.

    `between(shallow, deep, x)(shallow(x))` equals `deep(x)` bit for bit, and is tried on the example.

    Args:
        shallow, deep: frozen prefixes of one model; each cut's tensors are outputs of modules.
        example: as for `divide`; a tensor.

    Raises:
        InvalidCutError: the prefixes are not of one model, or what lies between cannot be run alone.
    """
    model, first, second = deep.whole, shallow.cut, deep.cut
    where = f"between '{first.label}' and '{second.label}'"
    if shallow.whole is not model:
        raise InvalidCutError(f"{where}: the prefixes belong to two models")
    if any(crossing.is_argument for crossing in second.tensors):
        raise InvalidCutError(f"{where}: the model's own arguments cross the deeper cut, and they are not stored")
    if shallow.precision != deep.precision:
        raise InvalidCutError(f"{where}: the features were made {shallow.precision}, and are wanted {deep.precision}")
    with deep._autocast():
        seen = survey(model, example)
    plans = [Plan(seen, cut_at(seen, cut.label, 1 if cut.single else len(cut.tensors))) for cut in (first, second)]
    part = Between(plans[0], plans[1], model)
    part.eval()
    part.precision = deep.precision
    with torch.no_grad(), deep.hooks_apart(), shallow.hooks_apart(), part.hooks_apart():
        expected, got = deep(example), part(shallow(example))
    pairs = zip(tensors_in(expected), tensors_in(got), strict=True)
    if not all(torch.equal(one, other) for one, other in pairs):
        raise InvalidCutError(f"{where}: run alone, the layers give other features than inside the model")
    return part
