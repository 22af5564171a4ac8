"""The one place where shares, and blobs of others, touch the disk: a small port and its adapters.

Everything that the store does to files goes through `FileSystem`, so that a file system which
fails its Nth call, or which remembers what was never synchronised, can take the place of
`PosixFileSystem`. All calls block; all errors are the `OSError` of the system.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

#: The most buffers that one system call takes (Linux: UIO_MAXIOV).
_MOST_BUFFERS = 1024

#: What a file system answers that cannot tell whether a read would block.
_CANNOT_TELL = frozenset({errno.EAGAIN, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})

#: Of ``fcntl.h``: begin to write what is not being written yet.
_RANGE_WRITE = 2

#: What the removal of a directory is answered with that is not empty.
_NOT_EMPTY = frozenset({errno.ENOTEMPTY, errno.EEXIST})


def _find_sync_file_range() -> Any:
    """Return the system's function (Linux has it), or None."""
    function = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if function is not None:
        function.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
        function.restype = ctypes.c_int
    return function


_sync_file_range = _find_sync_file_range()


class FileSystem(Protocol):
    """What the store asks of the disk. A descriptor is an integer that `close` takes back."""

    @property
    def durable(self) -> bool:
        """Whether `fsync` waits for the disk; the databases beside the files do the same."""
        ...

    def make_directory(self, path: Path) -> None:
        """Make a directory for this user alone; it may be there already."""
        ...

    def names(self, path: Path) -> list[str]:
        """Return the names in a directory, none if it does not exist."""
        ...

    def open_new(self, path: Path) -> int:
        """Create a file for reading and writing; it must not exist."""
        ...

    def open_again(self, path: Path) -> int:
        """Open an existing file for reading and writing."""
        ...

    def open_read(self, path: Path) -> int:
        """Open an existing file for reading."""
        ...

    def close(self, descriptor: int) -> None:
        """Close a descriptor."""
        ...

    def write_at(self, descriptor: int, offset: int, buffers: Sequence[bytes]) -> None:
        """Write all bytes of the buffers one after the other, from ``offset`` on."""
        ...

    def allocate(self, descriptor: int, size: int) -> None:
        """Take room on the disk for a file of ``size`` bytes, which then reads as zeros."""
        ...

    def read_at(self, descriptor: int, offset: int, length: int) -> bytes:
        """Read up to ``length`` bytes; fewer only at the end of the file."""
        ...

    def read_at_once(self, descriptor: int, offset: int, length: int) -> bytes | None:
        """Read exactly ``length`` bytes if that needs no waiting, else return None."""
        ...

    def size_of(self, path: Path) -> int | None:
        """Return the size of a regular file in bytes, None if there is none."""
        ...

    def has_name(self, descriptor: int) -> bool:
        """Tell whether an open file still has a name: a deleted one can be read on. Quick."""
        ...

    def length_of(self, descriptor: int) -> int:
        """Return the size of an open file in bytes. Quick."""
        ...

    def start_sync(self, descriptor: int) -> None:
        """Let the system begin to bring to the disk what was written; `fsync` tells of failures.

        It need not do anything, and waits for nothing but the disk's queue.
        """
        ...

    def fsync(self, descriptor: int) -> None:
        """Return when all that was written is on the disk. A failure is final."""
        ...

    def fsync_directory(self, path: Path) -> None:
        """Return when the names in the directory are on the disk. A failure is final."""
        ...

    def rename(self, old: Path, new: Path) -> None:
        """Give a file another name, replacing what had it."""
        ...

    def unlink(self, path: Path) -> None:
        """Remove a file; it may be gone already."""
        ...

    def remove_directory(self, path: Path) -> bool:
        """Remove a directory if it is empty; tell whether it is gone."""
        ...

    def free_bytes(self, path: Path) -> int:
        """Return how many bytes this user may still write on the disk of ``path``."""
        ...


