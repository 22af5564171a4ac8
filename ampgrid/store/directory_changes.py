"""The jobs that change a directory: promise, accept, stage. Each is one transaction.

The register's acceptor (`ampgrid.register.acceptor`) decides; here its state is read, what its
rules take for granted is checked (every node under a record's root is here), and its new state
is written with the nodes, all or nothing. Signatures were checked before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import attrs

from ampgrid.errors import MissingNodesError, NoRoomError, NotStoredError
from ampgrid.formats import trie
from ampgrid.formats.ballot import Prepare
from ampgrid.formats.record import EMPTY_ROOT, Record, ReplicaId
from ampgrid.register import acceptor, membership
from ampgrid.store import directory_leases, directory_nodes, directory_walks
from ampgrid.store.directory_accounts import (
    MOST_PROMISES_A_PEER,
    NODE_OVERHEAD,
    Accounts,
    Booking,
    Bookings,
    Kind,
)
from ampgrid.store.directory_answers import Judged, LongWorkError, Verdict
from ampgrid.store.directory_nodes import Gone, NodeReader
from ampgrid.store.directory_rows import Row, Rows, State
from ampgrid.store.peerrows import peer_row
from ampgrid.store.sql import Job, Sql

T = TypeVar("T")

#: The most hashes of missing nodes in one answer.
MOST_MISSING = 1_024
#: The most nodes, old and new, at which the acceptance of one record looks if it does not bring
#: its changes. A directory of 100,000 children has about 30,000.
MOST_COMPARED = 200_000
#: The most of these in one transaction: the others wait meanwhile.
MOST_AT_ONCE = 1_024
#: The most places of two tries in one slice of a longer comparison.
PLACES_A_SLICE = 512


@attrs.frozen
class Caller:
    """Who asks for a change, and when.

    Attributes:
        peer: node id, 20 bytes.
        now: the store's time, seconds since 1970.
    """

    peer: bytes
    now: int


@attrs.frozen
class Inside:
    """The parts of a store that its jobs work on.

    Attributes:
        me: the name of this replica.
        rows: of directories.
        accounts: of its room.
        check: raises `BrokenStoreError` while nothing is accepted.
        deleted: how many nodes were deleted since it was opened, {number of a directory: count}.
    """

    me: ReplicaId
    rows: Rows
    accounts: Accounts
    check: Callable[[int], None]
    deleted: Counter[int] = attrs.field(factory=Counter)

    def live_root(self, sql: Sql, directory: int) -> bytes:
        """Return the root under which the nodes of a directory are live."""
        found = sql.execute("SELECT name FROM directories WHERE id = ?", (directory,)).fetchone()
        return EMPTY_ROOT if found is None else live_root(self.rows.load(sql, bytes(found[0])))

    def delete_gone(self, sql: Sql, rows: Sequence[Gone]) -> Iterator[Booking]:
        """Delete nodes that are noted as gone and are not live; yields what is to be booked."""
        adopting: dict[int, bool] = {}

        def is_live(directory: int, number: int) -> bool:
            if directory not in adopting:
                adopting[directory] = directory_walks.is_adopting(sql, directory)
            if adopting[directory]:
                digest = sql.execute("SELECT hash FROM nodes WHERE id = ?", (number,)).fetchone()
                read = NodeReader(sql, directory)
                if digest and trie.is_under(
                    self.live_root(sql, directory), bytes(digest[0]), read
                ):
                    return True
            self.deleted[directory] += 1
            return False

        yield from directory_nodes.delete(sql, rows, is_live)


class DirectoryJob(Job[T]):
    """A job on one directory, whose bookings are taken back if it is undone.

    Args:
        inside: of the store.
        index: of the directory, 32 bytes.
        caller: who asks.
    """

    def __init__(self, inside: Inside, index: bytes, caller: Caller) -> None:
        self._inside = inside
        self._index = index
        self._caller = caller
        self._booked = Bookings(inside.accounts)
        self._has_run = False

    def run(self, sql: Sql) -> T:
        """Do it; whatever is raised, nothing is booked."""
        if self._has_run:
            self.undone()
        self._has_run = True
        try:
            self._inside.check(self._caller.now)
            return self.act(sql)
        except BaseException:
            self.undone()
            raise

    def act(self, sql: Sql) -> T:
        """Do it."""
        raise NotImplementedError

    def committed(self) -> None:
        """Let what is booked stand."""
        self._booked.stand()

    def undone(self) -> None:
        """Take back what is booked, and remember nothing of what was not written."""
        self._booked.take_back()
        self._inside.rows.forget(self._index)

    def book(self, kind: Kind, amount: int, part: int | None = None) -> None:
        """Book something until it is undone."""
        self._booked.add(kind, amount, part)

    def book_all(self, bookings: Iterable[Booking]) -> None:
        """Book what a change of nodes yields, while it is made."""
        for booking in bookings:
            self.book(*booking)

    def begin(self, sql: Sql) -> Row:
        """Begin to keep the directory, in the account of the caller, who gets a lease."""
        peer = peer_row(sql, self._caller.peer)
        row = self._inside.rows.insert(sql, self._index, peer, self._caller.now)
        assert row.id is not None
        self.book("directories", 1, peer)
        self.book("promises", 1, peer)
        directory_leases.add(sql, row.id, peer, self._caller.now)
        self.book("leases", 1)
        return row

    def make_room(self, sql: Sql) -> None:
        """Let replaced nodes go that take room which is wanted."""
        excess = self._inside.accounts.excess()
        if excess:
            rows = directory_nodes.oldest(sql, excess)
            self.book_all(self._inside.delete_gone(sql, rows))


class PrepareJob(DirectoryJob[Judged]):
    """Judge a prepare.

    Args:
        inside: of the store.
        index: of the directory.
        caller: who asks.
        prepare: signed, and checked.
        slots: the answer has the nodes on the way to these, if the promise is made.
        most: bytes of nodes in the answer, with two for each.
    """

    def __init__(
        self,
        inside: Inside,
        index: bytes,
        caller: Caller,
        prepare: Prepare,
        slots: Sequence[bytes],
        most: int,
    ) -> None:
        super().__init__(inside, index, caller)
        self._prepare = prepare
        self._slots = slots
        self._most = most

    def act(self, sql: Sql) -> Judged:
        """Promise or refuse."""
        rows = self._inside.rows
        row = rows.load(sql, self._index)
        state, answer = acceptor.prepare(row.state, self._prepare)
        if not isinstance(answer, acceptor.PromiseMade):
            return Judged(Verdict.REFUSED, row.held, row.prepared)
        if state is not row.state:
            if row.id is None:
                row = self._begin(sql)
            new = attrs.evolve(row, state=state, prepared=self._prepare.pack())
            rows.save(sql, self._index, row, new, self._caller.now)
            row = new
        nodes: tuple[bytes, ...] = ()
        if row.held is not None and self._slots and not row.retired:
            assert row.state.accepted is not None
            reader = NodeReader(sql, row.id)
            nodes = nodes_on_way(row.state.accepted.root, self._slots, reader, self._most)
        return Judged(Verdict.DONE, row.held, row.prepared, nodes=nodes)

    def _begin(self, sql: Sql) -> Row:
        accounts = self._inside.accounts
        peer = peer_row(sql, self._caller.peer)
        if accounts.part("promises", peer) >= MOST_PROMISES_A_PEER:
            raise NoRoomError("a peer has as many promises of new directories as it may have")
        accounts.require(sql, directory_leases.NEW_BYTES)
        return self.begin(sql)


@attrs.frozen
class _Compared:
    """What a comparison in slices has found.

    Attributes:
        of: number of the directory, its accepted root, and how many of its nodes were deleted
            before; nothing holds if these are others by now.
        comparison: of its trie with that of the record.
    """

    of: tuple[int | None, bytes, int]
    comparison: trie.Comparison


class AcceptJob(DirectoryJob[Judged]):
    """Judge a record.

    Args:
        inside: of the store.
        index: of the directory.
        caller: who asks.
        record: signed, and checked.
        changes: {slot: entry, or None to take it out} that make the record's trie of the one
            that is here; None if its nodes are here already.
    """

    def __init__(
        self,
        inside: Inside,
        index: bytes,
        caller: Caller,
        record: Record,
        changes: Mapping[bytes, bytes | None] | None,
    ) -> None:
        super().__init__(inside, index, caller)
        self._record = record
        self._changes = changes
        self._compared: _Compared | None = None

    def act(self, sql: Sql) -> Judged:
        """Accept or refuse.

        Raises:
            LongWorkError: its trie differs in so much that it is compared in slices first.
        """
        row = self._inside.rows.load(sql, self._index)
        state, answer = acceptor.accept(row.state, self._record, self._inside.me)
        if isinstance(answer, acceptor.NotMine):
            if not row.retired and membership.releases(
                row.state.accepted, self._record, self._inside.me
            ):
                self._retire(sql, row)
            return Judged(Verdict.STRANGER, row.held, row.prepared)
        if isinstance(answer, acceptor.Conflict):
            return Judged(Verdict.CONFLICT, row.held, row.prepared)
        if isinstance(answer, acceptor.RefusedBy):
            return Judged(Verdict.REFUSED, row.held, row.prepared)
        if state is not row.state:
            read = NodeReader(sql, row.id)
            try:
                change = self._change(sql, row, read)
            except MissingNodesError as error:
                missing = tuple(error.hashes[:MOST_MISSING])
                return Judged(Verdict.MISSING, row.held, row.prepared, missing)
            self._write(sql, row, state, change, read)
        return Judged(Verdict.DONE)

    def _change(
        self, sql: Sql, row: Row, read: NodeReader
    ) -> trie.Change | trie.Comparison | None:
        """Return what becomes of the nodes, None if nothing does.

        Raises:
            MissingNodesError: nodes under the record's root are not here.
            FormatError: its trie is malformed, or differs in too many nodes.
            LongWorkError: it is to be compared in slices first.
        """
        live = live_root(row)
        root = self._record.root
        if root == live:
            return None
        if self._changes is not None:
            change = trie.apply(live, self._changes, read)
            if change.root == root:
                return change
            # The record is of another base; its nodes may be here all the same.
        if self._compared is not None and self._compared.of == self._state_of(row):
            comparison = self._compared.comparison
            if comparison.lacking:
                raise MissingNodesError(comparison.lacking)
            if row.id is None or directory_walks.pending(sql, row.id) is None:
                return comparison
            raise LongWorkError(self)
        try:
            return trie.diff(live, root, read, read, min(MOST_AT_ONCE, MOST_COMPARED))
        except trie.TooManyNodesError:
            self._compared = _Compared(
                self._state_of(row), trie.Comparison(live, root, MOST_COMPARED, keeps=False)
            )
            raise LongWorkError(self) from None

    def _state_of(self, row: Row) -> tuple[int | None, bytes, int]:
        return row.id, live_root(row), self._inside.deleted[row.id or 0]

    def go_on(self, sql: Sql, book: Callable[[Iterable[Booking]], None]) -> bool:
        """Do a slice of what was too much; tell whether the job can be run again.

        Raises:
            FormatError: the record's trie is malformed, or differs in too many nodes.
        """
        assert self._compared is not None
        row = self._inside.rows.load(sql, self._index)
        walk = None if row.id is None else directory_walks.pending(sql, row.id)
        if walk is not None:
            # Those of the last such change: no more than one is ever under way.
            book(directory_walks.go_on(sql, walk, live_root(row)))
            return False
        if self._compared.of != self._state_of(row):
            return True
        read = NodeReader(sql, row.id)
        return self._compared.comparison.go_on(read, read, PLACES_A_SLICE)

    def _write(
        self,
        sql: Sql,
        row: Row,
        state: State,
        change: trie.Change | trie.Comparison | None,
        read: NodeReader,
    ) -> None:
        inside, now = self._inside, self._caller.now
        growth = 0
        if isinstance(change, trie.Comparison):
            growth = change.growth(NODE_OVERHEAD)
        elif change is not None:
            growth = sum(map(directory_nodes.size_of, change.added.values()))
            growth -= sum(directory_nodes.size_of(read(d) or b"") for d in change.removed)
        inside.accounts.require(
            sql, growth + (directory_leases.NEW_BYTES if row.id is None else 0)
        )
        if row.id is None:
            row = self.begin(sql)
        assert row.id is not None
        if row.held is None:
            self.book("promises", -1, row.maker)
        if isinstance(change, trie.Comparison):
            for kind in (directory_walks.ADOPT, directory_walks.REPLACE):
                directory_walks.add(sql, row.id, kind, live_root(row), now)
        elif change is not None:
            self.book_all(directory_nodes.add_live(sql, row.id, change.added))
            self.book_all(directory_nodes.replace(sql, row.id, change.removed, now))
        live = row.live + growth
        self.book("live", growth, row.maker)
        new = attrs.evolve(
            row,
            state=state,
            held=self._record.pack() if state.accepted is self._record else row.held,
            prepared=None if state.prepare is None else state.prepare.pack(),
            live=live,
            retired=False,
        )
        inside.rows.save(sql, self._index, row, new, now)
        self.make_room(sql)

    def _retire(self, sql: Sql, row: Row) -> None:
        """Show where the directory went, and keep nodes for a day."""
        assert row.id is not None
        now = self._caller.now
        until = now + directory_nodes.RETIRED_SECONDS - directory_nodes.GONE_SECONDS
        directory_walks.add(sql, row.id, directory_walks.REPLACE, live_root(row), until)
        self.book("live", -row.live, row.maker)
        state = acceptor.release(row.state, self._record)
        new = attrs.evolve(
            row,
            state=state,
            held=self._record.pack(),
            prepared=None if state.prepare is None else state.prepare.pack(),
            live=0,
            retired=True,
        )
        self._inside.rows.save(sql, self._index, row, new, now)


class StageJob(DirectoryJob[None]):
    """Keep nodes for a record to come.

    Args:
        inside: of the store.
        index: of the directory.
        caller: who asks.
        nodes: by their hash, checked.
        shown: whether something signed with the directory's key was shown.
    """

    def __init__(
        self,
        inside: Inside,
        index: bytes,
        caller: Caller,
        nodes: Mapping[bytes, bytes],
        *,
        shown: bool,
    ) -> None:
        super().__init__(inside, index, caller)
        self._nodes = nodes
        self._shown = shown

    def act(self, sql: Sql) -> None:
        """Keep them."""
        row = self._inside.rows.load(sql, self._index)
        accounts = self._inside.accounts
        if row.id is None and not self._shown:
            raise NotStoredError("nothing is kept of this directory")
        peer = peer_row(sql, self._caller.peer)
        missing = set(directory_nodes.lacking(sql, row.id, list(self._nodes)))
        size = sum(directory_nodes.size_of(self._nodes[digest]) for digest in missing)
        new_bytes = directory_leases.NEW_BYTES if row.id is None else 0
        accounts.require_staging(sql, peer, size + new_bytes)
        if row.id is None:
            if accounts.part("promises", peer) >= MOST_PROMISES_A_PEER:
                raise NoRoomError("a peer has as many new directories as it may have")
            row = self.begin(sql)
        assert row.id is not None
        self.book_all(directory_nodes.stage(sql, row.id, self._nodes, peer, self._caller.now))
        directory_walks.keep_longer(sql, row.id, self._caller.now)
        self.make_room(sql)


def live_root(row: Row) -> bytes:
    """Return the root under which the nodes of a directory are all here."""
    if row.retired or row.state.accepted is None:
        return EMPTY_ROOT
    return row.state.accepted.root


def nodes_on_way(
    root: bytes, slots: Sequence[bytes], read: Callable[[bytes], bytes | None], most: int
) -> tuple[bytes, ...]:
    """Return the nodes on the way to some slots, each once, as far as they fit.

    Args:
        root: where the ways begin.
        slots: 32 bytes each.
        read: gives the nodes.
        most: bytes, with two for each node.
    """
    found: dict[bytes, None] = {}
    for slot in slots:
        for node in trie.path(root, slot, read):
            if node in found:
                continue
            most -= len(node) + 2
            if most < 0:
                return tuple(found)
            found[node] = None
    return tuple(found)
