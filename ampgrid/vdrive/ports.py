"""What directories need of the rooms around them, as typing protocols.

`Tables` and `Table` are the replicated tables in which directories are kept
(`ampgrid.vdrive.table` over the grid, `ampgrid.testing.tables` in memory). `Roots` tells where
a node's named directories begin.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from ampgrid.caps import DirCap, DirReadCap
from ampgrid.crypto.directory_keys import WriteKeys
from ampgrid.formats.record import Record

#: What is in these slots of the base of a change: the sealed entry, or None.
Lookup: TypeAlias = Callable[[Sequence[bytes]], Awaitable[Mapping[bytes, bytes | None]]]
#: Changes: the sealed entry of a slot, or None to take it out.
Changes: TypeAlias = Mapping[bytes, bytes | None]
#: Decides on the base what to change; called again when the base turns out to be an older one.
Plan: TypeAlias = Callable[[Lookup], Awaitable[Changes]]


class TableReport(Protocol):
    """What a look at the replicas of a table found."""

    @property
    def repaired(self) -> Sequence[str]:
        """What was done about it, in words."""
        ...

    @property
    def problems(self) -> Sequence[str]:
        """What could not be done, and what replicas did wrong."""
        ...

    @property
    def healthy(self) -> bool:
        """Whether every replica is there, up to date and in its place."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Return the report for JSON."""
        ...


class Table(Protocol):
    """A table of sealed entries by slot (32 bytes), authenticated and changed atomically."""

    async def record(self) -> Record:
        """Return the committed record.

        Raises:
            NotReachableError: too few replicas answered.
        """
        ...

    async def get(self, slot: bytes) -> bytes | None:
        """Return the sealed entry of a slot, None if it is proven empty."""
        ...

    async def get_many(self, slots: Sequence[bytes]) -> Mapping[bytes, bytes | None]:
        """Return the sealed entries of several slots, all of one record."""
        ...

    def entries(
        self, begun: Callable[[Record], None] | None = None
    ) -> AsyncIterator[Sequence[tuple[bytes, bytes]]]:
        """Yield (slot, sealed entry) in pages, all of one record, in the order of slots.

        Args:
            begun: told the record before the first page; the last one that it is told counts.

        Raises:
            SnapshotGoneError: pages were yielded, and the rest of that record is gone.
        """
        ...

    async def change(self, plan: Plan, slots: Sequence[bytes] = ()) -> Record:
        """Change entries in one atomic step; nothing is changed if the plan gives nothing.

        Args:
            plan: decides on the base; what it raises of `ConditionFailedError` is raised here
                once the base is committed.
            slots: what the plan will look up.

        Raises:
            NotMutableError: there is no write key.
        """
        ...

    def may_be_reached(self) -> bool:
        """Tell whether a quorum of the replicas is connected now; nobody is asked."""
        ...

    async def renew(self) -> int:
        """Renew this node's leases at the replicas; return at how many that was done."""
        ...

    async def cancel(self) -> int:
        """Cancel this node's leases at the replicas; return at how many that was done."""
        ...

    async def check(self) -> TableReport:
        """Look at every replica."""
        ...

    async def repair(self) -> TableReport:
        """Bring replicas up to date, replace those that are gone; returns what there is then."""
        ...


class Tables(Protocol):
    """All tables that a node can reach."""

    def table(self, index: bytes, keys: WriteKeys | None) -> Table:
        """Return the table of an index (32 bytes); without keys it is only read."""
        ...

    async def create(self, keys: WriteKeys) -> Table:
        """Create an empty table of the keys' own index.

        Raises:
            NotEnoughPeersError: no peer keeps directories.
        """
        ...


class Roots(Protocol):
    """The directories that a node knows by name."""

    def get(self, name: str) -> DirCap | DirReadCap | None:
        """Return the cap of ``public``, ``private`` or an alias; None if there is none."""
        ...
