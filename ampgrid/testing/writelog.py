"""A log of what was written to a disk, operation by operation, to rebuild what a power cut leaves.

`RecordingFileSystem` and `RecordingTap` write down every change that the store and its SQLite
make; `WriteLog.disks` walks through the log. What may be left at each moment is the business of
`ampgrid.testing.diskstates`::

    files, tap = RecordingFileSystem(), RecordingTap()
    with SqliteShim.installed() as shim:
        shim.tap = tap
        store = ShareStore.open(directory, wall=time.time, files=files)
        files.log = tap.log = log = WriteLog(directory)
        ...                                    # what is recorded
    for disk, record in log.disks():
        write_tree(disk.tree(newest), somewhere)
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from ampgrid.store.filesystem import FileSystem, PosixFileSystem
from ampgrid.testing import sqliteio
from ampgrid.testing.diskstates import (
    ROOT,
    Disk,
    FileState,
    Made,
    Named,
    NamesSynced,
    Note,
    Record,
    Synced,
    SyncFailed,
    Truncated,
    Wrote,
)


class WriteLog:
    """The log of one directory tree. What is there at the start counts as synchronised.

    Args:
        root: the tree.

    Attributes:
        records: what happened, in order.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.records: list[Record] = []
        self._lock = threading.Lock()
        self._next = ROOT + 1
        self._names: dict[int, dict[str, int]] = {ROOT: {}}
        self._start = Disk()
        self._scan(root, ROOT)

    def _scan(self, path: Path, directory: int) -> None:
        for entry in sorted(path.iterdir()):
            number = self._next
            self._next += 1
            self._names[directory][entry.name] = number
            if entry.is_dir():
                self._names[number] = {}
                self._start.add_directory(number)
            else:
                self._start.files[number] = FileState(entry.read_bytes())
            self._start.directories[directory][entry.name] = [number]
            if entry.is_dir():
                self._scan(entry, number)

    def note(self, what: object) -> None:
        """Write a word of one's own into the log."""
        with self._lock:
            self.records.append(Note(what))

    # Told by the file system and by SQLite.

    def find(self, path: Path) -> int | None:
        """Return the number of a file or directory, None outside of the tree."""
        if not path.is_relative_to(self.root):
            return None
        number: int | None = ROOT
        for part in path.relative_to(self.root).parts:
            number = self._names.get(number or ROOT, {}).get(part)
            if number is None:
                return None
        return number

    def make(self, path: Path, *, is_directory: bool = False) -> None:
        """Note that a file or a directory was made."""
        with self._lock:
            directory = self.find(path.parent)
            if directory is None or path.name in self._names[directory]:
                return
            number = self._next
            self._next += 1
            self.records.append(Made(number, is_directory))
            if is_directory:
                self._names[number] = {}
            self._set_name(directory, path.name, number)

    def _set_name(self, directory: int, name: str, what: int | None) -> None:
        if what is None:
            self._names[directory].pop(name, None)
        else:
            self._names[directory][name] = what
        self.records.append(Named(directory, name, what))

    def rename(self, old: Path, new: Path) -> None:
        """Note that a file got another name."""
        with self._lock:
            source, target, what = self.find(old.parent), self.find(new.parent), self.find(old)
            if source is not None and target is not None and what is not None:
                self._set_name(target, new.name, what)
                self._set_name(source, old.name, None)

    def unlink(self, path: Path) -> None:
        """Note that a name was removed."""
        with self._lock:
            directory = self.find(path.parent)
            if directory is not None and path.name in self._names[directory]:
                self._set_name(directory, path.name, None)

    def write(self, file: int | None, offset: int, data: bytes) -> None:
        """Note that bytes were written."""
        if file is not None and data:
            with self._lock:
                self.records.append(Wrote(file, offset, data))

    def truncate(self, file: int | None, size: int) -> None:
        """Note that a file was cut or extended."""
        if file is not None:
            with self._lock:
                self.records.append(Truncated(file, size))

    def sync(self, file: int | None, *, failed: bool = False) -> None:
        """Note that a file was synchronised, or that this failed."""
        if file is not None:
            with self._lock:
                self.records.append(SyncFailed(file) if failed else Synced(file))

    def sync_names(self, path: Path) -> None:
        """Note that a directory was synchronised."""
        directory = self.find(path)
        if directory is not None:
            with self._lock:
                self.records.append(NamesSynced(directory))

    # Going through it.

    def disks(self) -> Iterator[tuple[Disk, Record | None]]:
        """Yield the disk as it is at the start, with None, and after each record, with that.

        It is the same object every time.
        """
        disk = self._start.copy()
        yield disk, None
        for record in self.records:
            disk.apply(record)
            yield disk, record


