"""The rows of the store of other people's blobs: what is read and written of them, as SQL.

Each function is part of one transaction. None touches a file: a job says which of them are to go
once its changes are durable (`ampgrid.store.servedblobs`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from ampgrid.formats.blobname import BlobName, Flag
from ampgrid.store import marks
from ampgrid.store.servedblob_schema import COMING, DELETED, HERE
from ampgrid.store.sql import Sql

#: How long it is remembered that a blob was deleted, seconds.
TOMBSTONE_SECONDS = 90 * 24 * 3600
#: How long what came of a blob is kept after the last of it, seconds.
COMING_SECONDS = 2 * 24 * 3600
#: The most namespaces of an account.
MOST_NAMESPACES = 1000

_PLACE = "place"
_COLUMNS = "id, state, size, tag, at, stored_at, flags, durable"


@attrs.frozen
class Row:
    """One row of ``blobs``.

    Attributes:
        id: its number, and the name of its file.
        state: `COMING`, `HERE` or `DELETED`.
        size: of the whole blob, bytes; 0 of a deleted one.
        tag: its last 16 bytes.
        at: when something happened to it last, the store's time.
        stored_at: when it came, microseconds since 1970.
        flags: a sum (`ampgrid.formats.blobname.flag_bits`).
        durable: how many of its bytes are on the disk, of one that is coming.
    """

    id: int
    state: int
    size: int
    tag: bytes
    at: int
    stored_at: int
    flags: int
    durable: int


@attrs.frozen
class Selection:
    """Which blobs of an account a listing or a count is about.

    Attributes:
        namespace: in which they are.
        flag: those alone that have it, None for all.
        deleted: those that were deleted lately, in the place of those that are here.
        order: 0 by id, 1 by place, 2 by place from the last on.
    """

    namespace: str
    flag: Flag | None = None
    deleted: bool = False
    order: int = 0


# Accounts.


def account_number(sql: Sql, account: str) -> int:
    """Return the number of an account, which it gets when it is first needed."""
    found = find_account(sql, account)
    if found is None:
        found = sql.execute("INSERT INTO accounts (name) VALUES (?)", (account,)).lastrowid
    assert found is not None
    return found


def find_account(sql: Sql, account: str) -> int | None:
    """Return the number of an account, None if it never had anything."""
    row = sql.execute("SELECT id FROM accounts WHERE name = ?", (account,)).fetchone()
    return None if row is None else int(row[0])


def used_by(sql: Sql, number: int | None) -> int:
    """Return what an account takes, or what all take together if it is None; bytes."""
    if number is None:
        row = sql.execute("SELECT coalesce(sum(used), 0) FROM accounts").fetchone()
    else:
        row = sql.execute("SELECT used FROM accounts WHERE id = ?", (number,)).fetchone()
    return 0 if row is None else int(row[0])


def unwritten(sql: Sql) -> int:
    """Return what is still to come of all blobs that are coming, bytes."""
    row = sql.execute(
        "SELECT coalesce(sum(size - durable), 0) FROM blobs WHERE state = 0"
    ).fetchone()
    assert row is not None
    return int(row[0])


# One blob.


def find(sql: Sql, number: int | None, name: BlobName, now: int) -> Row | None:
    """Return the row of a name; a memory that is too old is none."""
    found = sql.execute(
        f"SELECT {_COLUMNS} FROM blobs WHERE account = ? AND namespace = ? AND blob_id = ?",  # noqa: S608 - constants
        (number, name.namespace, name.blob_id),
    ).fetchone()
    if found is None:
        return None
    number, state, size, tag, at, stored_at, flags, durable = found
    row = Row(number, state, size, bytes(tag), at, stored_at, flags, durable)
    return None if row.state == DELETED and row.at <= now - TOMBSTONE_SECONDS else row


def insert(sql: Sql, number: int, name: BlobName, row: Row) -> int:
    """Write a new row, in the place of one of that name; returns its id."""
    sql.execute(
        "DELETE FROM blobs WHERE account = ? AND namespace = ? AND blob_id = ?",
        (number, name.namespace, name.blob_id),
    )
    made = sql.execute(
        "INSERT INTO blobs (account, namespace, blob_id, state, size, tag, place, at, stored_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            number,
            name.namespace,
            name.blob_id,
            row.state,
            row.size,
            row.tag,
            next_place(sql) if row.state == HERE else 0,
            row.at,
            row.stored_at,
        ),
    ).lastrowid
    assert made is not None
    return made


def complete(sql: Sql, number: int, now: int, stored_at: int) -> bool:
    """Let a blob that was coming be here; False if it is no longer coming."""
    changed = sql.execute(
        "UPDATE blobs SET state = ?, place = ?, at = ?, stored_at = ?, durable = 0"
        " WHERE id = ? AND state = ?",
        (HERE, next_place(sql), now, stored_at, number, COMING),
    )
    return changed.rowcount == 1


def note_durable(sql: Sql, number: int, durable: int, now: int) -> None:
    """Note how much of a blob that is coming is on the disk."""
    sql.execute(
        "UPDATE blobs SET durable = ?, at = ? WHERE id = ? AND state = ?",
        (durable, now, number, COMING),
    )


def mark_deleted(sql: Sql, number: int, now: int) -> None:
    """Turn the row of a blob into the memory of it."""
    sql.execute(
        "UPDATE blobs SET state = ?, size = 0, tag = x'', place = ?, at = ?, flags = 0"
        " WHERE id = ?",
        (DELETED, next_place(sql), now, number),
    )
    sql.execute("DELETE FROM contents WHERE id = ?", (number,))


def drop(sql: Sql, number: int) -> None:
    """Delete a row, with its bytes if they are in the database."""
    sql.execute("DELETE FROM blobs WHERE id = ?", (number,))


def next_place(sql: Sql) -> int:
    """Return the next number in the order of coming and going."""
    place = (marks.read(sql, _PLACE) or 0) + 1
    marks.write(sql, _PLACE, place)
    return place


# Many blobs.


def page(
    sql: Sql, number: int | None, chosen: Selection, after: str | int | None, most: int, now: int
) -> list[tuple[str, int]]:
    """Return (id, place) of the next blobs of a listing.

    Args:
        sql: the database.
        number: of the account; None if it never had anything.
        chosen: which blobs, and in what order.
        after: the id or the place of the last one before them; None from the first on.
        most: how many.
        now: the store's time.
    """
    where, values = _where(number, chosen, now)
    column, sign, order = "place", ">", "ASC"
    if not chosen.order:
        # By names, and not by places and then sorted: the plus keeps that index out.
        column, where = "blob_id", where.replace("state", "+state")
    elif chosen.order == 2:
        sign, order = "<", "DESC"
    if after is not None:
        where += f" AND {column} {sign} ?"
        values.append(after)
    rows = sql.execute(
        f"SELECT blob_id, place FROM blobs WHERE {where} ORDER BY {column} {order} LIMIT ?",  # noqa: S608 - constants
        (*values, most),
    )
    return [(str(blob_id), int(place)) for blob_id, place in rows]


def count(sql: Sql, number: int | None, chosen: Selection, now: int) -> int:
    """Return how many blobs a listing has, without looking at them."""
    where, values = _chosen(number, chosen)
    found = sql.execute(
        f"SELECT coalesce(sum(count), 0) FROM tallies WHERE {where}",  # noqa: S608 - constants
        values,
    ).fetchone()
    assert found is not None
    total = int(found[0])
    if chosen.deleted:
        # Few: the next sweep takes them. The pluses keep the index out that has the others too.
        late = sql.execute(
            "SELECT count(*) FROM blobs WHERE state = 2 AND at <= ?"
            " AND +account = ? AND +namespace = ?",
            (now - TOMBSTONE_SECONDS, number, chosen.namespace),
        ).fetchone()
        assert late is not None
        total -= int(late[0])
    return total


def _where(number: int | None, chosen: Selection, now: int) -> tuple[str, list[Any]]:
    where, values = _chosen(number, chosen)
    if chosen.deleted:
        where += " AND at > ?"
        values.append(now - TOMBSTONE_SECONDS)
    return where, values


def _chosen(number: int | None, chosen: Selection) -> tuple[str, list[Any]]:
    where = "account = ? AND namespace = ? AND state = ?"
    values: list[Any] = [number, chosen.namespace, DELETED if chosen.deleted else HERE]
    if chosen.flag is not None and not chosen.deleted:
        where += " AND flags & ?"
        values.append(1 << list(Flag).index(chosen.flag))
    return where, values


def namespaces(sql: Sql, number: int | None, after: str, most: int, now: int) -> list[str]:
    """Return the next namespaces with a blob or a memory of one, sorted by byte."""
    found: list[str] = []
    while len(found) < most:
        # One step in an index for each: DISTINCT would look at every row.
        row = sql.execute(
            "SELECT namespace FROM blobs WHERE account = ? AND namespace > ?"
            " AND (state = ? OR (state = ? AND at > ?)) ORDER BY namespace LIMIT 1",
            (number, after, HERE, DELETED, now - TOMBSTONE_SECONDS),
        ).fetchone()
        if row is None:
            break
        after = str(row[0])
        found.append(after)
    return found


def has_room_for_namespace(sql: Sql, number: int, namespace: str) -> bool:
    """Tell whether an account may have something in a namespace."""
    row = sql.execute(
        "SELECT 1 FROM blobs WHERE account = ? AND namespace = ? LIMIT 1", (number, namespace)
    ).fetchone()
    if row is not None:
        return True
    after = ""
    for _ in range(MOST_NAMESPACES):
        row = sql.execute(
            "SELECT namespace FROM blobs WHERE account = ? AND namespace > ?"
            " ORDER BY namespace LIMIT 1",
            (number, after),
        ).fetchone()
        if row is None:
            return True
        after = str(row[0])
    return False


def overdue(sql: Sql, now: int, busy: Sequence[int], most: int) -> list[int]:
    """Return ids of rows that are too old: blobs that came no further, memories of deleted."""
    rows = [
        *sql.execute(
            "SELECT id FROM blobs WHERE state = 0 AND at <= ? LIMIT ?",
            (now - COMING_SECONDS, most + len(busy)),
        ),
        *sql.execute(
            "SELECT id FROM blobs WHERE state = 2 AND at <= ? LIMIT ?",
            (now - TOMBSTONE_SECONDS, most),
        ),
    ]
    kept = set(busy)
    return [int(number) for (number,) in rows if number not in kept][:most]
