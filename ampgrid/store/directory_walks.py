"""What becomes of the nodes of large directories, a slice a transaction.

A record whose trie differs from the one before in few nodes is accepted with all that follows.
Where it differs in many, that would hold up everybody else who uses the store: there the record is
accepted at once, after its trie was compared in slices, and what follows is written down as a
*walk*, which goes on in slices too and over restarts:

* ``adopt``: nodes of the accepted trie that are noted as gone (they were staged, or had been
  replaced before) are so no longer;
* ``replace``: nodes of an older trie that are not in the accepted one are noted as replaced;
* ``delete``: all nodes of a directory that was dropped go.

While a directory has walks, what is live is what is under its accepted root. So whoever deletes a
node that is noted as gone looks there first; and while nodes are being noted as replaced none is
deleted, since those below it are found by it. Whatever changes the directory meanwhile keeps its
own notes exact, and a walk looks at the root that is accepted by the time of its slice.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import attrs

from ampgrid.formats import trie
from ampgrid.store import directory_nodes
from ampgrid.store.directory_accounts import Booking
from ampgrid.store.directory_nodes import NodeReader
from ampgrid.store.sql import Sql

ADOPT = "adopt"
REPLACE = "replace"
DELETE = "delete"
#: The most nodes in one slice.
NODES_A_SLICE = 512


@attrs.frozen
class Walk:
    """What is to be done to the nodes of one directory.

    Attributes:
        id: of its row.
        directory: number of the directory.
        kind: one of the words above.
        root: of the older trie.
        since: when its nodes were replaced, the store's time.
        start: the place where it goes on, nibbles in hexadecimal.
    """

    id: int
    directory: int
    kind: str
    root: bytes
    since: int
    start: str


def add(sql: Sql, directory: int, kind: str, root: bytes, since: int) -> None:
    """Write a walk down."""
    sql.execute(
        "INSERT INTO walks (directory, kind, root, since, start) VALUES (?, ?, ?, ?, '')",
        (directory, kind, root, since),
    )


def keep_longer(sql: Sql, directory: int, now: int) -> None:
    """Give the nodes that will be noted as replaced their time anew: some were staged again."""
    sql.execute(
        "UPDATE walks SET since = max(since, ?) WHERE directory = ? AND kind = ?",
        (now, directory, REPLACE),
    )


def delete_all(sql: Sql, directory: int) -> None:
    """Let all nodes of a directory go, whose row is deleted."""
    sql.execute("DELETE FROM walks WHERE directory = ?", (directory,))
    add(sql, directory, DELETE, trie.EMPTY_ROOT, 0)


def pending(sql: Sql, directory: int | None = None) -> Walk | None:
    """Return the oldest walk, of one directory if one is named; None if there is none."""
    where, values = ("", ()) if directory is None else ("WHERE directory = ?", (directory,))
    row = sql.execute(
        "SELECT id, directory, kind, root, since, start FROM walks"  # noqa: S608 - constants
        f" {where} ORDER BY id LIMIT 1",
        values,
    ).fetchone()
    if row is None:
        return None
    return Walk(row[0], row[1], row[2], bytes(row[3]), row[4], row[5])


def is_adopting(sql: Sql, directory: int) -> bool:
    """Tell whether nodes of a directory may be live although they are noted as gone."""
    row = sql.execute(
        "SELECT 1 FROM walks WHERE directory = ? AND kind = ? LIMIT 1", (directory, ADOPT)
    ).fetchone()
    return row is not None


def go_on(sql: Sql, walk: Walk, live: bytes) -> Iterator[Booking]:
    """Do a slice of a walk; yields what is to be booked.

    Args:
        sql: the database.
        walk: as `pending` told.
        live: the accepted root of the directory.
    """
    if walk.kind == DELETE:
        yield from _delete(sql, walk)
        return
    read = NodeReader(sql, walk.directory)
    first, second = (live, walk.root) if walk.kind == ADOPT else (walk.root, live)
    found = list(islice(trie.unshared(first, second, read, walk.start), NODES_A_SLICE + 1))
    hashes = [digest for _, digest in found[:NODES_A_SLICE]]
    if walk.kind == ADOPT:
        for digest in hashes:
            yield from directory_nodes.adopt(sql, walk.directory, digest)
    else:
        yield from directory_nodes.replace(sql, walk.directory, hashes, walk.since)
    if len(found) > NODES_A_SLICE:
        sql.execute("UPDATE walks SET start = ? WHERE id = ?", (found[-1][0], walk.id))
    else:
        _end(sql, walk)


def _delete(sql: Sql, walk: Walk) -> Iterator[Booking]:
    rows = sql.execute(
        "SELECT n.id, g.size, g.peer FROM nodes n LEFT JOIN gone g ON g.node = n.id"
        " WHERE n.directory = ? LIMIT ?",
        (walk.directory, NODES_A_SLICE),
    ).fetchall()
    for number, size, peer in rows:
        sql.execute("DELETE FROM nodes WHERE id = ?", (number,))
        if size is not None:
            sql.execute("DELETE FROM gone WHERE node = ?", (number,))
            yield ("replaced" if peer is None else "staged"), -size, peer
    if len(rows) < NODES_A_SLICE:
        _end(sql, walk)


def _end(sql: Sql, walk: Walk) -> None:
    sql.execute("DELETE FROM walks WHERE id = ?", (walk.id,))
