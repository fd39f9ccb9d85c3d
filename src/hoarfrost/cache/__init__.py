"""The stored features of one frozen prefix: created, committed, read, healed, listed, dropped."""

from hoarfrost.cache.catalog import CacheInfo, list_caches, prune
from hoarfrost.cache.fingerprint import Fingerprint
from hoarfrost.cache.hashing import hash_samples, hash_tensors
from hoarfrost.cache.memory import MemoryCache, MemoryWriter
from hoarfrost.cache.reader import Cache
from hoarfrost.cache.record import Chunk, Damage
from hoarfrost.cache.spec import CacheSpec, StoredView
from hoarfrost.cache.writer import CacheWriter

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
