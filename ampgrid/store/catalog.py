"""The rows about shares, findings and advisories: SQL of the store, one function a question."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import attrs

from ampgrid.store import marks
from ampgrid.store.peerrows import peer_row
from ampgrid.store.sql import Sql

#: The peer to whom shares are put down that were found without a row.
NOBODY = bytes(20)

#: So many last bytes of a share are remembered by their hash: the URI extension block stands
#: there, of which a share by itself cannot prove everything.
TAIL_BYTES = 4096

#: The most findings that are kept; the oldest make room.
MOST_FINDINGS = 1000

#: The most advisories that are kept.
MOST_ADVISORIES = 10_000


@attrs.frozen
class ShareRow:
    """A stored share.

    Attributes:
        size: bytes.
        in_file: whether its bytes are a file of their own.
        row_id: of its row; a later share of the same number has another.
        peer: node id of who stored it first, 20 bytes.
    """

    size: int
    in_file: bool
    row_id: int
    peer: bytes


@attrs.frozen
class Outlook:
    """What must be known before a share is added.

    Attributes:
        last_row: the highest number that a row has had.
        peer: the row of who brings it, None if there is none.
        is_lost: whether a share of this name was lost.
        has_leases: whether there are leases on its file.
        leases: how many leases there are on all files.
    """

    last_row: int
    peer: int | None
    is_lost: bool
    has_leases: bool
    leases: int


@attrs.frozen
class Finding:
    """A share that was found bad, and is in quarantine or gone.

    Attributes:
        storage_index: of its file, 16 bytes.
        number: of the share.
        size: bytes.
        peer: node id of who stored it first, 20 bytes.
        reason: one sentence.
        found_at: when, seconds since 1970.
    """

    storage_index: bytes
    number: int
    size: int
    peer: bytes
    reason: str
    found_at: int


def tail_of(last_bytes: bytes) -> bytes:
    """Return the hash of the last `TAIL_BYTES` of a share (all of a shorter one), 16 bytes."""
    return hashlib.blake2b(last_bytes[-TAIL_BYTES:], digest_size=16).digest()


def sizes(sql: Sql, storage_index: bytes) -> dict[int, int]:
    """Return {number: size in bytes} of the shares of a file."""
    rows = sql.execute("SELECT number, size FROM shares WHERE storage_index = ?", (storage_index,))
    return {number: size for number, size in rows}  # noqa: C416 - says what the pairs are


def head_lengths(
    sizes: dict[int, int], wanted: frozenset[int], head: int, most: int
) -> list[tuple[int, int]]:
    """Return (number, length) of the first bytes that are told of shares of these sizes.

    Args:
        sizes: of the shares by number, bytes.
        wanted: numbers whose first bytes are told.
        head: how many of each, bytes.
        most: how many in all; what does not fit is left out, and all after it.
    """
    lengths = []
    for number in sorted(wanted & sizes.keys()):
        length = min(head, sizes[number])
        if length > most:
            break
        most -= length
        lengths.append((number, length))
    return lengths


def heads(
    sql: Sql, storage_index: bytes, wanted: frozenset[int], head: int, most: int
) -> tuple[dict[int, int], list[int], dict[int, bytes]]:
    """Return `sizes`, the numbers of those that are files, and first bytes (see `head_lengths`).

    Where some are files, the first bytes of none.
    """
    rows = sql.execute(
        "SELECT number, size, data IS NULL FROM shares WHERE storage_index = ?", (storage_index,)
    ).fetchall()
    known = {row[0]: row[1] for row in rows}
    in_files = [row[0] for row in rows if row[2]]
    lengths = [] if in_files else head_lengths(known, wanted, head, most)
    found = {n: data(sql, storage_index, n, 0, length) or b"" for n, length in lengths}
    return known, in_files, found


def find(sql: Sql, storage_index: bytes, number: int) -> ShareRow | None:
    """Return one share, None if it is not here."""
    row = sql.execute(
        "SELECT size, data IS NULL, shares.id, node_id FROM shares"
        " JOIN peers ON peers.id = shares.peer WHERE storage_index = ? AND number = ?",
        (storage_index, number),
    ).fetchone()
    return None if row is None else ShareRow(row[0], bool(row[1]), row[2], bytes(row[3]))


_FAR_BYTES = 2**30


def data(sql: Sql, storage_index: bytes, number: int, offset: int, length: int) -> bytes | None:
    """Return bytes of a small share, clamped to it; None if it is not here or in a file."""
    row = sql.execute(
        "SELECT substr(data, ?, ?) FROM shares WHERE storage_index = ? AND number = ?",
        # SQLite 3.15 counts here in 32 bits; no small share is so long.
        (min(offset, _FAR_BYTES) + 1, min(length, _FAR_BYTES), storage_index, number),
    ).fetchone()
    return None if row is None or row[0] is None else bytes(row[0])


_ADD = (
    "INSERT INTO shares (id, storage_index, number, size, peer, stored_at, data, tail)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)


def add(
    sql: Sql,
    storage_index: bytes,
    number: int,
    size: int,
    peer: bytes,
    now: int,
    contents: bytes | None,
    tail: bytes | None = None,
) -> None:
    """Add a share.

    Args:
        sql: the database.
        storage_index: of its file, 16 bytes.
        number: of the share.
        size: bytes.
        peer: node id of who stored it, 20 bytes.
        now: the time, seconds since 1970.
        contents: its bytes, None if they are a file.
        tail: `tail_of` it, None if that is not known or follows from ``contents``.
    """
    if tail is None and contents is not None:
        tail = tail_of(contents)
    key = (storage_index, number)
    sql.execute(_ADD, (_next_row(sql), *key, size, peer_row(sql, peer), now, contents, tail))
    if contents is None:
        sql.execute("DELETE FROM doomed WHERE storage_index = ? AND number = ?", key)
    _find_again(sql, *key)


_LAST_ROW = (
    "max(coalesce((SELECT max(id) FROM shares), 0),"
    " coalesce((SELECT value FROM marks WHERE name = 'last_row'), 0))"
)


def _next_row(sql: Sql) -> int:
    """Return the number of a new row: one that no share has had before."""
    row = sql.execute(f"SELECT {_LAST_ROW}").fetchone()
    assert row is not None
    number = int(row[0]) + 1
    marks.write(sql, "last_row", number)
    return number


def outlook(sql: Sql, storage_index: bytes, number: int, peer: bytes) -> Outlook:
    """Return what must be known before a share is added, in one look.

    Args:
        sql: the database.
        storage_index: of its file, 16 bytes.
        number: of the share.
        peer: node id of who brings it, 20 bytes.
    """
    row = sql.execute(
        f"SELECT {_LAST_ROW}, (SELECT id FROM peers WHERE node_id = ?),"  # noqa: S608 - our own words
        " EXISTS (SELECT 1 FROM lost WHERE storage_index = ? AND number = ?),"
        " EXISTS (SELECT 1 FROM leases WHERE storage_index = ?),"
        " coalesce((SELECT value FROM marks WHERE name = 'leases'), 0)",
        (peer, storage_index, number, storage_index),
    ).fetchone()
    assert row is not None
    return Outlook(row[0], row[1], bool(row[2]), bool(row[3]), row[4])


def add_small(
    sql: Sql, storage_index: bytes, number: int, now: int, contents: bytes, found: Outlook
) -> None:
    """Add a small share (see `add`) of a peer that has a row, with what was found out before."""
    row = found.last_row + 1
    marks.write(sql, "last_row", row)
    sql.execute(
        _ADD,
        (row, storage_index, number, len(contents), found.peer, now, contents, tail_of(contents)),
    )
    if found.is_lost:
        _find_again(sql, storage_index, number)


def _find_again(sql: Sql, storage_index: bytes, number: int) -> None:
    """Call a share lost no longer: whatever had its name before is not what has it now."""
    sql.execute("DELETE FROM lost WHERE storage_index = ? AND number = ?", (storage_index, number))


def lose(sql: Sql, row_id: int) -> None:
    """Move the row of a share whose file is gone, or of a wrong size, to ``lost``."""
    sql.execute(
        "INSERT OR REPLACE INTO lost (storage_index, number, size, peer, stored_at)"
        " SELECT storage_index, number, size, peer, stored_at FROM shares WHERE id = ?",
        (row_id,),
    )
    sql.execute("DELETE FROM shares WHERE id = ?", (row_id,))


def note_finding(sql: Sql, finding: Finding) -> None:
    """Remember a bad share."""
    sql.execute(
        "INSERT INTO findings (storage_index, number, size, peer, reason, found_at)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        attrs.astuple(finding),
    )
    sql.execute(
        "DELETE FROM findings WHERE id NOT IN (SELECT id FROM findings ORDER BY id DESC LIMIT ?)",
        (MOST_FINDINGS,),
    )


def findings(sql: Sql, most: int) -> list[Finding]:
    """Return what was found bad, the latest first."""
    rows = sql.execute(
        "SELECT storage_index, number, size, peer, reason, found_at FROM findings"
        " ORDER BY id DESC LIMIT ?",
        (most,),
    )
    return [Finding(bytes(r[0]), r[1], r[2], bytes(r[3]), r[4], r[5]) for r in rows]


def count_findings(sql: Sql, since: int) -> int:
    """Return how many shares were found bad at or after a time."""
    row = sql.execute("SELECT count(*) FROM findings WHERE found_at >= ?", (since,)).fetchone()
    assert row is not None
    return int(row[0])


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


def account_aside(sql: Sql, node_id: bytes) -> int:
    """Return the bytes of the shares in the quarantine that a peer stored."""
    row = sql.execute("SELECT aside FROM peers WHERE node_id = ?", (node_id,)).fetchone()
    return 0 if row is None else int(row[0])


def accounts(sql: Sql) -> int:
    """Return the number of peers that have shares here."""
    row = sql.execute("SELECT count(*) FROM peers WHERE shares > 0").fetchone()
    assert row is not None
    return int(row[0])


def largest_accounts(sql: Sql, most: int) -> list[tuple[bytes, int, int]]:
    """Return (node id, bytes, shares) of the peers that have most bytes here, largest first."""
    rows = sql.execute(
        "SELECT node_id, bytes, shares FROM peers WHERE shares > 0"
        " ORDER BY bytes DESC, node_id LIMIT ?",
        (most,),
    )
    return [(bytes(row[0]), row[1], row[2]) for row in rows]


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
