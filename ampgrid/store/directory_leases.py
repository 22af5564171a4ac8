"""Leases on directories, and what becomes of directories without one.

A lease belongs to a peer: its node id is what the connection proves, so it needs no secret.
A directory whose last lease has run out is *marked*, and any word on a lease takes the mark
away. What has been marked for the whole grace and still has no lease is dropped, all but its
ballot. A store that has left a directory's set keeps the record for 90 days as a pointer to
those that have it now.
"""

from __future__ import annotations

from ampgrid.errors import NoRoomError
from ampgrid.store.directory_accounts import DIRECTORY_OVERHEAD, LEASE_OVERHEAD
from ampgrid.store.leases import LEASE_SECONDS, MOST_LEASES
from ampgrid.store.sql import Sql

#: What a new directory counts, with its first lease.
NEW_BYTES = DIRECTORY_OVERHEAD + LEASE_OVERHEAD
#: How long a replica that left the set shows where the directory went, and how long a promise
#: is kept under which nothing ever came, seconds.
POINTER_SECONDS = 90 * 24 * 60 * 60
#: How long a pointer to a snapshot is kept that nobody puts again, with expiry, seconds.
SNAPSHOT_SECONDS = 365 * 24 * 60 * 60
#: The most directories in one transaction.
DIRECTORIES_A_BATCH = 200


def renew(sql: Sql, directory: int, peer: int, now: int) -> bool:
    """Renew a peer's lease for the full time from ``now``; tell if it has one."""
    # A clock that was set back shortens no lease.
    changed = sql.execute(
        "UPDATE leases SET expires_at = max(expires_at, ?) WHERE directory = ? AND peer = ?",
        (now + LEASE_SECONDS, directory, peer),
    )
    return bool(changed.rowcount)


def add(sql: Sql, directory: int, peer: int, now: int) -> int:
    """Give a peer that has no lease one; returns how many were dropped for it.

    Raises:
        NoRoomError: the directory has `MOST_LEASES` leases that have not run out.
    """
    dropped = 0
    if _count(sql, directory) >= MOST_LEASES:
        dropped = sql.execute(
            "DELETE FROM leases WHERE directory = ? AND expires_at < ?", (directory, now)
        ).rowcount
        if not dropped:
            raise NoRoomError("this directory has as many leases as it can have")
    sql.execute(
        "INSERT INTO leases (directory, peer, expires_at) VALUES (?, ?, ?)",
        (directory, peer, now + LEASE_SECONDS),
    )
    return dropped


def cancel(sql: Sql, directory: int, peer: int) -> bool:
    """Remove a peer's lease, and no directory; tell if it had one."""
    gone = sql.execute("DELETE FROM leases WHERE directory = ? AND peer = ?", (directory, peer))
    return bool(gone.rowcount)


def _count(sql: Sql, directory: int) -> int:
    row = sql.execute("SELECT count(*) FROM leases WHERE directory = ?", (directory,)).fetchone()
    assert row is not None
    return int(row[0])


def mark_ended(sql: Sql, now: int) -> int:
    """Mark a batch of directories whose last lease has run out; returns how many."""
    rows = sql.execute(
        "SELECT id FROM directories WHERE kept_until <= ?"
        " AND marked_at IS NULL AND retired_at IS NULL ORDER BY kept_until LIMIT ?",
        (now, DIRECTORIES_A_BATCH),
    ).fetchall()
    for (number,) in rows:
        sql.execute("UPDATE directories SET marked_at = ? WHERE id = ?", (now, number))
    return len(rows)


def due(sql: Sql, now: int, grace: int) -> list[bytes]:
    """Return the indexes of a batch of directories that were marked a grace ago."""
    rows = sql.execute(
        "SELECT name FROM directories WHERE marked_at IS NOT NULL AND marked_at <= ?"
        " AND kept_until <= ? AND retired_at IS NULL ORDER BY marked_at LIMIT ?",
        (now - grace, now, DIRECTORIES_A_BATCH),
    )
    return [bytes(row[0]) for row in rows.fetchall()]


def outdated(sql: Sql, now: int) -> list[bytes]:
    """Return a batch of those left long ago, and of those of which nothing ever came."""
    rows = sql.execute(
        "SELECT name FROM directories WHERE retired_at IS NOT NULL AND retired_at <= ? LIMIT ?",
        (now - POINTER_SECONDS, DIRECTORIES_A_BATCH),
    ).fetchall()
    rows += sql.execute(
        "SELECT name FROM directories WHERE accepted IS NULL AND made_at <= ? LIMIT ?",
        (now - POINTER_SECONDS, DIRECTORIES_A_BATCH),
    ).fetchall()
    return [bytes(row[0]) for row in rows]
