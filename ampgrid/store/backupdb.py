"""What backups remember: which cap stands for which file, and for which contents of a directory.

Caps are secrets: whoever has them reads the files, and of directories changes them too. So the
file is for its owner alone. Nothing here is a record of what is in the grid: it may all be lost,
and the next backup then reads and uploads everything once more, to the same caps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from attrs import field, frozen

from ampgrid.errors import ConfigError
from ampgrid.store.sql import Database, Schema, Sql

BACKUP_SCHEMA = Schema(
    name="the database of backups",
    application_id=0x616D7042,  # "ampB"
    version=1,
    statements=(
        """CREATE TABLE files (
            path BLOB PRIMARY KEY,
            size INTEGER NOT NULL,
            mtime_ns INTEGER NOT NULL,
            ctime_ns INTEGER NOT NULL,
            inode BLOB NOT NULL,
            cap TEXT NOT NULL,
            checked_at REAL NOT NULL,
            seen_at REAL NOT NULL
        ) WITHOUT ROWID""",
        "CREATE INDEX files_by_seen ON files (seen_at)",
        """CREATE TABLE directories (
            contents BLOB PRIMARY KEY,
            cap TEXT NOT NULL,
            checked_at REAL NOT NULL
        ) WITHOUT ROWID""",
        "CREATE INDEX directories_by_checked ON directories (checked_at)",
        """CREATE TABLE snapshots (
            cap TEXT PRIMARY KEY,
            source BLOB NOT NULL,
            linked_at REAL NOT NULL
        ) WITHOUT ROWID""",
        """CREATE TABLE owners (
            id INTEGER PRIMARY KEY CHECK (id = 1),
            node TEXT NOT NULL
        )""",
    ),
)


@frozen
class Stamp:
    """By what a file is known not to have changed.

    Attributes:
        size: bytes.
        mtime_ns: when its content changed, nanoseconds since 1970.
        ctime_ns: when anything of it changed, nanoseconds since 1970; no program can set it back.
        inode: its number on its device.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


@frozen
class KnownFile:
    """A file, or a symbolic link with a long target, and the cap that it was uploaded to.

    Attributes:
        path: of the file, absolute, as the file system spells it.
        stamp: as it was when it was read.
        cap: to read it.
        checked_at: when it was uploaded or its shares were counted, seconds since 1970.
        seen_at: about when a backup met it last, seconds since 1970.
    """

    path: bytes
    stamp: Stamp
    cap: str = field(repr=False)
    checked_at: float
    seen_at: float


@frozen
class KnownDirectory:
    """A directory of the grid that holds known children.

    Attributes:
        contents: hash of them, 32 bytes.
        cap: to change it. Snapshots are linked by what reads it; this one lets a backup repair
            it when its replicas are gone.
        checked_at: when it was made or its replicas were asked, seconds since 1970.
    """

    contents: bytes
    cap: str = field(repr=False)
    checked_at: float


class BackupDatabase:
    """The database. Every call blocks; what it wrote is durable when it returns.

    Args:
        path: the file; made, for its owner alone, if it does not exist, in a directory that does.

    Raises:
        FormatError: the file is no such database, or of an unknown version.
        ConfigError: it cannot be opened, or another process has it open.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database = Database(path, BACKUP_SCHEMA)

    def claim(self, node: str) -> None:
        """Note whose caps are in it.

        Args:
            node: the id of the node, as a text.

        Raises:
            ConfigError: they are another node's, whose grid may be another one.
        """

        def write(sql: Sql) -> str:
            sql.execute("INSERT OR IGNORE INTO owners (id, node) VALUES (1, ?)", (node,))
            row = sql.execute("SELECT node FROM owners").fetchone()
            assert row is not None
            return str(row[0])

        if self._database.call(write) != node:
            raise ConfigError(
                f"{self._path} holds the backups of another node; name another --database."
            )

    def file(self, path: bytes) -> KnownFile | None:
        """Return what is known of a file."""
        row = self._database.read(
            lambda sql: sql.execute(
                "SELECT size, mtime_ns, ctime_ns, inode, cap, checked_at, seen_at"
                " FROM files WHERE path = ?",
                (path,),
            ).fetchone()
        )
        if row is None:
            return None
        stamp = Stamp(row[0], row[1], row[2], int.from_bytes(row[3], "big"))
        return KnownFile(path, stamp, row[4], row[5], row[6])

    def directory(self, contents: bytes) -> KnownDirectory | None:
        """Return the directory that holds just these contents (their hash, 32 bytes)."""
        row = self._database.read(
            lambda sql: sql.execute(
                "SELECT cap, checked_at FROM directories WHERE contents = ?", (contents,)
            ).fetchone()
        )
        return None if row is None else KnownDirectory(contents, row[0], row[1])

    def record(
        self,
        files: Iterable[KnownFile] = (),
        directories: Iterable[KnownDirectory] = (),
    ) -> None:
        """Remember files and directories in the place of older ones, all or nothing.

        Raises:
            StoreError: they could not be written.
        """

        def write(sql: Sql) -> None:
            for file in files:
                stamp = file.stamp
                sql.execute(
                    "INSERT OR REPLACE INTO files (path, size, mtime_ns, ctime_ns, inode, cap,"
                    " checked_at, seen_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        file.path,
                        stamp.size,
                        stamp.mtime_ns,
                        stamp.ctime_ns,
                        # Of 64 bits without a sign, for which SQLite has no integer.
                        stamp.inode.to_bytes(16, "big"),
                        file.cap,
                        file.checked_at,
                        file.seen_at,
                    ),
                )
            for directory in directories:
                sql.execute(
                    "INSERT OR REPLACE INTO directories (contents, cap, checked_at)"
                    " VALUES (?, ?, ?)",
                    (directory.contents, directory.cap, directory.checked_at),
                )

        self._database.call(write)

    def directories_due(self, before: float, most: int) -> Sequence[KnownDirectory]:
        """Return some of the directories that were not checked since ``before``, at random."""
        rows = self._database.read(
            lambda sql: sql.execute(
                "SELECT contents, cap, checked_at FROM directories WHERE checked_at < ?"
                " ORDER BY random() LIMIT ?",
                (before, most),
            ).fetchall()
        )
        return [KnownDirectory(bytes(row[0]), row[1], row[2]) for row in rows]

    def forget_directories(self, before: float) -> int:
        """Forget directories that were not found sound since ``before``; returns how many."""
        return self._database.call(
            lambda sql: (
                sql.execute("DELETE FROM directories WHERE checked_at < ?", (before,)).rowcount
            )
        )

    def forget_files(self, before: float) -> int:
        """Forget files that no backup has met since ``before``; returns how many."""
        return self._database.call(
            lambda sql: sql.execute("DELETE FROM files WHERE seen_at < ?", (before,)).rowcount
        )

    def snapshots(self) -> frozenset[str]:
        """Return the read caps of the snapshots that were linked."""
        rows = self._database.read(lambda sql: sql.execute("SELECT cap FROM snapshots").fetchall())
        return frozenset(row[0] for row in rows)

    def add_snapshot(self, cap: str, source: bytes, linked_at: float) -> None:
        """Note that a snapshot of a directory was linked.

        Args:
            cap: its read cap.
            source: path of the directory.
            linked_at: seconds since 1970.
        """
        self._database.call(
            lambda sql: sql.execute(
                "INSERT OR REPLACE INTO snapshots (cap, source, linked_at) VALUES (?, ?, ?)",
                (cap, source, linked_at),
            )
        )

    def close(self) -> None:
        """Close the file."""
        self._database.close()
