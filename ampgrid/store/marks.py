"""Marks: numbers that a store writes down under a name, its own time among them.

Every store that keeps something for others has a table ``marks`` for them.
"""

from __future__ import annotations

from ampgrid.store import timekeeping
from ampgrid.store.sql import Database, Sql

#: The mark of the latest time seen (`ampgrid.store.timekeeping`).
LATEST = "latest"


def read(sql: Sql, name: str) -> int | None:
    """Return a mark, None if it was never written."""
    row = sql.execute("SELECT value FROM marks WHERE name = ?", (name,)).fetchone()
    return None if row is None else int(row[0])


def write(sql: Sql, name: str, value: int) -> None:
    """Write a mark down."""
    sql.execute("INSERT OR REPLACE INTO marks (name, value) VALUES (?, ?)", (name, value))


def begin_time(sql: Sql, wall: float) -> timekeeping.Beginning:
    """Find where the store's time goes on, and write it down.

    Args:
        sql: the store's.
        wall: what the wall clock says, seconds since 1970.
    """
    beginning = timekeeping.begin(read(sql, LATEST), wall)
    write(sql, LATEST, beginning.now)
    return beginning


def keep_time(database: Database, now: int) -> None:
    """Write the latest time seen down; an earlier one than is there changes nothing.

    Args:
        database: the store's.
        now: the store's time, seconds since 1970.

    Raises:
        StoreError: the disk refused.
    """

    def keep(sql: Sql) -> None:
        if now > (read(sql, LATEST) or 0):
            write(sql, LATEST, now)

    database.call(keep, vital=True)
