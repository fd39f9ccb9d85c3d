"""Policies in a word, as on the command line."""

from __future__ import annotations

from typing import Any

import pytest

from hoarfrost.errors import PolicyError
from hoarfrost.policies import (
    CKA,
    NAMED,
    Budget,
    Egeria,
    FreezeOut,
    Linear,
    Never,
    Schedule,
    SingleShot,
    resolve_policy,
)


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("none", Never()),
        ("cka", CKA()),
        ("cka:threshold=0.98,every_steps=200", CKA(threshold=0.98, every_steps=200)),
        ("egeria: thaw_at = none", Egeria(thaw_at=None)),
        ("freezeout:scale=linear,scaled=false", FreezeOut(scale="linear", scaled=False)),
        ("linear:start=0.25", Linear(start=0.25)),
        ("single-shot:at=0.3", SingleShot(at=0.3)),
        ("budget:2x", Budget(speedup=2)),
        ("budget:points=0.5", Budget(points=0.5)),
    ],
)
def test_settings_follow_a_name(text: str, policy: Any) -> None:
    assert resolve_policy(text) == policy


@pytest.mark.parametrize(
    ("given", "wanted"),
    [("schedule", Schedule()), ("none", Never()), ({2: "stem"}, Schedule({2: "stem"}))],
    ids=["schedule", "none", "mapping"],
)
def test_policies_are_resolved_from_names_and_mappings(given: Any, wanted: Any) -> None:
    assert resolve_policy(given) == wanted


@pytest.mark.parametrize("name", sorted(NAMED))
def test_every_name_is_a_policy_with_its_defaults(name: str) -> None:
    assert type(resolve_policy(name)) is type(NAMED[name]())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("thaw", "there is no policy 'thaw': known are annealed, autofreeze"),
        ("cka:treshold=1", "'treshold=1' says nothing to the policy 'cka': its settings are after, every, every_steps"),
        ("cka:0.9", "'0.9' says nothing to the policy 'cka'"),
        ("none:a=1", "it has no settings"),
        ("cka:threshold=7", "threshold is from 0 to 1"),
        ("cka:threshold=high", "not supported|threshold"),
    ],
)
def test_what_cannot_be_meant_is_refused(text: str, said: str) -> None:
    with pytest.raises(PolicyError, match=said):
        resolve_policy(text)


def test_what_cannot_be_called_is_no_policy() -> None:
    with pytest.raises(PolicyError, match="a policy is a name, a mapping from epochs to cuts, or a function"):
        resolve_policy(3)  # type: ignore[arg-type]
