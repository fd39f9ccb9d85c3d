"""The code that things run, followed by name through the user's own files."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from platform import python_version_tuple
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any

from torch import nn

from .ownership import package_of, versions_of
from .settings import MODULE_FIELDS, code_digest, describe_object, digest_of, is_plain, name_of, registered

__all__ = ["code_of"]

UNSAID = frozenset({"", "torch", "numpy", "PIL", __name__.partition(".")[0]})
"""Packages whose versions are told elsewhere: with the numerics, where a difference warns."""

_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_forward_hooks_always_called",
)


def code_of(
    things: Iterable[Any], *, modules: Iterable[nn.Module] = (), members: Iterable[tuple[type, str]] = ()
) -> dict[str, str]:
    """Digests of the functions and global values that things reach in the user's own files, by qualified name, and the
    versions of the packages that they reach.

    A function reaches what it closes over, its defaults, the globals that it names, what else it names of files,
    classes and objects among these, and, where it belongs to a class, the members that it names, its metaclass's too;
    what is reached is followed. Of an object all functions of its class are taken, of a module of `modules` its
    `forward`, what looks its attributes up, and its hooks alone. Names that are made while it runs are not seen.

    Args:
        things: functions, classes, objects that are called.
        modules: of a model.
        members: single members of classes.
    """
    reach = _Reach()
    for module in modules:
        reach.module(module)
    for cls, name in members:
        reach.member(cls, name)
    for thing in things:
        reach.value(thing, name_of(type(thing)))
    if not reach.found and not reach.packages - UNSAID:
        return {}
    packages = versions_of(reach.packages - UNSAID)
    python = {"python": ".".join(python_version_tuple()[:2])} if reach.found else {}
    return {**python, **{f"{name} (package)": told for name, told in packages.items()}, **reach.found}


class _Reach:
    """What was found so far."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}
        self.packages: set[str] = set()
        self._seen: dict[int, Any] = {}
        self._seen_members: set[tuple[int, type]] = set()
        self._seen_named: set[tuple[int, frozenset[str]]] = set()

    def module(self, module: nn.Module) -> None:
        """A module of a model: what its call runs."""
        for name in ("forward", "__call__", "__getattr__", "__getattribute__"):
            self.member(type(module), name)
        for key in _HOOKS:
            for hook in module.__dict__.get(key, {}).values():
                self.value(hook, f"{name_of(type(module))}.{key}")
        script = getattr(module, "code", None) if "ScriptModule" in str(type(module).__mro__) else None
        if isinstance(script, str):
            self.found[f"{name_of(type(module))}.code"] = digest_of(script.encode())
        for key, value in module.__dict__.items():
            if key not in MODULE_FIELDS and not is_plain(value) and not isinstance(value, nn.Module):
                self.value(value, f"{name_of(type(module))}.{key}", shown=False)

    def value(self, value: Any, name: str, *, shown: bool = True) -> None:
        """Anything that is reached.

        Args:
            name: for what has none of its own.
            shown: whether what it holds counts, beside its code; else somebody has described that.
        """
        if is_plain(value):
            if shown:
                self.found[name] = digest_of(repr(describe_object(value)).encode())
            return
        if id(value) in self._seen:
            return
        self._seen[id(value)] = value
        held = _held(value)
        if held is not None:
            for key, part in held:
                if isinstance(part, (FunctionType, type)):
                    # Which one lies there: two may change places.
                    self.found[f"{name}[{key}]"] = digest_of(name_of(part).encode())
                self.value(part, f"{name}[{key}]", shown=shown)
            return
        inner = _inside(value)
        if inner:
            for part in inner:
                self.value(part, name, shown=shown)
            return
        package = package_of(value if isinstance(value, (type, FunctionType, BuiltinFunctionType)) else type(value))
        if package is not None:
            self.packages.add(package)
        if isinstance(value, FunctionType):
            if package is None:
                self.function(value)
        elif isinstance(value, type):
            if package is None:
                self.whole_class(value)
            if package_of(type(value)) is None:
                self.whole_class(type(value))
        elif not isinstance(value, (BuiltinFunctionType, ModuleType)):
            if shown and package != "":
                self.found[name] = digest_of(repr(describe_object(value)).encode())
            if package is None:
                self.whole_class(type(value))
            for part in _called(value):
                self.value(part, name, shown=False)

    def whole_class(self, cls: type) -> None:
        """All functions of a class, and of those of its bases that are the user's; of a module its forward alone."""
        if issubclass(cls, nn.Module) and _is_layer(cls):
            self.member(cls, "forward")
            return
        for base in cls.__mro__:
            if package_of(base) is None:
                for name, member in list(vars(base).items()):
                    if _is_function(member):
                        self._member(cls, base, name, member)

    def member(self, cls: type, name: str, names: frozenset[str] = frozenset()) -> None:
        """A member of a class, as its bases have it too, for which `super()` may ask, or its metaclass.

        Args:
            names: what a function names beside it.
        """
        for base in [*cls.__mro__, *type.mro(type(cls))]:
            member = vars(base).get(name)
            if member is None:
                continue
            package = package_of(base)
            if package is not None:
                self.packages.add(package)
            else:
                self._member(cls, base, name, member, names)

    def _member(self, cls: type, base: type, name: str, member: Any, names: frozenset[str] = frozenset()) -> None:
        own = f"{name_of(base)}.{name}"
        if not _is_function(member):
            self._named(member, own, names)  # a constant; a class in it; an object that answers for the attribute
            return
        for part in _inside(member) or (member,):
            if not isinstance(part, FunctionType):
                self.value(part, own)
            elif (id(part), cls) not in self._seen_members:
                self._seen_members.add((id(part), cls))
                self.function(part, cls)

    def function(self, function: FunctionType, cls: type | None = None) -> None:
        """A function of the user's, and what it reaches.

        Args:
            cls: of the object that it is a method of.
        """
        own = name_of(function)
        self._seen[id(function)] = function
        digest = code_digest(function)
        # Two functions may share a name: lambdas of one function, say.
        if self.found.get(own, digest) != digest:
            digest = digest_of((self.found[own] + digest).encode())
        self.found[own] = digest
        for kind, chosen in registered(function).items():
            self.found[f"{own}[{kind}]"] = (
                code_digest(chosen) if isinstance(chosen, FunctionType) else name_of(type(chosen))
            )
            self.value(chosen, f"{own}[{kind}]")
        names = frozenset(_names(function.__code__))
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                content = cell.cell_contents
            except ValueError:  # not filled yet
                continue
            if content is not cls and not (name == "__class__" and isinstance(content, type)):
                self._named(content, f"{own}.{name}", names)
        for default in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            if not is_plain(default):
                self._named(default, f"{own}.__defaults__", names)
        if function.__defaults__ or function.__kwdefaults__:
            told = describe_object([function.__defaults__, function.__kwdefaults__])
            self.found[f"{own}.__defaults__"] = digest_of(repr(told).encode())
        for name in sorted(names):
            if name in function.__globals__:
                self._named(function.__globals__[name], f"{function.__module__}.{name}", names)
            if cls is not None:
                self.member(cls, name, names)

    def _named(self, value: Any, name: str, names: frozenset[str]) -> None:
        """What a function names, and what else it names of that: of a file of the user's, of a class, of an object's
        class.

        Args:
            name: for what has none of its own.
            names: all that the function names.
        """
        if isinstance(value, ModuleType):
            package = package_of(value)
            if package is not None:
                self.packages.add(package)
            elif self._is_new(value, names):
                for inner in sorted(names & vars(value).keys()):
                    self._named(vars(value)[inner], f"{value.__name__}.{inner}", names)
            return
        self.value(value, name)
        cls = value if isinstance(value, type) else type(value)
        if package_of(cls) is None and self._is_new(cls, names):
            for inner in sorted(names):
                self.member(cls, inner, names)

    def _is_new(self, holder: ModuleType | type, names: frozenset[str]) -> bool:
        """Whether it was not asked for these names yet: files import each other, a class may hold itself."""
        asked = (id(holder), names)
        new = asked not in self._seen_named
        self._seen_named.add(asked)
        return new


