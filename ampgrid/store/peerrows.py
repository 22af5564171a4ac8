"""Peers in a store: a row of the table ``peers`` for each, so that others name it by a number."""

from __future__ import annotations

from ampgrid.store.sql import Sql


def peer_row(sql: Sql, node_id: bytes) -> int:
    """Return the row of a peer, which is made if there is none.

    Args:
        sql: the store's.
        node_id: 20 bytes.
    """
    row = sql.execute("SELECT id FROM peers WHERE node_id = ?", (node_id,)).fetchone()
    if row is not None:
        return int(row[0])
    made = sql.execute("INSERT INTO peers (node_id) VALUES (?)", (node_id,)).lastrowid
    assert made is not None
    return made
