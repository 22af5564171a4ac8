"""The room of a store: what is used, what is promised, what is left. Exact to the byte.

Used are the bytes of shares that are stored; overhead, a fixed sum for each share and each
lease; promised, the whole sizes of shares on their way in; aside, what lies in the quarantine.
The quota bounds the sum of them. The reserve bounds what the disk must keep free, and there only
those promised bytes count that are not on the disk yet. A share on its way in counts with the
overhead of a share and of the lease that comes with it.
"""

from __future__ import annotations

import threading

import attrs

#: What a stored share counts beside its bytes, and what a lease counts: two to three times what
#: their rows take in a database that has grown in no order, since it also has a log. Measured with
#: 20,000 of each: 250 bytes for a share with its lease, 170 for another lease.
SHARE_OVERHEAD = 512
LEASE_OVERHEAD = 512

#: So many bytes may be promised to one peer in any case; above it no more than is then left.
FREELY_PROMISED = 64 * 2**20

_OVERHEAD = SHARE_OVERHEAD + LEASE_OVERHEAD


def _coming(peer: bytes | None) -> int:
    return SHARE_OVERHEAD if peer is None else _OVERHEAD


@attrs.frozen
class Room:
    """A look at the room of a store, in bytes (``shares``: a number).

    Attributes:
        available: the largest share that would still be accepted.
        used: what the shares take.
        promised: what is reserved for shares on their way in.
        shares: how many shares are stored.
        accepts: whether anything is accepted.
        quota: the most that shares may take, None for no bound.
        reserve: what the disk must keep free.
        free: what the disk had free for shares when it was last asked.
        aside: what lies in the quarantine.
        aside_files: how many files lie there.
        overhead: what the shares and leases count beside the bytes of the shares.
    """

    available: int
    used: int
    promised: int
    shares: int
    accepts: bool
    quota: int | None
    reserve: int
    free: int
    aside: int = 0
    aside_files: int = 0
    overhead: int = 0

    @property
    def room(self) -> int:
        """What shares may take in all, those that are here and those in the quarantine too."""
        most = self.used + self.aside + max(0, self.free - self.reserve)
        return most if self.quota is None else min(most, self.quota)


class Space:
    """The accounts of a store's room; thread-safe.

    Args:
        quota: the most bytes that shares may take, None for no bound.
        reserve: the bytes that the disk must keep free.
    """

    def __init__(self, quota: int | None, reserve: int) -> None:
        self._quota = quota
        self._reserve = reserve
        self._lock = threading.Lock()
        self._used = 0
        self._shares = 0
        self._leases = 0
        self._promised = 0
        self._coming = 0
        self._promised_to: dict[bytes, int] = {}
        self._unwritten = 0
        self._free = 0
        self._aside = 0
        self._aside_files = 0

    def load(self, used: int, shares: int) -> None:
        """Begin with what is stored already."""
        with self._lock:
            self._used, self._shares = used, shares

    def count_leases(self, leases: int) -> None:
        """Note how many leases there are."""
        with self._lock:
            self._leases = leases

    def _overhead(self) -> int:
        return self._shares * SHARE_OVERHEAD + self._leases * LEASE_OVERHEAD

    def _left(self) -> int:
        left = self._free - self._reserve - self._unwritten - self._coming
        if self._quota is not None:
            taken = self._used + self._overhead() + self._promised + self._coming
            left = min(left, self._quota - taken - self._aside)
        return left

    def promise(self, size: int, free: int, peer: bytes | None = None) -> bool:
        """Reserve room for a share of ``size`` bytes with its lease, if there is; tell if so.

        Args:
            size: of the share, bytes.
            free: what the disk has free, bytes.
            peer: node id of who may not have too much promised, 20 bytes; None for a share
                that is stored at once, so that its lease is counted by itself.
        """
        with self._lock:
            self._free = free
            left = self._left() - _OVERHEAD - size
            if left < 0:
                return False
            if peer is not None:
                theirs = self._promised_to.get(peer, 0) + size
                if theirs > max(FREELY_PROMISED, left):
                    return False
                self._promised_to[peer] = theirs
            self._promised += size
            self._coming += _coming(peer)
            self._unwritten += size
            return True

    def has_room_for_lease(self, free: int) -> bool:
        """Tell whether one more lease fits, the disk having ``free`` bytes."""
        with self._lock:
            self._free = free
            return self._left() >= LEASE_OVERHEAD

    def wrote(self, size: int) -> None:
        """Note that promised bytes reached the file system."""
        with self._lock:
            self._unwritten -= size

    def release(self, size: int, on_disk: int, peer: bytes | None = None) -> None:
        """Take back a promise of ``size`` bytes, ``on_disk`` of which had been written."""
        with self._lock:
            self._redeem(size, on_disk, peer)

    def _redeem(self, size: int, on_disk: int, peer: bytes | None) -> None:
        self._promised -= size
        self._coming -= _coming(peer)
        self._unwritten -= size - on_disk
        if peer is not None:
            theirs = self._promised_to.pop(peer, 0) - size
            if theirs:
                self._promised_to[peer] = theirs

    def keep(self, size: int, on_disk: int, peer: bytes | None = None) -> None:
        """Turn a promise into a stored share."""
        with self._lock:
            self._redeem(size, on_disk, peer)
            self._used += size
            self._shares += 1

    def drop(self, size: int, shares: int) -> None:
        """Note that stored shares are gone, ``size`` bytes in all."""
        with self._lock:
            self._used -= size
            self._shares -= shares

    def add_aside(self, size: int) -> None:
        """Note that one more file of ``size`` bytes lies in the quarantine."""
        with self._lock:
            self._aside += size
            self._aside_files += 1

    def drop_aside(self, size: int) -> None:
        """Note that a file of ``size`` bytes is no longer in the quarantine."""
        with self._lock:
            self._aside -= size
            self._aside_files -= 1

    def set_aside(self, size: int, files: int) -> None:
        """Note what lies in the quarantine: ``size`` bytes in so many files."""
        with self._lock:
            self._aside, self._aside_files = size, files

    def look(self, *, accepts: bool, free: int | None = None) -> Room:
        """Return the accounts.

        Args:
            accepts: whether the store accepts anything for other reasons.
            free: what the disk has free, bytes; None to take what it had when last asked.
        """
        with self._lock:
            if free is not None:
                self._free = free
            return Room(
                available=max(0, self._left() - _OVERHEAD) if accepts else 0,
                used=self._used,
                promised=self._promised,
                shares=self._shares,
                accepts=accepts,
                quota=self._quota,
                reserve=self._reserve,
                free=self._free,
                aside=self._aside,
                aside_files=self._aside_files,
                overhead=self._overhead(),
            )
