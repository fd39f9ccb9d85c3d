"""The stored features of one frozen prefix: created, committed, read, healed, listed, dropped."""

from .cache import Cache
from .catalog import CacheInfo, list_caches, prune
from .encoding import Chunk, Damage
from .fingerprint import Fingerprint
from .hashing import hash_samples, hash_tensors
from .memory import MemoryCache, MemoryWriter
from .spec import CacheSpec
from .stored_view import StoredView
from .writer import CacheWriter

__all__ = [
    "Cache",
    "CacheInfo",
    "CacheSpec",
    "CacheWriter",
    "Chunk",
    "Damage",
    "Fingerprint",
    "MemoryCache",
    "MemoryWriter",
    "StoredView",
    "hash_samples",
    "hash_tensors",
    "list_caches",
    "prune",
]
