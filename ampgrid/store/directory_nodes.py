"""The nodes of directories' tries: read by their hash, added, replaced, staged and swept.

A node's bytes are written once. Whether it is live says the absence of a row in ``gone``; so a
change writes its new nodes, and one small row for each that it replaces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TypeAlias

from ampgrid.store.directory_accounts import NODE_OVERHEAD, Booking
from ampgrid.store.sql import Sql

#: How long replaced nodes are kept for readers, and staged ones for their record, seconds.
GONE_SECONDS = 60 * 60
#: How long the nodes of a replica that left the set are kept, seconds.
RETIRED_SECONDS = 24 * 60 * 60
#: The most nodes that are deleted in one transaction.
NODES_A_SWEEP = 256
#: The most hashes in one question; SQLite takes 999 values.
_MOST_ASKED = 500


def size_of(node: bytes) -> int:
    """Return what a node counts, bytes."""
    return len(node) + NODE_OVERHEAD


class NodeReader:
    """Reads nodes of one directory in one transaction; callable, as the trie wants it.

    Args:
        sql: the database.
        directory: number of the directory, None if it has no row.
    """

    def __init__(self, sql: Sql, directory: int | None) -> None:
        self._sql = sql
        self._directory = directory
        self._read: dict[bytes, bytes | None] = {}

    def __call__(self, digest: bytes) -> bytes | None:
        """Return a node, None if it is not here."""
        try:
            return self._read[digest]
        except KeyError:
            pass
        row = self._sql.execute(
            "SELECT data FROM nodes WHERE directory = ? AND hash = ?", (self._directory, digest)
        ).fetchone()
        node = self._read[digest] = None if row is None else bytes(row[0])
        return node


def add_live(sql: Sql, directory: int, added: Mapping[bytes, bytes]) -> Iterator[Booking]:
    """Make nodes live, writing those that are not here yet; yields what is to be booked."""
    for digest, node in added.items():
        wrote = sql.execute(
            "INSERT OR IGNORE INTO nodes (directory, hash, data) VALUES (?, ?, ?)",
            (directory, digest, node),
        )
        if wrote.rowcount == 1:
            continue
        yield from adopt(sql, directory, digest)


def adopt(sql: Sql, directory: int, digest: bytes) -> Iterator[Booking]:
    """Note that a node is not gone, if it was; yields what is to be booked."""
    row = sql.execute(
        "SELECT g.node, g.size, g.peer FROM nodes n JOIN gone g ON g.node = n.id"
        " WHERE n.directory = ? AND n.hash = ?",
        (directory, digest),
    ).fetchone()
    if row is not None:
        yield _keep(sql, *row)


def replace(sql: Sql, directory: int, removed: Iterable[bytes], now: int) -> Iterator[Booking]:
    """Note that live nodes are replaced; yields what is to be booked."""
    hashes = iter(removed)
    while chunk := list(islice(hashes, _MOST_ASKED)):
        marks = ", ".join("?" * len(chunk))
        rows = sql.execute(
            "SELECT id, length(data) FROM nodes"  # noqa: S608 - question marks
            f" WHERE directory = ? AND hash IN ({marks})",
            (directory, *chunk),
        ).fetchall()
        for number, length in rows:
            size = length + NODE_OVERHEAD
            wrote = sql.execute(
                "INSERT OR IGNORE INTO gone (node, directory, size, since) VALUES (?, ?, ?, ?)",
                (number, directory, size, now),
            )
            if wrote.rowcount == 1:
                yield "replaced", size, None
            else:
                # Noted before, since it was staged; it is kept for who reads it all the same.
                sql.execute("UPDATE gone SET since = max(since, ?) WHERE node = ?", (now, number))


def stage(
    sql: Sql, directory: int, nodes: Mapping[bytes, bytes], peer: int, now: int
) -> Iterator[Booking]:
    """Keep nodes for a record to come; yields what is to be booked."""
    for digest, node in nodes.items():
        wrote = sql.execute(
            "INSERT OR IGNORE INTO nodes (directory, hash, data) VALUES (?, ?, ?)",
            (directory, digest, node),
        )
        if wrote.rowcount == 1:
            sql.execute(
                "INSERT INTO gone (node, directory, size, since, peer) VALUES (?, ?, ?, ?, ?)",
                (wrote.lastrowid, directory, size_of(node), now, peer),
            )
            yield "staged", size_of(node), peer
        else:
            # It is here and not live, maybe: it gets its time anew.
            sql.execute(
                "UPDATE gone SET since = max(since, ?) WHERE node ="
                " (SELECT id FROM nodes WHERE directory = ? AND hash = ?)",
                (now, directory, digest),
            )


def lacking(sql: Sql, directory: int | None, hashes: Sequence[bytes]) -> list[bytes]:
    """Return those of some nodes that are not here, in order."""
    found: set[bytes] = set()
    for start in range(0, len(hashes), _MOST_ASKED):
        chunk = hashes[start : start + _MOST_ASKED]
        marks = ", ".join("?" * len(chunk))
        rows = sql.execute(
            "SELECT hash FROM nodes"  # noqa: S608 - question marks
            f" WHERE directory = ? AND hash IN ({marks})",
            (directory, *chunk),
        )
        found.update(bytes(row[0]) for row in rows)
    return [digest for digest in hashes if digest not in found]


#: Directories where a walk goes on over an older trie: it finds what is below a node by that node.
_WALKED = (
    "SELECT directory FROM walks GROUP BY directory"
    " HAVING sum(kind = 'replace') > 0 AND sum(kind = 'adopt') = 0"
)

#: What is noted as gone: number of the node, its size, the peer that staged it, its directory.
Gone: TypeAlias = tuple[int, int, int | None, int]


def due(sql: Sql, until: int) -> list[Gone]:
    """Return a batch of nodes that are not live since ``until``."""
    return sql.execute(
        "SELECT node, size, peer, directory FROM gone"  # noqa: S608 - constants
        f" WHERE since <= ? AND directory NOT IN ({_WALKED}) ORDER BY since LIMIT ?",
        (until, NODES_A_SWEEP),
    ).fetchall()


def oldest(sql: Sql, excess: int) -> list[Gone]:
    """Return the oldest replaced nodes, about ``excess`` bytes and at most a batch of them."""
    rows = sql.execute(
        "SELECT node, size, peer, directory FROM gone"  # noqa: S608 - constants
        f" WHERE peer IS NULL AND directory NOT IN ({_WALKED}) ORDER BY since LIMIT ?",
        (NODES_A_SWEEP,),
    ).fetchall()
    chosen = []
    for row in rows:
        if excess <= 0:
            break
        chosen.append(row)
        excess -= row[1]
    return chosen


def delete(
    sql: Sql, rows: Sequence[Gone], is_live: Callable[[int, int], bool]
) -> Iterator[Booking]:
    """Delete nodes that are noted as gone; yields what is to be booked.

    Args:
        sql: the database.
        rows: of `due` or `oldest`.
        is_live: given directory and node, tells whether it is live all the same.
    """
    for number, size, peer, directory in rows:
        if not is_live(directory, number):
            sql.execute("DELETE FROM nodes WHERE id = ?", (number,))
        yield _keep(sql, number, size, peer)


def _keep(sql: Sql, number: int, size: int, peer: int | None) -> Booking:
    sql.execute("DELETE FROM gone WHERE node = ?", (number,))
    return ("replaced" if peer is None else "staged"), -size, peer
