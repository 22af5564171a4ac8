"""What a running backup remembers: the database, written to in groups, or nothing for a trial."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from attrs import evolve

from ampgrid.store.backupdb import KnownDirectory, KnownFile

#: So many changes are written together, or those of so many seconds.
_GROUP = 64
_GROUP_SECONDS = 1.0
#: That a file was met is written down when it was not for so long, seconds.
_SEEN_SECONDS = 7 * 86_400.0
#: Files that were not met, and directories that were not found sound, for so long are forgotten,
#: seconds.
FORGET_FILES_SECONDS = 90 * 86_400.0
FORGET_DIRECTORIES_SECONDS = 400 * 86_400.0


class Database(Protocol):
    """What is needed of `ampgrid.store.backupdb.BackupDatabase`."""

    def file(self, path: bytes) -> KnownFile | None:
        """Return what is known of a file."""
        ...

    def directory(self, contents: bytes) -> KnownDirectory | None:
        """Return the directory that holds just these contents."""
        ...

    def record(
        self, files: Sequence[KnownFile] = ..., directories: Sequence[KnownDirectory] = ...
    ) -> None:
        """Remember files and directories, all or nothing."""
        ...


class NothingKnown:
    """The database of who has none yet; it keeps nothing."""

    def file(self, path: bytes) -> KnownFile | None:  # noqa: ARG002 - as Database has it
        """Know of no file."""
        return None

    def directory(self, contents: bytes) -> KnownDirectory | None:  # noqa: ARG002
        """Know of no directory."""
        return None

    def record(
        self, files: Sequence[KnownFile] = (), directories: Sequence[KnownDirectory] = ()
    ) -> None:
        """Keep nothing."""


class Memory:
    """A database that is written to in groups, so that a kill costs the work of a second.

    Args:
        database: what is known, and where it goes.
        now: returns seconds since 1970.
        keep: whether anything is written.
    """

    def __init__(self, database: Database, now: Callable[[], float], *, keep: bool = True) -> None:
        self._database = database
        self._now = now
        self._keep = keep
        self._files: dict[bytes, KnownFile] = {}
        self._directories: dict[bytes, KnownDirectory] = {}
        self._flushed_at = now()

    def file(self, path: bytes) -> KnownFile | None:
        """Return what is known of a file."""
        return self._files.get(path) or self._database.file(path)

    def directory(self, contents: bytes) -> KnownDirectory | None:
        """Return the directory that holds just these contents."""
        return self._directories.get(contents) or self._database.directory(contents)

    def add_file(self, file: KnownFile) -> None:
        """Remember a file."""
        self._files[file.path] = file
        self._flush_some()

    def add_directory(self, directory: KnownDirectory) -> None:
        """Remember a directory."""
        self._directories[directory.contents] = directory
        self._flush_some()

    def met(self, file: KnownFile) -> None:
        """Note that a file is still there as it was."""
        now = self._now()
        if abs(now - file.seen_at) > _SEEN_SECONDS:
            self.add_file(evolve(file, seen_at=now))

    def _flush_some(self) -> None:
        waiting = len(self._files) + len(self._directories)
        if waiting >= _GROUP or abs(self._now() - self._flushed_at) >= _GROUP_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write all that waits.

        Raises:
            StoreError: it could not be written.
        """
        self._flushed_at = self._now()
        if self._keep and (self._files or self._directories):
            self._database.record(list(self._files.values()), list(self._directories.values()))
        self._files, self._directories = {}, {}
