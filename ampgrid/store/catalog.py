"""The rows about shares, peers and advisories: SQL of the store, one function a question."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from ampgrid.store.sql import Sql

#: The peer to whom shares are put down that were found without a row.
NOBODY = bytes(20)

#: The most advisories that are kept.
MOST_ADVISORIES = 10_000


@attrs.frozen
class ShareRow:
    """A stored share.

    Attributes:
        size: bytes.
        in_file: whether its bytes are a file of their own.
    """

    size: int
    in_file: bool


def sizes(sql: Sql, storage_index: bytes) -> dict[int, int]:
    """Return {number: size in bytes} of the shares of a file."""
    rows = sql.execute("SELECT number, size FROM shares WHERE storage_index = ?", (storage_index,))
    return {number: size for number, size in rows}  # noqa: C416 - says what the pairs are


def find(sql: Sql, storage_index: bytes, number: int) -> ShareRow | None:
    """Return one share, None if it is not here."""
    row = sql.execute(
        "SELECT size, data IS NULL FROM shares WHERE storage_index = ? AND number = ?",
        (storage_index, number),
    ).fetchone()
    return None if row is None else ShareRow(row[0], bool(row[1]))


def data(sql: Sql, storage_index: bytes, number: int, offset: int, length: int) -> bytes | None:
    """Return bytes of a small share, clamped to it; None if it is not here or in a file."""
    row = sql.execute(
        "SELECT substr(data, ?, ?) FROM shares WHERE storage_index = ? AND number = ?",
        (offset + 1, length, storage_index, number),
    ).fetchone()
    return None if row is None or row[0] is None else bytes(row[0])


def add(
    sql: Sql,
    storage_index: bytes,
    number: int,
    size: int,
    peer: bytes,
    now: int,
    contents: bytes | None,
) -> None:
    """Add a share; ``contents`` are its bytes, None if they are a file."""
    sql.execute(
        "INSERT INTO shares (storage_index, number, size, peer, stored_at, data)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (storage_index, number, size, _peer_row(sql, peer), now, contents),
    )


def _peer_row(sql: Sql, node_id: bytes) -> int:
    row = sql.execute("SELECT id FROM peers WHERE node_id = ?", (node_id,)).fetchone()
    if row is not None:
        return int(row[0])
    made = sql.execute("INSERT INTO peers (node_id) VALUES (?)", (node_id,)).lastrowid
    assert made is not None
    return made


def totals(sql: Sql) -> tuple[int, int]:
    """Return (bytes, number) of all shares, from the accounts."""
    row = sql.execute(
        "SELECT coalesce(sum(bytes), 0), coalesce(sum(shares), 0) FROM peers"
    ).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


def account(sql: Sql, node_id: bytes) -> tuple[int, int]:
    """Return (bytes, number) of the shares that a peer stored first."""
    row = sql.execute("SELECT bytes, shares FROM peers WHERE node_id = ?", (node_id,)).fetchone()
    return (0, 0) if row is None else (int(row[0]), int(row[1]))


def accounts(sql: Sql) -> int:
    """Return the number of peers that have shares here."""
    row = sql.execute("SELECT count(*) FROM peers WHERE shares > 0").fetchone()
    assert row is not None
    return int(row[0])


def advise(
    sql: Sql, storage_index: bytes, number: int, peer: bytes, reason: str, now: int
) -> None:
    """Note that a peer calls a share bad: the last word on each share, so many in all."""
    key = (storage_index, number)
    sql.execute("DELETE FROM advisories WHERE storage_index = ? AND number = ?", key)
    row = sql.execute("SELECT count(*) FROM advisories").fetchone()
    assert row is not None
    if row[0] < MOST_ADVISORIES:
        sql.execute(
            "INSERT INTO advisories (storage_index, number, peer, reason, advised_at)"
            " VALUES (?, ?, ?, ?, ?)",
            (*key, peer, reason, now),
        )


def advisories(sql: Sql) -> list[tuple[bytes, int, bytes, str]]:
    """Return (storage index, number, peer, reason) of every advisory, the latest first."""
    rows: Iterable[tuple[bytes, int, bytes, str]] = sql.execute(
        "SELECT storage_index, number, peer, reason FROM advisories ORDER BY advised_at DESC"
    )
    return [(bytes(index), number, bytes(peer), reason) for index, number, peer, reason in rows]


def mark(sql: Sql, name: str) -> int | None:
    """Return a mark of the store, None if it was never set."""
    row = sql.execute("SELECT value FROM marks WHERE name = ?", (name,)).fetchone()
    return None if row is None else int(row[0])


def set_mark(sql: Sql, name: str, value: int) -> None:
    """Set a mark of the store."""
    sql.execute("INSERT OR REPLACE INTO marks (name, value) VALUES (?, ?)", (name, value))
