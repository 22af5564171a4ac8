"""The store of other people's blobs: sealed bytes, flags and tombstones, by account and name.

One SQLite file (SQLCipher, write-ahead log, ``synchronous=FULL``, group commit) says what there
is; small blobs are in it, and large ones in files beside it. A blob is here from the commit that
says so, which comes after its bytes are on the disk; until then nothing shows it and no count
has it. Room is counted on what was announced, before the first byte.

Every call blocks, may come from any thread, and knows no clock: times are passed in, the store's
own (`ampgrid.store.timekeeping`). Tasks are run together with `run_all`, for one commit.

Spec: ``docs/specs/store.md#blobs``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import attrs

from ampgrid.errors import (
    BlobAlreadyExistsError,
    BlobDeletedError,
    BlobNotFoundError,
    BlobQuotaError,
    BrokenStoreError,
    ConfigError,
    InvalidBlobError,
    NoRoomError,
)
from ampgrid.formats.blobname import BlobName, Flag, flag_bits
from ampgrid.ports import WallClock
from ampgrid.store import marks, timekeeping
from ampgrid.store import servedblob_rows as rows
from ampgrid.store.filesystem import FileSystem, PosixFileSystem
from ampgrid.store.health import Health
from ampgrid.store.servedblob_files import TAG_SIZE, BlobDisk, BlobFiles, IncomingFile
from ampgrid.store.servedblob_rows import Row, Selection
from ampgrid.store.servedblob_schema import COMING, DELETED, HERE, ROW_BYTES, SERVED_BLOBS_SCHEMA
from ampgrid.store.servedblob_users import BlobUsers, User
from ampgrid.store.sql import Call, Database, Job, Outcome, Sql

__all__ = [
    "BlobRoom",
    "IncomingFile",
    "Limits",
    "Row",
    "Selection",
    "ServedBlobStore",
    "User",
]

T = TypeVar("T")

#: Blobs up to this size are in the database, bytes.
SMALL_BYTES = 65_000
#: A large blob is synchronised on its way after so many bytes, which need not come again then.
SYNC_BYTES = 16 * 2**20
#: The most rows that one transaction of the upkeep drops.
MOST_DROPPED = 500


@attrs.frozen
class BlobRoom:
    """What a store of blobs takes and may take, in bytes.

    Attributes:
        used: by all accounts, `ROW_BYTES` for each row with it.
        quota: the most that all may take, None for no bound.
        account_quota: the most that one may take, None for no bound.
        reserve: what the disk must keep free.
        free: what it has free for blobs.
        blobs: how many are here.
        coming: how many are on their way.
        accounts: how many have or had something.
    """

    used: int
    quota: int | None
    account_quota: int | None
    reserve: int
    free: int
    blobs: int
    coming: int
    accounts: int


@attrs.frozen
class Limits:
    """How much room there is.

    Attributes:
        quota: the most bytes that all accounts may take, None for no bound.
        account_quota: the most that one may take, None for no bound.
        reserve: the bytes that the disk must keep free.
    """

    quota: int | None = None
    account_quota: int | None = None
    reserve: int = 0


class _Removing(Job[T]):
    """A job after which files are to go, once it is durable."""

    def __init__(self, files: BlobFiles, function: Callable[[Sql, list[int]], T]) -> None:
        self._files = files
        self._function = function
        self._gone: list[int] = []
        self.vital = True

    def run(self, sql: Sql) -> T:
        self._gone.clear()
        return self._function(sql, self._gone)

    def committed(self) -> None:
        self._files.remove(self._gone)


class ServedBlobStore:
    """Blobs of accounts. Made by `ServedBlobStore.open`.

    Attributes:
        beginning: the store's time when it was opened.
        users: who may keep blobs here by a token.
    """

    def __init__(
        self,
        database: Database,
        files: BlobFiles,
        health: Health,
        limits: Limits,
        disk: BlobDisk,
        beginning: timekeeping.Beginning,
    ) -> None:
        self._database: Database | None = database
        self._files = files
        self._health = health
        self._limits = limits
        self._disk = disk
        self.beginning = beginning
        self.users = BlobUsers(lambda: self.database)

    # Beginning and end.

    @classmethod
    def open(
        cls,
        folder: Path,
        key: bytes,
        *,
        wall: WallClock,
        limits: Limits | None = None,
        files: FileSystem | None = None,
    ) -> ServedBlobStore:
        """Open a store, and put in order what a crash left.

        Args:
            folder: where it is; made if it does not exist, in a directory that does.
            key: under which its database is enciphered, 32 bytes. Secret.
            wall: the wall clock, for where the store's time begins.
            limits: how much room there is.
            files: the file system.

        Raises:
            ConfigError: it cannot be opened, or another process has it open.
            FormatError: its database is damaged, made with another key, of another version.
            StoreError: the disk refused.
        """
        files = files or PosixFileSystem()
        limits = limits or Limits()
        path = folder / "blobs.sqlite"
        health = Health(files, folder / "probe")
        disk = BlobDisk(folder, files, limits.reserve)
        try:
            files.make_directory(folder)
            files.make_directory(folder / "large")
            disk.settle()
        except OSError as error:
            raise ConfigError(f"{folder.name} cannot be used: {error.strerror}") from error
        database = Database(
            path, SERVED_BLOBS_SCHEMA, health.mark_broken, disk.make_way, files, key
        )
        blob_files = BlobFiles(folder / "large", files, health)
        try:
            beginning = database.call(lambda sql: marks.begin_time(sql, wall()), vital=True)
            _remove_strays(database, blob_files)
        except BaseException:
            database.close()
            raise
        return cls(database, blob_files, health, limits, disk, beginning)

    def close(self) -> None:
        """End."""
        database, self._database = self._database, None
        if database is not None:
            self._files.close()
            database.close()

    @property
    def broken(self) -> bool:
        """Whether the disk failed and no probe has passed since."""
        return self._health.broken

    @property
    def database(self) -> Database:
        """The database; raises `BrokenStoreError` if the store is not open."""
        if self._database is None:
            raise BrokenStoreError("the store of blobs is not open")
        return self._database

    def run_all(self, tasks: Sequence[Job[object]]) -> Sequence[Outcome[object]]:
        """Run tasks; return when all that succeeded is durable."""
        return self.database.run_all(tasks)

    @property
    def account_quota(self) -> int | None:
        """The most bytes that an account may take, None for no bound."""
        return self._limits.account_quota

    # Putting.

    def beginning_put(
        self, account: str, name: BlobName, size: int, tag: bytes, now: int
    ) -> Job[IncomingFile | None]:
        """Return the task that makes room for a large blob, or finds what came of it before.

        It gives None if that very blob is here. Fails with `BlobAlreadyExistsError`,
        `BlobDeletedError`, `BlobQuotaError`, `InvalidBlobError`, `StoreError`.
        """

        def begin(sql: Sql, gone: list[int]) -> IncomingFile | None:
            number, row = self._for_put(sql, account, name, size, tag, now)
            if row is not None and row.state == HERE:
                return None
            if row is not None and row.state == COMING:
                if (row.size, row.tag) == (size, tag):
                    return self._files.incoming(row.id, size, tag, row.durable)
                rows.drop(sql, row.id)
                gone.append(row.id)
            self._check_room(sql, number, name, size)
            new = rows.insert(sql, number, name, Row(0, COMING, size, tag, now, 0, 0, 0))
            return self._files.incoming(new, size, tag, 0)

        return self._changing(begin, now)

    def looking_for_put(
        self, account: str, name: BlobName, size: int, tag: bytes, now: int
    ) -> Job[bool]:
        """Return the task that tells whether a blob is here that is about to be put.

        Fails as `beginning_put` does, but for want of room.
        """

        def look(sql: Sql) -> bool:
            _number, row = self._for_put(sql, account, name, size, tag, now)
            return row is not None and row.state == HERE

        return Call(look)

    def putting(
        self, account: str, name: BlobName, data: bytes, now: int, stored_at: int
    ) -> Job[None]:
        """Return the task that stores a small blob as a whole.

        Fails with `BlobAlreadyExistsError`, `BlobDeletedError`, `BlobQuotaError`,
        `InvalidBlobError`, `StoreError`.
        """
        tag = data[-TAG_SIZE:]

        def put(sql: Sql, gone: list[int]) -> None:
            number, row = self._for_put(sql, account, name, len(data), tag, now)
            if row is not None and row.state == HERE:
                return
            if row is not None and row.state == COMING:
                rows.drop(sql, row.id)
                gone.append(row.id)
            self._check_room(sql, number, name, len(data))
            here = Row(0, HERE, len(data), tag, now, stored_at, 0, 0)
            new = rows.insert(sql, number, name, here)
            sql.execute("INSERT INTO contents (id, data) VALUES (?, ?)", (new, data))

        return self._changing(put, now)

    def _for_put(
        self, sql: Sql, account: str, name: BlobName, size: int, tag: bytes, now: int
    ) -> tuple[int, Row | None]:
        """Return the account and the row of a blob that may be put."""
        number = rows.account_number(sql, account)
        row = rows.find(sql, number, name, now)
        if row is not None and row.state == DELETED:
            raise BlobDeletedError(f"The blob {name} was deleted; use another id.")
        if row is not None and row.state == HERE and (row.size, row.tag) != (size, tag):
            raise BlobAlreadyExistsError(f"There is another blob {name} already.")
        if size < TAG_SIZE or len(tag) != TAG_SIZE:
            raise InvalidBlobError("No sealed blob is as short as this.")
        return number, row

    def _check_room(self, sql: Sql, number: int, name: BlobName, size: int) -> None:
        limits, taken = self._limits, size + ROW_BYTES
        mine, all_ = rows.used_by(sql, number), rows.used_by(sql, None)
        if limits.account_quota is not None and mine + taken > limits.account_quota:
            raise BlobQuotaError("There is no room left for this user's blobs.")
        if limits.quota is not None and all_ + taken > limits.quota:
            raise BlobQuotaError("There is no room left for blobs here.")
        if self._disk.free_bytes() - limits.reserve - rows.unwritten(sql) < taken:
            raise BlobQuotaError("The disk has no room left for blobs here.")
        if not rows.has_room_for_namespace(sql, number, name.namespace):
            raise BlobQuotaError(
                f"A user has no more than {rows.MOST_NAMESPACES} namespaces here."
            )

    def open_file(self, incoming: IncomingFile, now: int) -> None:
        """Open the file of a blob that is coming; what came may turn out to be lost.

        Raises:
            StoreError: the disk refused.
        """
        with self._health.writing():
            lost = incoming.open()
        if lost:
            self.database.call(lambda sql: rows.note_durable(sql, incoming.id, 0, now))

    def write(self, incoming: IncomingFile, pieces: Sequence[bytes], now: int) -> None:
        """Write the next bytes of a large blob.

        Raises:
            StoreError: the disk refused; what is not durable of it is lost.
        """
        with self._health.writing():
            incoming.write(pieces)
        if incoming.written - incoming.durable >= SYNC_BYTES:
            self.keep(incoming, now)

    def keep(self, incoming: IncomingFile, now: int) -> None:
        """Let what came of a blob be durable, so that it can be gone on with.

        Raises:
            StoreError: it is not.
        """
        with self._health.synchronising():
            incoming.sync()
        self.database.call(
            lambda sql: rows.note_durable(sql, incoming.id, incoming.durable, now), vital=True
        )

    def finish(self, incoming: IncomingFile) -> None:
        """Let all bytes of a blob be on the disk; then `completing` lets it be here.

        Raises:
            InvalidBlobError: it does not end as announced.
            StoreError: the disk refused.
        """
        with self._health.writing():
            incoming.check()
        with self._health.synchronising():
            incoming.sync()

    def completing(self, incoming: IncomingFile, now: int, stored_at: int) -> Job[bool]:
        """Return the task that lets a finished blob be here; False if it was dropped meanwhile."""
        return Call(lambda sql: rows.complete(sql, incoming.id, now, stored_at), vital=True)

    def dropping(self, incoming: IncomingFile) -> Job[None]:
        """Return the task that forgets what came of a blob."""

        def forget(sql: Sql, gone: list[int]) -> None:
            rows.drop(sql, incoming.id)
            gone.append(incoming.id)

        return _Removing(self._files, forget)

    # Changing.

    def deleting(self, account: str, name: BlobName, now: int) -> Job[bool]:
        """Return the task that deletes a blob, or what came of one.

        It gives whether there was one, or had been lately.
        """

        def delete(sql: Sql, gone: list[int]) -> bool:
            row = rows.find(sql, rows.find_account(sql, account), name, now)
            if row is None or row.state == DELETED:
                return row is not None
            gone.append(row.id)
            if row.state == COMING:
                rows.drop(sql, row.id)
                return False
            rows.mark_deleted(sql, row.id, now)
            return True

        return _Removing(self._files, delete)

    def flagging(
        self, account: str, name: BlobName, flags: tuple[Flag, ...], now: int
    ) -> Job[None]:
        """Return the task that sets the flags of a blob; fails with `BlobNotFoundError`."""

        def set_flags(sql: Sql) -> None:
            row = self._here(sql, account, name, now)
            sql.execute("UPDATE blobs SET flags = ? WHERE id = ?", (flag_bits(flags), row.id))

        return Call(set_flags)

    # Looking.

    def stat(self, account: str, name: BlobName, now: int) -> Row:
        """Return the row of a blob that is here; raises `BlobNotFoundError`."""
        return self.database.read(lambda sql: self._here(sql, account, name, now))

    def read(
        self, account: str, name: BlobName, offset: int, length: int, now: int
    ) -> tuple[Row, bytes]:
        """Return the row of a blob that is here, and bytes of it, clamped to its size.

        Raises:
            BlobNotFoundError: there is none.
            BrokenStoreError: it cannot be read.
        """

        def look(sql: Sql) -> tuple[Row, bytes | None]:
            row = self._here(sql, account, name, now)
            if row.size > SMALL_BYTES:
                return row, None
            found = sql.execute("SELECT data FROM contents WHERE id = ?", (row.id,)).fetchone()
            return row, None if found is None else bytes(found[0])

        row, small = self.database.read(look)
        length = max(0, min(length, row.size - offset))
        if small is not None:
            return row, small[offset : offset + length]
        if not length:
            return row, b""
        try:
            return row, self._files.read(row.id, row.size, offset, length)
        except BrokenStoreError:
            # It may have been deleted since.
            self.stat(account, name, now)
            raise

    def page(
        self, account: str, chosen: Selection, after: str | int | None, most: int, now: int
    ) -> list[tuple[str, int]]:
        """Return (id, place) of the next blobs of a listing; see `servedblob_rows.page`."""
        return self.database.read(
            lambda sql: rows.page(sql, rows.find_account(sql, account), chosen, after, most, now)
        )

    def count(self, account: str, chosen: Selection, now: int) -> int:
        """Return how many blobs a listing has."""
        return self.database.read(
            lambda sql: rows.count(sql, rows.find_account(sql, account), chosen, now)
        )

    def namespaces(self, account: str, after: str, most: int, now: int) -> list[str]:
        """Return the next namespaces of an account, sorted."""
        return self.database.read(
            lambda sql: rows.namespaces(sql, rows.find_account(sql, account), after, most, now)
        )

    def used_by(self, account: str) -> int:
        """Return what an account takes, bytes."""

        def look(sql: Sql) -> int:
            number = rows.find_account(sql, account)
            return 0 if number is None else rows.used_by(sql, number)

        return self.database.read(look)

    def room(self) -> BlobRoom:
        """Return what the store takes and may take."""
        self._disk.hold_back()
        used, blobs, coming, accounts = self.database.read(_counts)
        return BlobRoom(
            used=used,
            quota=self._limits.quota,
            account_quota=self._limits.account_quota,
            reserve=self._limits.reserve,
            free=self._disk.free_bytes(),
            blobs=blobs,
            coming=coming,
            accounts=accounts,
        )

    # Upkeep.

    def sweep(self, now: int, busy: Sequence[int]) -> int:
        """Drop a batch of rows that are too old, but for those named; returns how many."""

        def drop(sql: Sql, gone: list[int]) -> int:
            gone += rows.overdue(sql, now, busy, MOST_DROPPED)
            for number in gone:
                rows.drop(sql, number)
            return len(gone)

        return self.database.run(_Removing(self._files, drop))

    def keep_time(self, now: int) -> None:
        """Write the latest time seen down; an earlier one than is there changes nothing."""
        marks.keep_time(self.database, now)

    # How it is done.

    def _changing(self, function: Callable[[Sql, list[int]], T], now: int) -> Job[T]:
        def change(sql: Sql, gone: list[int]) -> T:
            self._health.check(now)
            try:
                return function(sql, gone)
            except NoRoomError as error:
                raise BlobQuotaError("The disk has no room left for blobs here.") from error

        job = _Removing(self._files, change)
        job.vital = False
        return job

    def _here(self, sql: Sql, account: str, name: BlobName, now: int) -> Row:
        row = rows.find(sql, rows.find_account(sql, account), name, now)
        if row is None or row.state != HERE:
            raise BlobNotFoundError(f"There is no blob {name}.")
        return row


def _counts(sql: Sql) -> tuple[int, int, int, int]:
    statement = "SELECT coalesce(sum(count), 0) FROM tallies WHERE state = 1"
    blobs = sql.execute(statement).fetchone()
    coming = sql.execute("SELECT count(*) FROM blobs WHERE state = 0").fetchone()
    accounts = sql.execute("SELECT count(*) FROM accounts").fetchone()
    assert blobs is not None
    assert coming is not None
    assert accounts is not None
    return rows.used_by(sql, None), blobs[0], coming[0], accounts[0]


def _remove_strays(database: Database, files: BlobFiles) -> None:
    """Remove files that no row speaks of: what a crash left between a commit and an unlink."""
    strays = files.numbers()

    def discard_known(sql: Sql) -> None:
        for (number,) in sql.execute("SELECT id FROM blobs WHERE state < ?", (DELETED,)):
            strays.discard(int(number))

    if strays:
        database.read(discard_known)
        files.remove(strays)
