"""Which samples are stored, read and shuffled together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import ArgumentError
from ..plain_fields import check_plain_fields
from .checks import check_count, check_word

__all__ = ["Chunks"]

MEMBERS = ("random", "neighbours")


@dataclass(frozen=True)
class Chunks:
    """Which samples a chunk holds, the same ones in every epoch.

    Args:
        size: samples of each; the last one may have fewer.
        members: "random" parts of the data set, or "neighbours" in its own order, as in Yang et al. 2025: then a data
            set that is sorted by class has chunks of one class, so bring it into a random order first.

    Raises:
        ArgumentError: a size below 1, or an unknown word.
    """

    size: int = 64
    members: str = "random"

    def __post_init__(self) -> None:
        check_count("the size of chunks", self.size, "a whole number of at least 1")
        check_plain_fields(self, "chunks: ")
        check_word("the members of chunks", self.members, MEMBERS)

    @classmethod
    def of(cls, value: int | Chunks | Mapping[str, Any]) -> Chunks:
        """Chunks from their size, from `plain()`, or as they are."""
        if isinstance(value, Mapping):
            try:
                return cls(**value)
            except TypeError as error:
                raise ArgumentError(f"chunks are told by the fields of hoarfrost.Chunks: {error}") from error
        return value if isinstance(value, Chunks) else cls(value)

    def plain(self) -> int | dict[str, Any]:
        """As JSON takes it: the size alone, where the rest is as ever."""
        return self.size if self == Chunks(self.size) else asdict(self)

    @property
    def neighbours(self) -> bool:
        return self.members == "neighbours"
