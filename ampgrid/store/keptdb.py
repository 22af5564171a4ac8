"""What a node keeps alive: every file it has put, by verify cap, and how that file fared.

Nothing here gives a file's content or its name: a row holds what the verify cap says, the spread
that was asked for, and what the keeper found. Rows are reached by a cap, by the moment at which
they are due, or by their number in pages; each way has an index, so that millions are no burden.
A row's number is never used again, so that a page of a list means the same as before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from ampgrid.caps import ChkVerifierCap
from ampgrid.store.sql import Call, Database, Outcome, Schema, Sql

#: The longest line about a file that is kept, characters.
MOST_PROBLEM_CHARACTERS = 200

KEPT_SCHEMA = Schema(
    name="the database of kept files",
    application_id=0x616D704B,  # "ampK"
    version=1,
    statements=(
        """CREATE TABLE kept (
            number INTEGER PRIMARY KEY AUTOINCREMENT,
            storage_index BLOB NOT NULL,
            ueb_hash BLOB NOT NULL,
            needed INTEGER NOT NULL,
            total INTEGER NOT NULL,
            size INTEGER NOT NULL,
            happy INTEGER NOT NULL,
            put_at REAL NOT NULL,
            next_at REAL NOT NULL,
            renewed_at REAL,
            renewed_servers INTEGER NOT NULL DEFAULT 0,
            checked_at REAL,
            verified_at REAL,
            unverified INTEGER NOT NULL DEFAULT 0,
            good INTEGER NOT NULL DEFAULT 0,
            servers_happy INTEGER NOT NULL DEFAULT 0,
            bad INTEGER NOT NULL DEFAULT 0,
            suspected_at REAL,
            repaired_at REAL,
            skips INTEGER NOT NULL DEFAULT 0,
            failures INTEGER NOT NULL DEFAULT 0,
            problem TEXT NOT NULL DEFAULT ''
        )""",
        "CREATE UNIQUE INDEX kept_by_cap ON kept (storage_index, ueb_hash, needed, total, size)",
        "CREATE INDEX kept_by_time ON kept (next_at, number)",
        "CREATE INDEX kept_by_put ON kept (put_at)",
        "CREATE INDEX kept_failing ON kept (number) WHERE failures > 0",
        """CREATE TABLE marks (
            name TEXT PRIMARY KEY,
            value TEXT NOT NULL
        ) WITHOUT ROWID""",
    ),
)


@attrs.frozen
class FilePut:
    """A file that was put and is to be kept.

    Attributes:
        cap: its verify cap.
        happy: servers of happiness that its uploader asked for.
        put_at: when, seconds since 1970.
        next_at: when the keeper shall look at it first, seconds since 1970.
    """

    cap: ChkVerifierCap
    happy: int
    put_at: float
    next_at: float


@attrs.frozen
class KeptFile:
    """One kept file. Times are seconds since 1970, or None for never.

    Attributes:
        number: of its row; lists go by it.
        cap: its verify cap.
        happy: servers of happiness that its uploader asked for, the most of all times.
        put_at: when it was put first.
        next_at: when the keeper shall look at it next.
        renewed_at: when its leases were renewed.
        renewed_servers: on how many servers that was.
        checked_at: when its shares were looked for.
        verified_at: when every byte of them was read.
        unverified: checks since then.
        good: distinct good shares that the last check found.
        servers_happy: servers of happiness that it found.
        bad: damaged or foreign shares that it found.
        suspected_at: when shares were first found missing that were not made again since.
        repaired_at: when shares were made again.
        skips: times in a row that too few servers answered to judge it.
        failures: times in a row that it could not be kept as it should.
        problem: one line about the last look, empty if all was well.
    """

    number: int
    cap: ChkVerifierCap
    happy: int
    put_at: float
    next_at: float
    renewed_at: float | None = None
    renewed_servers: int = 0
    checked_at: float | None = None
    verified_at: float | None = None
    unverified: int = 0
    good: int = 0
    servers_happy: int = 0
    bad: int = 0
    suspected_at: float | None = None
    repaired_at: float | None = None
    skips: int = 0
    failures: int = 0
    problem: str = ""


#: Columns that a look at a file changes; and all, in the order of a row.
_LOOKED_AT = tuple(field.name for field in attrs.fields(KeptFile))[4:]
_CAP_COLUMNS = ("storage_index", "ueb_hash", "needed", "total", "size")
_COLUMNS = ", ".join(("number", *_CAP_COLUMNS, "happy", "put_at", *_LOOKED_AT))
_CAP = " AND ".join(f"{name} = ?" for name in _CAP_COLUMNS)


def _file(row: Sequence[Any]) -> KeptFile:
    number, index, ueb_hash, needed, total, size, happy, put_at, *looked = row
    cap = ChkVerifierCap(bytes(index), bytes(ueb_hash), needed, total, size)
    return KeptFile(number, cap, happy, put_at, *looked)


def _of(cap: ChkVerifierCap) -> tuple[Any, ...]:
    return (cap.storage_index, cap.ueb_hash, cap.needed, cap.total, cap.size)


class KeptDatabase:
    """The database of kept files. Every call blocks; what it wrote is durable when it returns.

    Args:
        path: the file; made if it does not exist, in a directory that does.

    Raises:
        FormatError: the file is no such database, or of an unknown version.
        ConfigError: it cannot be opened, or another process has it open.
    """

    def __init__(self, path: Path) -> None:
        self._database = Database(path, KEPT_SCHEMA)

    # What is kept.

    def record(self, put: FilePut) -> bool:
        """Keep a file; see `record_all`. Tells whether it was not kept before."""
        return self.record_all([put])[0].get()

    def record_all(self, puts: Sequence[FilePut]) -> list[Outcome[bool]]:
        """Keep files, in one transaction where that is possible; each has its own outcome.

        A file that is kept already keeps its place in the schedule and what is known of it; if
        its uploader asks for more happiness now, that counts from now on, and never for less.

        Returns:
            Whether each was not kept before, or why it cannot be (`StoreError`).
        """

        def job(put: FilePut) -> Call[bool]:
            return Call(lambda sql: self._record(sql, put))

        return self._database.run_all([job(put) for put in puts])

    def _record(self, sql: Sql, put: FilePut) -> bool:
        changed = sql.execute(
            f"UPDATE kept SET happy = max(happy, ?) WHERE {_CAP}",  # noqa: S608 - our own words
            (put.happy, *_of(put.cap)),
        )
        if changed.rowcount:
            return False
        sql.execute(
            "INSERT INTO kept (storage_index, ueb_hash, needed, total, size, happy, put_at,"
            " next_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*_of(put.cap), put.happy, put.put_at, put.next_at),
        )
        return True

    def drop(self, cap: ChkVerifierCap) -> bool:
        """Keep a file no longer; tell if it was kept."""
        return self._database.call(
            lambda sql: bool(
                sql.execute(f"DELETE FROM kept WHERE {_CAP}", _of(cap)).rowcount  # noqa: S608
            )
        )

    # Looking.

    def _select(self, rest: str, *values: Any) -> list[KeptFile]:
        rows = self._database.read(
            lambda sql: sql.execute(
                f"SELECT {_COLUMNS} FROM kept {rest}",  # noqa: S608 - our own words
                values,
            ).fetchall()
        )
        return [_file(row) for row in rows]

    def get(self, number: int) -> KeptFile | None:
        """Return the file of a row, None if it is kept no longer."""
        found = self._select("WHERE number = ?", number)
        return found[0] if found else None

    def find(self, cap: ChkVerifierCap) -> KeptFile | None:
        """Return what is known of a file, None if it is not kept."""
        found = self._select(f"WHERE {_CAP}", *_of(cap))
        return found[0] if found else None

    def page(self, after: int, most: int) -> list[KeptFile]:
        """Return the first ``most`` files whose number is above ``after``, by number."""
        return self._select("WHERE number > ? ORDER BY number LIMIT ?", after, most)

    def due(self, after: tuple[float, int], until: float, most: int) -> list[KeptFile]:
        """Return files by the moment at which they are due, then by number.

        Args:
            after: (moment, number) of the last one that is not wanted.
            until: the last moment that is wanted.
            most: the most that are returned.
        """
        moment, number = after
        return self._select(
            "WHERE next_at >= ? AND next_at <= ? AND (next_at > ? OR number > ?)"
            " ORDER BY next_at, number LIMIT ?",
            *(moment, until, moment, number, most),
        )

    def next_due(self) -> float | None:
        """Return the earliest moment at which a file is due, None if nothing is kept."""
        row = self._database.read(
            lambda sql: sql.execute("SELECT min(next_at) FROM kept").fetchone()
        )
        return None if row is None else row[0]

    def counts(self, since: float) -> tuple[int, int, int]:
        """Return how many files are kept, how many of them fail, how many are new.

        Args:
            since: a file that was put after it is new, seconds since 1970.
        """

        def count(sql: Sql, which: str, *values: Any) -> int:
            statement = f"SELECT count(*) FROM kept {which}"  # noqa: S608 - our own words
            row = sql.execute(statement, values).fetchone()
            assert row is not None
            return int(row[0])

        return self._database.read(
            lambda sql: (
                count(sql, ""),
                count(sql, "WHERE failures > 0"),
                count(sql, "WHERE put_at > ?", since),
            )
        )

    # What the keeper found.

    def looked_at(self, file: KeptFile, marks: Mapping[str, str] | None = None) -> bool:
        """Write what a look at a file found, and marks with it, all or nothing.

        What its uploader asked for is left alone: it may have been put again meanwhile.

        Args:
            file: as it is now.
            marks: {name: value} to write with it.

        Returns:
            False if the file is kept no longer; then only the marks are written.
        """
        settings = ", ".join(f"{name} = ?" for name in _LOOKED_AT)
        file = attrs.evolve(file, problem=file.problem[:MOST_PROBLEM_CHARACTERS])

        def write(sql: Sql) -> bool:
            changed = sql.execute(
                f"UPDATE kept SET {settings} WHERE number = ?",  # noqa: S608 - our own words
                (*(getattr(file, name) for name in _LOOKED_AT), file.number),
            )
            self._set_marks(sql, marks or {})
            return bool(changed.rowcount)

        return self._database.call(write)

    def marks(self) -> dict[str, str]:
        """Return all marks."""
        rows = self._database.read(
            lambda sql: sql.execute("SELECT name, value FROM marks").fetchall()
        )
        return dict(rows)

    def set_marks(self, marks: Mapping[str, str]) -> None:
        """Write marks over the older ones of their names."""
        self._database.call(lambda sql: self._set_marks(sql, marks))

    def _set_marks(self, sql: Sql, marks: Mapping[str, str]) -> None:
        for name, value in marks.items():
            sql.execute("INSERT OR REPLACE INTO marks (name, value) VALUES (?, ?)", (name, value))

    def close(self) -> None:
        """Close the file."""
        self._database.close()
