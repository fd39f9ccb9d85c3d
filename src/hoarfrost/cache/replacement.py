"""What is written in a record's place: the same features again, where they were damaged, or another rendition."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from .chunk import Chunk

__all__ = ["Replaceable", "Replacement"]


@dataclass(frozen=True, eq=False)
class Replacement:
    """A record that is to be written anew.

    Attributes:
        edition: of what is written; None: the record's own, which is damaged and must last again.
        budget_bytes: that the whole cache may take.
        lengths: of the samples, where they differ in length.
        digests: of the samples' own bytes, where no record of the chunk has them.
        frames: of their images, likewise.
    """

    chunk: int
    view: int
    features: Tensor
    targets: Tensor | None
    sample_ids: Sequence[int] | Tensor | None
    edition: int | None = None
    budget_bytes: int | None = None
    lengths: Sequence[int] | Tensor | None = None
    digests: str | None = None
    frames: Sequence[int] | None = None

    @property
    def heals(self) -> bool:
        return self.edition is None


class Replaceable(ABC):
    """A finished cache whose records can be healed and renewed."""

    def heal(
        self,
        chunk: int,
        view: int,
        features: Tensor,
        *,
        targets: Tensor | None = None,
        sample_ids: Sequence[int] | Tensor | None = None,
        lengths: Sequence[int] | Tensor | None = None,
    ) -> Chunk:
        """Writes a record anew, from features that were computed again (`[n, C, H, W]`, as for `append`), and reads it.

        The new bytes go where no record lies and the journal's new line comes last, so that a crash leaves the
        old state. `targets`, `sample_ids` and `lengths` are needed only where the stored ones are damaged too;
        those given must be the same as those that the cache was built with.

        Raises:
            ArgumentError: a place, shape or dtype that the spec has not, or targets or ids that differ.
            CorruptChunkError: targets or ids are damaged too, and were not given.
            CacheBusyError: another process is healing, and did not end within 30 seconds.
            BudgetError: the disk is full.
            CacheDirectoryError: the directory has vanished or cannot be written.
        """
        return self._replace(Replacement(chunk, view, features, targets, sample_ids, lengths=lengths))

    def renew(
        self,
        chunk: int,
        view: int,
        edition: int,
        features: Tensor,
        *,
        targets: Tensor | None = None,
        sample_ids: Sequence[int] | Tensor | None = None,
        budget_bytes: int | None = None,
        lengths: Sequence[int] | Tensor | None = None,
        digests: str | None = None,
        frames: Sequence[int] | None = None,
    ) -> Chunk:
        """Writes another rendition of a record in its place, or the first one where it was never written.

        As `heal`, but the bytes take the room of earlier ones that nothing needs, and are not forced to the disk: what
        a power failure destroys shows by its checksum, and is computed again. Targets and ids are needed for the first
        record of a chunk.

        Args:
            edition: which rendition this is; `edition` and `read` tell it.
            budget_bytes: that the whole cache may take.
            digests, frames: as for `CacheWriter.append`, of a chunk of which nothing was written yet.

        Raises:
            BudgetError: it would take more than `budget_bytes`, or the disk is full. The old record stays.
            Further: as `heal`.
        """
        return self._replace(
            Replacement(chunk, view, features, targets, sample_ids, edition, budget_bytes, lengths, digests, frames)
        )

    @abstractmethod
    def _replace(self, new: Replacement) -> Chunk:
        """Writes it, and reads it back."""