class PosixFileSystem:
    """The file system of the operating system."""

    durable = True

    def make_directory(self, path: Path) -> None:
        """Make a directory for this user alone; it may be there already."""
        path.mkdir(mode=0o700, exist_ok=True)

    def names(self, path: Path) -> list[str]:
        """Return the names in a directory, none if it does not exist."""
        try:
            return sorted(entry.name for entry in path.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []

    def open_new(self, path: Path) -> int:
        """Create a file for reading and writing; it must not exist."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(path, flags, 0o600)

    def open_again(self, path: Path) -> int:
        """Open an existing file for reading and writing."""
        return os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)

    def open_read(self, path: Path) -> int:
        """Open an existing file for reading."""
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def close(self, descriptor: int) -> None:
        """Close a descriptor."""
        os.close(descriptor)

    def write_at(self, descriptor: int, offset: int, buffers: Sequence[bytes]) -> None:
        """Write all bytes of the buffers one after the other, from ``offset`` on."""
        waiting: list[bytes | memoryview] = list(buffers)
        while waiting:
            written = os.pwritev(descriptor, waiting[:_MOST_BUFFERS], offset)
            offset += written
            # A disk that is nearly full, or a signal, may take a part only.
            done = 0
            while done < len(waiting) and written >= len(waiting[done]):
                written -= len(waiting[done])
                done += 1
            del waiting[:done]
            if written:
                waiting[0] = memoryview(waiting[0])[written:]

    def allocate(self, descriptor: int, size: int) -> None:
        """Take room on the disk for a file of ``size`` bytes, which then reads as zeros."""
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)
        else:  # pragma: no cover - Linux has it
            self.write_at(descriptor, 0, [bytes(size)])

    def read_at(self, descriptor: int, offset: int, length: int) -> bytes:
        """Read up to ``length`` bytes; fewer only at the end of the file."""
        data = os.pread(descriptor, length, offset)
        while data and len(data) < length:
            more = os.pread(descriptor, length - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def read_at_once(self, descriptor: int, offset: int, length: int) -> bytes | None:
        """Read exactly ``length`` bytes if that needs no waiting, else return None."""
        buffer = bytearray(length)
        try:
            count = os.preadv(descriptor, [buffer], offset, _NO_WAIT)
        except OSError as error:
            if error.errno in _CANNOT_TELL:
                return None
            raise
        return bytes(buffer) if count == length else None

    def size_of(self, path: Path) -> int | None:
        """Return the size of a regular file in bytes, None if there is none."""
        try:
            status = path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return status.st_size if (status.st_mode & 0o170000) == 0o100000 else None

    def has_name(self, descriptor: int) -> bool:
        """Tell whether an open file still has a name: a deleted one can be read on. Quick."""
        return os.fstat(descriptor).st_nlink > 0

    def length_of(self, descriptor: int) -> int:
        """Return the size of an open file in bytes. Quick."""
        return os.fstat(descriptor).st_size

    def start_sync(self, descriptor: int) -> None:
        """Let the system begin to bring to the disk what was written, if it can be asked to."""
        if _sync_file_range is not None:
            # Without the flags that wait nothing is told here that `fsync` would not tell again.
            _sync_file_range(descriptor, 0, 0, _RANGE_WRITE)

    def fsync(self, descriptor: int) -> None:
        """Return when all that was written is on the disk. A failure is final."""
        os.fsync(descriptor)

    def fsync_directory(self, path: Path) -> None:
        """Return when the names in the directory are on the disk. A failure is final."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, old: Path, new: Path) -> None:
        """Give a file another name, replacing what had it."""
        old.rename(new)

    def unlink(self, path: Path) -> None:
        """Remove a file; it may be gone already."""
        path.unlink(missing_ok=True)

    def remove_directory(self, path: Path) -> bool:
        """Remove a directory if it is empty; tell whether it is gone."""
        try:
            path.rmdir()
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno not in _NOT_EMPTY:
                raise
            return False
        return True

    def free_bytes(self, path: Path) -> int:
        """Return how many bytes this user may still write on the disk of ``path``."""
        status = os.statvfs(path)
        return status.f_bavail * status.f_frsize


class HastyFileSystem(PosixFileSystem):
    """The same, but nothing waits for the disk: a power cut takes what was just written.

    The system writes it later, within half a minute as a rule, and may write the end of a file
    before its beginning: after a power cut a file can have its name and its length, and zeros.
    """

    durable = False

    def start_sync(self, descriptor: int) -> None:
        """Do nothing."""

    def fsync(self, descriptor: int) -> None:
        """Do nothing."""

    def fsync_directory(self, path: Path) -> None:
        """Do nothing."""


#: Only Linux can be asked to read from memory alone; elsewhere every read goes to a thread.
_NO_WAIT: int = getattr(os, "RWF_NOWAIT", 0)
if not _NO_WAIT:  # pragma: no cover - Linux has it
    PosixFileSystem.read_at_once = lambda *_arguments: None  # type: ignore[method-assign]
