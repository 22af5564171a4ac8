"""Disks that fail: a file system, and the I/O of SQLite, failing their Nth operation.

A `FaultPlan` counts the operations that its `Fault` can strike and lets one of them fail, or
that one and all after it. One plan may stand behind a `FailingFileSystem` and a `FailingTap` at
once, so that a loop over N passes through the files and the database of a store alike::

    plan = FaultPlan()
    store = ShareStore.open(directory, wall=time.time, files=FailingFileSystem(plan))
    for at in itertools.count():
        plan.set(at, EIO)
        ...                       # success, or a clean error
        if plan.failed is None:   # fewer than ``at`` operations: every one of them has failed once
            break

Each fault is one that a real disk shows; what it does before it fails is done (half of a write,
say), and a descriptor whose closing failed is closed, as on Linux.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import attrs

from ampgrid.store.filesystem import FileSystem, PosixFileSystem
from ampgrid.testing import sqliteio

T = TypeVar("T")

#: What the store asks of a file system, by what it does.
READING = frozenset({"names", "open_read", "read_at", "read_at_once", "size_of", "free_bytes"})
WRITING = frozenset(
    {
        "make_directory",
        "open_new",
        "open_again",
        "close",
        "write_at",
        "allocate",
        "fsync",
        "fsync_directory",
        "rename",
        "unlink",
        "remove_directory",
    }
)
#: What SQLite asks of the system.
SQLITE = frozenset(
    {
        "sqlite open",
        "sqlite read",
        "sqlite write",
        "sqlite truncate",
        "sqlite sync",
        "sqlite delete",
    }
)
OPERATIONS = READING | WRITING | SQLITE


@attrs.frozen
class Fault:
    """A way to fail.

    Attributes:
        name: for reports.
        number: the errno.
        strikes: the operations that can fail so.
        part: a write takes half of its bytes before it fails, and a read returns half.
        late: the work is done, and then said to have failed.
    """

    name: str
    number: int
    strikes: frozenset[str]
    part: bool = False
    late: bool = False


#: The disk does not answer, whatever it is asked.
EIO = Fault("EIO", errno.EIO, OPERATIONS)
#: The disk is full.
ENOSPC = Fault(
    "ENOSPC",
    errno.ENOSPC,
    frozenset({"make_directory", "open_new", "write_at", "allocate", "fsync", "rename"})
    | {"fsync_directory", "sqlite open", "sqlite write"},
)
#: The process has as many files open as it may have.
EMFILE = Fault(
    "EMFILE",
    errno.EMFILE,
    frozenset({"names", "open_new", "open_again", "open_read", "fsync_directory", "sqlite open"}),
)
#: Half of a write is done before the disk is full; half of a read comes.
SHORT = Fault("short", errno.ENOSPC, frozenset({"write_at", "read_at", "sqlite write"}), part=True)
#: Only synchronising fails.
FSYNC = Fault("fsync", errno.EIO, frozenset({"fsync", "fsync_directory", "sqlite sync"}))
#: What was done is said to have failed.
LATE = Fault(
    "late EIO",
    errno.EIO,
    frozenset({"make_directory", "write_at", "rename", "unlink", "fsync_directory"})
    | {"remove_directory", "sqlite write", "sqlite sync", "sqlite delete"},
    late=True,
)

FAULTS = (EIO, ENOSPC, EMFILE, SHORT, FSYNC, LATE)


class FaultPlan:
    """Which operation fails, and how.

    Args:
        only: the operations that can fail, whatever the fault.

    Attributes:
        calls: the names of the operations that could have failed, since the plan was set.
        failed: the name of the operation that failed first, None if none has.
    """

    def __init__(self, only: frozenset[str] = OPERATIONS) -> None:
        self.calls: list[str] = []
        self.failed: str | None = None
        self._only = only
        self._fault = EIO
        self._at: int | None = None
        self._lasting = False

    def set(self, at: int | None, fault: Fault = EIO, *, lasting: bool = False) -> None:
        """Begin to count anew, and let one operation fail.

        Args:
            at: number of the operation, from 0; None for none.
            fault: how it fails; operations that it does not strike are not counted.
            lasting: all after it fail too.
        """
        self._fault = fault
        self._lasting = lasting
        self._at = at
        self.calls = []
        self.failed = None

    def heal(self) -> None:
        """Let nothing fail any more; `calls` and `failed` stay as they are."""
        self._at = None

    def lasts(self, name: str) -> bool:
        """Tell whether an operation fails again and again, from some time on."""
        return self._at is not None and self._lasting and name in self._only & self._fault.strikes

    def strike(self, name: str) -> Fault | None:
        """Count an operation; return how it fails, None if it does not."""
        if name not in self._only or name not in self._fault.strikes:
            return None
        number = len(self.calls)
        self.calls.append(name)
        if self._at is None or number < self._at or (number > self._at and not self._lasting):
            return None
        self.failed = self.failed or name
        return self._fault


class FailingFileSystem:
    """A file system that fails as it is told.

    Args:
        plan: what fails.
        inner: what does the work, the real one if it is not given.
    """

    def __init__(self, plan: FaultPlan, inner: FileSystem | None = None) -> None:
        self.faults = plan
        self._inner: FileSystem = inner or PosixFileSystem()
        self.durable = self._inner.durable

    def _do(self, name: str, work: Callable[[], T], partly: Callable[[], T] | None = None) -> T:
        fault = self.faults.strike(name)
        if fault is None:
            return work()
        if fault.part and partly is not None:
            return partly()
        if fault.late or name == "close":
            work()
        raise _error(fault)

    def make_directory(self, path: Path) -> None:
        """Make a directory."""
        self._do("make_directory", lambda: self._inner.make_directory(path))

    def names(self, path: Path) -> list[str]:
        """Return the names in a directory."""
        return self._do("names", lambda: self._inner.names(path))

    def open_new(self, path: Path) -> int:
        """Create a file."""
        return self._do("open_new", lambda: self._inner.open_new(path))

    def open_again(self, path: Path) -> int:
        """Open a file for writing."""
        return self._do("open_again", lambda: self._inner.open_again(path))

    def open_read(self, path: Path) -> int:
        """Open a file for reading."""
        return self._do("open_read", lambda: self._inner.open_read(path))

    def close(self, descriptor: int) -> None:
        """Close a descriptor, also when that is said to have failed."""
        self._do("close", lambda: self._inner.close(descriptor))

    def write_at(self, descriptor: int, offset: int, buffers: Sequence[bytes]) -> None:
        """Write bytes; a short write writes half of them and fails."""

        def half() -> None:
            data = b"".join(buffers)
            self._inner.write_at(descriptor, offset, [data[: len(data) // 2]])
            raise _error(SHORT)

        self._do("write_at", lambda: self._inner.write_at(descriptor, offset, buffers), half)

    def allocate(self, descriptor: int, size: int) -> None:
        """Take room on the disk."""
        self._do("allocate", lambda: self._inner.allocate(descriptor, size))

    def read_at(self, descriptor: int, offset: int, length: int) -> bytes:
        """Read bytes; a short read returns half of them."""
        return self._do(
            "read_at",
            lambda: self._inner.read_at(descriptor, offset, length),
            lambda: self._inner.read_at(descriptor, offset, length // 2),
        )

    def read_at_once(self, descriptor: int, offset: int, length: int) -> bytes | None:
        """Read bytes that are in memory."""
        return self._do(
            "read_at_once", lambda: self._inner.read_at_once(descriptor, offset, length)
        )

    def size_of(self, path: Path) -> int | None:
        """Return the size of a file."""
        return self._do("size_of", lambda: self._inner.size_of(path))

    def has_name(self, descriptor: int) -> bool:
        """As `FileSystem.has_name`; it asks no disk, and never fails."""
        return self._inner.has_name(descriptor)

    def length_of(self, descriptor: int) -> int:
        """As `FileSystem.length_of`; it asks no disk, and never fails."""
        return self._inner.length_of(descriptor)

    def fsync(self, descriptor: int) -> None:
        """Synchronise a file."""
        self._do("fsync", lambda: self._inner.fsync(descriptor))

    def start_sync(self, descriptor: int) -> None:
        """Tell of nothing: what fails here shows in `fsync`."""
        self._inner.start_sync(descriptor)

    def fsync_directory(self, path: Path) -> None:
        """Synchronise a directory."""
        self._do("fsync_directory", lambda: self._inner.fsync_directory(path))

    def rename(self, old: Path, new: Path) -> None:
        """Give a file another name."""
        self._do("rename", lambda: self._inner.rename(old, new))

    def unlink(self, path: Path) -> None:
        """Remove a file."""
        self._do("unlink", lambda: self._inner.unlink(path))

    def remove_directory(self, path: Path) -> bool:
        """Remove a directory if it is empty."""
        return self._do("remove_directory", lambda: self._inner.remove_directory(path))

    def free_bytes(self, path: Path) -> int:
        """Return how much the disk has free."""
        return self._do("free_bytes", lambda: self._inner.free_bytes(path))


def _error(fault: Fault) -> OSError:
    return OSError(fault.number, os.strerror(fault.number))


class FailingTap:
    """Lets SQLite's calls fail as a plan says; see `ampgrid.testing.sqliteio`.

    Args:
        plan: what fails.
        inside: databases under other directories never fail.
    """

    def __init__(self, plan: FaultPlan, inside: Path) -> None:
        self._plan = plan
        self._inside = inside

    def before(self, call: sqliteio.Call) -> sqliteio.Refusal | None:
        """Return how the call shall fail."""
        if not call.path.is_relative_to(self._inside):
            return None
        fault = self._plan.strike(f"sqlite {call.operation}")
        if fault is None:
            return None
        code = _SQLITE_CODES[call.operation]
        if call.operation == "write" and fault.number == errno.ENOSPC:
            code = sqliteio.SQLITE_FULL
        part = len(call.data) // 2 if fault.part else 0
        return sqliteio.Refusal(code, part, fault.late)

    def after(self, call: sqliteio.Call) -> None:
        """Do nothing."""


_SQLITE_CODES = {
    "open": sqliteio.SQLITE_CANTOPEN,
    "read": sqliteio.SQLITE_IOERR_READ,
    "write": sqliteio.SQLITE_IOERR_WRITE,
    "truncate": sqliteio.SQLITE_IOERR_TRUNCATE,
    "sync": sqliteio.SQLITE_IOERR_FSYNC,
    "delete": sqliteio.SQLITE_IOERR_DELETE,
}