def _held(value: Any) -> Iterable[tuple[Any, Any]] | None:
    """What a collection holds, by key or place; None for what is none. A set has no places: names stand for them."""
    if isinstance(value, Mapping):
        return [(key if isinstance(key, (str, int)) else name_of(type(key)), part) for key, part in value.items()]
    if isinstance(value, (list, tuple, deque)):
        return enumerate(value)
    if isinstance(value, SimpleNamespace):
        return vars(value).items()
    if isinstance(value, (set, frozenset)):
        return [(name_of(part if isinstance(part, (FunctionType, type)) else type(part)), part) for part in value]
    return None


def _inside(value: Any) -> tuple[Any, ...]:
    """What a wrapper of functions holds; nothing for what is none."""
    if isinstance(value, (functools.partial, functools.partialmethod)):
        return (value.func, *value.args, *value.keywords.values())
    if isinstance(value, functools.singledispatchmethod):
        return (value.dispatcher,)
    if isinstance(value, MethodType):
        return (value.__func__, value.__self__)
    if isinstance(value, (staticmethod, classmethod)):
        return (value.__func__,)
    if isinstance(value, property):
        return tuple(part for part in (value.fget, value.fset, value.fdel) if part is not None)
    if isinstance(value, functools.cached_property):
        return (value.func,)
    wrapped = getattr(value, "__wrapped__", None)
    if wrapped is not None and not isinstance(value, (FunctionType, type)):
        return (wrapped,)
    return ()


def _called(value: Any) -> Iterator[Any]:
    """What an object holds that may be called: functions and further objects, in lists of its own too."""
    held = getattr(value, "__dict__", None)
    if not isinstance(held, dict):
        return
    parts = list(held.values())
    if isinstance(value, nn.Module):
        parts += value.children()
    for part in parts:
        for inner in part if isinstance(part, (list, tuple)) and len(part) <= 64 else (part,):
            if callable(inner):
                yield inner


def _is_function(member: Any) -> bool:
    kinds = (FunctionType, staticmethod, classmethod, property, functools.cached_property)
    by_parts = (functools.partialmethod, functools.singledispatchmethod)
    return isinstance(member, (*kinds, *by_parts)) or hasattr(member, "__wrapped__")


def _is_layer(cls: type) -> bool:
    """Whether a module's class is run by its forward alone: a transform of torchvision's v2 is a module and is not."""
    return not any(base.__module__.startswith("torchvision.transforms") for base in cls.__mro__)


def _names(code: CodeType) -> Iterator[str]:
    """All that a function names, and functions written inside it."""
    yield from code.co_names
    for part in code.co_consts:
        if isinstance(part, CodeType):
            yield from _names(part)
