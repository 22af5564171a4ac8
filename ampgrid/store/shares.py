"""The store of shares on the disk.

A share above 64 KiB is a file that holds share bytes alone: written under ``incoming/``,
synchronised, renamed to ``shares/<first two>/<storage index>/<number>``, the directories
synchronised, then its row and lease committed. A smaller one is a row, committed with its lease
in one transaction. Only after that is anything answered. Of two uploads of one share the first
to close stays; nothing that is stored is ever replaced.

Spec: ``docs/specs/store.md``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from ampgrid.errors import (
    BrokenStoreError,
    ConfigError,
    NotStoredError,
    StoreError,
    WriteConflictError,
)
from ampgrid.ports import WallClock
from ampgrid.store import catalog, expiry, leases, marks, timekeeping
from ampgrid.store.ballast import Ballast
from ampgrid.store.filesystem import FileSystem, PosixFileSystem
from ampgrid.store.health import Health
from ampgrid.store.leases import LeaseTerms
from ampgrid.store.locks import ShareLocks
from ampgrid.store.port import SMALL_SHARE_BYTES, Allocated, Incoming, Put, Request, Task
from ampgrid.store.readers import Readers
from ampgrid.store.recovery import Places, Recovery, reconcile, sweep
from ampgrid.store.schema import SHARES_SCHEMA
from ampgrid.store.space import Room, Space
from ampgrid.store.sql import Call, Database, Job, Outcome, Sql
from ampgrid.store.tasks import AllocateJob, PutJob, RecordJob
from ampgrid.store.upkeep import ShareUpkeep
from ampgrid.store.uploads import FileUpload, MemoryUpload, OpenUploads, Upload

#: So many bytes of two shares are compared at a time.
_COMPARED_BYTES = 256 * 1024


def _unusable(directory: Path, error: OSError) -> ConfigError:
    """Return why a store cannot be opened, with the name of what is in the way."""
    what = error.filename or directory
    return ConfigError(
        f"the store's directory {directory} cannot be used: {what}: {error.strerror}"
    )


class ShareStore:
    """Shares in a directory; implements `ampgrid.store.port.Store`. Made by `ShareStore.open`.

    Attributes:
        recovery: what was done when it was opened.
    """

    def __init__(
        self,
        directory: Path,
        quota: int | None,
        reserve: int,
        *,
        read_only: bool,
        files: FileSystem | None,
    ) -> None:
        self.recovery = Recovery()
        self._places = Places(directory)
        self._files: FileSystem = files or PosixFileSystem()
        self._read_only = read_only
        self._health = Health(self._files, self._places.probe)
        self._ballast = Ballast(self._files, self._places.ballast, reserve, quota=quota)
        self._space = Space(quota, reserve)
        self._readers = Readers(self._files)
        self._open_uploads = OpenUploads()
        self._locks = ShareLocks()
        self._prefixes: set[str] = set()
        self._database: Database | None = None
        self._upkeep: ShareUpkeep | None = None
        self._starts = 0
        self._counter = 0

    # Beginning and end.

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        wall: WallClock,
        quota: int | None = None,
        reserve: int = 0,
        read_only: bool = False,
        files: FileSystem | None = None,
    ) -> ShareStore:
        """Open a store, recovering from whatever happened to it before; see `ShareStore`.

        Args:
            directory: of the store; made if it does not exist, in one that does.
            wall: the wall clock, for where the store's time begins.
            quota: the most bytes that shares may take, None for no bound.
            reserve: the bytes that the disk must keep free.
            read_only: accept no new shares.
            files: the file system.

        Raises:
            ConfigError: the directory cannot be used, or another process has it open.
            FormatError: the database is of another kind or an unknown version.
        """
        store = cls(directory, quota, reserve, read_only=read_only, files=files)
        try:
            store._make_directories()
            database = Database(
                store._places.database,
                SHARES_SCHEMA,
                store._health.mark_broken,
                store._ballast.drop,
                store._files,
            )
        except OSError as error:
            raise _unusable(directory, error) from error
        try:
            store._recover(database, wall())
        except OSError as error:
            database.close()
            raise _unusable(directory, error) from error
        except BaseException:
            database.close()
            raise
        return store

    def _recover(self, database: Database, wall: float) -> None:
        files, places = self._files, self._places
        beginning = self._begin_time(database, wall)
        upkeep = ShareUpkeep(
            database,
            files,
            places,
            self._health,
            self._space,
            self._readers,
            self._locks,
            beginning,
        )
        sweep(files, places, self.recovery)
        # Before files are matched with rows: what has expired must not be taken for lost rows.
        with self._starting():
            while removed := upkeep.remove_files():
                self.recovery.removed += removed
        if not database.read(lambda sql: marks.read(sql, "clean")):
            reconcile(files, places, database, beginning.now, self.recovery)

        def begin(sql: Sql) -> int:
            starts = (marks.read(sql, "starts") or 0) + 1
            marks.write(sql, "clean", 0)
            marks.write(sql, "starts", starts)
            return starts

        self._starts = database.call(begin, vital=True)
        self._space.load(*database.read(catalog.totals))
        self._space.count_leases(database.read(leases.count_all))
        with self._starting():
            upkeep.count_aside(beginning.now)
        free = files.free_bytes(places.root)
        self._space.look(accepts=True, free=self._ballast.usable(free))
        self._database = database
        self._upkeep = upkeep

    @contextmanager
    def _starting(self) -> Iterator[None]:
        try:
            yield
        except StoreError as error:
            raise ConfigError(f"the store {self._places.root} cannot be used: {error}") from error

    def _begin_time(self, database: Database, wall: float) -> timekeeping.Beginning:
        """Find where the store's time goes on, and write it down."""

        def begin(sql: Sql) -> timekeeping.Beginning:
            latest = marks.read(sql, marks.LATEST)
            beginning = timekeeping.begin(
                expiry.latest_lease(sql) if latest is None else latest, wall
            )
            if latest is None:
                expiry.give_missing_terms(sql, beginning.now)
            marks.write(sql, marks.LATEST, beginning.now)
            return beginning

        return database.call(begin, vital=True)

    def _make_directories(self) -> None:
        files, places = self._files, self._places
        files.make_directory(places.root)
        for path in (places.shares, places.incoming, places.quarantine):
            files.make_directory(path)
        self._ballast.settle(files.free_bytes(places.root))
        files.fsync_directory(places.root)
        files.fsync_directory(places.root.parent)

    def close(self) -> None:
        """End; uploads must have been closed or discarded."""
        database, self._database = self._database, None
        if database is None:
            return
        self._readers.close()
        try:
            lost = self._upkeep is not None and self._upkeep.examiner.lost_any
            idle = not self._space.look(accepts=True).promised
            if idle and not self._health.untidy and not lost:
                database.call(lambda sql: marks.write(sql, "clean", 1), vital=True)
        except StoreError:
            pass  # the next start takes a look then
        finally:
            database.close()

    @property
    def database(self) -> Database:
        """The database; for tests and measurements.

        Raises:
            BrokenStoreError: the store is not open.
        """
        if self._database is None:
            raise BrokenStoreError("the store is not open")
        return self._database

    @property
    def upkeep(self) -> ShareUpkeep:
        """What is done about time and decay.

        Raises:
            BrokenStoreError: the store is not open.
        """
        if self._upkeep is None or self._database is None:
            raise BrokenStoreError("the store is not open")
        return self._upkeep

    # Tasks.

    def allocating(self, request: Request, *, in_memory: bool) -> Job[Allocated]:
        """Return the task that reserves room and renews the lease of what is here already."""

        def make_upload(number: int) -> Upload:
            parts = (
                request.storage_index,
                number,
                request.size,
                request.peer,
                request.lease,
                self._space,
            )
            if in_memory and request.size <= SMALL_SHARE_BYTES:
                return MemoryUpload(*parts)
            # Only ever called in the one thread that has the database.
            self._counter += 1
            return FileUpload(
                *parts,
                path=self._places.incoming / f"{self._starts}-{self._counter}",
                files=self._files,
                health=self._health,
                others=self._open_uploads,
            )

        return AllocateJob(
            request, self._space, self._free_bytes, self._has_room_for_lease, make_upload
        )

    def putting(self, request: Request, data: bytes) -> Job[Put]:
        """Return the task that stores a small share, of the one number that is asked for."""
        return PutJob(request, self._space, self._free_bytes, self._has_room_for_lease, data)

    def closing(self, upload: Incoming) -> Job[bool]:
        """Return the task that stores a share that is ``in_memory``; see `close_upload`."""
        return self._recording(cast("Upload", upload), in_row=True)

    def _recording(self, upload: Upload, *, in_row: bool) -> Job[bool]:
        return RecordJob(upload, in_row=in_row, same_file=self._is_same_file)

    def adding_lease(self, storage_index: bytes, lease: LeaseTerms) -> Job[None]:
        """Return the task that adds or renews a lease."""

        def add(sql: Sql) -> None:
            if not catalog.sizes(sql, storage_index):
                raise NotStoredError("no share of this file is here")
            leases.add_or_renew(sql, storage_index, lease, self._has_room_for_lease)

        return Call(add, vital=True)

    def renewing_lease(self, storage_index: bytes, renew: bytes, now: int) -> Job[None]:
        """Return the task that renews the lease with this digest, or fails."""
        return Call(lambda sql: leases.renew(sql, storage_index, renew, now), vital=True)

    def cancelling_lease(self, storage_index: bytes, cancel: bytes) -> Job[None]:
        """Return the task that removes the lease with this digest, or fails."""
        return Call(lambda sql: leases.cancel(sql, storage_index, cancel), vital=True)

    def advising(
        self, storage_index: bytes, number: int, peer: bytes, reason: str, now: int
    ) -> Job[None]:
        """Return the task that notes that a share is called bad, or fails."""

        def advise(sql: Sql) -> None:
            if catalog.find(sql, storage_index, number) is None:
                raise NotStoredError("there is no such share")
            catalog.advise(sql, storage_index, number, peer, reason, now)

        return Call(advise)

    def run_all(self, tasks: Sequence[Task[object]]) -> list[Outcome[Any]]:
        """Run tasks; return when all that succeeded is durable."""
        return self.database.run_all(cast("Sequence[Job[Any]]", tasks))

    # Closing a share.

    def close_upload(self, upload: Incoming) -> bool:
        """Store a share for good; return False if the same was there already."""
        mine = cast("Upload", upload)
        try:
            if not isinstance(mine, FileUpload):
                return self.database.run(self._recording(mine, in_row=True))
            mine.check_complete()
            if mine.size <= SMALL_SHARE_BYTES:
                return self.database.run(self._recording(mine, in_row=True))
            mine.finish()
            with self._locks.shares.of((mine.storage_index, mine.number)):
                return self._place(mine)
        finally:
            # What is stored is settled by now, and only loses its temporary file.
            mine.discard()

    def _place(self, upload: FileUpload) -> bool:
        key = (upload.storage_index, upload.number)
        record = self._recording(upload, in_row=False)
        row = self.database.read(lambda sql: catalog.find(sql, *key))
        if row is not None:
            # What has another size, as every small share, is refused by the job.
            if row.size == upload.size and not self._is_same_file(upload):
                raise WriteConflictError("a share of this number with other bytes is stored")
            return self.database.run(record)
        path = self._places.share(*key)
        stored = False
        try:
            self._move(upload, path)
            stored = self.database.run(record)
            return stored
        finally:
            if not stored:
                # Never acknowledged, or a small share of this number came first. A crash, or a
                # disk that does not let go of it, may bring it back: the next start finds it.
                self._health.untidy = True
                with self._health.synchronising():
                    self._files.unlink(path)

    def _is_same_file(self, upload: Upload) -> bool:
        """Tell whether the file of a share that is stored has the bytes of an upload.

        Raises:
            BrokenStoreError: one of them could not be read.
        """
        key = (upload.storage_index, upload.number)
        try:
            with self._readers.open(key, self._places.share(*key), upload.size) as reader:
                return all(
                    self._read_file(reader.descriptor, upload.size, offset, _COMPARED_BYTES)
                    == upload.piece(offset, min(_COMPARED_BYTES, upload.size - offset))
                    for offset in range(0, upload.size, _COMPARED_BYTES)
                )
        except OSError as error:
            raise BrokenStoreError(f"a share could not be read: {error.strerror}") from error

    def _move(self, upload: FileUpload, path: Path) -> None:
        """Give the file its name, so that the name outlives a power cut."""
        directory, prefix = path.parent, path.parent.parent
        if prefix.name not in self._prefixes:
            with self._health.writing():
                self._files.make_directory(prefix)
            with self._health.synchronising():
                self._files.fsync_directory(self._places.shares)
            self._prefixes.add(prefix.name)
        with self._locks.folders.of(directory.name):
            # A name that finds no room is not given, and all is as it was.
            with self._health.writing():
                self._files.make_directory(directory)
                self._files.rename(upload.path, path)
            upload.moved()
        with self._health.synchronising():
            self._files.fsync_directory(directory)
            # Also when the directory was there: another thread may just have made it.
            self._files.fsync_directory(prefix)

    def _free_bytes(self, now: int) -> int:
        """Return what the disk has free, none if no shares are accepted.

        Raises:
            BrokenStoreError: the disk failed lately.
        """
        self._health.check(now)
        if self._read_only:
            return 0
        return self._disk_free()

    def _has_room_for_lease(self, sql: Sql) -> bool:
        """Tell whether one more lease fits, also where no shares are accepted."""
        self._space.count_leases(leases.count_all(sql))
        return self._space.has_room_for_lease(self._disk_free())

    def _disk_free(self) -> int:
        with self._health.reading():
            free = self._files.free_bytes(self._places.root)
        self._ballast.make(free)
        return self._ballast.usable(free)

    # Reading.

    def shares(self, storage_index: bytes) -> dict[int, int]:
        """Return {number: size in bytes} of the shares of a file."""
        return self.database.read(lambda sql: catalog.sizes(sql, storage_index))

    def heads(
        self, storage_index: bytes, wanted: frozenset[int], head: int, most: int
    ) -> tuple[dict[int, int], dict[int, bytes]]:
        """Return `shares`, and the first ``head`` bytes of the wanted, ``most`` bytes in all.

        Shares whose file somebody has deleted are not among them, and forgotten.
        """
        asked = (storage_index, wanted, head, most)
        sizes, in_files, heads = self.database.read(lambda sql: catalog.heads(sql, *asked))
        if not in_files:
            return sizes, heads
        for number in in_files:
            with self._health.reading():
                size = self._files.size_of(self._places.share(storage_index, number))
            if size is None:
                self._lose(storage_index, number)
                del sizes[number]
        lengths = catalog.head_lengths(sizes, wanted, head, most)
        return sizes, {n: self.read(storage_index, n, 0, length) for n, length in lengths}

    def heads_at_once(
        self, storage_index: bytes, wanted: frozenset[int], head: int, most: int
    ) -> tuple[dict[int, int], dict[int, bytes]] | None:
        """Return what `heads` would, or None where more than a few pages may be waited for."""
        asked = (storage_index, wanted, head, most)
        found = self.database.read_if_free(lambda sql: catalog.heads(sql, *asked))
        if found is None:
            return None
        sizes, in_files, heads = found
        return None if in_files else (sizes, heads)

    def read(self, storage_index: bytes, number: int, offset: int, length: int) -> bytes:
        """Return bytes of a share, clamped to its size.

        What was cut off a share is not there to be returned: whoever asked sees that it is bad.

        Raises:
            NotStoredError: there is no such share.
            BrokenStoreError: it could not be read.
        """
        key = (storage_index, number)
        changes = self._readers.changes
        with self._readers.borrow(key) as reader:
            if reader is not None:
                return self._read_file(reader.descriptor, reader.size, offset, length)
        row, data = self.database.read(
            lambda sql: (
                catalog.find(sql, *key),
                catalog.data(sql, *key, min(offset, 2**62), length),
            )
        )
        if row is None:
            raise NotStoredError("there is no such share")
        if not row.in_file:
            return data or b""  # SQLite has no substring of nothing but NULL
        try:
            with self._readers.open(key, self._places.share(*key), row.size, changes) as reader:
                return self._read_file(reader.descriptor, reader.size, offset, length)
        except FileNotFoundError as error:
            # It may have expired, or gone to the quarantine, since its row was read; or
            # somebody has deleted it.
            self._lose(storage_index, number)
            raise NotStoredError("there is no such share") from error
        except OSError as error:
            raise BrokenStoreError(f"a share could not be read: {error.strerror}") from error

    def _read_file(self, descriptor: int, size: int, offset: int, length: int) -> bytes:
        length = max(0, min(length, size - offset))
        with self._health.reading():
            data = self._files.read_at(descriptor, offset, length) if length else b""
            if len(data) < length and self._files.length_of(descriptor) >= offset + length:
                raise BrokenStoreError("the disk gave fewer bytes of a share than it holds")
        return data

    def _lose(self, storage_index: bytes, number: int) -> None:
        """Claim a share no longer if its file is not there; a failure of that is for others."""
        with suppress(StoreError):
            now = self.database.read(lambda sql: marks.read(sql, marks.LATEST)) or 0
            examiner = self.upkeep.examiner
            for share in examiner.stored.named(storage_index, number):
                if share.in_file:
                    examiner.lose(share, now)

    def read_at_once(
        self, storage_index: bytes, number: int, offset: int, length: int
    ) -> bytes | None:
        """Return what `read` would, or None if that might have to wait; never blocks."""
        with self._readers.borrow((storage_index, number)) as reader:
            if reader is None:
                return None
            length = max(0, min(length, reader.size - offset))
            if not length:
                return b""
            with self._health.reading():
                return self._files.read_at_once(reader.descriptor, offset, length)

    # Accounts.

    def room(self, *, fresh: bool) -> Room:
        """Return the accounts; with ``fresh`` ask the disk, without it never block."""
        free = None
        if fresh:
            with self._health.reading():
                free = self._ballast.usable(self._files.free_bytes(self._places.root))
            if self._database is not None:
                self._space.count_leases(self._database.read(leases.count_all))
        accepts = not (self._read_only or self._health.broken or self._database is None)
        return self._space.look(accepts=accepts, free=free)

    def account(self, peer: bytes) -> tuple[int, int]:
        """Return (bytes, number) of the shares that a peer stored first."""
        return self.database.read(lambda sql: catalog.account(sql, peer))

    def accounts(self) -> int:
        """Return the number of peers that have shares here."""
        return self.database.read(catalog.accounts)

    def lease_expiries(self, storage_index: bytes) -> list[int]:
        """Return when the leases of a file run out, seconds since 1970, rising."""
        return self.database.read(lambda sql: leases.expiries(sql, storage_index))

    def advisories(self) -> list[tuple[bytes, int, bytes, str]]:
        """Return (storage index, number, peer, reason) of every advisory, the latest first."""
        return self.database.read(catalog.advisories)

    def path_of(self, storage_index: bytes, number: int) -> Path:
        """Return where the file of a large share is, or would be."""
        return self._places.share(storage_index, number)
