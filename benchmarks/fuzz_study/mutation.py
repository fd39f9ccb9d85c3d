"""Changes of a file's content: of JSON by its structure, of anything else by its bytes."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

__all__ = ["mutated"]

HOSTILE: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        2,
        3,
        7,
        255,
        256,
        2**16,
        2**31 - 1,
        2**31,
        2**32,
        2**62,
        2**63,
        2**64,
        10**18,
        10**400,
    ),
    *(-(2**31), -(2**63), 0.5, -0.0, 1e-320, 1e37, 1e308, float("nan"), float("inf"), float("-inf")),
    *("", "a", "0", "nan", "float32", "quint8", "../../x", "\x00", "\ud800", "$x^", "<b>", "x" * 5000, "__tensor__"),
    *(
        [],
        {},
        [[]],
        [None],
        [0],
        [-1],
        [1e400],
        [2**70],
        ["a"],
        {"a": 1},
        {"": {}},
        {"name": "exact"},
        {"__tensor__": "/"},
    ),
    json.loads("[" * 60 + "]" * 60),
)
"""Values that a field of a file may hold in place of its own."""

TOKENS = (
    b"[" * 50,
    b"{",
    b"}",
    b'"',
    b":",
    b",",
    b"\n",
    b"\x00",
    b"\xff",
    b"&a ",
    b"*a",
    b"!!python/object:os.system",
    b"- ",
)


def mutated(data: bytes, draw: random.Random) -> bytes:
    """One content made from another: where it is JSON, or lines of JSON, mostly JSON again."""
    lines = data.split(b"\n") if b"\n{" in data else [data]
    number = draw.randrange(len(lines))
    try:
        value = json.loads(lines[number])
    except (ValueError, RecursionError):
        return _bytes(data, draw)
    if draw.random() < 0.15:
        return _bytes(data, draw)
    if len(lines) > 1 and draw.random() < 0.1:
        lines.insert(draw.randrange(len(lines)), draw.choice(lines))
        return b"\n".join(lines)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        value = _changed(copy.deepcopy(value), draw)
    lines[number] = json.dumps(value).encode()
    return b"\n".join(lines)


def _changed(value: Any, draw: random.Random) -> Any:
    """The value with one place of it changed."""
    places = _places(value)
    if not places:
        return draw.choice(HOSTILE)
    container, key = draw.choice(places)
    kind = draw.random()
    if kind < 0.6:
        container[key] = copy.deepcopy(draw.choice(HOSTILE))
    elif kind < 0.75 and isinstance(container[key], int | float):
        container[key] = draw.choice((container[key] + 1, container[key] - 1, -container[key], container[key] * 1000))
    elif kind < 0.9:
        other, name = draw.choice(places)
        container[key] = copy.deepcopy(other[name])
    elif isinstance(container, list):
        container.insert(key, copy.deepcopy(container[key]))
    else:
        del container[key]
    return value


def _places(value: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        container = waiting.pop()
        keys = (
            list(container)
            if isinstance(container, dict)
            else range(len(container))
            if isinstance(container, list)
            else ()
        )
        found += ((container, key) for key in keys)
        waiting += (container[key] for key in keys)
    return found


def _bytes(data: bytes, draw: random.Random) -> bytes:
    found = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 8))):
        at = draw.randrange(len(found) + 1)
        kind = draw.randrange(5)
        if kind == 0 and at < len(found):
            found[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            found[at : at + draw.randrange(1, 9)] = b""
        elif kind == 2:
            found[at:at] = draw.choice(TOKENS)
        elif kind == 3:
            begin = draw.randrange(len(found) + 1)
            found[at:at] = found[begin : begin + draw.randrange(1, 33)]
        else:
            found[at : at + 4] = draw.choice(
                (b"\x00" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\x00\x00\xc0\x7f", draw.randbytes(4))
            )
    return bytes(found)
