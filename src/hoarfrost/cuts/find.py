"""Where a model can be divided."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from ..errors import NoCutError
from .cut import Cut, label
from .rules import Verdict, judge
from .stages import recommended
from .survey import Survey, survey

__all__ = ["cuts_of", "find_cuts", "require_cuts", "why_not"]

LAYOUTS = {2: "vector", 3: "tokens", 4: "NCHW"}
Place = tuple[str, int]


def find_cuts(model: nn.Module, example: Tensor | tuple[Any, ...]) -> list[Cut]:
    """All cuts of the model, from the front to the back.

    A cut is a call of a module whose only output is the one tensor through which everything passes that the model
    still computes, in eval and in train mode, with parameters on both sides. The model runs on two and on three
    samples of the example, in both modes, without gradients; its parameters, buffers, training flags, hooks and
    the random states stay as they are.

    Args:
        model: any module whose forward takes positional arguments.
        example: a batch of inputs [N, ...], or a tuple of positional arguments that begins with one.

    Returns:
        The cuts; an empty list where the model has none (`require_cuts` raises then).

    Raises:
        ArgumentError: the model or the example is of the wrong kind.
        CutError: the model's own forward fails on the example; its error is chained.

    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> [(cut.label, cut.shape) for cut in find_cuts(model, torch.ones(5, 4))]
    [('0', (8,)), ('1', (8,))]
    """
    return cuts_of(survey(model, example))


def require_cuts(model: nn.Module, example: Tensor | tuple[Any, ...]) -> list[Cut]:
    """As `find_cuts`, but a model without any cut raises.

    Raises:
        NoCutError: the model has no cut; the message tells why its largest parts are none.
    """
    seen = survey(model, example)
    cuts = cuts_of(seen)
    if not cuts:
        top = [(name, call) for name, call in judge(seen, 0) if name.count(".") == 0][:3]
        reasons = "".join(f"\n  {label(*place)}: {why_not(seen, place)}" for place in top)
        raise NoCutError(
            f"{type(seen.model).__name__} has no place where one tensor carries all that is still computed{reasons}"
        )
    return cuts


def why_not(seen: Survey, place: Place) -> str | None:
    """The rule that forbids a cut after that call of that module; None if it is a cut."""
    verdicts = [judge(seen, number) for number in range(len(seen.traces))]
    return _broken(verdicts, place)


def cuts_of(seen: Survey) -> list[Cut]:
    """The cuts of a model that was surveyed."""
    verdicts = [judge(seen, number) for number in range(len(seen.traces))]
    valid = [place for place in verdicts[0] if _broken(verdicts, place) is None]
    groups: dict[tuple[tuple[int, int], ...], list[Place]] = {}
    for place in valid:
        groups.setdefault(tuple(v[place].place for v in verdicts), []).append(place)
    fronts = [_cut(seen, verdicts, index, places) for index, places in enumerate(groups.values())]
    chosen = recommended(seen, fronts)
    return [replace(cut, recommended=cut.index in chosen) for cut in fronts]


def _broken(verdicts: list[dict[Place, Verdict]], place: Place) -> str | None:
    for number, of_trace in enumerate(verdicts):
        mode = "eval" if number < 2 else "train"
        if place not in of_trace:
            return f"it does not run in {mode} mode"
        if of_trace[place].broken is not None:
            return f"{of_trace[place].broken} (in {mode} mode)"
    tensors = [v[place].features for v in verdicts]
    kinds = {(t.shape[1:], t.dtype) for t in tensors if t is not None}
    return None if len(kinds) == 1 else "the shape or type of a sample's features differs between runs"


def _cut(seen: Survey, verdicts: list[dict[Place, Verdict]], index: int, places: list[Place]) -> Cut:
    place = places[-1]  # an outer module ends after those inside it
    features = verdicts[0][place].features
    assert features is not None, "only valid places come here"
    small, large = (verdicts[number][place].visit.flops for number in (0, 1))
    whole = seen.traces[1].flops - seen.traces[0].flops
    times = seen.ends(*place)
    return Cut(
        name=place[0],
        call=place[1],
        index=index,
        shape=tuple(features.shape[1:]),
        dtype=features.dtype,
        layout=LAYOUTS.get(features.ndim, "other"),
        prefix_flops=large - small,
        suffix_flops=whole - (large - small),
        shared_parameters=tuple(name for name in seen.parameters if all(seen.used(name, times))),
        recommended=False,
        mutated=any(v[place].mutated for v in verdicts),
        aliases=tuple(label(*inner) for inner in places[:-1]),
    )
