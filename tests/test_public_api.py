from __future__ import annotations

import ast
import importlib
import types
from pathlib import Path

import pytest

import hoarfrost
from hoarfrost import errors


def test_all_is_exactly_what_is_exported_and_sorted() -> None:
    found = {name: getattr(hoarfrost, name) for name in dir(hoarfrost) if not name.startswith("_")}
    exported = {name for name, value in found.items() if not isinstance(value, types.ModuleType)}
    assert hoarfrost.__all__ == sorted(exported)
    assert set(found) - exported == set(hoarfrost.WINGS)


def test_a_star_brings_all_of_them() -> None:
    brought: dict[str, object] = {}
    exec("from hoarfrost import *", brought)
    assert {name: brought[name] for name in hoarfrost.__all__} == {n: getattr(hoarfrost, n) for n in hoarfrost.__all__}
    assert "policies" not in brought


@pytest.mark.parametrize(
    "stub", sorted(Path(hoarfrost.__file__).parent.rglob("*.pyi")), ids=lambda path: path.parent.name
)
def test_types_and_doors_name_the_same(stub: Path) -> None:
    """What checkers of types read is what is imported when it is asked for."""
    door = importlib.import_module(".".join(stub.relative_to(Path(hoarfrost.__file__).parents[1]).parent.parts))
    told = next(node for node in ast.parse(stub.read_text()).body if isinstance(node, ast.Assign))
    assert ast.literal_eval(told.value) == list(door.__all__)
    assert all(getattr(door, name) is not None for name in door.__all__)
    # The import system would put a module of that name in its place.
    assert [name for name in door.__all__ if (stub.parent / f"{name}.py").exists()] == []


@pytest.mark.parametrize("name", errors.__all__)
def test_every_public_error_is_a_hoarfrost_error(name: str) -> None:
    assert issubclass(getattr(errors, name), errors.HoarfrostError)


def test_every_error_is_named_and_drawn_in_the_tree() -> None:
    classes = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert errors.__all__ == sorted(error.__name__ for error in classes)
    assert all(error.__name__ in (errors.__doc__ or "") for error in classes)


def test_the_tree_is_drawn_as_it_is() -> None:
    drawn: dict[str, str] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").split("```")[1].splitlines():
        if "Error" not in line:
            continue
        indent = len(line) - len(line.lstrip("│├└─ "))
        name = line.lstrip("│├└─ ").split()[0]
        above = [*above[: indent // 4], name]
        if len(above) > 1:
            drawn[name] = above[-2]
    assert drawn == {
        name: getattr(errors, name).__bases__[0].__name__ for name in errors.__all__[:] if name != "HoarfrostError"
    }


def test_an_argument_error_is_a_value_error() -> None:
    assert issubclass(errors.ArgumentError, ValueError)
