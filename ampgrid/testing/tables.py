"""The tables of directories in memory: what a grid does with them, without a grid.

Tries, records and their signatures are real, as are the conditions of a change: it is judged on
a base, and done again where that base is no longer the last one. What is missing is the grid,
so no peer is slow, down or lying unless a test says so::

    tables = MemoryTables()
    maker = NodeMaker(tables, ...)
    tables.unreachable.add(node.index)        # too few replicas answer for it
    tables.before_accept = another_writer     # slips in between a base and its change

Many clients of the same tables: ``tables.another()``. One contract suite holds this and
`ampgrid.vdrive.table.Tables` to the same behaviour.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from attrs import define, field, frozen

from ampgrid.crypto.directory_keys import SLOT_SIZE, WriteKeys
from ampgrid.errors import (
    BadArgumentValueError,
    MissingNodesError,
    NotMutableError,
    NotReachableError,
    SnapshotGoneError,
)
from ampgrid.formats import trie
from ampgrid.formats.ballot import Ballot
from ampgrid.formats.entry import MAX_ENTRY_BYTES
from ampgrid.formats.record import Record, ReplicaId
from ampgrid.ports import Entropy
from ampgrid.vdrive.ports import Plan

#: Entries in one page of a listing.
_PAGE = 256
_REPLICAS = tuple(ReplicaId(bytes([n]) * 20, bytes([n]) * 16) for n in range(1, 5))


@define
class _Kept:
    """A table as all clients see it."""

    record: Record
    nodes: dict[bytes, bytes] = field(factory=dict)


@frozen
class MemoryTableReport:
    """What a look at the replicas of a table in memory found.

    Attributes:
        healthy: whether all is well with them.
        version: of the record.
        repaired: what was done about it, in words.
        problems: what could not be done.
    """

    healthy: bool
    version: int
    repaired: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the report for JSON."""
        return {
            "healthy": self.healthy,
            "version": self.version,
            "repaired": list(self.repaired),
            "problems": list(self.problems),
        }


async def _at_once() -> None:
    """Take no time."""


class MemoryTables:
    """All tables, as one client sees them.

    Args:
        pause: awaited wherever the real ones wait for the network.
        entropy: for the ids of changes.

    Attributes:
        unreachable: indexes for which too few replicas answer.
        damaged: indexes whose replicas are not healthy, until they are repaired.
        renewed: how often the leases of an index were renewed.
        cancelled: indexes whose leases were cancelled.
        calls: how often each method of a table was called.
        before_accept: awaited with the index between the base of a change and the change.
    """

    def __init__(
        self,
        *,
        pause: Callable[[], Awaitable[None]] = _at_once,
        entropy: Entropy = os.urandom,
    ) -> None:
        self.pause = pause
        self.entropy = entropy
        self.kept: dict[bytes, _Kept] = {}
        self.unreachable: set[bytes] = set()
        self.damaged: set[bytes] = set()
        self.renewed: Counter[bytes] = Counter()
        self.cancelled: set[bytes] = set()
        self.calls: Counter[str] = Counter()
        self.before_accept: Callable[[bytes], Awaitable[None]] | None = None

    def another(self) -> MemoryTables:
        """Return the same tables as another client sees them, with hooks of its own."""
        other = MemoryTables(pause=self.pause, entropy=self.entropy)
        other.kept = self.kept
        return other

    def table(self, index: bytes, keys: WriteKeys | None) -> MemoryTable:
        """Return the table of an index; without keys it is only read."""
        return MemoryTable(self, index, keys)

    async def create(self, keys: WriteKeys) -> MemoryTable:
        """Create an empty table; one that is there stays as it is."""
        await self.pause()
        index = keys.fingerprint
        if index in self.unreachable:
            raise _not_reachable()
        if index not in self.kept:
            self.kept[index] = _Kept(
                Record.sign(
                    keys, epoch=1, replicas=_REPLICAS, ballot=Ballot(1, 1, self.entropy(8))
                )
            )
        return MemoryTable(self, index, keys)


