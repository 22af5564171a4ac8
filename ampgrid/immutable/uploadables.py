"""What can be uploaded: bytes, a file, a stream that is spooled first (seed 001's IUploadable).

The convergent key needs the whole plaintext before the first byte can be enciphered, so what is
uploaded is read twice, at any offset, from worker threads. What changes between the two passes is
refused: one key and counter must never encipher two plaintexts. A stream waits in
`ampgrid.immutable.spool`.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Protocol

from ampgrid.errors import FileChangedError, FileError

#: Files up to this size are hashed and encoded without a thread, bytes.
SMALL_BYTES = 16 * 1024


class Uploadable(Protocol):
    """A fixed number of bytes that can be read at any offset. Its methods may block."""

    def get_size(self) -> int:
        """Return the number of bytes."""
        ...

    def read_at(self, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes from ``offset`` on.

        Raises:
            FileError: they cannot be read.
            FileChangedError: they are not there any more.
        """
        ...

    def is_steady(self) -> bool:
        """Tell whether every read gives the same bytes, or fails."""
        ...

    def check_unchanged(self) -> None:
        """Look whether it is still what it was when it was opened.

        Raises:
            FileChangedError: it is not.
        """
        ...

    def close(self) -> None:
        """Let go of what is held."""
        ...


class Data:
    """Bytes in memory.

    Args:
        data: what is uploaded.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data

    def get_size(self) -> int:
        """Return the number of bytes."""
        return len(self._data)

    def read_at(self, offset: int, length: int) -> bytes:
        """Return bytes."""
        return self._data[offset : offset + length]

    def is_steady(self) -> bool:
        """Tell that bytes stay what they are."""
        return True

    def check_unchanged(self) -> None:
        """Do nothing: bytes stay what they are."""

    def close(self) -> None:
        """Let go of the bytes."""
        self._data = b""


class OpenFile:
    """A regular file, by its descriptor, which it closes in the end.

    Args:
        descriptor: open for reading, of a regular file.

    Raises:
        FileError: it is not a regular file, or one that does not tell its size.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._mark = self._look()
        self._size: int = self._mark[0]
        # Files of the kernel (/proc, /sys) say 0 and hold something.
        if not self._size and self._read_some():
            raise FileError("it does not tell its size; pipe it in with '-' instead")

    def _read_some(self) -> bytes:
        try:
            return os.pread(self._descriptor, 1, 0)
        except OSError as error:
            raise FileError(f"cannot read the file: {error.strerror}") from error

    @classmethod
    def at(cls, path: Path, *, follow: bool = True, folder: int | None = None) -> OpenFile:
        """Open the regular file at ``path``.

        Args:
            path: of the file.
            follow: False to refuse a symbolic link there.
            folder: descriptor of the directory from which the path leads; None for where we are.

        Raises:
            FileError: it cannot be opened, or is no regular file.
        """
        try:
            # Without O_NONBLOCK the open of a named pipe would wait for its writer.
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
            descriptor = os.open(path, flags if follow else flags | os.O_NOFOLLOW, dir_fd=folder)
        except OSError as error:
            raise FileError(f"cannot read the file: {error.strerror}") from error
        try:
            return cls(descriptor)
        except BaseException:
            os.close(descriptor)
            raise

    def _look(self) -> tuple[int, ...]:
        found = os.fstat(self._descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise FileError("not a regular file; pipe it in with '-' instead")
        return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev

    def get_size(self) -> int:
        """Return the number of bytes that it had when it was opened."""
        return self._size

    def read_at(self, offset: int, length: int) -> bytes:
        """Return bytes of the file."""
        try:
            data = os.pread(self._descriptor, length, offset)
            while 0 < len(data) < length:
                more = os.pread(self._descriptor, length - len(data), offset + len(data))
                if not more:
                    break
                data += more
        except OSError as error:
            raise FileError(f"cannot read the file: {error.strerror}") from error
        if len(data) != length:
            raise FileChangedError("the file became shorter while it was being uploaded")
        return data

    def is_steady(self) -> bool:
        """Tell that others may write the file."""
        return False

    def check_unchanged(self) -> None:
        """Compare size and times with those at the beginning."""
        if self._look() != self._mark:
            raise FileChangedError("the file changed while it was being uploaded; try again")

    def close(self) -> None:
        """Close the descriptor."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
