"""The names under which policies are typed, and what else a policy may be given as."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import Field, fields, is_dataclass
from typing import Any

from ..errors import PolicyError
from ..plain_fields import check_plain_fields
from .annealed import Annealed
from .autofreeze import AutoFreeze
from .boosted import Boosted
from .budget import Budget
from .cka import CKA
from .egeria import Egeria
from .freezeout import FreezeOut
from .frozen import AsFrozen
from .geometric import Geometric
from .linear import Linear
from .never import Never
from .periodic import Periodic
from .policy import Policy
from .schedule import Schedule
from .single_shot import SingleShot, SingleShotThenResume
from .smartfrz import SmartFRZ
from .stages import Stages
from .svcca import SVCCA

__all__ = ["NAMED", "named", "resolve_policy"]

NAMED: dict[str, Callable[[], Policy]] = {
    "annealed": Annealed,
    "autofreeze": AutoFreeze,
    "boosted": Boosted,
    "budget": Budget,
    "cka": CKA,
    "egeria": Egeria,
    "freezeout": FreezeOut,
    "frozen": AsFrozen,
    "geometric": Geometric,
    "linear": Linear,
    "none": Never,
    "periodic": Periodic,
    "schedule": Schedule,
    "single-shot": SingleShot,
    "single-shot-then-resume": SingleShotThenResume,
    "smartfrz": SmartFRZ,
    "stages": Stages,
    "svcca": SVCCA,
}
"""Each with its published defaults."""


def resolve_policy(policy: str | Policy | Mapping[int, str | int]) -> Policy:
    """A policy from its name and settings (see `named`), from a mapping of epochs to cuts, or as it is.

    Raises:
        PolicyError: the name is unknown or the object cannot be called.
    """
    if isinstance(policy, str):
        policy = named(policy)
    if isinstance(policy, Mapping):
        return Schedule(policy)
    if not callable(policy):
        raise PolicyError(
            f"a policy is a name, a mapping from epochs to cuts, or a function TrainState -> depth, not {policy!r}"
        )
    if is_dataclass(policy) and not isinstance(policy, type):
        check_plain_fields(policy, f"{type(policy).__name__}: ", PolicyError)
    return policy


def named(text: str) -> Policy:
    """A policy in a word: "cka", "cka:threshold=0.98,every_steps=200", "egeria:thaw_at=none", "budget:2x".

    Raises:
        PolicyError: there is no such policy, or it has no such setting.
    """
    name, _, told = text.partition(":")
    if name not in NAMED:
        raise PolicyError(f"there is no policy {name!r}: known are {', '.join(sorted(NAMED))}")
    if name == "budget" and told and "=" not in told:
        return Budget.told(told)
    made = NAMED[name]()
    own: tuple[Field[Any], ...] = fields(made) if is_dataclass(made) else ()
    settings = {field.name: getattr(made, field.name) for field in own if field.init}
    plain = sorted(key for key, value in settings.items() if value is None or isinstance(value, int | float | str))
    given: dict[str, Any] = {}
    for part in filter(None, told.split(",")):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or key not in plain:
            known = f"its settings are {', '.join(plain)}" if plain else "it has no settings"
            raise PolicyError(f"{part!r} says nothing to the policy {name!r}: {known}, told as name=number")
        given[key] = _value(value)
    try:
        return NAMED[name](**given)
    except TypeError as error:
        raise PolicyError(f"the policy {text!r}: {error}") from error


def _value(text: str) -> Any:
    """A number, True, False, None, or text as it is."""
    try:
        return ast.literal_eval({"none": "None", "true": "True", "false": "False"}.get(text.lower(), text))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
