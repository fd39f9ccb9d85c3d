"""Dividing a model at a cut, and joining it again."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from ...errors import ArgumentError, InvalidCutError
from ..cut import Cut
from ..finding.find import cut_at, why_not
from ..finding.lengths import OtherLengths, Sizes, lengths_of, ragged_cuts
from ..sandbox.arguments import Arguments, Example, first_tensor
from ..sandbox.compiled import compiler_of, is_wrapper
from ..sandbox.synchronised import unsynchronised
from ..tracing.survey import survey
from .partition import Plan
from .prefix import Prefix
from .script import Script
from .suffix import Suffix
from .verification import check_law

__all__ = ["divide", "join", "suffix_for"]


@unsynchronised()
def divide(
    model: nn.Module, cut: Cut, example: Example, *, verify: bool = True, other: Example | OtherLengths | None = None
) -> tuple[Prefix, Suffix]:
    """Two modules that together compute what the model computes.

    `suffix(prefix(x))` equals `model(x)` bit for bit, in eval and, with the same random state, in train, where the
    gradients of the suffix's parameters are equal too. Both hold the model's own parameters and buffers and know
    them by the model's names. The prefix is a second body of the model's front, inert in what it leaves behind; the
    suffix runs the model's own modules as they are at each call. The model itself stays whole.

    Args:
        model: the model.
        cut: one of `find_cuts(model, ...)`.
        example: as for `find_cuts`; the prefix is to be called in the same way, with positions or with keywords.
        verify: try the law on the example; costs a few forward and backward passes.
        other: as for `find_cuts`: then both parts take inputs and features of any length.

    Returns:
        `(prefix, suffix)`.

    Raises:
        ArgumentError: an argument is of the wrong kind.
        CutError: the model's own forward fails on the example.
        InvalidCutError: the model cannot be divided there; the message gives the reason.

    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> x = torch.ones(5, 4)
    >>> prefix, suffix = divide(model, find_cut(find_cuts(model, x), "1"), x)
    >>> torch.equal(suffix(prefix(x)), model(x))
    True
    """
    if not isinstance(cut, Cut):
        raise ArgumentError(f"divide: a Cut is needed (see find_cuts and find_cut), not {cut!r}")
    compiler = compiler_of(model) if is_wrapper(model) else None
    seen = survey(model, example)
    model = seen.model
    if seen.path(cut.name) not in dict(model.named_modules()):
        raise InvalidCutError(f"cut '{cut.label}': {type(model).__name__} has no module '{cut.name}'")
    crossing = 1 if cut.single else len(cut.tensors)
    reason = why_not(seen, (cut.name, cut.call), crossing)
    if reason is not None:
        raise InvalidCutError(f"cut '{cut.label}': {reason}")
    here = cut_at(seen, cut.label, crossing)
    if here.shape != cut.shape:
        raise InvalidCutError(
            f"cut '{cut.label}': it was found with features of {list(cut.shape)} a sample, the example gives "
            f"{list(here.shape)}; find the cuts with an example of the size that is trained on"
        )
    others = None if other is None else OtherLengths.of(other)
    lengths = None if others is None else lengths_of(example, others.example)
    if others is None or lengths is None:
        plan, tried = Plan(seen, here), []
    else:
        longer = survey(model, others.example)
        sizes = Sizes(model, others, seen.written)
        both = ragged_cuts([here], [cut_at(longer, cut.label, crossing)], lengths, sizes)
        if not both:
            raise InvalidCutError(f"cut '{cut.label}': what crosses it does not grow with the input's length")
        plan = Plan(seen, replace(both[0], index=here.index), longer, lengths)
        tried = [others.example, *_between(plan, others)]
    rounding = check_law(plan, model, Arguments.of(example)) if verify else None
    for batch in tried if verify else ():
        check_law(plan, model, Arguments.of(batch))
    prefix = Prefix(plan, model)
    prefix.rounding = rounding
    return prefix, Suffix(Script.of(plan), model, compiler)


def suffix_for(model: nn.Module, cut: Cut, example: Example) -> Suffix:
    """The suffix of a cut for inputs of another size, smaller crops say; the prefix takes those as it is.

    Args:
        cut: found on inputs of the first size.
        example: a batch of the other one.

    Raises:
        InvalidCutError: on such inputs the model cannot be divided there; the message gives the reason.
    """
    seen = survey(model, example)
    crossing = 1 if cut.single else len(cut.tensors)
    reason = why_not(seen, (cut.name, cut.call), crossing)
    if reason is not None:
        raise InvalidCutError(f"cut '{cut.label}', on inputs of {list(first_tensor(example).shape[1:])}: {reason}")
    return divide(model, cut_at(seen, cut.label, crossing), example)[1]


def _between(plan: Plan, others: OtherLengths) -> list[Example]:
    """A batch of a length that what crosses tells least of: behind a stride several inputs are as long there."""
    ruler = plan.cut.ruler
    if ruler is None or ruler[1].stride == 1 or plan.lengths is None:
        return []
    ragged, (near, far) = ruler[1], plan.lengths
    per_entry = (far - near) / (ragged.of(far) - ragged.of(near))
    off = {length: abs(near + (ragged.of(length) - ragged.of(near)) * per_entry - length) for length in others.lengths}
    batch = others.at(max(off, key=off.__getitem__)) if off else None
    return [] if batch is None else [batch]


def join(prefix: Prefix, suffix: Suffix) -> nn.Module:
    """The model that was divided, with whatever its parts have learned.

    Raises:
        ArgumentError: the two do not come from one division.
    """
    if prefix.whole is not suffix.whole or prefix.cut != suffix.cut:
        raise ArgumentError(
            f"join: the prefix ends at '{prefix.cut.label}' of {type(prefix.whole).__name__}, the suffix begins at "
            f"'{suffix.cut.label}' of {'the same model' if prefix.whole is suffix.whole else 'another model'}"
        )
    return prefix.whole
