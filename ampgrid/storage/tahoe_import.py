"""Takes the immutable shares of a Tahoe-LAFS storage directory into a store of shares.

Each share is stored as one that came from a peer: durably, within quota and reserve, put down to
nobody. Its container is stripped; its leases keep their digests and the time at which they run
out. Beside them each file gets the store's own lease for a full term, so that nothing that was
just taken runs out before its owner had the time to renew. What is here already is passed over,
so an import that was cut short is simply done again. The Tahoe directory is only read.

Everything here blocks; it runs in a thread, or where nothing else does.

Source: `docs/specs/store.md`, "Shares of Tahoe-LAFS".
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import attrs

from ampgrid.crypto.base32 import b2a
from ampgrid.errors import (
    BrokenStoreError,
    FormatError,
    IntegrityError,
    NoRoomError,
    StoreError,
)
from ampgrid.formats.stored import verifying
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
    """

    def __init__(
        self, store: Store | None, wall: WallClock, progress: Progress, report: Report
    ) -> None:
        self._store = store
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
        # What is no whole share would take room and give nothing back.
        for _ in verifying(
            lambda offset, length: _read_up_to(descriptor, container, offset, length),
            container.share_size,
            file.number,
        ):
            self._progress.check()
        leases = container.leases(_read(descriptor, container.lease_offset, container.lease_bytes))
        if self._store is None:
            self._count(container.share_size)
            self._report.leases += len(leases)
            return
        held = self._store.shares(file.storage_index).get(file.number)
        if held is not None:
            seen.check(descriptor)
            self._pass_over(self._store, file, held, container, leases)
        elif container.share_size <= SMALL_SHARE_BYTES:
            data = _read(descriptor, container.share_offset, container.share_size)
            seen.check(descriptor)
            self._waiting.append(_Small(file, data, leases))
            if len(self._waiting) >= _GROUP_SHARES or self._waiting_bytes() >= _GROUP_BYTES:
                self.flush()
        else:
            self._store_large(self._store, file, descriptor, container, seen)
            self._add_leases(self._store, file, leases)

    def _waiting_bytes(self) -> int:
        return sum(len(small.data) for small in self._waiting)

    def _count(self, size: int) -> None:
        self._report.taken += 1
        self._report.taken_bytes += size

    def _pass_over(
        self,
        store: Store,
        file: ShareFile,
        held: int,
        container: Container,
        leases: list[ContainedLease],
    ) -> None:
        if held != container.share_size:
            self._report.differing += 1
            self._report.tell(
                file.path,
                f"has {container.share_size} bytes, and the share that is here already {held}; "
                "what is here stays",
            )
            return
        self._report.here_already += 1
        # An import may have been cut short between the share and its leases.
        self._add_leases(store, file, leases)

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
                self._report.here_already += 1
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
    ) -> None:
        # In order, so that what is told of a full store is true.
        self.flush()
        task = store.allocating(self._request(file, container.share_size), in_memory=False)
        allocated = cast("Allocated", store.run_all([task])[0].get())
        upload = allocated.accepted.get(file.number)
        if upload is None:
            raise self._no_room(file)
        try:
            for offset in range(0, container.share_size, _PIECE):
                self._progress.check()
                length = min(_PIECE, container.share_size - offset)
                data = _read(descriptor, container.share_offset + offset, length)
                (error,) = upload.write([(offset, data)])
                if error is not None:
                    raise error
            seen.check(descriptor)
            store.close_upload(upload)
        except BaseException:
            upload.discard()
            raise
        self._count(container.share_size)

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
    store: Store | None, source: Path, *, wall: WallClock, progress: Progress
) -> Report:
    """Take all immutable shares of a Tahoe-LAFS storage directory.

    Args:
        store: where they go; None to look only and change nothing.
        source: a Tahoe node directory, its ``storage``, or ``storage/shares``.
        wall: the time.
        progress: is told of bytes of containers; what its ``check`` raises ends the import after
            the share at hand.

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
    progress.enter("importing" if store is not None else "reading", total)
    work = _Import(store, wall, progress, report)
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
    return report
