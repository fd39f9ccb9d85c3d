"""One zstd frame with a content checksum: what every codec's bytes are wrapped in."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import zstandard

from ..errors import CodecError

__all__ = ["BLOCK", "LEVEL", "squeeze", "squeeze_parts", "unsqueeze", "unsqueeze_parts"]

# A block of at most 128 KiB takes at least four bytes, of which one may stand for all that it gives.
EXPANSION = (128 << 10) // 4

# Level 2 was slower and no smaller on quantised features; negative levels lost a third of the ratio.
LEVEL = 1

# Parts smaller than this share a block: tables of their own would cost more, in bytes and in time, than they save.
BLOCK = 3 << 12

# Levels of one channel hold few repetitions worth a reference to them, and each breaks up what the entropy coder has to
# itself: a table of hashes too small to find any but the nearest made parts smaller and faster to read, by up to 5 and
# 30 % of real features. Levels of several channels side by side do repeat.
FORGETFUL = zstandard.ZstdCompressionParameters.from_level(
    LEVEL, hash_log=6, write_checksum=True, write_content_size=True
)

# zstd's contexts must not be shared by threads; a new one for each call would be allocated and cleared each
# time.
_THREAD = threading.local()


def squeeze(body: bytes | memoryview) -> bytes:
    """`body` as one zstd frame that carries its size and an xxh64 checksum."""
    compressor = _compressor("whole", level=LEVEL, write_checksum=True, write_content_size=True)
    return bytes(compressor.compress(body))


def squeeze_parts(parts: Sequence[Any]) -> bytes:
    """Arrays of bytes, one behind the other, as `squeeze` would, but a part's end ends a block too.

    A block has entropy tables of its own, so parts of different statistics are smaller than in one stretch.
    """
    stream = _compressor("parts", compression_params=FORGETFUL).compressobj(
        size=sum(memoryview(part).nbytes for part in parts)
    )
    found, waiting = [], 0
    for part in parts:
        found.append(stream.compress(part))
        waiting += memoryview(part).nbytes
        if waiting >= BLOCK:
            found.append(stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK))
            waiting = 0
    return b"".join([*found, stream.flush()])


def _compressor(name: str, **settings: Any) -> Any:
    if not hasattr(_THREAD, name):
        setattr(_THREAD, name, zstandard.ZstdCompressor(**settings))
    return getattr(_THREAD, name)


def unsqueeze(payload: bytes, size: int) -> bytearray:
    """The `size` bytes that `squeeze` was given, in memory that may be written to.

    Raises:
        CodecError: the frame is damaged, cut short, followed by other bytes, or holds another number of
            bytes.
    """
    return bytearray(unsqueeze_parts(payload, size, size))


def unsqueeze_parts(payload: bytes, least: int, most: int) -> bytes:
    """The bytes that were squeezed, `least` to `most` of them; raises `CodecError` as `unsqueeze` does."""
    if not hasattr(_THREAD, "decompressor"):
        _THREAD.decompressor = zstandard.ZstdDecompressor()
    try:
        # The size is looked at before anything is allocated: a damaged header may claim any number of bytes.
        found = zstandard.get_frame_parameters(payload).content_size
        if not least <= found <= most:
            raise CodecError(f"the zstd frame holds {found} bytes, but these features take {most}")
        if found > EXPANSION * len(payload):
            raise CodecError(f"the zstd frame of {len(payload)} bytes declares {found:,}, more than it can hold")
        body: bytes = _THREAD.decompressor.decompress(payload, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise CodecError(f"the zstd frame of {len(payload)} bytes is damaged or cut short: {error}") from error
    # A frame that has lost its content size flag decodes to what it likes; the length is the last word.
    if len(body) != found:
        raise CodecError(f"the zstd frame holds {len(body)} bytes, but these features take {found}")
    return body
