"""Open files of shares that are being read: a bounded cache of descriptors."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs

from ampgrid.store.filesystem import FileSystem

#: The most files that are kept open for reading.
MOST_READERS = 128

ShareKey = tuple[bytes, int]


@attrs.define(eq=False)
class Reader:
    """An open share.

    Attributes:
        descriptor: of its file.
        size: of the share, bytes.
        users: number of threads that are reading from it.
        dropped: whether it is closed as soon as nobody reads.
    """

    descriptor: int
    size: int
    users: int = 0
    dropped: bool = False


class Readers:
    """A cache of open shares, the least recently used closed first; thread-safe.

    A reader that is borrowed is never closed: its number could be another file's by then.

    Attributes:
        changes: counts what was forgotten. A file that was looked up before a change may be that
            of a share which is gone, so it is not kept open for others.
    """

    def __init__(self, files: FileSystem) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._open: OrderedDict[ShareKey, Reader] = OrderedDict()
        self.changes = 0

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def borrow(self, key: ShareKey) -> Iterator[Reader | None]:
        """Lend the reader of a share, or None if none is open."""
        reader = self._take(key)
        try:
            yield reader
        finally:
            if reader is not None:
                self._give_back(reader)

    @contextmanager
    def open(
        self, key: ShareKey, path: Path, size: int, changes: int | None = None
    ) -> Iterator[Reader]:
        """Lend the reader of a share, opening it if need be.

        Args:
            key: the share.
            path: of its file.
            size: of the share, bytes.
            changes: what `changes` was before its row was looked up; None for now.

        Raises:
            OSError: the file could not be opened.
        """
        if changes is None:
            changes = self.changes
        reader = self._take(key) or self._add(key, self._files.open_read(path), size, changes)
        try:
            yield reader
        finally:
            self._give_back(reader)

    def forget(self, key: ShareKey) -> None:
        """Close the reader of a share that changes or goes."""
        with self._lock:
            self.changes += 1
            reader = self._open.pop(key, None)
            if reader is not None:
                self._drop(reader)

    def close(self) -> None:
        """Close all."""
        with self._lock:
            while self._open:
                self._drop(self._open.popitem()[1])

    def _take(self, key: ShareKey) -> Reader | None:
        with self._lock:
            reader = self._open.get(key)
            if reader is None:
                return None
            if not self._has_name(reader):
                # Deleted or replaced behind the store's back: what it had would be read on
                # and on, and nobody would learn that the share is lost.
                self.changes += 1
                self._drop(self._open.pop(key))
                return None
            self._open.move_to_end(key)
            reader.users += 1
            return reader

    def _has_name(self, reader: Reader) -> bool:
        try:
            return self._files.has_name(reader.descriptor)
        except OSError:
            return False

    def _add(self, key: ShareKey, descriptor: int, size: int, changes: int) -> Reader:
        with self._lock:
            if changes != self.changes:
                return Reader(descriptor, size, users=1, dropped=True)
            known = self._open.get(key)
            if known is not None:
                # Another thread opened it meanwhile.
                self._close(descriptor)
                known.users += 1
                return known
            reader = self._open[key] = Reader(descriptor, size, users=1)
            while len(self._open) > MOST_READERS:
                self._drop(self._open.popitem(last=False)[1])
            return reader

    def _give_back(self, reader: Reader) -> None:
        with self._lock:
            reader.users -= 1
            if reader.dropped and not reader.users:
                self._close(reader.descriptor)

    def _drop(self, reader: Reader) -> None:
        reader.dropped = True
        if not reader.users:
            self._close(reader.descriptor)

    def _close(self, descriptor: int) -> None:
        # Nothing was written through it, so a failure loses nothing; the descriptor is gone.
        with suppress(OSError):
            self._files.close(descriptor)
