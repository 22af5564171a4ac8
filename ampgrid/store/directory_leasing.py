"""The jobs on leases of directories and on pointers to their snapshots."""

from __future__ import annotations

import struct

from ampgrid.errors import NotStoredError
from ampgrid.formats.pointer import Pointer
from ampgrid.store import directory_leases
from ampgrid.store.directory_accounts import LEASE_OVERHEAD
from ampgrid.store.directory_answers import NoLeaseError
from ampgrid.store.directory_changes import Caller, DirectoryJob, Inside
from ampgrid.store.peerrows import peer_row
from ampgrid.store.sql import Sql

_VERSION = struct.Struct(">LQ")


def _number(sql: Sql, index: bytes) -> int:
    """Return the number of a directory that is kept, and not only staged.

    Not from what is remembered: a vital job is run again before other vital ones of its
    transaction have heard that they are undone.
    """
    row = sql.execute(
        "SELECT id FROM directories WHERE name = ?"
        " AND (accepted IS NOT NULL OR prepare IS NOT NULL)",
        (index,),
    ).fetchone()
    if row is None:
        raise NotStoredError("nothing is kept of this directory")
    return int(row[0])


class RenewJob(DirectoryJob[None]):
    """Add or renew the caller's lease; goes on when the disk is full."""

    vital = True

    def act(self, sql: Sql) -> None:
        """Renew it, or add it if there is room."""
        number = _number(sql, self._index)
        peer = peer_row(sql, self._caller.peer)
        if directory_leases.renew(sql, number, peer, self._caller.now):
            return
        self._inside.accounts.require(sql, LEASE_OVERHEAD)
        self.book("leases", 1 - directory_leases.add(sql, number, peer, self._caller.now))


class CancelJob(DirectoryJob[None]):
    """Remove the caller's lease; goes on when the disk is full."""

    vital = True

    def act(self, sql: Sql) -> None:
        """Remove it."""
        number = _number(sql, self._index)
        if not directory_leases.cancel(sql, number, peer_row(sql, self._caller.peer)):
            raise NoLeaseError("there is no such lease")
        self.book("leases", -1)


class PointJob(DirectoryJob[None]):
    """Keep a pointer to a snapshot, in the account of the caller.

    Args:
        inside: of the store.
        index: of the directory.
        caller: who asks.
        pointer: its signature was checked.
    """

    def __init__(self, inside: Inside, index: bytes, caller: Caller, pointer: Pointer) -> None:
        super().__init__(inside, index, caller)
        self._pointer = pointer

    def act(self, sql: Sql) -> None:
        """Keep it, unless a later one is here."""
        row = sql.execute("SELECT version FROM pointers WHERE name = ?", (self._index,)).fetchone()
        now, packed = self._caller.now, self._pointer.pack()
        # In the order of such numbers, whatever SQLite makes of large ones.
        version = _VERSION.pack(*self._pointer.order)
        if row is not None:
            if version >= bytes(row[0]):
                sql.execute(
                    "UPDATE pointers SET version = ?, pointer = ?, put_at = max(put_at, ?)"
                    " WHERE name = ?",
                    (version, packed, now, self._index),
                )
            return
        peer = peer_row(sql, self._caller.peer)
        self._inside.accounts.require_pointer(sql, peer)
        sql.execute(
            "INSERT INTO pointers (name, peer, version, put_at, pointer) VALUES (?, ?, ?, ?, ?)",
            (self._index, peer, version, now, packed),
        )
        self.book("pointers", 1, peer)
