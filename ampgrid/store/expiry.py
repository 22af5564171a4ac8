"""What becomes of files without a lease: marked, looked at again after a grace, deleted.

All of it is decided inside transactions, where leases cannot change. A file is *marked* when its
last lease has run out; any word on a lease takes the mark away (a trigger sees to that, so no
way of renewing can forget it). What has been marked for the whole grace, and still has no lease
when the deleting transaction looks, loses its rows in that transaction: a renewal either comes
before, and finds the file kept, or after, and is told that there is none.

Files of shares go after their rows: the transaction notes them as *doomed*, they are removed,
the directory is synchronised, and only then the note goes. So a crash on the way leaves a note
from which the next start goes on, and never a file that comes back as an adopted share.
"""

from __future__ import annotations

import threading
from pathlib import Path

import attrs

from ampgrid.store import catalog, leases, marks
from ampgrid.store.filesystem import FileSystem
from ampgrid.store.health import Health
from ampgrid.store.locks import ShareLocks
from ampgrid.store.readers import Readers
from ampgrid.store.recovery import Places
from ampgrid.store.space import Space
from ampgrid.store.sql import Database, Job, Sql

#: Leases looked at in one transaction.
LEASES_A_BATCH = 500
#: Files deleted in one transaction, and removed from the disk before the next.
FILES_A_BATCH = 50

_TOTALS = ("expired_files", "expired_shares", "expired_bytes")


@attrs.frozen
class Marking:
    """One batch of marking.

    Attributes:
        marked: files that were marked.
        last: the last lease looked at, from where to go on: when it ended, and its storage
            index; None when all have been looked at.
    """

    marked: int
    last: tuple[int, bytes] | None


@attrs.frozen
class Expired:
    """One batch of deleting.

    Attributes:
        looked_at: files whose grace was over, 0 when there are none left.
        files: those of them that were deleted.
        shares: shares that they had.
        size: of these, bytes.
    """

    looked_at: int
    files: int
    shares: int
    size: int


@attrs.frozen
class LeaseCounts:
    """How many leases there are, and what became of files without.

    Attributes:
        leases: leases of peers, also those that have run out.
        marked: files that are marked.
        expired_files: files that were deleted, ever.
        expired_shares: shares that they had.
        expired_bytes: bytes of these.
    """

    leases: int = 0
    marked: int = 0
    expired_files: int = 0
    expired_shares: int = 0
    expired_bytes: int = 0


def mark_ended(sql: Sql, now: int, after: tuple[int, bytes]) -> Marking:
    """Mark the files of a batch of leases that have run out, if they have no other.

    Args:
        sql: the database.
        now: the time, seconds since 1970.
        after: where the batch before ended (`Marking.last`); (-1, b"") for the first.
    """
    rows = sql.execute(
        "SELECT expires_at, storage_index FROM leases"
        " WHERE (expires_at, storage_index) > (?, ?) AND expires_at <= ?"
        " ORDER BY expires_at, storage_index LIMIT ?",
        (*after, now, LEASES_A_BATCH),
    ).fetchall()
    marked = 0
    for index in dict.fromkeys(bytes(row[1]) for row in rows):
        end = leases.last_end(sql, index)
        if end is None or end <= now:
            marked += sql.execute(
                "INSERT OR IGNORE INTO marked (storage_index, marked_at) VALUES (?, ?)",
                (index, now),
            ).rowcount
    last = (rows[-1][0], bytes(rows[-1][1])) if len(rows) == LEASES_A_BATCH else None
    return Marking(marked, last)


class ExpireJob(Job[Expired]):
    """Delete the rows of a batch of files whose grace is over.

    Args:
        now: the time, seconds since 1970.
        grace: how long a file has been marked before it goes, seconds.
        space: the accounts.
        readers: open files of shares.
    """

    vital = True

    def __init__(self, now: int, grace: int, space: Space, readers: Readers) -> None:
        self._now = now
        self._grace = grace
        self._space = space
        self._readers = readers
        self._gone: list[tuple[bytes, int, int]] = []

    def run(self, sql: Sql) -> Expired:
        """Look at each again; delete it if it still has no lease."""
        self._gone = []
        due = sql.execute(
            "SELECT storage_index FROM marked WHERE marked_at <= ? ORDER BY marked_at LIMIT ?",
            (self._now - self._grace, FILES_A_BATCH),
        ).fetchall()
        files = 0
        for (value,) in due:
            index = bytes(value)
            end = leases.last_end(sql, index)
            if end is None or end <= self._now:
                self._delete(sql, index)
                files += 1
            sql.execute("DELETE FROM marked WHERE storage_index = ?", (index,))
        size = sum(entry[2] for entry in self._gone)
        if not files:
            return Expired(len(due), 0, 0, 0)
        for name, more in zip(_TOTALS, (files, len(self._gone), size), strict=True):
            marks.write(sql, name, (marks.read(sql, name) or 0) + more)
        return Expired(len(due), files, len(self._gone), size)

    def _delete(self, sql: Sql, index: bytes) -> None:
        rows = sql.execute(
            "SELECT number, size, data IS NULL FROM shares WHERE storage_index = ?", (index,)
        ).fetchall()
        for number, size, in_file in rows:
            self._gone.append((index, number, size))
            if in_file:
                sql.execute(
                    "INSERT OR REPLACE INTO doomed (storage_index, number) VALUES (?, ?)",
                    (index, number),
                )
        for table in ("shares", "lost", "leases", "advisories"):
            sql.execute(f"DELETE FROM {table} WHERE storage_index = ?", (index,))  # noqa: S608

    def committed(self) -> None:
        """Free the room, and let nobody read what is gone."""
        self._space.drop(sum(entry[2] for entry in self._gone), len(self._gone))
        for index, number, _ in self._gone:
            self._readers.forget((index, number))


