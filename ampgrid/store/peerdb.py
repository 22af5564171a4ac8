"""What a node remembers of other peers: announcements, its own counter, small values.

Everything here came over the network or can be asked for again, except the counter: a node
whose announcements went back in number would not be believed. What is remembered is bounded.
Anybody can make node ids and announce them, so who was never connected is forgotten first, and
then who was not connected for longest.
"""

from __future__ import annotations

from pathlib import Path

from ampgrid.errors import BadArgumentValueError
from ampgrid.store.sql import Database, Schema, Sql

#: The most announcements that are kept.
MOST_ANNOUNCEMENTS = 10_000
#: The largest announcement that is kept, bytes.
MOST_PACKED_BYTES = 4096
#: The most small values that are kept.
MOST_VALUES = 1000
#: The largest small value, bytes.
MOST_VALUE_BYTES = 64 * 1024

#: What version 2 has beside the tables of version 1; 0 is never.
_SINCE_2 = (
    "ALTER TABLE announcements ADD COLUMN last_connected REAL NOT NULL DEFAULT 0",
    "ALTER TABLE announcements ADD COLUMN last_reached REAL NOT NULL DEFAULT 0",
    "DROP INDEX announcements_by_age",
    "CREATE INDEX announcements_by_age ON announcements (last_connected, last_seen)",
)

PEERS_SCHEMA = Schema(
    name="the database of peers",
    application_id=0x616D7050,  # "ampP"
    version=2,
    statements=(
        """CREATE TABLE announcements (
            node_id BLOB PRIMARY KEY,
            sequence INTEGER NOT NULL,
            packed BLOB NOT NULL,
            first_seen REAL NOT NULL,
            last_seen REAL NOT NULL
        ) WITHOUT ROWID""",
        "CREATE INDEX announcements_by_age ON announcements (last_seen)",
        """CREATE TABLE numbers (
            name TEXT PRIMARY KEY,
            value INTEGER NOT NULL
        ) WITHOUT ROWID""",
        """CREATE TABLE small_values (
            name TEXT PRIMARY KEY,
            value BLOB NOT NULL
        ) WITHOUT ROWID""",
        *_SINCE_2,
    ),
    upgrades={1: _SINCE_2},
)


