"""Takes the immutable shares of a Tahoe-LAFS storage directory into a store of shares.

Each share is stored as one that came from a peer: durably, within quota and reserve, put down to
nobody. Its container is stripped; its leases keep their digests and the time at which they run
out. Beside them each file gets the store's own lease for a full term, so that nothing that was
just taken runs out before its owner had the time to renew. What is here already, byte for byte,
is passed over, so an import that was cut short is simply done again; a share that is here with
other bytes is told of. What stands behind the end of a share is left out. The Tahoe directory is
only read.

Everything here blocks; it runs in a thread, or where nothing else does.

Source: `docs/specs/store.md`, "Shares of Tahoe-LAFS".
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

import attrs

from ampgrid.crypto.base32 import b2a
from ampgrid.errors import (
    BrokenStoreError,
    FormatError,
    IntegrityError,
    NoRoomError,
    NotStoredError,
    StoreError,
    WriteConflictError,
)
from ampgrid.formats.stored import length_of, verifying
from ampgrid.formats.tahoe_container import (
    HEAD_SIZE,
    ContainedLease,
    Container,
    is_mutable,
    parse_container,
)
from ampgrid.ports import WallClock
from ampgrid.storage.tahoe_files import Report, ShareFile, share_files, shares_directory
from ampgrid.store import SMALL_SHARE_BYTES, LeaseTerms, Request, Store
from ampgrid.store.catalog import NOBODY
from ampgrid.store.leases import OWN
from ampgrid.store.port import Allocated, Put, Result, Task

#: Small shares that are stored in one transaction: number and bytes.
_GROUP_SHARES = 64
_GROUP_BYTES = 1024 * 1024
#: Bytes of a large share that are read and written at a time.
_PIECE = 1024 * 1024


class Progress(Protocol):
    """Who is told how far it is, and may end it.

    Attributes:
        done: bytes that are done.
    """

    done: int

    def enter(self, phase: str, total: int | None = None) -> None:
        """Begin a phase of ``total`` bytes."""
        ...

    def check(self) -> None:
        """Return to go on; raise to end it here."""
        ...


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _read(descriptor: int, offset: int, length: int) -> bytes:
    """Read exactly so many bytes.

    Raises:
        FormatError: the file ends before.
    """
    parts = []
    while length:
        part = os.pread(descriptor, min(length, _PIECE), offset)
        if not part:
            raise FormatError("The file became shorter while it was read.")
        parts.append(part)
        offset += len(part)
        length -= len(part)
    return b"".join(parts)


def _read_up_to(descriptor: int, container: Container, offset: int, length: int) -> bytes:
    """Read bytes of the share in a container, fewer only at its end."""
    length = min(length, container.share_size - offset)
    return _read(descriptor, container.share_offset + offset, length) if length > 0 else b""


@attrs.frozen
class _Snapshot:
    """What must stay as it is while a container is read: a Tahoe server may run beside."""

    size: int
    modified: int
    head: bytes

    @classmethod
    def of(cls, descriptor: int) -> _Snapshot:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise FormatError("It is no file.")
        return cls(status.st_size, status.st_mtime_ns, os.pread(descriptor, HEAD_SIZE, 0))

    def check(self, descriptor: int) -> None:
        if _Snapshot.of(descriptor) != self:
            raise FormatError("The container changed while it was read; import it again.")


@attrs.frozen
class _Small:
    """A small share that waits for its group."""

    file: ShareFile
    data: bytes
    leases: list[ContainedLease]


class _Import:
    """One import under way.

    Args:
        store: where the shares go, None to look only.
        wall: the time.
        progress: who is told how far it is.
        report: what is filled in.
        dry: change nothing, and tell what would be done.
    """

    def __init__(
        self,
        store: Store | None,
        wall: WallClock,
        progress: Progress,
        report: Report,
        *,
        dry: bool,
    ) -> None:
        self._store = store
        self._dry = dry or store is None
        self._wall = wall
        self._progress = progress
        self._report = report
        self._waiting: list[_Small] = []

    def take(self, file: ShareFile) -> None:
        """Take one share, or say why not.

        Raises:
            NoRoomError: there is no room for it.
            BrokenStoreError: the store failed.
        """
        try:
            with _opened(file.path) as descriptor:
                self._take(file, descriptor)
        except (FormatError, IntegrityError) as error:
            self._report.damaged += 1
            self._report.tell(file.path, str(error))
        except OSError as error:
            self._report.damaged += 1
            self._report.tell(file.path, f"could not be read: {error.strerror}")

    def _take(self, file: ShareFile, descriptor: int) -> None:
        seen = _Snapshot.of(descriptor)
        if is_mutable(seen.head):
            self._report.mutable += 1
            return
        container = parse_container(seen.head, seen.size)
        leases = container.leases(_read(descriptor, container.lease_offset, container.lease_bytes))

        def read(offset: int, length: int) -> bytes:
            return _read_up_to(descriptor, container, offset, length)

        # Of one share there may be containers with and without something behind it.
        container = attrs.evolve(container, share_size=length_of(read, container.share_size))
        store = self._store
        # Looked at first: what is here already need not be hashed again.
        if store is not None and self._is_here(store, file, descriptor, container):
            seen.check(descriptor)
            self._pass_over(store, file, leases)
            return
        # What is no whole share would take room and give nothing back.
        for _ in verifying(read, container.share_size, file.number):
            self._progress.check()
        if store is not None and file.number in store.shares(file.storage_index):
            seen.check(descriptor)
            self._differs(file)
        elif store is None or self._dry:
            self._count(container.share_size)
            self._report.leases += len(leases)
        elif container.share_size <= SMALL_SHARE_BYTES:
            data = _read(descriptor, container.share_offset, container.share_size)
            seen.check(descriptor)
            self._waiting.append(_Small(file, data, leases))
            if len(self._waiting) >= _GROUP_SHARES or self._waiting_bytes() >= _GROUP_BYTES:
                self.flush()
        elif self._store_large(store, file, descriptor, container, seen):
            self._add_leases(store, file, leases)

    def _is_here(
        self, store: Store, file: ShareFile, descriptor: int, container: Container
    ) -> bool:
        """Tell whether the share that a container holds is stored, byte for byte.

        Stored may be something behind its end, too, as long as it can be read all the same.
        """
        index, number, size = file.storage_index, file.number, container.share_size
        stored = store.shares(index).get(number, 0)
        if stored < size or (stored > size and not self._is_readable(store, file, stored)):
            return False
        for offset in range(0, size, _PIECE):
            self._progress.check()
            length = min(_PIECE, size - offset)
            if not self._is_stored(
                store, file, offset, _read_up_to(descriptor, container, offset, length)
            ):
                return False
        return True

    def _is_readable(self, store: Store, file: ShareFile, size: int) -> bool:
        """Tell whether a stored share has no more behind its end than its readers bear."""
        read = partial(store.read, file.storage_index, file.number)
        try:
            next(verifying(read, size, file.number))
        except (FormatError, IntegrityError, NotStoredError):
            return False
        return True

    def _is_stored(self, store: Store, file: ShareFile, offset: int, piece: bytes) -> bool:
        try:
            return store.read(file.storage_index, file.number, offset, len(piece)) == piece
        except NotStoredError:
            return False  # set aside, or expired, meanwhile

    def _waiting_bytes(self) -> int:
        return sum(len(small.data) for small in self._waiting)

    def _count(self, size: int) -> None:
        self._report.taken += 1
        self._report.taken_bytes += size

    def _pass_over(self, store: Store, file: ShareFile, leases: list[ContainedLease]) -> None:
        self._report.here_already += 1
        if self._dry:
            self._report.leases += len(leases)
            return
        # An import may have been cut short between the share and its leases.
        self._add_leases(store, file, leases)

    def _differs(self, file: ShareFile) -> None:
        self._report.differing += 1
        self._report.tell(
            file.path,
            "another share has its place here already; what is here stays. "
            "'ampgrid scrub' sets the one here aside if it is damaged, then import again; "
            "'ampgrid check CAP --verify' tells whether it is of the file",
        )

    # Small shares, many in one transaction.

    def flush(self) -> None:
        """Store the small shares that wait.

        Raises:
            NoRoomError: there is no room for one of them; those before are stored.
            BrokenStoreError: the store failed.
        """
        waiting, self._waiting = self._waiting, []
        if not waiting or self._store is None:
            return
        puts = [
            self._store.putting(self._request(small.file, len(small.data)), small.data)
            for small in waiting
        ]
        lease_tasks = [
            self._lease_tasks(self._store, small.file, small.leases) for small in waiting
        ]
        tasks: list[Task[Any]] = [*puts, *(task for tasks in lease_tasks for task in tasks)]
        results = iter(self._store.run_all(tasks))
        refused: ShareFile | None = None
        for small, result in zip(waiting, results, strict=False):
            put = cast("Put", result.get())
            if put.stored:
                self._count(len(small.data))
            elif small.file.number in put.held:
                # It came from elsewhere since this looked.
                if self._is_stored(self._store, small.file, 0, small.data):
                    self._report.here_already += 1
                else:
                    self._differs(small.file)
            else:
                refused = refused or small.file
        for small, theirs in zip(waiting, lease_tasks, strict=True):
            self._count_leases(small.file, [next(results) for _ in theirs])
        if refused is not None:
            raise self._no_room(refused)

    # Large ones, each on its own.

    def _store_large(
        self,
        store: Store,
        file: ShareFile,
        descriptor: int,
        container: Container,
        seen: _Snapshot,
    ) -> bool:
        """Store a large share; False if another one has come to its place meanwhile."""
        # In order, so that what is told of a full store is true.
        self.flush()
        task = store.allocating(self._request(file, container.share_size), in_memory=False)
        allocated = cast("Allocated", store.run_all([task])[0].get())
        upload = allocated.accepted.get(file.number)
        if upload is None:
            if file.number not in allocated.held:
                raise self._no_room(file)
            if self._is_here(store, file, descriptor, container):
                self._report.here_already += 1
                return True
            self._differs(file)
            return False
        try:
            for offset in range(0, container.share_size, _PIECE):
                self._progress.check()
                length = min(_PIECE, container.share_size - offset)
                data = _read(descriptor, container.share_offset + offset, length)
                (error,) = upload.write([(offset, data)])
                if error is not None:
                    raise error
            seen.check(descriptor)
            if not store.close_upload(upload):
                self._report.here_already += 1
                return True
        except WriteConflictError:
            self._differs(file)
            return False
        except BaseException:
            upload.discard()
            raise
        self._count(container.share_size)
        return True

    # What both need.

    def _request(self, file: ShareFile, size: int) -> Request:
        own = LeaseTerms(OWN, OWN, int(self._wall()))
        return Request(file.storage_index, frozenset({file.number}), size, NOBODY, own)

    def _lease_tasks(
        self, store: Store, file: ShareFile, leases: list[ContainedLease]
    ) -> list[Task[Any]]:
        now = int(self._wall())
        return [
            store.adding_lease(
                file.storage_index,
                LeaseTerms(lease.renew, lease.cancel, now, until=lease.expires_at),
            )
            for lease in leases
        ]

    def _add_leases(self, store: Store, file: ShareFile, leases: list[ContainedLease]) -> None:
        self._count_leases(file, store.run_all(self._lease_tasks(store, file, leases)))

    def _count_leases(self, file: ShareFile, results: Sequence[Result[Any]]) -> None:
        refused = 0
        for result in results:
            try:
                result.get()
                self._report.leases += 1
            except BrokenStoreError:
                raise
            except StoreError:
                refused += 1
        if refused:
            self._report.tell(file.path, f"{refused} of its leases could not be taken over")

    def _no_room(self, file: ShareFile) -> NoRoomError:
        return NoRoomError(
            f"there is no room for share {file.number} of {b2a(file.storage_index)} "
            f"({file.size} bytes); {self._report.taken} shares were taken before it: make room "
            "(quota, reserve, disk) and import again, it goes on from there"
        )


def import_shares(
    store: Store | None,
    source: Path,
    *,
    wall: WallClock,
    progress: Progress,
    dry: bool = False,
) -> Report:
    """Take all immutable shares of a Tahoe-LAFS storage directory.

    Args:
        store: where they go; None to look only and change nothing.
        source: a Tahoe node directory, its ``storage``, or ``storage/shares``.
        wall: the time.
        progress: is told of bytes of containers; what its ``check`` raises ends the import after
            the share at hand.
        dry: change nothing, and report what would be done.

    Returns:
        What was done. Containers that cannot be read are in it, and end nothing.

    Raises:
        FileError: there is no such directory.
        NoRoomError: the store is full; what was taken before stays.
        BrokenStoreError: the disk of the store failed.
    """
    root = shares_directory(source)
    report = Report()
    progress.enter("looking", 0)
    total = 0
    for file in share_files(root, Report()):
        total += file.size
        progress.check()
    progress.enter("reading" if dry or store is None else "importing", total)
    work = _Import(store, wall, progress, report, dry=dry)
    try:
        for file in share_files(root, report):
            progress.check()
            work.take(file)
            progress.done += file.size
    except BaseException:
        # What was read need not be read again.
        with contextlib.suppress(StoreError):
            work.flush()
        raise
    work.flush()
    if dry and store is not None:
        left = store.room(fresh=True).available
        if left < report.taken_bytes:
            report.problems.append(
                f"there is room for {left} of these {report.taken_bytes} bytes only "
                "(quota, reserve, disk), and the import would end there"
            )
    return report
