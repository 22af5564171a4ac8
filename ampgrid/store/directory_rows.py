"""The rows of directories: the acceptor's state of each, read, written and remembered.

A state is parsed once and then remembered, with the bytes as they were signed. What is remembered
is what the database says at that point of its transaction: a job that is undone drops it.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, TypeAlias

import attrs

from ampgrid.formats.ballot import Ballot, Prepare
from ampgrid.formats.record import Record
from ampgrid.register.acceptor import AcceptorState
from ampgrid.register.words import promise_in
from ampgrid.store.sql import Sql

#: The most directories whose state is remembered.
MOST_REMEMBERED = 4_096

State: TypeAlias = AcceptorState[Record, Prepare]


@attrs.frozen
class Row:
    """One directory.

    Attributes:
        id: of its row, None if it has none yet.
        state: of the acceptor.
        held: the accepted record, packed; None if there is none.
        prepared: the promised prepare, packed; None if nothing is promised but by the record.
        maker: the peer in whose account it counts.
        live: what the nodes under the record's root take, bytes.
        retired: whether this store has left the set, so that nothing is live.
    """

    id: int | None = None
    state: State = attrs.field(factory=AcceptorState)
    held: bytes | None = attrs.field(default=None, repr=False)
    prepared: bytes | None = attrs.field(default=None, repr=False)
    maker: int = 0
    live: int = 0
    retired: bool = False

    @property
    def known(self) -> bool:
        """Whether there is anything that can be shown of it."""
        return self.held is not None or self.prepared is not None


#: A directory of which nothing is kept.
NOTHING = Row()


class Rows:
    """Reads and writes rows of directories; for the one thread that has the database."""

    def __init__(self) -> None:
        self._remembered: OrderedDict[bytes, Row] = OrderedDict()

    def forget(self, index: bytes) -> None:
        """Read a directory from the database again when it is next asked for."""
        self._remembered.pop(index, None)

    def clear(self) -> None:
        """Remember nothing."""
        self._remembered.clear()

    def load(self, sql: Sql, index: bytes) -> Row:
        """Return a directory, `NOTHING` if nothing of it is kept."""
        row = self._remembered.get(index)
        if row is not None:
            self._remembered.move_to_end(index)
            return row
        row = _read(sql, index)
        if row is not NOTHING:
            self._remember(index, row)
        return row

    def _remember(self, index: bytes, row: Row) -> None:
        self._remembered[index] = row
        if len(self._remembered) > MOST_REMEMBERED:
            self._remembered.popitem(last=False)

    def insert(self, sql: Sql, index: bytes, peer: int, now: int) -> Row:
        """Begin to keep a directory, for which ``peer`` is the maker; returns its row.

        What is forgotten of it stays so until `save` gets another state.
        """
        state = self.load(sql, index).state
        number = sql.execute(
            "INSERT INTO directories (name, maker, made_at) VALUES (?, ?, ?)", (index, peer, now)
        ).lastrowid
        assert number is not None
        row = Row(number, state, maker=peer)
        self._remember(index, row)
        return row

    def save(self, sql: Sql, index: bytes, old: Row, new: Row, now: int) -> None:
        """Write what has changed of a directory."""
        sql.execute(
            "UPDATE directories SET prepare = ?, accepted = ?, live = ? WHERE id = ?",
            (new.prepared, new.held, new.live, new.id),
        )
        if new.retired != old.retired:
            since = now if new.retired else None
            sql.execute("UPDATE directories SET retired_at = ? WHERE id = ?", (since, new.id))
        if old.state.forgotten and not new.state.forgotten:
            sql.execute("DELETE FROM forgotten WHERE name = ?", (index,))
        self._remember(index, new)

    def drop(self, sql: Sql, index: bytes, state: State) -> None:
        """Delete the row of a directory and its leases, and keep the ballot of its state."""
        row = self.load(sql, index)
        sql.execute("DELETE FROM leases WHERE directory = ?", (row.id,))
        sql.execute("DELETE FROM directories WHERE id = ?", (row.id,))
        if state.promised is not None:
            sql.execute(
                "INSERT OR REPLACE INTO forgotten (name, ballot) VALUES (?, ?)",
                (index, state.promised.pack()),
            )
        self.forget(index)


def _read(sql: Sql, index: bytes) -> Row:
    found = sql.execute(
        "SELECT id, prepare, accepted, maker, live, retired_at FROM directories WHERE name = ?",
        (index,),
    ).fetchone()
    prepare = None if found is None or found[1] is None else Prepare.unpack(bytes(found[1]))
    accepted = None if found is None or found[2] is None else Record.unpack(bytes(found[2]))
    if prepare is not None:
        state: State = AcceptorState(prepare.ballot, prepare, accepted)
    elif accepted is not None:
        state = AcceptorState(promise_in(accepted), None, accepted)
    else:
        state = _read_forgotten(sql, index)
    if found is None:
        return Row(state=state) if state.forgotten else NOTHING
    return Row(
        found[0],
        state,
        None if found[2] is None else bytes(found[2]),
        None if found[1] is None else bytes(found[1]),
        found[3],
        found[4],
        found[5] is not None,
    )


def _read_forgotten(sql: Sql, index: bytes) -> State:
    found: Any = sql.execute("SELECT ballot FROM forgotten WHERE name = ?", (index,)).fetchone()
    if found is None:
        return AcceptorState()
    return AcceptorState(Ballot.unpack(bytes(found[0])), forgotten=True)
