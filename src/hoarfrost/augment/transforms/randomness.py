"""Random decisions that belong to a sample, not to the moment they are made in."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from .own_states import read_state, seed_state, write_state

__all__ = ["forked_random_states", "generator_for", "random_positions", "seed_random_states"]

# The three global states belong to the whole process: two threads inside a fork would draw from each other's.
_LOCK = threading.RLock()


def generator_for(*identity: object) -> torch.Generator:
    """A generator whose stream is a function of the given values; near seeds give unrelated streams."""
    digest = hashlib.sha256("/".join(map(str, identity)).encode()).digest()
    # torch's CPU engine keeps the low 32 bits of a seed, so these must be well mixed.
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


@contextmanager
def forked_random_states(own: Sequence[Any] = ()) -> Iterator[None]:
    """Whatever is drawn inside leaves torch's (CPU), Python's and numpy's random states, and own ones, as they were."""
    with _LOCK:
        states = torch.random.get_rng_state(), random.getstate(), np.random.get_state()
        held = [read_state(state) for state in own]
        try:
            yield
        finally:
            torch.random.set_rng_state(states[0])
            random.setstate(states[1])
            np.random.set_state(states[2])
            for state, value in zip(own, held, strict=True):
                write_state(state, value)


def seed_random_states(seed: int, own: Sequence[Any] = ()) -> None:
    """Seed the three global states, and a transform's own; only inside `forked_random_states`."""
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    seed_state(list(own), seed)


def random_positions(own: Sequence[Any] = ()) -> list[str]:
    """Where the three global states and own ones stand: a list that is equal as long as nothing is drawn."""
    torchs, numpys = torch.random.get_rng_state(), np.random.get_state(legacy=False)
    held = [torchs.numpy().tobytes(), random.getstate(), _plain(numpys), *(_plain(read_state(state)) for state in own)]
    return [hashlib.sha256(repr(state).encode()).hexdigest() for state in held]


def _plain(state: Any) -> Any:
    """A state with its arrays as bytes, since their text is shortened."""
    if isinstance(state, dict):
        return {key: _plain(value) for key, value in state.items()}
    if isinstance(state, tuple):
        return [_plain(value) for value in state]
    if isinstance(state, torch.Tensor):
        return state.numpy().tobytes()
    return state.tobytes() if isinstance(state, np.ndarray) else state