class Remover:
    """Removes the files of shares that are gone; every step may be repeated.

    Args:
        database: the store's.
        files: the file system.
        places: where things are.
        health: of the store.
        locks: keep uploads of the same shares away.
    """

    def __init__(
        self,
        database: Database,
        files: FileSystem,
        places: Places,
        health: Health,
        locks: ShareLocks,
    ) -> None:
        self._database = database
        self._files = files
        self._places = places
        self._health = health
        self._locks = locks
        self._lock = threading.Lock()

    def remove_batch(self) -> int:
        """Remove some doomed files; return how many, 0 when there are none.

        Raises:
            StoreError: the disk refused; what is left is tried again.
        """
        with self._lock:
            doomed = self._database.read(
                lambda sql: sql.execute(
                    "SELECT storage_index, number FROM doomed ORDER BY storage_index LIMIT ?",
                    (FILES_A_BATCH,),
                ).fetchall()
            )
            keys = [(bytes(index), number) for index, number in doomed]
            changed = {self._remove(*key).parent for key in keys}
            folders = {self._clear(folder) for folder in sorted(changed)}
            for folder in folders:
                self._synchronise(folder)

            def forget(sql: Sql) -> None:
                for key in keys:
                    sql.execute("DELETE FROM doomed WHERE storage_index = ? AND number = ?", key)

            if keys:
                self._database.call(forget, vital=True)
            return len(keys)

    def _remove(self, index: bytes, number: int) -> Path:
        """Remove the file of a share, unless a new share has its name; return its path."""
        path = self._places.share(index, number)
        with self._locks.shares.of((index, number)):
            # An upload has its row before it lets go of this lock.
            row = self._database.read(lambda sql: catalog.find(sql, index, number))
            if row is None or not row.in_file:
                with self._health.synchronising():
                    self._files.unlink(path)
        return path

    def _clear(self, folder: Path) -> Path:
        """Remove a directory if it is empty; return which has to be synchronised now."""
        with self._locks.folders.of(folder.name), self._health.synchronising():
            return folder.parent if self._files.remove_directory(folder) else folder

    def _synchronise(self, folder: Path) -> None:
        with self._health.synchronising():
            try:
                self._files.fsync_directory(folder)
            except FileNotFoundError:
                return  # with all that was in it


def count_leases(sql: Sql) -> LeaseCounts:
    """Return the counts; takes as long as there are leases."""
    counted = []
    for statement, values in (
        ("SELECT count(*) FROM leases WHERE renew != ?", (leases.OWN,)),
        ("SELECT count(*) FROM marked", ()),
    ):
        row = sql.execute(statement, values).fetchone()
        assert row is not None
        counted.append(int(row[0]))
    return LeaseCounts(*counted, *(marks.read(sql, name) or 0 for name in _TOTALS))


def give_missing_terms(sql: Sql, now: int) -> None:
    """Give a full term to every file that has no lease at all, as the older version left them."""
    rows = sql.execute(
        "SELECT DISTINCT storage_index FROM shares WHERE storage_index NOT IN"
        " (SELECT storage_index FROM leases)"
    ).fetchall()
    for (index,) in rows:
        leases.give_term(sql, bytes(index), now)


def latest_lease(sql: Sql) -> int | None:
    """Return the latest time that a store of the older version is sure to have seen."""
    row = sql.execute(
        "SELECT max(t) FROM (SELECT max(expires_at) - ? AS t FROM leases"
        " UNION SELECT max(stored_at) FROM shares)",
        (leases.LEASE_SECONDS,),
    ).fetchone()
    assert row is not None
    return None if row[0] is None else int(row[0])
