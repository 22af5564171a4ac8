"""The store as a port: what a storage service asks of any store of shares.

`ampgrid.store.shares.ShareStore` keeps shares on the disk; another adapter proves itself with
the suite ``tests/contract/share_store_contract.py``. Every call blocks, may come from any
thread, and knows neither clock nor secrets: times and digests are passed in.

What changes the store for many callers at once comes as *tasks*: made by one call, run together
by `Store.run_all`, which answers after all of them are durable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

import attrs

from ampgrid.errors import StoreError
from ampgrid.store.catalog import Finding
from ampgrid.store.expiry import Expired, LeaseCounts, Marking
from ampgrid.store.leases import LeaseTerms
from ampgrid.store.recovery import Recovery
from ampgrid.store.scrubbing import ScrubProgress, Step
from ampgrid.store.space import Room
from ampgrid.store.timekeeping import Beginning
from ampgrid.store.uploads import Write

T_co = TypeVar("T_co", covariant=True)

#: The largest share that is kept as a row of the database, bytes.
SMALL_SHARE_BYTES = 64 * 1024


@attrs.frozen
class Request:
    """A request for room.

    Attributes:
        storage_index: 16 bytes.
        numbers: of the shares that are asked for.
        size: of each of them, bytes.
        peer: node id of who asks, 20 bytes.
        lease: the lease to add; its ``now`` is the time of the request.
    """

    storage_index: bytes
    numbers: frozenset[int]
    size: int
    peer: bytes
    lease: LeaseTerms


class Incoming(Protocol):
    """A share on its way in."""

    @property
    def number(self) -> int:
        """Number of the share."""
        ...

    @property
    def size(self) -> int:
        """What was allocated, bytes."""
        ...

    @property
    def covered(self) -> int:
        """How many of its bytes have come, each counted once; never waits."""
        ...

    @property
    def in_memory(self) -> bool:
        """Whether writing to it never waits for a disk."""
        ...

    def write(self, writes: Sequence[Write]) -> list[StoreError | None]:
        """Take bytes, in order; return for each write why it was refused, None if it was not.

        The errors are `OutOfRangeError`, `WriteConflictError`, `NoRoomError` and
        `BrokenStoreError`; a refused write changed nothing.
        """
        ...

    def discard(self) -> None:
        """Forget it and free what was reserved for it; again does nothing."""
        ...


@attrs.frozen
class Allocated:
    """The answer to a request.

    Attributes:
        held: {number: size in bytes} of all shares of this file that are stored.
        accepted: the share on its way in, for each number for which there was room.
    """

    held: Mapping[int, int]
    accepted: Mapping[int, Incoming]


@attrs.frozen
class Put:
    """The answer to a small share that came whole.

    Attributes:
        held: {number: size in bytes} of all shares of this file that were stored before.
        stored: whether it was stored; if not, it was there already or there was no room.
    """

    held: Mapping[int, int]
    stored: bool


class Task(Protocol[T_co]):
    """Work to be run by `Store.run_all`; it belongs to the store that made it."""

    def committed(self) -> None:
        """The store's own."""
        ...

    def undone(self) -> None:
        """The store's own."""
        ...


class Result(Protocol[T_co]):
    """What became of a task."""

    def get(self) -> T_co:
        """Return the result, or raise the error."""
        ...


class Walk(Protocol):
    """A walk over stored shares that looks at every byte, in stretches; one thread at a time."""

    def advance(self, budget: int, now: int) -> Step:
        """Go on for about ``budget`` bytes; what is found bad is set aside.

        Raises:
            StoreError: a bad share could not be set aside; it is looked at again next time.
        """
        ...

    def close(self) -> None:
        """End it."""
        ...


class StoreUpkeep(Protocol):
    """What a store does about time and decay, when a service asks.

    Every call blocks and takes the store's own time (`ampgrid.store.timekeeping`). See
    `ampgrid.store.upkeep.ShareUpkeep` for what each call does.
    """

    @property
    def beginning(self) -> Beginning:
        """The store's time when it was opened."""
        ...

    @property
    def broken(self) -> bool:
        """Whether the disk failed and no probe has passed since."""
        ...

    @property
    def damaged(self) -> bool:
        """Whether a part of what the store knows was found to be unreadable for good."""
        ...

    def keep_time(self, now: int) -> None:
        """Write the latest time seen down."""
        ...

    def mark_ended(self, now: int, after: tuple[int, bytes] | None = None) -> Marking:
        """Mark a batch of files whose last lease has run out."""
        ...

    def expire(self, now: int, grace: int) -> Expired:
        """Delete a batch of files that were marked a grace ago and still have no lease."""
        ...

    def remove_files(self) -> int:
        """Free what a batch of deleted shares took on the disk; 0 when nothing is left."""
        ...

    def forget_marks(self) -> None:
        """Take all marks away."""
        ...

    def count_leases(self) -> LeaseCounts:
        """Count leases and what became of files without."""
        ...

    def walk(self, position: int = 0) -> Walk:
        """Return a walk over all shares after a position."""
        ...

    def walk_to(self, storage_index: bytes, number: int, adviser: bytes | None = None) -> Walk:
        """Return a walk over one share, which ``adviser`` calls bad."""
        ...

    def load_scrub(self) -> ScrubProgress:
        """Return how far the scrub is."""
        ...

    def save_scrub(self, progress: ScrubProgress) -> None:
        """Write down how far the scrub is."""
        ...

    def findings(self, most: int) -> list[Finding]:
        """Return what was found bad, the latest first."""
        ...

    def count_findings(self, since: int) -> int:
        """Return how many shares were found bad at or after a time."""
        ...

    def count_aside(self, now: int) -> None:
        """Count again what lies in the quarantine, and drop what has lain there too long."""
        ...

    def account_aside(self, peer: bytes) -> int:
        """Return the bytes of a peer's shares that lie in the quarantine."""
        ...

    def largest_accounts(self, most: int) -> list[tuple[bytes, int, int]]:
        """Return (node id, bytes, shares) of the peers with most bytes here, largest first."""
        ...


