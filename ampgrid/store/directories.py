"""The store of directories: one acceptor of the register for each, with the nodes of its trie.

One SQLite file, enciphered with a key of the node's (SQLCipher), write-ahead log,
``synchronous=FULL``, group commit. What is answered is durable: a promise, a record together
with all nodes under its root, a lease. The *store id* is drawn when the file is made: a node that
lost its disk comes back as a stranger to the sets in which the lost store was, since it no longer
knows what it had promised. For the same reason no older copy may ever be put in the place of the
file.

Every call blocks, may come from any thread, and knows no clock: times are passed in, the store's
own (`ampgrid.store.timekeeping`).

Spec: ``docs/specs/store.md#directories``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from ampgrid.errors import (
    BrokenStoreError,
    ConfigError,
    MissingNodesError,
    NotStoredError,
    StoreError,
)
from ampgrid.formats import trie
from ampgrid.formats.ballot import Prepare
from ampgrid.formats.pointer import Pointer
from ampgrid.formats.record import Record, ReplicaId
from ampgrid.formats.trienode import parse_node
from ampgrid.ports import Entropy, WallClock
from ampgrid.store import marks, timekeeping
from ampgrid.store.ballast import Ballast
from ampgrid.store.directory_accounts import Accounts, DirectoryRoom
from ampgrid.store.directory_answers import (
    Judged,
    LongWorkError,
    NoLeaseError,
    Shown,
    SnapshotLostError,
    Verdict,
)
from ampgrid.store.directory_changes import (
    AcceptJob,
    Caller,
    Inside,
    PrepareJob,
    StageJob,
    live_root,
    nodes_on_way,
)
from ampgrid.store.directory_leasing import CancelJob, PointJob, RenewJob
from ampgrid.store.directory_nodes import NodeReader
from ampgrid.store.directory_rows import Row, Rows
from ampgrid.store.directory_schema import DIRECTORY_SCHEMA
from ampgrid.store.directory_upkeep import DirectoryUpkeep
from ampgrid.store.filesystem import FileSystem, PosixFileSystem
from ampgrid.store.health import Health
from ampgrid.store.sql import Database, Job, Outcome, Sql

__all__ = [
    "Caller",
    "DirectoryStore",
    "Judged",
    "LongWorkError",
    "NoLeaseError",
    "Shown",
    "SnapshotLostError",
    "Verdict",
]

T = TypeVar("T")

#: The most bytes of nodes in one answer, with two for the length of each.
MOST_NODES_BYTES = 56_000
#: The most nodes in one answer.
MOST_NODES = 1_024
#: The most times that a task is run which is long, and begins anew as the directory changes.
MOST_TRIES = 8
#: What SQLite keeps of the file in memory, KiB.
_CACHE_KIB = 16_384
_STORE_ID_BYTES = 16
#: Size of the ballast on a small disk: the store of shares beside it holds back more.
SMALL_BALLAST_BYTES = 1024 * 1024


class DirectoryStore:
    """Directories in one file. Made by `DirectoryStore.open`.

    Attributes:
        me: the name of this replica: node id and store id.
        beginning: the store's time when it was opened.
        upkeep: what is done about time.
    """

    def __init__(
        self,
        database: Database,
        me: ReplicaId,
        beginning: timekeeping.Beginning,
        accounts: Accounts,
        rows: Rows,
        health: Health,
        ballast: Callable[[], None],
    ) -> None:
        self._database: Database | None = database
        self._accounts = accounts
        self._health = health
        self._make_ballast = ballast
        self._rows = rows
        self._inside = Inside(me, self._rows, accounts, health.check)
        self.me = me
        self.beginning = beginning
        self.upkeep = DirectoryUpkeep(database, self._inside)

    # Beginning and end.

    @classmethod
    def open(
        cls,
        path: Path,
        key: bytes,
        node_id: bytes,
        *,
        wall: WallClock,
        entropy: Entropy,
        quota: int | None = None,
        reserve: int = 0,
        files: FileSystem | None = None,
    ) -> DirectoryStore:
        """Open a store; SQLite puts in order what a crash left.

        Args:
            path: of the database; made if it does not exist, in a directory that does.
            key: under which it is enciphered, 32 bytes. Secret.
            node_id: of this node, 20 bytes.
            wall: the wall clock, for where the store's time begins.
            entropy: draws the store id.
            quota: the most bytes that directories may take, None for no bound.
            reserve: the bytes that the disk must keep free.
            files: the file system.

        Raises:
            ConfigError: the file cannot be opened, or another process has it open.
            FormatError: it is damaged, made with another key, of another kind or version.
            StoreError: the disk refused.
        """
        files = files or PosixFileSystem()
        health = Health(files, path.with_name(f"{path.stem}-probe"))
        ballast = Ballast(
            files, path.with_name(f"{path.stem}-ballast"), reserve, SMALL_BALLAST_BYTES
        )

        def make_ballast() -> None:
            with suppress(OSError):
                ballast.make(files.free_bytes(path.parent))

        free_bytes = partial(_free_bytes, files, path, ballast)
        accounts, rows = Accounts(quota, reserve, free_bytes), Rows()

        def begin(sql: Sql) -> None:
            sql.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
            rows.clear()
            accounts.load(sql)

        _settle(files, path, ballast)
        database = Database(
            path, DIRECTORY_SCHEMA, health.mark_broken, ballast.drop, files, key, begin
        )
        try:
            beginning = database.call(lambda sql: marks.begin_time(sql, wall()), vital=True)
            store_id = database.call(lambda sql: _store_id(sql, entropy), vital=True)
            me = ReplicaId(node_id, store_id)
            return cls(database, me, beginning, accounts, rows, health, make_ballast)
        except BaseException:
            database.close()
            raise

    def close(self) -> None:
        """End."""
        database, self._database = self._database, None
        if database is not None:
            database.close()

    @property
    def database(self) -> Database:
        """The database; for tests and measurements.

        Raises:
            BrokenStoreError: the store is not open.
        """
        if self._database is None:
            raise BrokenStoreError("the store of directories is not open")
        return self._database

    @property
    def broken(self) -> bool:
        """Whether the disk failed and no probe has passed since."""
        return self._health.broken

    # Tasks.

    def preparing(
        self,
        index: bytes,
        caller: Caller,
        prepare: Prepare,
        slots: Sequence[bytes] = (),
    ) -> Job[Judged]:
        """Return the task that judges a prepare, whose signature was checked.

        With a promise come the nodes on the way to ``slots``, as many as fit in a box. Fails
        with `NoRoomError`, `BrokenStoreError`.
        """
        return PrepareJob(self._inside, index, caller, prepare, slots, MOST_NODES_BYTES)

    def accepting(
        self,
        index: bytes,
        caller: Caller,
        record: Record,
        changes: Mapping[bytes, bytes | None] | None = None,
    ) -> Job[Judged]:
        """Return the task that judges a record, whose signature was checked.

        Args:
            index: of the directory, 32 bytes.
            caller: who asks.
            record: the record.
            changes: {slot: sealed entry, or None to take it out}, if the record differs in these
                from the one that is here; None if its nodes were staged.

        Fails with `NoRoomError`, `BrokenStoreError`, `FormatError` (a node is malformed).
        """
        return AcceptJob(self._inside, index, caller, record, changes)

    def staging(
        self, index: bytes, caller: Caller, nodes: Sequence[bytes], *, shown: bool
    ) -> Job[None]:
        """Return the task that keeps nodes for a record to come.

        Args:
            index: of the directory, 32 bytes.
            caller: who asks.
            nodes: their hashes are computed here.
            shown: whether something signed with the directory's key was shown.

        Fails with `NotStoredError` (nothing is kept of it, nothing was shown), `NoRoomError`,
        `BrokenStoreError`.

        Raises:
            FormatError: a node is malformed.
        """
        by_hash = {}
        for node in nodes:
            parse_node(node)
            by_hash[trie.node_hash(node)] = node
        return StageJob(self._inside, index, caller, by_hash, shown=shown)

    def renewing(self, index: bytes, caller: Caller) -> Job[None]:
        """Return the task that adds or renews the caller's lease, for 31 days.

        Fails with `NotStoredError`, `NoRoomError`, `BrokenStoreError`.
        """
        return RenewJob(self._inside, index, caller)

    def cancelling(self, index: bytes, caller: Caller) -> Job[None]:
        """Return the task that removes the caller's lease.

        Fails with `NoLeaseError` (of the caller's), `NotStoredError`, `BrokenStoreError`.
        """
        return CancelJob(self._inside, index, caller)

    def pointing(self, index: bytes, caller: Caller, pointer: Pointer) -> Job[None]:
        """Return the task that keeps a pointer to a snapshot, unless a later one is here.

        Fails with `NoRoomError`, `BrokenStoreError`.
        """
        return PointJob(self._inside, index, caller, pointer)

    def run_all(self, tasks: Sequence[Job[object]]) -> Sequence[Outcome[object]]:
        """Run tasks; return when all that succeeded is durable.

        One that fails with `LongWorkError` is to be run again, after `go_on` until that says so.
        """
        return self.database.run_all(tasks)

    def run(self, task: Job[T]) -> T:
        """Run one task and return its result, or raise its error; in slices if it is long."""
        for _try in range(MOST_TRIES):
            try:
                return self.database.run(task)
            except LongWorkError as more:
                while not self.go_on(more):
                    pass
        raise StoreError("the directory changes too fast for so large a change")

    def go_on(self, more: LongWorkError) -> bool:
        """Do a slice of what a task has to look at; tell whether it can be run again.

        Raises:
            FormatError: it cannot be done; see `accepting`.
            BrokenStoreError: the database failed.
        """
        return self.upkeep.go_on(more.job)

    # Looks.

    def show(self, index: bytes, slots: Sequence[bytes] = ()) -> Shown:
        """Return what is kept of a directory, with the nodes on the way to ``slots``.

        Raises:
            NotStoredError: nothing is kept of it.
            BrokenStoreError: it could not be read.
        """

        def look(sql: Sql) -> Shown:
            row = self._known(sql, index)
            nodes: tuple[bytes, ...] = ()
            if slots and not row.retired:
                read = NodeReader(sql, row.id)
                nodes = nodes_on_way(live_root(row), slots, read, MOST_NODES_BYTES)
            return Shown(row.held, row.prepared, nodes)

        return self.database.read(look)

    def prove(self, index: bytes, slot: bytes, root: bytes | None) -> Shown:
        """Return what is kept of a directory, with the nodes on the way to one slot.

        Args:
            index: of the directory, 32 bytes.
            slot: 32 bytes.
            root: where the way begins, None for the accepted record's.

        Raises:
            NotStoredError: nothing is kept of it.
            SnapshotLostError: nodes under that root are no longer kept.
            BrokenStoreError: it could not be read.
        """

        def look(sql: Sql) -> Shown:
            row = self._known(sql, index)
            read = NodeReader(sql, row.id)
            nodes = nodes_on_way(_asked(row, root), [slot], read, MOST_NODES_BYTES)
            return Shown(row.held, row.prepared, nodes)

        return self._look(look)

    def page(self, index: bytes, root: bytes | None, after: bytes | None) -> Shown:
        """Return what is kept of a directory, with the nodes under a root in preorder.

        Args:
            index: of the directory, 32 bytes.
            root: of the trie, None for the accepted record's.
            after: nodes under which all slots are up to this one are left out.

        Raises:
            NotStoredError: nothing is kept of it.
            SnapshotLostError: nodes under that root are no longer kept.
            BrokenStoreError: it could not be read.
        """

        def look(sql: Sql) -> Shown:
            row = self._known(sql, index)
            read = NodeReader(sql, row.id)
            nodes = _page(_asked(row, root), after, read)
            return Shown(row.held, row.prepared, nodes)

        return self._look(look)

    def nodes(self, index: bytes, hashes: Sequence[bytes]) -> tuple[bytes, ...]:
        """Return nodes by their hashes, in order, up to the first that is not here or not fits.

        Raises:
            NotStoredError: nothing is kept of the directory.
            SnapshotLostError: the first is not here.
            BrokenStoreError: it could not be read.
        """

        def look(sql: Sql) -> tuple[bytes, ...]:
            row = self._known(sql, index)
            read = NodeReader(sql, row.id)
            left = MOST_NODES_BYTES
            found = []
            for digest in hashes:
                node = read(digest)
                if node is None:
                    break
                left -= len(node) + 2
                if left < 0:
                    break
                found.append(node)
            if hashes and not found:
                raise SnapshotLostError("these nodes are no longer kept")
            return tuple(found)

        return self.database.read(look)

    def pointer(self, index: bytes) -> bytes:
        """Return the pointer to the last snapshot of a directory.

        Raises:
            NotStoredError: none is here.
            BrokenStoreError: it could not be read.
        """
        row = self.database.read(
            lambda sql: sql.execute(
                "SELECT pointer FROM pointers WHERE name = ?", (index,)
            ).fetchone()
        )
        if row is None:
            raise NotStoredError("no pointer to a snapshot is here")
        return bytes(row[0])

    def _known(self, sql: Sql, index: bytes) -> Row:
        row = self._rows.load(sql, index)
        if not row.known:
            raise NotStoredError("nothing is kept of this directory")
        return row

    def _look(self, look: Callable[[Sql], Shown]) -> Shown:
        try:
            return self.database.read(look)
        except MissingNodesError as error:
            raise SnapshotLostError("nodes under that root are no longer kept") from error

    # Accounts.

    def room(self, *, fresh: bool) -> DirectoryRoom:
        """Return the accounts; with ``fresh`` ask the disk, without it never block."""
        if fresh:
            self._make_ballast()
        return self._accounts.look(fresh=fresh)

    def account(self, peer: bytes) -> tuple[int, int]:
        """Return (bytes, directories) of a peer: what it made here, and its pointers."""

        def look(sql: Sql) -> tuple[int, int]:
            row = sql.execute("SELECT id FROM peers WHERE node_id = ?", (peer,)).fetchone()
            if row is None:
                return 0, 0
            return self._accounts.account(row[0])

        return self.database.read(look)

    def largest_accounts(self, most: int) -> list[tuple[bytes, int, int]]:
        """Return (node id, bytes, directories) of the peers with most bytes here."""

        def look(sql: Sql) -> list[tuple[bytes, int, int]]:
            accounts = []
            for number, size, count in self._accounts.largest(most):
                row = sql.execute("SELECT node_id FROM peers WHERE id = ?", (number,)).fetchone()
                assert row is not None
                accounts.append((bytes(row[0]), size, count))
            return accounts

        return self.database.read(look)


def _asked(row: Row, root: bytes | None) -> bytes:
    if root is not None:
        return root
    if row.retired:
        raise SnapshotLostError("this store has left the directory's set")
    return live_root(row)


def _page(root: bytes, after: bytes | None, read: NodeReader) -> tuple[bytes, ...]:
    """Return the first nodes in preorder, as many as fit."""
    left = MOST_NODES_BYTES
    found: list[bytes] = []
    for _, node in trie.preorder(root, read, after):
        left -= len(node) + 2
        if left < 0 or len(found) == MOST_NODES:
            break
        found.append(node)
    return tuple(found)


def _free_bytes(files: FileSystem, path: Path, ballast: Ballast) -> int:
    """Return what may be taken of the disk that holds a store, in bytes."""
    try:
        return ballast.usable(files.free_bytes(path.parent))
    except OSError as error:
        raise BrokenStoreError(f"the disk gives no answer: {error.strerror}") from error


def _settle(files: FileSystem, path: Path, ballast: Ballast) -> None:
    """Make ready the directory of a store that is about to be opened."""
    try:
        ballast.settle(files.free_bytes(path.parent))
        if files.size_of(path) is None:
            # The log of a lost database would bring parts of it back.
            files.unlink(path.with_name(f"{path.name}-wal"))
    except OSError as error:
        raise ConfigError(
            f"the directory of {path.name} cannot be used: {error.strerror}"
        ) from error


def _store_id(sql: Sql, entropy: Entropy) -> bytes:
    row = sql.execute("SELECT value FROM marks WHERE name = 'store id'").fetchone()
    if row is not None:
        return bytes(row[0])
    store_id = entropy(_STORE_ID_BYTES)
    sql.execute("INSERT INTO marks (name, value) VALUES ('store id', ?)", (store_id,))
    return store_id
