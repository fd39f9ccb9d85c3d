"""Which cuts end a block or a stage, read from how the model nests its modules."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ..cut import Cut
from ..sandbox.compiled import bare, own_name
from ..tracing.survey import Survey

__all__ = ["recommended"]

ENOUGH = 3
PLAIN = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def _plain(module: nn.Module) -> bool:
    """Whether it does nothing but hold its children or call them in turn; subclasses such as AnyStage do no more."""
    return type(module) in PLAIN or type(module).forward is nn.Sequential.forward


def recommended(seen: Survey, cuts: Sequence[Cut]) -> set[int]:
    """The indices of the cuts that end a block or stage.

    A block is a module with children and parameters: a child of a plain container, or of the modules that lead
    down to one (an `encoder`). Nothing inside a block ends one. In a container of single layers a group ends in
    front of each layer with a weight matrix (convolution, activation, pooling). Right behind the stem, where the
    data have met a single weight matrix, a cut is large and saves little, so none is recommended there, unless
    the model has no others. Cuts that several tensors cross come in where there are too few of the others.
    """
    ends = _block_ends(seen.model) | _group_ends(seen.model, cuts)
    chosen = _at_ends(seen, [cut for cut in cuts if cut.single], ends)
    if len(chosen) < ENOUGH:
        chosen |= _at_ends(seen, [cut for cut in cuts if not cut.single], ends)
    return chosen


def _at_ends(seen: Survey, cuts: Sequence[Cut], ends: set[str]) -> set[int]:
    at_ends = [cut for cut in cuts if {cut.name, *(alias for alias in cut.aliases)} & ends]
    for candidates in (at_ends, list(cuts)):
        behind_stem = {cut.index for cut in candidates if _matrices_in_front(seen, cut) >= 2}
        if behind_stem:
            return behind_stem
    return {cut.index for cut in at_ends or cuts}


def _block_ends(model: nn.Module) -> set[str]:
    found: set[str] = set()

    def visit(module: nn.Module, path: str) -> None:
        contained = _plain(module)
        for name, child in _children(module):
            if not any(True for _ in child.parameters()) or not any(True for _ in child.children()):
                continue
            found.add(path + name)
            if _plain(child) or not contained:
                visit(child, f"{path}{name}.")

    visit(model, "")
    return found


def _group_ends(model: nn.Module, cuts: Sequence[Cut]) -> set[str]:
    names = {cut.name for cut in cuts} | {alias for cut in cuts for alias in cut.aliases}
    found: set[str] = set()

    def visit(container: nn.Module, path: str) -> None:
        last: str | None = None
        in_group = False
        for name, child in _children(container):
            single = not any(True for _ in child.children())
            if _has_matrix(child):
                if last is not None:
                    found.add(last)
                # What follows a block belongs to no group: the block's end is the place.
                last, in_group = None, single
            if single and in_group and path + name in names:
                last = path + name

    modules = {own_name(path): bare(module) for path, module in model.named_modules()}
    for path, module in modules.items():
        owners = [modules[".".join(path.split(".")[:depth])] for depth in range(1, path.count(".") + 1)]
        if type(module) is nn.Sequential and all(type(owner) in PLAIN for owner in owners):
            visit(module, f"{path}." if path else "")
    return found


def _children(module: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(name, bare(child)) for name, child in module.named_children()]


def _has_matrix(module: nn.Module) -> bool:
    return any(parameter.ndim >= 2 for parameter in module.parameters())


def _matrices_in_front(seen: Survey, cut: Cut) -> int:
    times = seen.ends(cut.name, cut.call)
    return sum(p.ndim >= 2 and seen.used(name, times)[0] for name, p in seen.parameters.items())
