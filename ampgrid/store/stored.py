"""Which shares are stored, row by row, past those that the disk does not give.

A page of the database that has rotted, or lies on a bad sector, takes the rows on it with it.
They must not keep whoever walks over all shares from those behind them.
"""

from __future__ import annotations

import attrs

from ampgrid.errors import BrokenStoreError
from ampgrid.store import marks
from ampgrid.store.sql import Database

#: Rows fetched at once.
_ROWS = 100


@attrs.frozen
class StoredShare:
    """A share as its row has it.

    Attributes:
        row_id: of the row; rising in the order of storing.
        storage_index: of the file, 16 bytes.
        number: of the share.
        size: bytes.
        in_file: whether its bytes are a file of their own.
        peer: node id of who stored it first, 20 bytes.
        tail: hash of its last bytes, None if not known.
    """

    row_id: int
    storage_index: bytes
    number: int
    size: int
    in_file: bool
    peer: bytes
    tail: bytes | None

    @property
    def key(self) -> tuple[bytes, int]:
        """Return what it is stored under."""
        return self.storage_index, self.number


class StoredShares:
    """The rows of one store's shares.

    Args:
        database: the store's.

    Attributes:
        unreadable: how often rows were passed over since the database did not give them.
    """

    def __init__(self, database: Database) -> None:
        self.unreadable = 0
        self._database = database

    def after(self, position: int) -> list[StoredShare]:
        """Return the next shares after a row, in their order; none after the last.

        Rows that cannot be read are passed over, and counted.

        Raises:
            BrokenStoreError: none can be read.
        """
        try:
            return self._next(position, _ROWS)
        except BrokenStoreError as error:
            return self._past_unreadable(position, error)

    def named(self, storage_index: bytes, number: int) -> list[StoredShare]:
        """Return the share of this name, if there is one."""
        return self._select("storage_index = ? AND number = ?", (storage_index, number), 1)

    def _next(self, position: int, most: int) -> list[StoredShare]:
        # Not "> ?": that begins on the page of the row before, which may be the one that rotted.
        return self._select("shares.id >= ? ORDER BY shares.id", (position + 1,), most)

    def _readable(self, position: int) -> list[StoredShare] | None:
        """Return the next share after a row, None if its row cannot be read."""
        try:
            return self._next(position, 1)
        except BrokenStoreError:
            return None

    def _past_unreadable(self, position: int, error: BrokenStoreError) -> list[StoredShare]:
        """Return the first share after a row that can be read; none if that was the last."""
        last = self._database.read(lambda sql: marks.read(sql, "last_row")) or 0
        # From after ``bad`` on the next row cannot be read; from after ``good`` on it can.
        bad, good = position - 1, position
        found = self._readable(good)
        while found is None and good < last - 1:
            bad, good = good, min(last - 1, good + max(1, good - position))
            found = self._readable(good)
        if found is None:
            if self._readable(0) is None:
                raise error
            self.unreadable += 1
            return []
        while good - bad > 1:
            middle = (bad + good) // 2
            nearer = self._readable(middle)
            if nearer is None:
                bad = middle
            else:
                good, found = middle, nearer
        self.unreadable += good > position
        return found

    def _select(self, which: str, values: tuple[object, ...], most: int) -> list[StoredShare]:
        rows = self._database.read(
            lambda sql: sql.execute(
                "SELECT shares.id, storage_index, number, size, data IS NULL, node_id, tail"  # noqa: S608
                f" FROM shares JOIN peers ON peers.id = shares.peer WHERE {which} LIMIT ?",
                (*values, most),
            ).fetchall()
        )
        return [
            StoredShare(r[0], bytes(r[1]), r[2], r[3], bool(r[4]), bytes(r[5]), r[6]) for r in rows
        ]
