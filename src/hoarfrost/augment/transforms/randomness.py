"""Random decisions that belong to a sample, not to the moment they are made in."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["forked_random_states", "generator_for", "seed_random_states"]

# The three global states belong to the whole process: two threads inside a fork would draw from each other's.
_LOCK = threading.RLock()


def generator_for(*identity: object) -> torch.Generator:
    """A generator whose stream is a function of the given values; near seeds give unrelated streams."""
    digest = hashlib.sha256("/".join(map(str, identity)).encode()).digest()
    # torch's CPU engine keeps the low 32 bits of a seed, so these must be well mixed.
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


@contextmanager
def forked_random_states() -> Iterator[None]:
    """Whatever is drawn inside leaves torch's (CPU), Python's and numpy's random states as they were."""
    with _LOCK:
        states = torch.random.get_rng_state(), random.getstate(), np.random.get_state()
        try:
            yield
        finally:
            torch.random.set_rng_state(states[0])
            random.setstate(states[1])
            np.random.set_state(states[2])


def seed_random_states(seed: int) -> None:
    """Seed the three global states; only inside `forked_random_states`."""
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
