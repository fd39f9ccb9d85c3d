"""What a suffix does in front of its cut, in place of running it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from ..cut import Cut
from ..sandbox.arguments import Key
from ..tracing.trace import Port
from .partition import Plan
from .symbolic_shapes import Outline

__all__ = ["Replayed", "Script"]


@dataclass(frozen=True)
class Replayed:
    """What stands for one module that ran in front of the cut.

    Attributes:
        outlines: of what it gives, mode -> calls.
        ended: for each mode, which calls ended in front of the cut; None stands for all.
        runs: it runs again, on tensors without values, and the features take their places in what it gives.
    """

    outlines: dict[bool, list[Outline]]
    ended: dict[bool, frozenset[int]] | None
    runs: bool


@dataclass(frozen=True)
class Script:
    """What is left of a plan once the model is divided, without the tensors that were seen. All names are the model's.

    Attributes:
        ports: the tensors that modules give and that cross, the features first.
        inputs: the outlines of the model's own arguments.
        parts: by the name of the module.
        skipped: for each mode and call that is handed on, the calls inside it.
        restores_chance: code that runs again draws random numbers in front of the cut.
        asks_gradients: a reentrant checkpoint begins behind the cut.
        front: modules in use only in front of the cut.
        heeded: those of them whose mode is read behind.
        around: modules whose own code runs again in front of the cut.
        behind: for each parameter and buffer, whether the suffix has it.
    """

    cut: Cut
    ports: tuple[Port, ...]
    inputs: dict[Key, Outline]
    parts: dict[str, Replayed]
    skipped: dict[bool, dict[tuple[str, int], Counter[str]]]
    restores_chance: bool
    asks_gradients: bool
    front: frozenset[str]
    heeded: frozenset[str]
    around: tuple[str, ...]
    behind: dict[str, bool]

    @classmethod
    def of(cls, plan: Plan) -> Script:
        """What the plan says of the suffix."""
        parts = {
            name: Replayed(outlines, None if name in plan.finished else plan.ended(name), name in plan.rerun)
            for name, outlines in plan.replayed.items()
        }
        return cls(
            cut=plan.cut,
            ports=plan.ports,
            inputs=plan.inputs,
            parts=parts,
            skipped=plan.skipped,
            restores_chance=plan.draws_in_front,
            asks_gradients=plan.reentrant_behind,
            front=frozenset(plan.front_modules),
            heeded=plan.heeded,
            around=plan.around,
            behind={name: sides[1] for name, sides in plan.sides.items()},
        )
