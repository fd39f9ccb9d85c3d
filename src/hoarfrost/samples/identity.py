"""What can be told of a data set's samples without reading them, and a digest of each that was read."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ..cache import digest_item, hash_samples
from ..cuts import leaves
from ..errors import UnstableDataError
from ..provenance import code_of
from .columns import Column, TargetColumn, columns_of, find_targets, parts_of
from .places import Key, at, items_of

__all__ = [
    "Files",
    "Identity",
    "Look",
    "digests_from",
    "digests_nbytes",
    "digests_to",
    "identity_of",
    "read_alike",
    "rest_of",
    "same_input",
    "spread",
]

INPUT_BYTES, REST_BYTES = 8, 4
"""Of a sample's digest: for its input, and for all else of its item."""

TOGETHER = 1 << 16
"""Rows of a tensor that are hashed at once, so that no copy of all is made."""


@dataclass(frozen=True)
class Files:
    """The files that inputs come from.

    Attributes:
        column: of their names.
        part: which part of an entry is the name; None: the entry is.
        folder: attribute of the data set that names are below; None: they stand for themselves.
    """

    column: Column
    part: Any
    folder: str | None

    def names(self, samples: int) -> list[str]:
        """Of each sample, as the data set has it."""
        held, place = self.column.entries, self.column.place
        entries = [held[place(number)] for number in range(samples)]
        return [os.fspath(entry if self.part is None else entry[self.part]) for entry in entries]

    def stats(self, names: Sequence[str]) -> NDArray[np.int64]:
        """Size in bytes and time of change in nanoseconds of each, [N, 2]; (-1, 0) where they cannot be had."""
        folder = _folder(self.column.holder, self.folder)
        return np.array([_stat(folder + name) for name in names], np.int64)


@dataclass(frozen=True)
class Look:
    """What was seen of all samples at one time, none of their inputs read.

    Attributes:
        data, targets: fields of a fingerprint.
        times: of change of the inputs' files, int64 [N]; None where they come from none.
    """

    data: dict[str, Any]
    targets: str
    times: NDArray[np.int64] | None

    @property
    def noted_times(self) -> str | None:
        """A hash of the times."""
        return None if self.times is None else hash_samples([self.times])

    def younger(self, than: int) -> list[int]:
        """Samples whose files were changed since a time in nanoseconds."""
        return [] if self.times is None else np.flatnonzero(self.times > than).tolist()


