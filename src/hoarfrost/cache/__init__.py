"""The stored features of one frozen prefix.

In: what a cache is made from (`Fingerprint`), its shape (`CacheSpec`), and features with ids and targets, chunk by
chunk. Out: the same chunks, or an error that names the one to heal; caches found, listed and dropped."""

from .cache import Cache
from .catalog import CacheInfo, list_caches, prune
from .chunk import Chunk, Damage
from .fingerprint import Fingerprint, told_difference
from .hashing import digest_item, hash_samples, hash_tensors
from .journal import line_nbytes
from .left_parts import discard_parts
from .lookup import find_alike
from .memory import MemoryCache, MemoryWriter
from .parts import begin_part, take_parts
from .remote import PublishedCache, RemoteCaches, published_in
from .spec import CacheSpec
from .stored_view import StoredView, assembled, to_store
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
    "PublishedCache",
    "RemoteCaches",
    "StoredView",
    "assembled",
    "begin_part",
    "digest_item",
    "discard_parts",
    "find_alike",
    "hash_samples",
    "hash_tensors",
    "line_nbytes",
    "list_caches",
    "prune",
    "published_in",
    "take_parts",
    "to_store",
    "told_difference",
]
