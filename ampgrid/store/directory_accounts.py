"""The room of a store of directories: what is live, staged and replaced, and what is left.

*Live* are the nodes under accepted roots, *staged* those that a peer brought for a record to
come, *replaced* those that are kept for a while for who still reads an older root. Live and
staged nodes, and a fixed sum for each directory, lease and pointer, count for the quota. Replaced
nodes never stand in anybody's way: where room is wanted, the oldest go before their time.

Jobs book what they change while they run, and take it back if it is undone; all of it happens in
the one thread that has the database.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Literal

import attrs

from ampgrid.errors import NoRoomError
from ampgrid.store.sql import Sql

#: What a node counts beside its bytes: two rows of the index and the slack of its pages.
NODE_OVERHEAD = 160
#: What a directory counts beside its nodes: its record, its prepare, and their index.
DIRECTORY_OVERHEAD = 4_096
LEASE_OVERHEAD = 128
#: What a pointer to a snapshot counts.
POINTER_OVERHEAD = 1_536

#: So many bytes a peer may have staged in any case; above it no more than is then left, to at
#: most `MOST_STAGED_BYTES`.
FREELY_STAGED_BYTES = 64 * 2**20
MOST_STAGED_BYTES = 1024 * 2**20
#: The most bytes of replaced nodes of all directories.
MOST_REPLACED_BYTES = 2 * 2**30
#: So many bytes a peer may have in pointers to snapshots in any case (43,000 pointers); above it
#: no more than a quarter of what is then left. On a small grid each peer gets one for every
#: directory of every other.
FREELY_POINTED_BYTES = 64 * 2**20
#: The most directories of one peer of which nothing but a promise is here.
MOST_PROMISES_A_PEER = 4_096
#: What is left free of the disk beside what a change brings, for the log.
_LOG_BYTES = 256 * 1024

Kind = Literal["live", "staged", "replaced", "directories", "leases", "pointers", "promises"]
#: What is to be booked: a sum, by how much, and whose part of it.
Booking = tuple[Kind, int, int | None]


@attrs.frozen
class DirectoryRoom:
    """A look at the room of a store, in bytes (the last three: numbers).

    Attributes:
        used: what counts for the quota.
        live: what the nodes under accepted roots take.
        staged: what nodes take that wait for their record.
        replaced: what nodes take that were replaced.
        quota: the most that may be used, None for no bound.
        reserve: what the disk must keep free.
        free: what the disk had free for directories when it was last asked.
        directories: that are kept here, also as pointers to where they went.
        leases: on them.
        pointers: to snapshots.
    """

    used: int
    live: int
    staged: int
    replaced: int
    quota: int | None
    reserve: int
    free: int
    directories: int
    leases: int
    pointers: int


class Accounts:
    """What a store of directories keeps, counted.

    Args:
        quota: the most bytes that may be used, None for no bound.
        reserve: the bytes that the disk must keep free.
        free_bytes: returns what the disk has free.

    Attributes:
        loads: how often it was begun anew; what was booked before is no longer to be taken back.
    """

    def __init__(self, quota: int | None, reserve: int, free_bytes: Callable[[], int]) -> None:
        self._quota = quota
        self._reserve = reserve
        self._free_bytes = free_bytes
        self._free = 0
        self._sums: Counter[Kind] = Counter()
        self._parts: Counter[tuple[Kind, int]] = Counter()
        self.loads = 0

    def book(self, kind: Kind, amount: int, part: int | None = None) -> None:
        """Add to a sum, and to a part of it (a peer's)."""
        self._sums[kind] += amount
        if part is not None:
            left = self._parts[kind, part] + amount
            if left:
                self._parts[kind, part] = left
            else:
                del self._parts[kind, part]

    def load(self, sql: Sql) -> None:
        """Begin with what is stored already."""
        self.loads += 1
        self._sums.clear()
        self._parts.clear()
        for kind, question in (
            ("directories", "SELECT maker, count(*) FROM directories GROUP BY maker"),
            ("leases", "SELECT NULL, count(*) FROM leases"),
            ("live", "SELECT maker, sum(live) FROM directories GROUP BY maker"),
            ("replaced", "SELECT NULL, total(size) FROM gone WHERE peer IS NULL"),
            ("staged", "SELECT peer, sum(size) FROM gone WHERE peer IS NOT NULL GROUP BY peer"),
            ("pointers", "SELECT peer, count(*) FROM pointers GROUP BY peer"),
            (
                "promises",
                "SELECT maker, count(*) FROM directories WHERE accepted IS NULL GROUP BY maker",
            ),
        ):
            for part, amount in sql.execute(question).fetchall():
                self.book(kind, int(amount), part)  # type: ignore[arg-type]

    def sum(self, kind: Kind) -> int:
        """Return a sum."""
        return self._sums[kind]

    def part(self, kind: Kind, part: int) -> int:
        """Return a peer's part of a sum."""
        return self._parts[kind, part]

    def largest(self, most: int) -> list[tuple[int, int, int]]:
        """Return (peer, bytes, directories) of the peers with most bytes; see `account`."""
        peers = {peer for kind, peer in self._parts if kind in {"directories", "pointers"}}
        makers = [(peer, *self.account(peer)) for peer in peers]
        return sorted(makers, key=lambda maker: (-maker[1], maker[0]))[:most]

    def account(self, peer: int) -> tuple[int, int]:
        """Return the bytes of a peer's directories and pointers, and its number of directories."""
        pointed = self._parts["pointers", peer] * POINTER_OVERHEAD
        return self._parts["live", peer] + pointed, self._parts["directories", peer]

    @property
    def used(self) -> int:
        """What counts for the quota, bytes."""
        sums = self._sums
        return (
            sums["live"]
            + sums["staged"]
            + sums["directories"] * DIRECTORY_OVERHEAD
            + sums["leases"] * LEASE_OVERHEAD
            + sums["pointers"] * POINTER_OVERHEAD
        )

    def excess(self) -> int:
        """Return by how many bytes replaced nodes take more than is there for them."""
        replaced = self._sums["replaced"]
        most = MOST_REPLACED_BYTES
        if self._quota is not None:
            most = min(most, max(0, self._quota - self.used))
        return max(0, replaced - most)

    def left(self) -> int:
        """Return how many bytes more may be stored, as far as the quota and the disk say."""
        self._free = self._free_bytes()
        left = self._free - self._reserve - _LOG_BYTES
        if self._quota is not None:
            left = min(left, self._quota - self.used)
        return left

    def require(self, sql: Sql, size: int) -> None:
        """Return if so many bytes more may be stored.

        Raises:
            NoRoomError: they may not.
        """
        if size <= 0 or self.left() >= size:
            return
        if self._quota is not None and self.used + size > self._quota:
            raise NoRoomError("the quota of directories is reached")
        # What was freed inside the database counts as well.
        pages = sql.execute("PRAGMA freelist_count").fetchone()
        page = sql.execute("PRAGMA page_size").fetchone()
        assert pages is not None
        assert page is not None
        if self.left() + int(pages[0]) * int(page[0]) < size:
            raise NoRoomError("the disk has no room for more directories")

    def require_staging(self, sql: Sql, peer: int, size: int) -> None:
        """Return if a peer may stage so many bytes more.

        Raises:
            NoRoomError: it may not.
        """
        self.require(sql, size)
        theirs = self._parts["staged", peer] + size
        if theirs > FREELY_STAGED_BYTES and theirs > min(MOST_STAGED_BYTES, self.left() // 4):
            raise NoRoomError("a peer has staged as much as it may")

    def require_pointer(self, sql: Sql, peer: int) -> None:
        """Return if a peer may put another pointer to a snapshot.

        Raises:
            NoRoomError: it may not.
        """
        self.require(sql, POINTER_OVERHEAD)
        theirs = (self._parts["pointers", peer] + 1) * POINTER_OVERHEAD
        if theirs > FREELY_POINTED_BYTES and theirs > self.left() // 4:
            raise NoRoomError("a peer has as many bytes in pointers to snapshots as it may")

    def look(self, *, fresh: bool) -> DirectoryRoom:
        """Return the accounts; with ``fresh`` ask the disk."""
        if fresh:
            self.left()
        sums = self._sums
        return DirectoryRoom(
            used=self.used,
            live=sums["live"],
            staged=sums["staged"],
            replaced=sums["replaced"],
            quota=self._quota,
            reserve=self._reserve,
            free=self._free,
            directories=sums["directories"],
            leases=sums["leases"],
            pointers=sums["pointers"],
        )


class Bookings:
    """What one job has booked, until it stands or is taken back.

    Args:
        accounts: where.
    """

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self._booked: list[Booking] = []
        self._loads = accounts.loads

    def add(self, kind: Kind, amount: int, part: int | None = None) -> None:
        """Book something."""
        if not self._booked:
            self._loads = self._accounts.loads
        self._accounts.book(kind, amount, part)
        self._booked.append((kind, amount, part))

    def stand(self) -> None:
        """Let it stand."""
        self._booked = []

    def take_back(self) -> None:
        """Take it back."""
        if self._loads == self._accounts.loads:
            for kind, amount, part in self._booked:
                self._accounts.book(kind, -amount, part)
        self._booked = []