class RecordingFileSystem:
    """A file system that writes its changes into a log.

    Args:
        inner: what does the work, the real one if it is not given.

    Attributes:
        log: where changes are noted; None while nothing is recorded.
    """

    def __init__(self, inner: FileSystem | None = None) -> None:
        self.log: WriteLog | None = None
        self._inner: FileSystem = inner or PosixFileSystem()
        self._paths: dict[int, Path] = {}
        self._numbers: dict[int, int | None] = {}
        self.durable = self._inner.durable
        self.names = self._inner.names
        self.open_read = self._inner.open_read
        self.read_at = self._inner.read_at
        self.read_at_once = self._inner.read_at_once
        self.size_of = self._inner.size_of
        self.has_name = self._inner.has_name
        self.length_of = self._inner.length_of
        self.free_bytes = self._inner.free_bytes

    def _number(self, descriptor: int) -> int | None:
        """Return the number of an open file: by its name when first asked, which may change."""
        if descriptor not in self._numbers and self.log is not None:
            path = self._paths.get(descriptor)
            self._numbers[descriptor] = None if path is None else self.log.find(path)
        return self._numbers.get(descriptor)

    @contextlib.contextmanager
    def _noting_what_is(self, path: Path) -> Iterator[None]:
        """After a failure, too, the log holds what is there, whatever was said."""
        existed = os.path.lexists(path)
        try:
            yield
        finally:
            if self.log is not None and os.path.lexists(path) != existed:
                if existed:
                    self.log.unlink(path)
                else:
                    self.log.make(path, is_directory=path.is_dir())

    def make_directory(self, path: Path) -> None:
        """Make a directory."""
        with self._noting_what_is(path):
            self._inner.make_directory(path)

    def open_new(self, path: Path) -> int:
        """Create a file."""
        with self._noting_what_is(path):
            descriptor = self._inner.open_new(path)
        self._paths[descriptor] = path
        if self.log is not None:
            self._numbers[descriptor] = self.log.find(path)
        return descriptor

    def open_again(self, path: Path) -> int:
        """Open a file for writing."""
        descriptor = self._inner.open_again(path)
        self._paths[descriptor] = path
        return descriptor

    def close(self, descriptor: int) -> None:
        """Close a descriptor."""
        self._paths.pop(descriptor, None)
        self._numbers.pop(descriptor, None)
        self._inner.close(descriptor)

    def write_at(self, descriptor: int, offset: int, buffers: Sequence[bytes]) -> None:
        """Write bytes."""
        try:
            self._inner.write_at(descriptor, offset, buffers)
        except OSError:
            self._note_write(descriptor, offset, sum(map(len, buffers)))
            raise
        if self.log is not None:
            self.log.write(self._number(descriptor), offset, b"".join(buffers))

    def _note_write(self, descriptor: int, offset: int, length: int) -> None:
        """Note what a write that failed has left: whatever is there now."""
        if self.log is not None:
            there = os.pread(descriptor, length, offset)
            self.log.write(self._number(descriptor), offset, there)

    def allocate(self, descriptor: int, size: int) -> None:
        """Take room on the disk."""
        self._inner.allocate(descriptor, size)
        if self.log is not None:
            self.log.truncate(self._number(descriptor), size)

    def fsync(self, descriptor: int) -> None:
        """Synchronise a file."""
        try:
            self._inner.fsync(descriptor)
        except OSError:
            if self.log is not None:
                self.log.sync(self._number(descriptor), failed=True)
            raise
        if self.log is not None:
            self.log.sync(self._number(descriptor))

    def start_sync(self, descriptor: int) -> None:
        """Note nothing: what was written may be on the disk or not, as before."""
        self._inner.start_sync(descriptor)

    def fsync_directory(self, path: Path) -> None:
        """Synchronise a directory."""
        self._inner.fsync_directory(path)
        if self.log is not None:
            self.log.sync_names(path)

    def rename(self, old: Path, new: Path) -> None:
        """Give a file another name."""
        existed = os.path.lexists(old)
        try:
            self._inner.rename(old, new)
        finally:
            if self.log is not None and existed and not os.path.lexists(old):
                self.log.rename(old, new)

    def unlink(self, path: Path) -> None:
        """Remove a file."""
        with self._noting_what_is(path):
            self._inner.unlink(path)

    def remove_directory(self, path: Path) -> bool:
        """Remove a directory if it is empty."""
        with self._noting_what_is(path):
            return self._inner.remove_directory(path)


class RecordingTap:
    """Writes the changes of SQLite's files into a log; see `ampgrid.testing.sqliteio`.

    Args:
        inner: decides what fails, or None.

    Attributes:
        log: where changes are noted; None while nothing is recorded.
    """

    def __init__(self, inner: sqliteio.Tap | None = None) -> None:
        self.log: WriteLog | None = None
        self._inner = inner

    def before(self, call: sqliteio.Call) -> sqliteio.Refusal | None:
        """Return how the call shall fail."""
        refusal = None if self._inner is None else self._inner.before(call)
        if refusal is not None and call.operation == "sync" and not refusal.done:
            self._sync(call, failed=True)
        return refusal

    def after(self, call: sqliteio.Call) -> None:
        """Note what a call has done."""
        log = self.log
        if log is None:
            return
        if call.operation == "open" and call.names:
            log.make(call.path)
        elif call.operation == "write":
            log.write(log.find(call.path), call.offset, call.data)
        elif call.operation == "truncate":
            log.truncate(log.find(call.path), call.size)
        elif call.operation == "sync":
            self._sync(call, failed=False)
        elif call.operation == "delete":
            log.unlink(call.path)
            if call.names:
                log.sync_names(call.path.parent)

    def _sync(self, call: sqliteio.Call, *, failed: bool) -> None:
        if self.log is not None:
            self.log.sync(self.log.find(call.path), failed=failed)
            if call.names and not failed:
                self.log.sync_names(call.path.parent)
