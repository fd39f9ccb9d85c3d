"""Caches that stand already: found, held against what is there now, and used or not."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path

from ..cache import Cache, CacheSpec, CacheWriter, Fingerprint, RemoteCaches, find_alike
from ..errors import CacheDirectoryError, CorruptChunkError, StaleCacheError
from ..samples import TrainingData
from .fingerprint import CHOICES, Content
from .sample_check import SampleCheck
from .staleness import compare
from .stored_features import Faults

__all__ = ["Standing"]


class Standing:
    """The caches of a directory that were finished by somebody.

    Args:
        stale: what is done with one that was made from something else: "rebuild", "error" or "reuse".
        remote: where one that is not in the directory may be, too.
    """

    def __init__(
        self, directory: Path, data: TrainingData, stale: str, faults: Faults, remote: RemoteCaches | None = None
    ) -> None:
        self._directory, self._data, self._stale = directory, data, stale
        self._faults, self._remote = faults, remote
        self._checked: tuple[Content, SampleCheck] | None = None
        self.distrusted: frozenset[Path] = frozenset()
        """Caches that turned out stale while they were read: a saved state may want them to stay, and this run does not
        read them."""

    def find(self, mine: Fingerprint, spec: CacheSpec, content: Content, remarks: list[str]) -> Cache | None:
        """A cache that was made from the same; or, where that is wanted, a stale one.

        Args:
            remarks: what is to be said of it in the freeze record is added.

        Raises:
            StaleCacheError: there is a stale one, and that is to be an error.
        """
        exact = self.opened(self._directory / mine.key)
        if exact is not None:
            if exact.path not in self.distrusted and self.usable(mine, exact, spec, content, remarks):
                return exact
            exact.release()
            return None
        for path, _ in find_alike(self._directory, mine, CHOICES)[:1]:
            alike = self.opened(path)
            if alike is None:
                continue
            if self.usable(mine, alike, spec, content, remarks, meant=False):
                return alike
            alike.release()
        return None

    def opened(self, path: Path) -> Cache | None:
        """The cache there, which nobody removes from now on; None where there is none, or one that cannot be read. What
        others have published is copied there first, but for its features."""
        if self._remote is not None and not path.exists():
            with self._faults.borne("goes on without looking at the URL"):
                self._remote.take(path.parent, path.name)
        try:
            return Cache.open(path).hold()
        except CacheDirectoryError:
            return None
        except (CorruptChunkError, StaleCacheError) as error:
            # Stale is here one of another version of the format.
            warnings.warn(f"hoarfrost builds the cache again: {error}", stacklevel=2)
            return None

    def usable(
        self,
        mine: Fingerprint,
        cache: Cache,
        spec: CacheSpec,
        content: Content,
        remarks: list[str],
        *,
        meant: bool = True,
    ) -> bool:
        """Whether a cache is to be read; what is to be said of it is said.

        Args:
            meant: whether it is this very one that is wanted; else that of another training is no news.

        Raises:
            StaleCacheError: it is stale, and that is to be an error.
        """
        samples = self._data.samples
        if cache.fingerprint.noted.get("targets") == "items":
            samples.distrust_targets()
        found = compare(mine, cache.fingerprint, targets_of_today=samples.identity.today is not None)
        if found.foreign:
            warnings.warn(f"hoarfrost builds the cache again: {mine.explain(cache.fingerprint)}", stacklevel=2)
            return False
        stale = found.stale
        if not stale.keys() - {"output"}:
            # Other images give another output: then they are named first.
            stale = {**self.check(cache, content).at_once(), **stale}
        if not stale:
            for text in found.said.values():
                warnings.warn(f"hoarfrost reads features that were stored before: {text}", stacklevel=2)
            remarks += found.said.values()
            return True
        told = "; ".join(stale.values())
        if self._stale == "error":
            raise StaleCacheError(
                f"{told}: {cache.path} was made from something else. Remove it, or say what is to be done with it, "
                'stale="rebuild" or "reuse"'
            )
        if self._stale == "reuse" and cache.spec == spec:
            warnings.warn(f"hoarfrost reuses stale features, as asked: {told}", stacklevel=2)
            remarks.append(f"stale features were reused: {told}")
            return True
        if meant or not found.trained:
            warnings.warn(f"hoarfrost builds the cache again: {told}: {cache.path} is stale", stacklevel=2)
        remarks.append(f"not read from {cache.path.name}: {told}")
        return False

    def note(self, writers: Iterable[CacheWriter[Cache]]) -> None:
        """Behind a build: whether items had the targets that their column told."""
        if self._data.samples.identity.targets is not None and self._data.samples.identity.today is None:
            for writer in writers:
                writer.fingerprint = writer.fingerprint.noting(targets="items")

    def check(self, cache: Cache, content: Content) -> SampleCheck:
        """Of the samples behind a cache that was found built; one for all that crosses a cut."""
        if self._checked is None or self._checked[0] is not content:
            self._checked = content, SampleCheck(cache, self._data.samples, self._data.order, content.look)
        return self._checked[1]
