"""What a node remembers of directories: the highest committed record of each, and forks.

Records are signed and hold hashes only; nothing here gives a name, a cap or a key. Which records
they are is not checked here: a record is bytes, and this room knows no directories.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ampgrid.store.sql import Database, Schema, Sql

REMEMBER_SCHEMA = Schema(
    name="the database of remembered directories",
    application_id=0x616D7052,  # "ampR"
    # Records of version 1 named no following ballot.
    version=2,
    oldest=2,
    statements=(
        """CREATE TABLE records (
            directory BLOB PRIMARY KEY,
            record BLOB NOT NULL,
            turn INTEGER NOT NULL
        ) WITHOUT ROWID""",
        "CREATE INDEX records_by_turn ON records (turn)",
        """CREATE TABLE forks (
            directory BLOB PRIMARY KEY,
            one BLOB NOT NULL,
            other BLOB NOT NULL
        ) WITHOUT ROWID""",
    ),
)

#: The most directories that are remembered; beyond it those seen longest ago are forgotten.
MOST_REMEMBERED = 200_000


class RememberDatabase:
    """The database. Every call blocks; what it wrote is durable when it returns.

    Args:
        path: the file; made if it does not exist, in a directory that does.
        most: the most directories that are remembered.

    Raises:
        FormatError: the file is no such database, or of an unknown version.
        ConfigError: it cannot be opened, or another process has it open.
    """

    def __init__(self, path: Path, most: int = MOST_REMEMBERED) -> None:
        self._database = Database(path, REMEMBER_SCHEMA)
        self._most = most

    def record(self, directory: bytes) -> bytes | None:
        """Return the packed record that is remembered of a directory (its index, 32 bytes)."""
        row = self._database.read(
            lambda sql: sql.execute(
                "SELECT record FROM records WHERE directory = ?", (directory,)
            ).fetchone()
        )
        return None if row is None else bytes(row[0])

    def put_records(self, records: Mapping[bytes, bytes]) -> None:
        """Remember packed records, {index: record}, in the place of older ones, all or nothing.

        Raises:
            StoreError: they could not be written.
        """

        def write(sql: Sql) -> None:
            row = sql.execute("SELECT coalesce(max(turn), 0) FROM records").fetchone()
            assert row is not None
            turn = int(row[0]) + 1
            for directory, record in records.items():
                sql.execute(
                    "INSERT OR REPLACE INTO records (directory, record, turn) VALUES (?, ?, ?)",
                    (directory, record, turn),
                )
            row = sql.execute("SELECT count(*) FROM records").fetchone()
            assert row is not None
            if (excess := int(row[0]) - self._most) > 0:
                sql.execute(
                    "DELETE FROM records WHERE directory IN"
                    " (SELECT directory FROM records ORDER BY turn LIMIT ?)",
                    (excess,),
                )

        self._database.call(write)

    def fork(self, directory: bytes) -> tuple[bytes, bytes] | None:
        """Return two packed records of a directory that contradict each other."""
        row = self._database.read(
            lambda sql: sql.execute(
                "SELECT one, other FROM forks WHERE directory = ?", (directory,)
            ).fetchone()
        )
        return None if row is None else (bytes(row[0]), bytes(row[1]))

    def put_fork(self, directory: bytes, one: bytes, other: bytes) -> None:
        """Remember two packed records that contradict each other; the first such pair stays.

        Raises:
            StoreError: they could not be written.
        """
        self._database.call(
            lambda sql: sql.execute(
                "INSERT OR IGNORE INTO forks (directory, one, other) VALUES (?, ?, ?)",
                (directory, one, other),
            )
        )

    def drop_fork(self, directory: bytes) -> None:
        """Forget the records of a directory that contradict each other.

        Raises:
            StoreError: the file could not be written.
        """
        self._database.call(
            lambda sql: sql.execute("DELETE FROM forks WHERE directory = ?", (directory,))
        )

    def close(self) -> None:
        """Close the file."""
        self._database.close()
