"""What the store does at its start: sweep what was never finished, match files and rows.

A share's file gets its name before its row is committed, and is complete by then. So after a
crash there may be files without a row. They were never acknowledged, but each is whole: it gets
a row (put down to nobody, kept for a full term), which is also how a lost database is made anew
from the files. A row whose file is missing or of a wrong size is moved to ``lost``, so that the
share is not claimed to be here; if the file comes back, so does the row. Nothing is deleted but
unfinished uploads and files whose share had expired (a crash may come between the row and the
file), and every step can be repeated, so a crash in the middle does no harm.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import attrs

from ampgrid.crypto.base32 import a2b, b2a
from ampgrid.errors import FormatError
from ampgrid.store import catalog, leases
from ampgrid.store.filesystem import FileSystem
from ampgrid.store.sql import Database, Sql

_NUMBER = re.compile(r"0|[1-9][0-9]{0,2}")

#: Rows looked at in one transaction.
_BATCH = 500


@attrs.define
class Recovery:
    """What was done at the start.

    Attributes:
        swept: unfinished uploads that were removed.
        adopted: files that got a row.
        lost: rows whose file was not there, or of a wrong size.
        restored: shares that were lost and are back.
        set_aside: files of a wrong size, moved to ``quarantine``.
        removed: files of shares that had expired before.
    """

    swept: int = 0
    adopted: int = 0
    lost: int = 0
    restored: int = 0
    set_aside: int = 0
    removed: int = 0


@attrs.frozen
class Places:
    """Where things are in the directory of a store.

    Attributes:
        root: the directory itself.
    """

    root: Path

    @property
    def shares(self) -> Path:
        """Directory of the shares that are files."""
        return self.root / "shares"

    @property
    def incoming(self) -> Path:
        """Directory of unfinished uploads."""
        return self.root / "incoming"

    @property
    def quarantine(self) -> Path:
        """Directory of files that are not what their row says."""
        return self.root / "quarantine"

    @property
    def database(self) -> Path:
        """The database."""
        return self.root / "store.db"

    @property
    def ballast(self) -> Path:
        """The file that holds room back for what is vital."""
        return self.root / "ballast"

    @property
    def probe(self) -> Path:
        """The file with which a failed disk is tried."""
        return self.incoming / "probe"

    def share(self, storage_index: bytes, number: int) -> Path:
        """Return the path of a share that is a file."""
        name = b2a(storage_index)
        return self.shares / name[:2] / name / str(number)


def free_name(files: FileSystem, places: Places, storage_index: bytes, number: int) -> Path:
    """Return a path in the quarantine that nothing has, for a share."""
    name = f"{b2a(storage_index)}.{number}"
    path = places.quarantine / name
    again = 1
    while files.size_of(path) is not None:
        again += 1
        path = places.quarantine / f"{name}.{again}"
    return path


def sweep(files: FileSystem, places: Places, report: Recovery) -> None:
    """Remove every unfinished upload."""
    for name in files.names(places.incoming):
        files.unlink(places.incoming / name)
        report.swept += 1


def reconcile(
    files: FileSystem, places: Places, database: Database, now: int, report: Recovery
) -> None:
    """Match the files and the rows of shares; may be repeated."""
    _look_for_files(files, places, database, report)
    batch: list[tuple[bytes, int, int]] = []
    for found in _share_files(files, places):
        batch.append(found)
        if len(batch) == _BATCH:
            _look_for_rows(files, places, database, batch, now, report)
            batch = []
    _look_for_rows(files, places, database, batch, now, report)


def _look_for_files(
    files: FileSystem, places: Places, database: Database, report: Recovery
) -> None:
    last = 0
    while True:
        rows = database.read(
            lambda sql, after=last: sql.execute(  # type: ignore[misc]
                "SELECT id, storage_index, number, size FROM shares"
                " WHERE data IS NULL AND id > ? ORDER BY id LIMIT ?",
                (after, _BATCH),
            ).fetchall()
        )
        if not rows:
            return
        last = rows[-1][0]
        gone = [
            row_id
            for row_id, index, number, size in rows
            if files.size_of(places.share(bytes(index), number)) != size
        ]
        if gone:
            database.call(lambda sql, ids=gone: _lose(sql, ids), vital=True)  # type: ignore[misc]
            report.lost += len(gone)


def _lose(sql: Sql, row_ids: list[int]) -> None:
    for row_id in row_ids:
        catalog.lose(sql, row_id)


def _share_files(files: FileSystem, places: Places) -> Iterator[tuple[bytes, int, int]]:
    """Yield (storage index, number, size) of every file that is named as a share is."""
    for prefix in files.names(places.shares):
        for name in files.names(places.shares / prefix):
            try:
                storage_index = a2b(name, 16)
            except FormatError:
                continue
            for text in files.names(places.shares / prefix / name):
                if not _NUMBER.fullmatch(text) or int(text) > 255 or name[:2] != prefix:
                    continue
                size = files.size_of(places.shares / prefix / name / text)
                if size is not None:
                    yield storage_index, int(text), size


def _look_for_rows(
    files: FileSystem,
    places: Places,
    database: Database,
    found: list[tuple[bytes, int, int]],
    now: int,
    report: Recovery,
) -> None:
    misfits: list[tuple[bytes, int]] = []
    counts = Recovery()

    def match(sql: Sql) -> None:
        # It may be called twice.
        misfits.clear()
        counts.adopted = counts.restored = 0
        for storage_index, number, size in found:
            row = catalog.find(sql, storage_index, number)
            if row is not None:
                # Of a right size if it is in a file: that was looked at before. A small share
                # of this number makes the file a stray.
                if not row.in_file:
                    misfits.append((storage_index, number))
                continue
            key = (storage_index, number)
            lost = sql.execute(
                "SELECT size, node_id, stored_at FROM lost JOIN peers ON peers.id = lost.peer"
                " WHERE storage_index = ? AND number = ?",
                key,
            ).fetchone()
            if lost is None:
                catalog.add(sql, storage_index, number, size, catalog.NOBODY, now, None)
                counts.adopted += 1
            elif lost[0] == size:
                catalog.add(sql, storage_index, number, size, bytes(lost[1]), lost[2], None)
                counts.restored += 1
            else:
                misfits.append(key)
                continue
            # Also if it has a lease: while it was away nobody could renew that here.
            leases.give_term(sql, storage_index, now)

    if found:
        database.call(match, vital=True)
    report.adopted += counts.adopted
    report.restored += counts.restored
    for storage_index, number in misfits:
        aside = free_name(files, places, storage_index, number)
        files.rename(places.share(storage_index, number), aside)
        report.set_aside += 1
    if misfits:
        files.fsync_directory(places.quarantine)
