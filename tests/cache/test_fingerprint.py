from __future__ import annotations

import pytest

from hoarfrost.cache import Fingerprint
from hoarfrost.errors import ArgumentError


def test_the_digest_is_of_the_values_not_of_their_spelling() -> None:
    left = Fingerprint({"a": 1, "b": (1, 2), "c": {"x": None, "y": 0.1}})
    right = Fingerprint({"c": {"y": 0.1, "x": None}, "b": [1, 2], "a": 1})
    assert left == right
    assert left.digest == right.digest
    assert hash(left) == hash(right)
    assert left.key == left.digest[:16]
    assert left != Fingerprint({"a": 1, "b": [2, 1], "c": {"x": None, "y": 0.1}})


def test_the_digest_is_the_same_for_ever() -> None:
    fingerprint = Fingerprint({"cut": "layer1", "bits": 4})
    # sha256 of {"bits":4,"cut":"layer1"}, by coreutils.
    assert fingerprint.digest == "3bdfbbbe958769354298ee9d3c6b1ee94fc6b52c52bb46593714727888088f8f"


def test_later_changes_stay_outside() -> None:
    fields = {"seeds": [1]}
    fingerprint = Fingerprint(fields)
    digest = fingerprint.digest
    fields["seeds"].append(2)
    assert fingerprint.digest == digest


def test_the_first_difference_is_named_with_both_values_shortened() -> None:
    here = Fingerprint({"cut": "layer1", "weights": "a" * 64, "codec": {"bits": 4}})
    there = Fingerprint({"cut": "layer1", "weights": "b" * 64, "codec": {"bits": 8}, "more": 1})
    assert here.differences(there) == ["codec", "weights", "more"]
    text = here.explain(there)
    assert text.startswith("'codec' (bits) is 4 here, but 8 in the cache (3 fields differ")
    only = Fingerprint({"weights": "a" * 64}).explain(Fingerprint({"weights": "b" * 64}))
    assert only == f"'weights' is \"{'a' * 36}... here, but \"{'b' * 36}... in the cache"
    assert here.explain(here) == ""
    assert "absent" in Fingerprint({}).explain(Fingerprint({"more": 1}))


def test_absent_is_not_null() -> None:
    assert Fingerprint({"a": None}).differences(Fingerprint({})) == ["a"]


@pytest.mark.parametrize("fields", [{"a": {1, 2}}, {"a": float("nan")}, {"a": b"bytes"}], ids=repr)
def test_values_that_json_has_not_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ArgumentError, match="not a JSON value"):
        Fingerprint(fields)


def test_names_are_strings() -> None:
    with pytest.raises(ArgumentError, match="names are strings, not 1"):
        Fingerprint({1: "a"})  # type: ignore[dict-item]