class Store(Protocol):
    """A store of shares, open."""

    @property
    def recovery(self) -> Recovery:
        """What was done when it was opened."""
        ...

    @property
    def upkeep(self) -> StoreUpkeep:
        """What is done about time and decay."""
        ...

    def close(self) -> None:
        """End; uploads must have been closed or discarded."""
        ...

    def allocating(self, request: Request, *, in_memory: bool) -> Task[Allocated]:
        """Return the task that reserves room and renews the lease of what is here already.

        Args:
            request: who asks for what.
            in_memory: whether shares of at most `SMALL_SHARE_BYTES` may be collected in memory.

        Fails with `NoRoomError` if there is no room for the lease, with `BrokenStoreError` if
        the disk failed lately.
        """
        ...

    def putting(self, request: Request, data: bytes) -> Task[Put]:
        """Return the task that stores a small share, of the one number that is asked for."""
        ...

    def closing(self, upload: Incoming) -> Task[bool]:
        """Return the task that stores a share that is ``in_memory``; see `close_upload`."""
        ...

    def adding_lease(self, storage_index: bytes, lease: LeaseTerms) -> Task[None]:
        """Return the task that adds or renews a lease.

        Fails with `NotStoredError` if no share of this file is here, with `NoRoomError` if there
        is no room for it. Where the file, or the peer on it, has too many, the store keeps the
        file for that long itself.
        """
        ...

    def renewing_lease(self, storage_index: bytes, renew: bytes, now: int) -> Task[None]:
        """Return the task that renews the lease with this digest, or fails `NotStoredError`."""
        ...

    def cancelling_lease(self, storage_index: bytes, cancel: bytes) -> Task[None]:
        """Return the task that removes the lease with this digest, or fails `NotStoredError`."""
        ...

    def advising(
        self, storage_index: bytes, number: int, peer: bytes, reason: str, now: int
    ) -> Task[None]:
        """Return the task that notes that a share is called bad, or fails `NotStoredError`."""
        ...

    def run_all(self, tasks: Sequence[Task[object]]) -> Sequence[Result[object]]:
        """Run tasks; return when all that succeeded is durable."""
        ...

    def close_upload(self, upload: Incoming) -> bool:
        """Store a share for good; return False if the same share was there already.

        What is there stays, and the lease is added in either case. Whatever is raised, the
        upload is discarded, and no lease is added.

        Raises:
            IncompleteError: bytes are missing.
            WriteConflictError: a share of its number with other bytes was there already.
            NoRoomError: the disk is full.
            BrokenStoreError: the disk failed.
        """
        ...

    def shares(self, storage_index: bytes) -> dict[int, int]:
        """Return {number: size in bytes} of the shares of a file."""
        ...

    def heads(
        self, storage_index: bytes, wanted: frozenset[int], head: int, most: int
    ) -> tuple[dict[int, int], dict[int, bytes]]:
        """Return `shares`, and the first ``head`` bytes of the wanted, ``most`` bytes in all.

        A head that does not fit is left out, and all after it; lowest number first. Shares whose
        file has vanished are not told of.
        """
        ...

    def heads_at_once(
        self, storage_index: bytes, wanted: frozenset[int], head: int, most: int
    ) -> tuple[dict[int, int], dict[int, bytes]] | None:
        """Return what `heads` would, or None where more than a few pages may be waited for.

        Waits for no other use of the store, and for no file of a share.
        """
        ...

    def read(self, storage_index: bytes, number: int, offset: int, length: int) -> bytes:
        """Return bytes of a share, clamped to its size, and fewer where it was cut off.

        Raises:
            NotStoredError: there is no such share.
            BrokenStoreError: it could not be read.
        """
        ...

    def read_at_once(
        self, storage_index: bytes, number: int, offset: int, length: int
    ) -> bytes | None:
        """Return what `read` would, or None if that might have to wait; never blocks."""
        ...

    def room(self, *, fresh: bool) -> Room:
        """Return the accounts; with ``fresh`` ask the disk, without it never block."""
        ...

    def account(self, peer: bytes) -> tuple[int, int]:
        """Return (bytes, number) of the shares that a peer stored first."""
        ...

    def accounts(self) -> int:
        """Return the number of peers that have shares here."""
        ...
