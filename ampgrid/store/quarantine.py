"""Bad shares that were set aside: whose they are, how much of them is kept, and for how long.

They are kept for their owner to look into, not for ever: a peer that sends rubbish and has it
called bad must not fill the store with it. So of each peer's share there is one copy, of each
peer so many bytes and files, of all together a part of the store, and none for longer than
`KEPT_SECONDS`. What exceeds that goes, the oldest first; the latest always stays.

Spec: ``docs/specs/store.md``, "Quarantine".
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable

import attrs

from ampgrid.crypto.base32 import a2b
from ampgrid.errors import FormatError, StoreError
from ampgrid.store import catalog
from ampgrid.store.filesystem import FileSystem
from ampgrid.store.health import Health
from ampgrid.store.peerrows import peer_row
from ampgrid.store.recovery import Places
from ampgrid.store.space import Space
from ampgrid.store.sql import Database, Sql

#: How long a bad share is kept, seconds of the store's time.
KEPT_SECONDS = 90 * 86_400
#: The most bytes and files of one peer that are kept.
MOST_BYTES_A_PEER = 64 * 2**20
MOST_FILES_A_PEER = 100
#: All together take at most this part of the room that there is.
PART_OF_ROOM = 10

#: Names of shares that were set aside: storage index, number, and which copy.
_NAME = re.compile(r"([a-z2-7]{26})\.([0-9]{1,3})(?:\.[0-9]+)?")


@attrs.frozen
class _Kept:
    name: str
    storage_index: bytes
    number: int
    peer: int
    size: int


def note(
    sql: Sql, name: str, storage_index: bytes, number: int, size: int, peer: bytes, now: int
) -> None:
    """Note a share that is set aside.

    Args:
        sql: the database.
        name: of its file in the quarantine.
        storage_index: of the share, 16 bytes.
        number: of the share.
        size: bytes.
        peer: node id of who stored it, 20 bytes.
        now: the time, seconds since 1970.
    """
    sql.execute(
        "INSERT OR REPLACE INTO aside (name, storage_index, number, size, peer, set_aside_at)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (name, storage_index, number, size, peer_row(sql, peer), now),
    )


class Quarantine:
    """The quarantine of one store.

    Args:
        database: the store's.
        files: the file system.
        places: where things are.
        health: of the store.
        space: the accounts.
    """

    def __init__(
        self, database: Database, files: FileSystem, places: Places, health: Health, space: Space
    ) -> None:
        self._database = database
        self._files = files
        self._places = places
        self._health = health
        self._space = space

    def count(self, now: int) -> None:
        """Count what lies there, which its owner may have cleared, and drop what is old.

        Files that nobody has noted are put down to nobody, from ``now`` on.

        Raises:
            StoreError: the disk or the database failed.
        """
        sizes: dict[str, int] = {}
        with self._health.reading():
            for name in self._files.names(self._places.quarantine):
                sizes[name] = self._files.size_of(self._places.quarantine / name) or 0

        def match(sql: Sql) -> None:
            known = {row[0] for row in sql.execute("SELECT name FROM aside").fetchall()}
            for name in known - sizes.keys():
                sql.execute("DELETE FROM aside WHERE name = ?", (name,))
            for name in sizes.keys() - known:
                share = _share_of(name)
                if share is not None:
                    note(sql, name, *share, sizes[name], catalog.NOBODY, now)

        known = self._database.read(lambda sql: sql.execute("SELECT name FROM aside").fetchall())
        if {row[0] for row in known} != {name for name in sizes if _share_of(name) is not None}:
            self._database.call(match, vital=True)
        self._space.set_aside(sum(sizes.values()), len(sizes))
        self._drop(self._database.read(lambda sql: _old(sql, now - KEPT_SECONDS)))

    def trim(self, storage_index: bytes, number: int, peer: bytes, name: str) -> None:
        """Drop what has become too much by a share that was just set aside; never raises.

        Args:
            storage_index: of that share, 16 bytes.
            number: of that share.
            peer: node id of who stored it, 20 bytes.
            name: of its file, which stays.
        """

        def choose(sql: Sql) -> dict[str, _Kept]:
            who = peer_row(sql, peer)
            rows = _select(sql, "1 ORDER BY set_aside_at DESC, name")
            rows.sort(key=lambda kept: kept.name != name)
            copies = [k for k in rows if (k.storage_index, k.number) == (storage_index, number)]
            surplus = [kept for kept in copies if kept.peer == who and kept.name != name]
            if peer != catalog.NOBODY:
                theirs = [kept for kept in rows if kept.peer == who and kept not in surplus]
                surplus += _beyond(theirs, MOST_BYTES_A_PEER, MOST_FILES_A_PEER)
            rest = [kept for kept in rows if kept not in surplus]
            surplus += _beyond(rest, self._space.look(accepts=True).room // PART_OF_ROOM)
            return {kept.name: kept for kept in surplus}

        with contextlib.suppress(StoreError):
            self._drop(self._database.call(choose).values())

    def _drop(self, surplus: Iterable[_Kept]) -> None:
        """Remove files and their rows, in this order, so that none is forgotten."""
        for kept in surplus:
            with self._health.synchronising():
                self._files.unlink(self._places.quarantine / kept.name)

            def forget(sql: Sql, name: str = kept.name) -> int:
                return sql.execute("DELETE FROM aside WHERE name = ?", (name,)).rowcount

            if self._database.call(forget, vital=True):
                self._space.drop_aside(kept.size)

    def account(self, peer: bytes) -> int:
        """Return the bytes of a peer's shares that lie here."""
        return self._database.read(lambda sql: catalog.account_aside(sql, peer))


def _beyond(rows: list[_Kept], most_bytes: int, most_files: int | None = None) -> list[_Kept]:
    """Return those that are too much, given the latest first, which always stays."""
    beyond, size = [], 0
    for count, kept in enumerate(rows):
        size += kept.size
        too_many = most_files is not None and count >= most_files
        if count and (size > most_bytes or too_many):
            beyond.append(kept)
    return beyond


def _select(sql: Sql, which: str, values: tuple[object, ...] = ()) -> list[_Kept]:
    rows = sql.execute(
        f"SELECT name, storage_index, number, peer, size FROM aside WHERE {which}",  # noqa: S608
        values,
    ).fetchall()
    return [_Kept(row[0], bytes(row[1]), *row[2:]) for row in rows]


def _old(sql: Sql, until: int) -> list[_Kept]:
    return _select(sql, "set_aside_at < ?", (until,))


def _share_of(name: str) -> tuple[bytes, int] | None:
    """Return (storage index, number) of a share by the name of its file, None if it is none."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    try:
        return a2b(found[1], 16), int(found[2])
    except FormatError:
        return None
