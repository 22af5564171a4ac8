"""The local store of blobs: their sealed rows and how they stand to the remote, in SQLCipher.

Every row of a blob is a row of the table ``chunks``, so that no value is large, a blob is read
at any place, and one that comes in parts goes on where it had come to. What is in the database
is sealed already (`ampgrid.formats.blobcipher`); SQLCipher hides the rest: names, sizes, status.

A blob can be used once ``usable`` is set, in the transaction that brings its last row. The rows
of one that was deleted, or did not come to its end, belong to a content that is not ``live`` and
are swept away a few at a time, so that no transaction is large.

Every call blocks and may come from any thread. A process that is killed at any moment leaves a
store that opens, with all that was answered.

Source: `docs/specs/blobs.md#the-local-store`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ampgrid.errors import (
    BlobAlreadyExistsError,
    BlobNotFoundError,
    BlobQuotaError,
    BrokenStoreError,
    InvalidBlobError,
)
from ampgrid.formats.blobname import BlobName
from ampgrid.store.blobrecord import LocalBlob, Priority, SyncStatus
from ampgrid.store.filesystem import PosixFileSystem
from ampgrid.store.sql import Database, Schema, Sql
from ampgrid.store.sqlcipher import copy_into

T = TypeVar("T")

#: How often what came of a blob may be bad before it is not asked for again.
MAX_RETRIES = 3
#: Rows that are deleted in one transaction; of 64 KiB each.
SWEEP_ROWS = 256
#: What a blob of another scheme counts beside its bytes.
_EXTERNAL_BYTES = 4096
#: Rows of a blob that one content can have; a blob has 2**24 chunks at most.
_MOST_ROWS = 2**25

_SINCE_2 = (
    "ALTER TABLE blobs ADD COLUMN external INTEGER NOT NULL DEFAULT 0",
    "UPDATE blobs SET external = 1 WHERE usable = 1 AND size IS NULL",
    "CREATE INDEX blobs_external ON blobs (sealed_size) WHERE external = 1",
)

BLOBS_SCHEMA = Schema(
    name="a store of blobs",
    application_id=0x616D7062,  # "ampb"
    version=2,
    upgrades={1: _SINCE_2},
    statements=(
        """CREATE TABLE contents (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            live INTEGER NOT NULL
        )""",
        "CREATE INDEX contents_dead ON contents (number) WHERE live = 0",
        """CREATE TABLE chunks (
            place INTEGER PRIMARY KEY,
            data BLOB NOT NULL
        )""",
        """CREATE TABLE blobs (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            namespace TEXT NOT NULL,
            blob_id TEXT NOT NULL,
            status INTEGER NOT NULL,
            priority INTEGER NOT NULL,
            retries INTEGER NOT NULL DEFAULT 0,
            added_at REAL NOT NULL,
            usable INTEGER NOT NULL DEFAULT 0,
            content INTEGER REFERENCES contents (number),
            row_count INTEGER NOT NULL DEFAULT 0,
            preamble_size INTEGER NOT NULL DEFAULT 0,
            sealed_size INTEGER,
            tag BLOB,
            size INTEGER,
            UNIQUE (namespace, blob_id)
        )""",
        "CREATE INDEX blobs_by_status ON blobs (status, namespace, priority, number)",
        *_SINCE_2,
    ),
)

_COLUMNS = (
    "namespace, blob_id, status, priority, retries, added_at, usable, content, row_count, "
    "preamble_size, sealed_size, tag, size"
)
_FIND = f"SELECT {_COLUMNS} FROM blobs WHERE namespace = ? AND blob_id = ?"  # noqa: S608


class LocalBlobStore:
    """The blobs of one user on this machine.

    Args:
        path: of the database; made if it does not exist, in a directory that does.
        key: of the database, 32 bytes.

    Raises:
        ConfigError: it cannot be opened, or another process has it open.
        FormatError: it is no store of blobs, or not under this key.
    """

    def __init__(self, path: Path, key: bytes) -> None:
        self._path = path
        self._database = Database(path, BLOBS_SCHEMA, key=key)
        self._database.call(_forget_interrupted)

    def close(self) -> None:
        """Close it; calls that come later fail."""
        self._database.close()

    @property
    def commits(self) -> int:
        """Number of transactions that changed anything."""
        return self._database.commits

    # Looking.

    def find(self, name: BlobName) -> LocalBlob | None:
        """Return what is known of a blob, None if nothing is."""
        return self._database.read(lambda sql: find_blob(sql, name))

    def ids(self, namespace: str, status: SyncStatus | None = None) -> list[str]:
        """Return the ids of blobs that can be used, or of all that have a status.

        Returns:
            In the order in which they were added.
        """
        if status is None:
            return self._column(
                "SELECT blob_id FROM blobs WHERE namespace = ? AND usable = 1 ORDER BY number",
                (namespace,),
            )
        return self._column(
            "SELECT blob_id FROM blobs WHERE status = ? AND namespace = ? ORDER BY number",
            (int(status), namespace),
        )

    def pending(self, namespace: str, status: SyncStatus) -> list[tuple[str, Priority]]:
        """Return the ids of blobs that have a status, those of high priority first."""
        found = self._database.read(
            lambda sql: sql.execute(
                "SELECT blob_id, priority FROM blobs WHERE status = ? AND namespace = ? "
                "ORDER BY priority DESC, number",
                (int(status), namespace),
            ).fetchall()
        )
        return [(blob_id, Priority(priority)) for blob_id, priority in found]

    def between(self, namespace: str, after: str, until: str | None) -> Mapping[str, SyncStatus]:
        """Return the status of all blobs whose id is greater than one and not than another."""
        statement = "SELECT blob_id, status FROM blobs WHERE namespace = ? AND blob_id > ?"
        values: tuple[Any, ...] = (namespace, after)
        if until is not None:
            statement, values = statement + " AND blob_id <= ?", (*values, until)
        found = self._database.read(lambda sql: sql.execute(statement, values).fetchall())
        return {blob_id: SyncStatus(status) for blob_id, status in found}

    def namespaces(self) -> list[str]:
        """Return the namespaces of all that is known, sorted."""
        return self._column("SELECT DISTINCT namespace FROM blobs ORDER BY namespace", ())

    def progress(self, namespace: str | None = None) -> dict[SyncStatus, int]:
        """Return the number of blobs of each status, in one namespace or in all."""
        found = self._database.read(
            lambda sql: sql.execute(
                "SELECT status, count(*) FROM blobs WHERE ? IS NULL OR namespace = ? "
                "GROUP BY status",
                (namespace, namespace),
            ).fetchall()
        )
        return {SyncStatus(status): count for status, count in found}

    def rows(self, blob: LocalBlob, first: int, count: int) -> list[bytes]:
        """Return rows of a blob.

        Args:
            blob: as it was found.
            first: number of the first row; 0 is the preamble.
            count: how many; fewer at the end.

        Raises:
            BlobNotFoundError: it was deleted meanwhile.
            InvalidBlobError: a row is missing.
        """
        begin = _place(blob, first)
        wanted = min(count, blob.rows - first)
        statement = "SELECT data FROM chunks WHERE place >= ? AND place < ? ORDER BY place"

        def look(sql: Sql) -> list[bytes]:
            now = find_blob(sql, blob.name)
            if now is None or now.content != blob.content:
                raise BlobNotFoundError(f"The blob {blob.name} was deleted.")
            found = sql.execute(statement, (begin, begin + wanted)).fetchall()
            return [bytes(row[0]) for row in found]

        found = self._database.read(look)
        if len(found) != wanted:
            raise InvalidBlobError(f"Part of the blob {blob.name} is missing in the local store.")
        return found

    # Changing.

    def want(self, names: Iterable[BlobName], now: float) -> int:
        """Note blobs that the remote has and that are to be had here; return how many are new."""

        def change(sql: Sql) -> int:
            return sum(
                add_blob(sql, name, SyncStatus.PENDING_DOWNLOAD, Priority.MEDIUM, now)
                for name in names
                if find_blob(sql, name) is None
            )

        return self._database.call(change)

    def wanted(self) -> int:
        """Return how many blobs are known that the remote has and that are not here."""
        statement = "SELECT count(*) FROM blobs WHERE status IN (?, ?)"
        waiting = (int(SyncStatus.PENDING_DOWNLOAD), int(SyncStatus.FAILED_DOWNLOAD))
        found = self._database.read(lambda sql: sql.execute(statement, waiting).fetchone())
        assert found is not None
        return int(found[0])

    def want_again(self, name: BlobName) -> bool:
        """Forget what is here of a blob that the remote has too, and want it from there.

        Returns:
            Whether there is one that both sides had.
        """

        def change(sql: Sql) -> bool:
            blob = find_blob(sql, name)
            if blob is None or blob.status is not SyncStatus.SYNCED:
                return False
            drop_content(sql, blob)
            update_blob(sql, name, status=int(SyncStatus.PENDING_DOWNLOAD))
            return True

        return self._database.call(change)

    def set_status(
        self, name: BlobName, status: SyncStatus, only_from: Sequence[SyncStatus] = ()
    ) -> bool:
        """Change the status of a blob, if it has one of those given; return whether it did."""
        return self.set_all([name], status, only_from) == 1

    def set_all(
        self, names: Sequence[BlobName], status: SyncStatus, only_from: Sequence[SyncStatus] = ()
    ) -> int:
        """Change the status of blobs as `set_status` does, in one transaction; return how many."""

        def change(sql: Sql) -> int:
            count = 0
            for name in names:
                blob = find_blob(sql, name)
                if blob is not None and (not only_from or blob.status in only_from):
                    count += update_blob(sql, name, status=int(status))
            return count

        return self._database.call(change)

    def set_priority(self, name: BlobName, priority: Priority) -> bool:
        """Change the priority of a blob; return whether there is one."""
        return self._database.call(lambda sql: update_blob(sql, name, priority=int(priority)) == 1)

    def note_bad(self, name: BlobName) -> int:
        """Note that what came of a wanted blob was bad, and forget it; return how often that was.

        The third time it fails for good. Of one that is not wanted any more, 0.
        """

        def change(sql: Sql) -> int:
            blob = find_blob(sql, name)
            if blob is None or blob.status is not SyncStatus.PENDING_DOWNLOAD:
                # It was deleted while it came, and that stays so.
                return 0
            drop_content(sql, blob)
            retries = blob.retries + 1
            failed = retries >= MAX_RETRIES
            status = SyncStatus.FAILED_DOWNLOAD if failed else blob.status
            update_blob(sql, name, retries=retries, status=int(status))
            return retries

        return self._database.call(change)

    def ask_again(self, namespace: str) -> int:
        """Let blobs that failed be tried again; return how many."""

        def change(sql: Sql) -> int:
            count = 0
            for failed, pending in (
                (SyncStatus.FAILED_DOWNLOAD, SyncStatus.PENDING_DOWNLOAD),
                (SyncStatus.FAILED_UPLOAD, SyncStatus.PENDING_UPLOAD),
            ):
                count += sql.execute(
                    "UPDATE blobs SET status = ?, retries = 0 WHERE status = ? AND namespace = ?",
                    (int(pending), int(failed), namespace),
                ).rowcount
            return count

        return self._database.call(change)

    def mark_deleted(self, name: BlobName, now: float | None = None) -> bool:
        """Delete what is here of a blob, and note that it is to be deleted at the remote.

        Args:
            name: of the blob.
            now: seconds since 1970, to note it also of a blob that is not known here.

        Returns:
            Whether the remote is to be asked; a blob that it never heard of is just gone.
        """

        def change(sql: Sql) -> bool:
            blob = find_blob(sql, name)
            if blob is None and now is not None:
                add_blob(sql, name, SyncStatus.PENDING_DELETE, Priority.MEDIUM, now)
                return True
            if blob is None:
                return False
            drop_content(sql, blob)
            if blob.status is SyncStatus.LOCAL_ONLY:
                delete_blob(sql, name)
                return False
            update_blob(sql, name, status=int(SyncStatus.PENDING_DELETE))
            return True

        return self._database.call(change)

    def drop_all(self, names: Sequence[BlobName], only_from: Sequence[SyncStatus]) -> int:
        """Forget blobs, as `drop` does, in one transaction; return how many there were."""

        def change(sql: Sql) -> int:
            return sum(_drop(sql, name, only_from) for name in names)

        return self._database.call(change)

    def drop(self, name: BlobName, only_from: Sequence[SyncStatus] = ()) -> bool:
        """Forget a blob and all of it, if it has one of these statuses; return whether it did."""
        return self._database.call(lambda sql: _drop(sql, name, only_from))

    def change(self, function: Callable[[Sql], T]) -> T:
        """Run a change of a module beside this one in a transaction."""
        return self._database.call(function)

    def sweep(self) -> bool:
        """Delete some rows of what is gone; return whether more are left."""
        return self._database.call(_sweep)

    # The file as a whole.

    def rekey(self, key: bytes) -> None:
        """Encipher all of the file anew under another key, 32 bytes."""
        self._database.rekey(key)

    def copy_to(self, path: Path, key: bytes, cipher_format: int | None = None) -> None:
        """Write all of the store to a new file; returns once that is durable.

        Args:
            path: where; nothing may be there.
            key: of the new file, 32 bytes.
            cipher_format: of SQLCipher, 3 or 4; None for that of the driver.
        """
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            self._database.read(lambda sql: copy_into(sql, path, key, cipher_format))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        PosixFileSystem().fsync_directory(path.parent)

    def check(self) -> list[str]:
        """Return what SQLite and SQLCipher find wrong with the file, nothing if all is well.

        SQLCipher 4 tells of each page that it cannot read; 3 gives up at the first.
        """

        def look(sql: Sql) -> list[str]:
            pages = [str(row[0]) for row in sql.execute("PRAGMA cipher_integrity_check")]
            tables = [str(row[0]) for row in sql.execute("PRAGMA integrity_check")]
            return pages + [line for line in tables if line != "ok"]

        try:
            return self._database.read(look)
        except BrokenStoreError as error:
            return [str(error)]

    def _column(self, statement: str, values: tuple[Any, ...]) -> list[str]:
        found = self._database.read(lambda sql: sql.execute(statement, values).fetchall())
        return [row[0] for row in found]


# In a transaction.


def find_blob(sql: Sql, name: BlobName) -> LocalBlob | None:
    """Return what is known of a blob."""
    row = sql.execute(_FIND, (name.namespace, name.blob_id)).fetchone()
    if row is None:
        return None
    return LocalBlob(
        name=BlobName(row[0], row[1]),
        status=SyncStatus(row[2]),
        priority=Priority(row[3]),
        retries=row[4],
        added_at=row[5],
        usable=bool(row[6]),
        content=row[7],
        rows=row[8],
        preamble_size=row[9],
        sealed_size=row[10],
        tag=None if row[11] is None else bytes(row[11]),
        size=row[12],
    )


def add_blob(sql: Sql, name: BlobName, status: SyncStatus, priority: Priority, now: float) -> bool:
    """Note a blob that was not known.

    Raises:
        BlobAlreadyExistsError: it is.
    """
    if find_blob(sql, name) is not None:
        raise BlobAlreadyExistsError(f"There is a blob {name} already.")
    sql.execute(
        "INSERT INTO blobs (namespace, blob_id, status, priority, added_at) "
        "VALUES (?, ?, ?, ?, ?)",
        (name.namespace, name.blob_id, int(status), int(priority), now),
    )
    return True


def update_blob(sql: Sql, name: BlobName, **values: object) -> int:
    """Set columns of a blob; return the number of blobs, 0 or 1."""
    assert all(column.isidentifier() for column in values)
    columns = ", ".join(f"{column} = ?" for column in values)
    return sql.execute(
        f"UPDATE blobs SET {columns} WHERE namespace = ? AND blob_id = ?",  # noqa: S608
        (*values.values(), name.namespace, name.blob_id),
    ).rowcount


def delete_blob(sql: Sql, name: BlobName) -> None:
    """Forget a blob; its content must have been dropped."""
    sql.execute(
        "DELETE FROM blobs WHERE namespace = ? AND blob_id = ?", (name.namespace, name.blob_id)
    )


def new_content(sql: Sql) -> int:
    """Return the number of a new content, which is live."""
    number = sql.execute("INSERT INTO contents (live) VALUES (1)").lastrowid
    assert number is not None
    return number


def add_rows(sql: Sql, content: int, first: int, rows: Sequence[bytes]) -> None:
    """Add rows to a content, the first of them under a number."""
    for number, row in enumerate(rows, first):
        assert number < _MOST_ROWS
        sql.execute(
            "INSERT INTO chunks (place, data) VALUES (?, ?)", (content * _MOST_ROWS + number, row)
        )


def check_external_room(sql: Sql, sealed_size: int, most: int) -> None:
    """See that a blob of another scheme still fits, beside those that are here or coming.

    Args:
        sql: in the transaction in which it begins.
        sealed_size: as announced, bytes.
        most: that all may take together, bytes.

    Raises:
        BlobQuotaError: it does not.
    """
    statement = (
        "SELECT coalesce(sum(sealed_size), 0) + ? * (count(*) + 1) FROM blobs WHERE external = 1"
    )
    row = sql.execute(statement, (_EXTERNAL_BYTES,)).fetchone()
    assert row is not None
    if row[0] + sealed_size > most:
        raise BlobQuotaError(
            f"Blobs of other schemes, which nobody can check, may take {most} bytes here, and "
            "there is no room for another: allow more, or delete some."
        )


def drop_content(sql: Sql, blob: LocalBlob) -> None:
    """Let what is here of a blob be swept away."""
    if blob.content is not None:
        sql.execute("UPDATE contents SET live = 0 WHERE number = ?", (blob.content,))
    update_blob(
        sql,
        blob.name,
        content=None,
        row_count=0,
        usable=0,
        preamble_size=0,
        sealed_size=None,
        tag=None,
        size=None,
        external=0,
    )


def _drop(sql: Sql, name: BlobName, only_from: Sequence[SyncStatus]) -> bool:
    blob = find_blob(sql, name)
    if blob is None or (only_from and blob.status not in only_from):
        return False
    drop_content(sql, blob)
    delete_blob(sql, name)
    return True


def _place(blob: LocalBlob, row: int) -> int:
    assert 0 <= row < _MOST_ROWS
    return (blob.content or 0) * _MOST_ROWS + row


def _sweep(sql: Sql) -> bool:
    dead = sql.execute("SELECT number FROM contents WHERE live = 0 LIMIT 1").fetchone()
    if dead is None:
        return False
    begin = dead[0] * _MOST_ROWS
    deleted = sql.execute(
        "DELETE FROM chunks WHERE place IN "
        "(SELECT place FROM chunks WHERE place >= ? AND place < ? LIMIT ?)",
        (begin, begin + _MOST_ROWS, SWEEP_ROWS),
    ).rowcount
    if deleted < SWEEP_ROWS:
        sql.execute("DELETE FROM contents WHERE number = ?", (dead[0],))
    return True


def _forget_interrupted(sql: Sql) -> None:
    """Forget blobs whose putting was cut short: nobody was told that they are here."""
    found = sql.execute(
        "SELECT namespace, blob_id FROM blobs WHERE usable = 0 AND status IN (?, ?)",
        (int(SyncStatus.PENDING_UPLOAD), int(SyncStatus.LOCAL_ONLY)),
    ).fetchall()
    for namespace, blob_id in found:
        blob = find_blob(sql, BlobName(namespace, blob_id))
        assert blob is not None
        drop_content(sql, blob)
        delete_blob(sql, blob.name)
