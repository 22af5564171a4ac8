"""What the store does when the disk fails: it stops accepting until a probe has passed.

After a failed fsync the system forgets which pages it could not write, and the next fsync may
succeed without them. So a share whose fsync failed is never tried again, and nothing more is
accepted until a probe file was written, synchronised and removed.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ampgrid.errors import BrokenStoreError, NoRoomError
from ampgrid.store.filesystem import FileSystem

#: The least time between two probes, seconds.
PROBE_SECONDS = 30

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_TOO_MANY = frozenset({errno.EMFILE, errno.ENFILE})


class Health:
    """Whether the store accepts; thread-safe.

    Args:
        files: the file system.
        probe: path of the probe file.

    Attributes:
        untidy: whether a failure may have left behind what the next start has to look for.
    """

    def __init__(self, files: FileSystem, probe: Path) -> None:
        self._files = files
        self._probe_path = probe
        self._lock = threading.Lock()
        self.untidy = False
        self._broken = False
        self._last_probe: int | None = None

    @property
    def broken(self) -> bool:
        """Whether the disk failed and no probe has passed since."""
        return self._broken

    def mark_broken(self) -> None:
        """Note that the disk failed."""
        self.untidy = True
        self._broken = True

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Turn errors of the system into the store's, while something is written.

        Raises:
            NoRoomError: the disk is full, or too many files are open; the store goes on.
            BrokenStoreError: anything else; the store accepts no more.
        """
        try:
            yield
        except OSError as error:
            if error.errno in _FULL:
                raise NoRoomError("the disk is full: free some room") from error
            if error.errno in _TOO_MANY:
                raise NoRoomError("too many files are open: raise the limit") from error
            self.mark_broken()
            raise BrokenStoreError(f"the disk failed: {error.strerror}") from error

    @contextmanager
    def synchronising(self) -> Iterator[None]:
        """Turn errors of fsync, and of what puts things in order, into the store's; all are final.

        Raises:
            BrokenStoreError: the store accepts no more until probed.
        """
        try:
            yield
        except OSError as error:
            self.mark_broken()
            raise BrokenStoreError(f"the disk failed: {error.strerror}") from error

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Turn errors of the system into the store's, while something is read.

        Raises:
            BrokenStoreError: this could not be read; the store goes on.
        """
        try:
            yield
        except OSError as error:
            raise BrokenStoreError(f"a share could not be read: {error.strerror}") from error

    def check(self, now: int) -> None:
        """Return if the store accepts, after a probe if it did not and one is due.

        Args:
            now: the time, seconds since 1970; if the clock was set back, a probe is due.

        Raises:
            BrokenStoreError: it does not.
        """
        if not self._broken:
            return
        with self._lock:
            due = self._last_probe is None or abs(now - self._last_probe) >= PROBE_SECONDS
            if self._broken and due:
                self._last_probe = now
                self._broken = not self._probe()
            if self._broken:
                raise BrokenStoreError("the disk failed, and the store accepts nothing")

    def _probe(self) -> bool:
        files, path = self._files, self._probe_path
        try:
            files.unlink(path)
            descriptor = files.open_new(path)
            try:
                files.write_at(descriptor, 0, [b"probe" * 1000])
                files.fsync(descriptor)
            finally:
                files.close(descriptor)
            files.fsync_directory(path.parent)
            files.unlink(path)
        except OSError:
            return False
        return True
