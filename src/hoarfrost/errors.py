"""Everything that Hoarfrost raises, as one tree.

```
HoarfrostError
├── ArgumentError            a call's argument is of the wrong kind or out of range (also a ValueError)
├── CutError
│   ├── NoCutError           the model has no place where it can be divided
│   ├── UnknownCutError      no cut has that name; the near ones are listed
│   └── InvalidCutError      dividing there would change what the model computes
├── DataError
│   ├── DatasetError         empty, too small, or of no known length
│   ├── UnstableDataError    one index gives different images, though no transform was handed over
│   ├── UnstableTransformError  a transform gives two images for one sample under one draw; names the step
│   ├── ImageShapeError      images of differing sizes reach the model
│   └── NonFiniteError       NaN or infinity in features; names the sample and the channel
├── FrontChangedError        somebody wrote into a frozen front, whose features are stored, or replaced a layer of it
├── PolicyError              a policy asked for a depth that does not exist, or to thaw though it never does
│   └── UnwatchedError       it wants to see rates, gradients or features where nothing trains
├── CodecError               features or bytes that a codec cannot take; an unknown codec
├── CacheError
│   ├── CacheDirectoryError  the cache directory is a file, cannot be written, or has vanished
│   ├── CacheBusyError       another run is writing there
│   ├── StaleCacheError      the cache was made from something else; names the field that differs
│   ├── CorruptChunkError    a chunk is missing, cut short, or fails its checksum
│   ├── RemoteCacheError     what a URL names cannot be reached, read or written
│   └── BudgetError          the features do not fit the disk budget
├── RankError                another process of a distributed training has failed, ended, or is elsewhere in its loop
├── RunBusyError             another process is training in the same folder
└── CheckpointError          a checkpoint that does not fit this run
```
"""

from __future__ import annotations

__all__ = [
    "ArgumentError",
    "BudgetError",
    "CacheBusyError",
    "CacheDirectoryError",
    "CacheError",
    "CheckpointError",
    "CodecError",
    "CorruptChunkError",
    "CutError",
    "DataError",
    "DatasetError",
    "FrontChangedError",
    "HoarfrostError",
    "ImageShapeError",
    "InvalidCutError",
    "NoCutError",
    "NonFiniteError",
    "PolicyError",
    "RankError",
    "RemoteCacheError",
    "RunBusyError",
    "StaleCacheError",
    "UnknownCutError",
    "UnstableDataError",
    "UnstableTransformError",
    "UnwatchedError",
]


class HoarfrostError(Exception):
    """The root: `except hoarfrost.HoarfrostError` catches all that Hoarfrost raises on purpose."""


class ArgumentError(HoarfrostError, ValueError):
    """A call's argument is of the wrong kind or out of range."""


class CutError(HoarfrostError):
    """A model cannot be divided as asked."""


class NoCutError(CutError):
    """The model has no place where it can be divided."""


class UnknownCutError(CutError):
    """No cut has that name."""


class InvalidCutError(CutError):
    """Dividing there would change what the model computes."""


class DataError(HoarfrostError):
    """The data cannot be trained on as they are."""


class DatasetError(DataError):
    """A data set that is empty, too small, or of no known length."""


class UnstableDataError(DataError):
    """One index gives different images, though no transform was handed over."""


class UnstableTransformError(DataError):
    """A transform gives two images for one sample under one draw; the message names the step."""


class ImageShapeError(DataError):
    """Images of differing sizes reach the model."""


class NonFiniteError(DataError):
    """NaN or infinity in features."""


class FrontChangedError(HoarfrostError):
    """Somebody wrote into a frozen front, whose features are stored, or replaced a layer of it; names what changed."""


class PolicyError(HoarfrostError):
    """A policy asked for what cannot be done."""


class UnwatchedError(PolicyError):
    """A policy wants to see rates, gradients or features where nothing trains."""


class CodecError(HoarfrostError):
    """Features or bytes that a codec cannot take."""


class CacheError(HoarfrostError):
    """The stored features cannot be used or written."""


class CacheDirectoryError(CacheError):
    """The cache directory is a file, cannot be written, or has vanished."""


class CacheBusyError(CacheError):
    """Another run is writing to the same cache directory."""


class StaleCacheError(CacheError):
    """The cache was made from something else; the message names the field that differs."""


class CorruptChunkError(CacheError):
    """A chunk is missing, cut short, or fails its checksum."""


class RemoteCacheError(CacheError):
    """The caches at a URL cannot be reached, read or written; the message has the reason of the file system there."""


class BudgetError(CacheError):
    """The features do not fit the disk budget."""


class RankError(HoarfrostError):
    """Another process of a distributed training has failed, ended, or is elsewhere in its loop; names it.

    Attributes:
        told: whether that process knows of its failure, and has raised it itself.
    """

    def __init__(self, text: str, *, told: bool = False) -> None:
        super().__init__(text)
        self.told = told


class RunBusyError(HoarfrostError):
    """Another process is training in the same folder."""


class CheckpointError(HoarfrostError):
    """A checkpoint that does not fit this run."""