class PeerDatabase:
    """The database of peers. Every call blocks; what it wrote is durable when it returns.

    Args:
        path: the file; made if it does not exist, in a directory that does.

    Raises:
        FormatError: the file is no such database, or of an unknown version.
        ConfigError: it cannot be opened, or another process has it open.
    """

    def __init__(self, path: Path) -> None:
        self._database = Database(path, PEERS_SCHEMA)

    def load(self) -> list[tuple[bytes, int, bytes, float, float]]:
        """Return (node id, sequence, packed announcement, first seen, last seen) of all."""
        rows = self._database.read(
            lambda sql: sql.execute(
                "SELECT node_id, sequence, packed, first_seen, last_seen FROM announcements"
                " ORDER BY node_id"
            ).fetchall()
        )
        return [(bytes(row[0]), row[1], bytes(row[2]), row[3], row[4]) for row in rows]

    def put(self, node_id: bytes, sequence: int, packed: bytes, now: float) -> bool:
        """Write the announcement of a node over its older one.

        Args:
            node_id: whose it is, 20 bytes.
            sequence: its number, which the announcement itself holds, signed.
            packed: the announcement.
            now: when it was seen, seconds since 1970.

        Returns:
            False if a newer one is here, which stays.

        Raises:
            BadArgumentValueError: the announcement is too large to be kept.
        """
        if len(packed) > MOST_PACKED_BYTES:
            raise BadArgumentValueError("the announcement is too large to be kept")

        def write(sql: Sql) -> bool:
            row = sql.execute(
                "SELECT sequence FROM announcements WHERE node_id = ?", (node_id,)
            ).fetchone()
            if row is None:
                self._make_room(sql)
                sql.execute(
                    "INSERT INTO announcements"
                    " (node_id, sequence, packed, first_seen, last_seen) VALUES (?, ?, ?, ?, ?)",
                    (node_id, sequence, packed, now, now),
                )
            elif row[0] > sequence:
                return False
            else:
                sql.execute(
                    "UPDATE announcements SET sequence = ?, packed = ?, last_seen = ?"
                    " WHERE node_id = ?",
                    (sequence, packed, now, node_id),
                )
            return True

        return self._database.call(write)

    def _make_room(self, sql: Sql) -> None:
        row = sql.execute("SELECT count(*) FROM announcements").fetchone()
        assert row is not None
        if row[0] >= MOST_ANNOUNCEMENTS:
            sql.execute(
                "DELETE FROM announcements WHERE node_id IN"
                " (SELECT node_id FROM announcements ORDER BY last_connected, last_seen"
                " LIMIT ?)",
                (row[0] - MOST_ANNOUNCEMENTS + 1,),
            )

    def meetings(self) -> dict[bytes, tuple[float, float]]:
        """Return {node id: (last connected, last reached)} of all that were ever connected.

        Both in seconds since 1970; the second is 0 for a peer that no dial ever reached.
        """
        rows = self._database.read(
            lambda sql: sql.execute(
                "SELECT node_id, last_connected, last_reached FROM announcements"
                " WHERE last_connected > 0"
            ).fetchall()
        )
        return {bytes(row[0]): (row[1], row[2]) for row in rows}

    def met(self, node_id: bytes, now: float, *, reached: bool) -> None:
        """Note that a node is connected ``now``; one that is not known is not remembered.

        Args:
            node_id: the node, 20 bytes.
            now: seconds since 1970.
            reached: whether the connection came of a dial to one of the node's addresses.
        """
        self._database.call(
            lambda sql: sql.execute(
                "UPDATE announcements SET last_seen = max(last_seen, ?),"
                " last_connected = max(last_connected, ?),"
                " last_reached = max(last_reached, ?) WHERE node_id = ?",
                (now, now, now if reached else 0.0, node_id),
            )
        )

    def forget(self, node_id: bytes) -> bool:
        """Drop the announcement of a node; tell if there was one."""
        return self._database.call(
            lambda sql: bool(
                sql.execute("DELETE FROM announcements WHERE node_id = ?", (node_id,)).rowcount
            )
        )

    def next_sequence(self, at_least: int = 1) -> int:
        """Return a number that no call has returned before, counting from 1.

        Args:
            at_least: a smaller one is not returned; the time, say, for the day when this
                database is lost and others still know the old numbers.
        """

        def count(sql: Sql) -> int:
            row = sql.execute("SELECT value FROM numbers WHERE name = 'sequence'").fetchone()
            value = max(at_least, 1 if row is None else row[0] + 1)
            sql.execute(
                "INSERT OR REPLACE INTO numbers (name, value) VALUES ('sequence', ?)", (value,)
            )
            return value

        return self._database.call(count, vital=True)

    def get_meta(self, key: str) -> bytes | None:
        """Return a small value, or None."""
        row = self._database.read(
            lambda sql: sql.execute(
                "SELECT value FROM small_values WHERE name = ?", (key,)
            ).fetchone()
        )
        return None if row is None else bytes(row[0])

    def set_meta(self, key: str, value: bytes) -> None:
        """Write a small value.

        Raises:
            BadArgumentValueError: it is too large, or one too many.
        """
        if len(value) > MOST_VALUE_BYTES or len(key) > 200:
            raise BadArgumentValueError("the value is too large to be kept")

        def write(sql: Sql) -> None:
            row = sql.execute(
                "SELECT count(*) FROM small_values WHERE name != ?", (key,)
            ).fetchone()
            assert row is not None
            if row[0] >= MOST_VALUES:
                raise BadArgumentValueError("too many values are kept already")
            sql.execute(
                "INSERT OR REPLACE INTO small_values (name, value) VALUES (?, ?)", (key, value)
            )

        self._database.call(write)

    def close(self) -> None:
        """Close the file."""
        self._database.close()
