"""What all doors have in common: a framework that has to be there, a model that one of them holds, its optimizers."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary, ref

from torch import nn

from ..cuts import bare
from ..errors import ArgumentError, HoarfrostError

__all__ = ["Optimizers", "hold", "needs", "release"]

_held: WeakKeyDictionary[nn.Module, ref[object]] = WeakKeyDictionary()


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Around the import of a framework, or of what only its newer releases have.

    Raises:
        HoarfrostError: it cannot be imported; names the extra that brings it.
    """
    try:
        yield
    except ImportError as error:
        raise HoarfrostError(
            f"hoarfrost.integrations.{extra} needs a package that cannot be imported ({error}): "
            f"pip install 'hoarfrost[{extra}]'"
        ) from error


@contextmanager
def hold(model: nn.Module, door: object) -> Iterator[None]:
    """From now on this door feeds the model, until `release`, or until the door is gone, or where what is done with it
    here fails.

    One whose training an error broke off (`broken_off`) is closed: who begins anew may have no name for it any more.

    Raises:
        ArgumentError: another one does.
    """
    other: Any = _held.get(bare(model), lambda: None)()
    if other is not door and getattr(other, "broken_off", False):
        other.close()
        other = None
    if other is not None and other is not door:
        raise ArgumentError(
            f"{_name(other)} feeds this {type(bare(model)).__name__} already, and {_name(door)} would freeze and route "
            "it too: close one of them first"
        )
    _held[bare(model)] = ref(door)
    try:
        yield
    except BaseException:
        release(model, door)
        raise


def release(model: nn.Module, door: object) -> None:
    """The model is free for another door."""
    if _held.get(bare(model), lambda: None)() is door:
        del _held[bare(model)]


def _name(door: object) -> str:
    return f"{type(door).__module__}.{type(door).__qualname__}"


class Optimizers:
    """Several optimizers as the one that a Freezer takes parameters out of."""

    def __init__(self, optimizers: Sequence[Any]) -> None:
        self._optimizers = tuple(optimizers)

    @classmethod
    def of(cls, optimizers: Sequence[Any]) -> Any:
        """The only one itself, several as one, or None."""
        return cls(optimizers) if len(optimizers) > 1 else optimizers[0] if optimizers else None

    # Asked for each time: an optimizer that loads a state has other lists then.

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self._optimizers for group in optimizer.param_groups]

    @property
    def state(self) -> ChainMap[Any, Any]:
        return _States(*(optimizer.state for optimizer in self._optimizers))


class _States(ChainMap[Any, Any]):
    """A ChainMap forgets in its first map alone."""

    def pop(self, key: Any, *default: Any) -> Any:
        for held in self.maps:
            if key in held:
                return held.pop(key)
        return super().pop(key, *default)