class MemoryTable:
    """One table (`ampgrid.vdrive.ports.Table`).

    Args:
        tables: whose it is.
        index: its index, 32 bytes.
        keys: what changes it; None to read only.
    """

    def __init__(self, tables: MemoryTables, index: bytes, keys: WriteKeys | None) -> None:
        self._tables = tables
        self._index = index
        self._keys = keys

    async def _reach(self, method: str) -> _Kept:
        self._tables.calls[method] += 1
        await self._tables.pause()
        kept = self._tables.kept.get(self._index)
        if kept is None or self._index in self._tables.unreachable:
            raise _not_reachable()
        return kept

    def may_be_reached(self) -> bool:
        """Tell whether it can be reached now."""
        return self._index not in self._tables.unreachable

    async def record(self) -> Record:
        """Return the committed record."""
        record = (await self._reach("record")).record
        record.check(self._index)
        return record

    async def get(self, slot: bytes) -> bytes | None:
        """Return the sealed entry of a slot, None if it is empty."""
        return (await self._get([slot], "get"))[slot]

    async def get_many(self, slots: Sequence[bytes]) -> Mapping[bytes, bytes | None]:
        """Return the sealed entries of several slots, all of one record."""
        return await self._get(slots, "get_many")

    async def _get(self, slots: Sequence[bytes], method: str) -> dict[bytes, bytes | None]:
        kept = await self._reach(method)
        return _look_up(kept, kept.record.root, slots)

    async def entries(
        self, begun: Callable[[Record], None] | None = None
    ) -> AsyncIterator[Sequence[tuple[bytes, bytes]]]:
        """Yield (slot, sealed entry) in pages, all of one record, of which `begun` is told."""
        kept = await self._reach("entries")
        root = kept.record.root
        if begun is not None:
            begun(kept.record)
        after: bytes | None = None
        while True:
            page: list[tuple[bytes, bytes]] = []
            try:
                for entry in trie.entries(root, kept.nodes.get, after):
                    page.append(entry)
                    if len(page) == _PAGE:
                        break
            except MissingNodesError:
                raise SnapshotGoneError("that version of the directory is gone") from None
            if not page:
                return
            yield page
            if len(page) < _PAGE:
                return
            after = page[-1][0]
            await self._reach("entries")

    async def change(self, plan: Plan, slots: Sequence[bytes] = ()) -> Record:
        """Change entries in one atomic step (see `ampgrid.vdrive.ports.Table.change`)."""
        keys = self._keys
        if keys is None or keys.fingerprint != self._index:
            raise NotMutableError("without the write key a directory cannot be changed")
        del slots  # all nodes are at hand
        while True:
            kept = await self._reach("change")
            base = kept.record

            async def lookup(
                slots: Sequence[bytes], kept: _Kept = kept, base: Record = base
            ) -> Mapping[bytes, bytes | None]:
                return _look_up(kept, base.root, slots)

            changes = await plan(lookup)
            _check(changes)
            if not changes:
                return base
            made = trie.apply(base.root, changes, kept.nodes.get)
            if self._tables.before_accept is not None:
                await self._tables.before_accept(self._index)
            await self._tables.pause()
            if kept.record is not base:
                continue
            ballot = base.ballot
            kept.nodes.update(made.added)
            kept.record = base.successor(
                keys,
                ballot=Ballot(ballot.epoch, ballot.counter + 1, ballot.writer),
                root=made.root,
                count=base.count + made.delta,
                operation=self._tables.entropy(8),
            )
            return kept.record

    async def renew(self) -> int:
        """Renew this client's leases; return at how many replicas."""
        kept = await self._reach("renew")
        self._tables.renewed[self._index] += 1
        return len(kept.record.replicas)

    async def cancel(self) -> int:
        """Cancel this client's leases; return at how many replicas."""
        kept = await self._reach("cancel")
        self._tables.cancelled.add(self._index)
        return len(kept.record.replicas)

    async def check(self) -> MemoryTableReport:
        """Look at every replica."""
        kept = await self._reach("check")
        return MemoryTableReport(self._index not in self._tables.damaged, kept.record.version)

    async def repair(self) -> MemoryTableReport:
        """Let every replica be well."""
        kept = await self._reach("repair")
        done = ("a replica was brought up to date",) * (self._index in self._tables.damaged)
        self._tables.damaged.discard(self._index)
        return MemoryTableReport(True, kept.record.version, done)


def _look_up(kept: _Kept, root: bytes, slots: Sequence[bytes]) -> dict[bytes, bytes | None]:
    return {slot: trie.find(root, slot, kept.nodes.get) for slot in slots}


def _check(changes: Mapping[bytes, bytes | None]) -> None:
    for slot, entry in changes.items():
        if len(slot) != SLOT_SIZE or (
            entry is not None and not 1 <= len(entry) <= MAX_ENTRY_BYTES
        ):
            raise BadArgumentValueError("a slot or an entry is of a size that it cannot have")


def _not_reachable() -> NotReachableError:
    return NotReachableError(
        "the directory is not reachable: 0 of 4 replicas were found", found=0, wanted=4
    )