@dataclass(frozen=True)
class Identity:
    """How the samples of a data set are told from others.

    Attributes:
        probed: a hash over a few inputs, and over what shapes all of them: which part is the input, the collate.
        probed_targets: likewise of a few targets.
        code: of the data set and the collate, by name.
        memory: the column that inputs lie in, where that is in memory.
        files: where they come from files.
        targets: where targets can be had without inputs.
        target: key of the target in an item.
        trusted: whether every item that was read had the target of that column.
    """

    samples: int
    probed: str
    probed_targets: str
    code: dict[str, str]
    memory: Column | None
    files: Files | None
    targets: TargetColumn | None
    target: Key | None
    trusted: bool = True

    @property
    def today(self) -> TargetColumn | None:
        """Targets as they are now; None where they are in the items alone."""
        return self.targets if self.trusted else None

    @property
    def known(self) -> bool:
        """Whether a change of an input shows without reading it."""
        return self.memory is not None or self.files is not None

    @property
    def stamp(self) -> tuple[int, int] | None:
        """Which tensor inputs lie in, and how often it was written to; None where they lie in none."""
        held = None if self.memory is None else self.memory.entries
        return (id(held), held._version) if isinstance(held, Tensor) and not held.is_inference() else None

    def look(self) -> Look:
        """Reads memory, and asks the file system."""
        data: dict[str, Any] = {"probed": self.probed, "code": self.code}
        targets, times = self.probed_targets, None
        if self.memory is not None:
            data["memory"] = self._hash(self.memory)
        if self.files is not None:
            names = self.files.names(self.samples)
            stats = self.files.stats(names)
            # No name holds a zero: so they stay apart in one text, which is hashed in a hundredth of the time.
            data["names"], data["sizes"] = hash_samples(["\0".join(_below(names))]), hash_samples([stats[:, 0]])
            times = stats[:, 1]
        if self.targets is not None:
            # Some at a time: targets may be masks.
            targets = hash_samples(self.targets.of(ids) for ids in torch.split(torch.arange(self.samples), TOGETHER))
        return Look(data, targets, times)

    def checked(self, ids: Tensor, targets: Tensor) -> Identity:
        """The same; the column of targets is not trusted any more where items that were read have others [n, ...]."""
        if self.today is None or torch.equal(self.today.of(ids), targets):
            return self
        return replace(self, trusted=False)

    def digest(self, item: Any, input_of: Callable[[Any], Any]) -> bytes:
        """Of a sample's input, and of all else of its item that is not had without it."""
        rest = rest_of(item, input_of, None if self.targets is None else self.target)
        return digest_item(input_of(item), INPUT_BYTES) + digest_item(rest, REST_BYTES)

    def _hash(self, column: Column) -> str:
        """Of all entries that samples have, without their targets."""
        held = column.entries
        if isinstance(held, (Tensor, np.ndarray)):
            if column.indices is None:
                return hash_samples([held])
            parts = np.array_split(np.asarray(column.indices), max(1, -(-self.samples // TOGETHER)))
            return hash_samples(held[torch.from_numpy(p)] if isinstance(held, Tensor) else held[p] for p in parts)
        entries = (held[column.place(number)] for number in range(self.samples))
        of = self.targets
        if of is None or of.part is None or of.column.name != column.name:
            return hash_samples(entries)
        return hash_samples([entry[k] for k in parts_of(entry) if k not in (None, of.part)] for entry in entries)


def read_alike(
    dataset: Any, read: Callable[[Sequence[int]], list[Any]], ids: Sequence[int], digest: Callable[[list[Any]], str]
) -> list[Any]:
    """Some items, read three times.

    Raises:
        UnstableDataError: one is not the same each time.
    """
    first = read(ids)
    for _ in range(2):
        for number, one, other in zip(ids, first, read(ids), strict=True):
            if digest([one]) != digest([other]):
                raise UnstableDataError(
                    f"{type(dataset).__name__} gave two different images for index {number}, "
                    "so stored features would freeze one random augmentation for ever. "
                    "Let the data set give unaugmented images, and hand the augmentation over: "
                    "Freezer(model, dataset, transform=...), or by the same keyword in a framework's trainer"
                )
    return first


def identity_of(
    dataset: Any,
    ids: Sequence[int],
    items: Sequence[Any],
    *,
    input_of: Callable[[Any], Any],
    target: Key | None,
    shaped_by: Sequence[Any] = (),
    collate: Any = None,
) -> Identity:
    """Look for the columns of a data set, by a few items that were read.

    Args:
        ids, items: these.
        input_of: item -> its input.
        target: key of the target in an item; None where no column is to be looked for.
        shaped_by: what beside the items shapes what a model is called with.
        collate: of the user's own.
    """
    found = None if target is None else find_targets(dataset, ids, items, lambda item: at(item, target), digest_item)
    digests = {number: digest_item(input_of(item)) for number, item in zip(ids, items, strict=True)}
    memory, files = None, None
    for column in columns_of(dataset, digests, lambda item: digest_item(input_of(item))):
        files = files or _files(column, ids)
        if memory is None and _hashable(column, ids):
            memory = column
    inputs, rests = list(map(input_of, items)), [rest_of(item, input_of, target) for item in items]
    targets = [] if target is None else [at(item, target) for item in items]
    reads = ("__getitem__", "__getitems__")
    members = [(type(held), name) for held in _reading(dataset) for name in reads]
    return Identity(
        samples=len(dataset),
        probed=hash_samples([*inputs, *rests, *shaped_by]),
        probed_targets=hash_samples(targets),
        code=code_of([] if collate is None else [collate], members=members),
        memory=memory if files is None else None,
        files=files,
        targets=found,
        target=target,
    )


def rest_of(item: Any, input_of: Callable[[Any], Any], without: Key | None) -> list[Any]:
    """All of an item but its input, and but what stands under a key."""
    main = input_of(item)
    if main is item:
        return []
    held = items_of(item) or {}
    kept = [part for key, part in held.items() if without is None or key != without]
    return [leaf for leaf in leaves(kept) if leaf is not main]


def _reading(dataset: Any) -> list[Any]:
    """A data set and all that it reads from: those that it holds, in lists and mappings too, and what they hold."""
    found, seen = [dataset], {id(dataset)}
    for one in found:
        for held in getattr(one, "__dict__", {}).values():
            parts = held.values() if isinstance(held, dict) else held if isinstance(held, (list, tuple)) else (held,)
            inner = [part for part in parts if isinstance(part, Dataset) and id(part) not in seen]
            seen.update(map(id, inner))
            found += inner
    return found


def _hashable(column: Column, ids: Sequence[int]) -> bool:
    """Whether entries are values; else nobody knows what they stand for."""
    try:
        hash_samples([column.entries[column.place(number)] for number in ids])
    except Exception:
        return False
    return True


def _files(column: Column, ids: Sequence[int]) -> Files | None:
    """The same column as names of files, where these are there."""
    entries = [column.entries[column.place(number)] for number in ids]
    for part in parts_of(entries[0]):
        try:
            names = [entry if part is None else entry[part] for entry in entries]
        except (TypeError, IndexError, KeyError):
            continue
        if not all(isinstance(name, (str, Path)) and str(name) for name in names):
            continue
        told = getattr(column.holder, "__dict__", {})
        folders: list[str | None] = [None, *(key for key, held in told.items() if isinstance(held, (str, Path)))]
        for folder in folders:
            at = _folder(column.holder, folder)
            if all(Path(at + os.fspath(name)).is_file() for name in names):
                return Files(column, part, folder)
    return None


def _folder(holder: Any, attribute: str | None) -> str:
    """What names are to be put behind."""
    return "" if attribute is None else os.fspath(getattr(holder, attribute)) + os.sep


def _below(names: list[str]) -> list[str]:
    """Names below the folder that all have in common, so that a data set may be moved."""
    if len(set(names)) < 2 or not all(map(os.path.isabs, names)):
        return names
    shared = os.path.commonpath([min(names), max(names)])
    return [name[len(shared) :] for name in names]


def _stat(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)  # noqa: PTH116 (of all files of a data set: a Path takes twice the time)
    except OSError:
        return -1, 0
    return found.st_size, found.st_mtime_ns


def digests_to(digests: Sequence[bytes]) -> str:
    """Of the samples of a chunk, for the journal."""
    return base64.b64encode(b"".join(digests)).decode("ascii")


def digests_nbytes(samples: int) -> int:
    """Of what `digests_to` tells of so many samples."""
    return 4 * -(-samples * (INPUT_BYTES + REST_BYTES) // 3)


def digests_from(told: str, samples: int) -> list[bytes] | None:
    """The inverse of `digests_to`; None where that tells of another number of samples."""
    try:
        data = base64.b64decode(told, validate=True)
    except ValueError:
        return None
    size = INPUT_BYTES + REST_BYTES
    return [data[at : at + size] for at in range(0, len(data), size)] if len(data) == samples * size else None


def same_input(one: bytes, other: bytes) -> bool:
    """Whether two digests are of samples with the same input, whatever else their items hold."""
    return one[:INPUT_BYTES] == other[:INPUT_BYTES]


def spread(samples: int, most: int) -> list[int]:
    """At most so many numbers of samples, from the first to the last."""
    count = min(most, samples)
    return sorted({round(i * (samples - 1) / (count - 1)) for i in range(count)})
