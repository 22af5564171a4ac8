"""The room of a store: what is used, what is promised, what is left. Exact to the byte.

Used are the bytes of shares that are stored; promised, the whole sizes of those on their way
in; aside, what lies in the quarantine. The quota bounds the sum of them. The reserve bounds what
the disk must keep free, and there only those promised bytes count that are not on the disk yet.
"""

from __future__ import annotations

import threading

import attrs


@attrs.frozen
class Room:
    """A look at the room of a store, in bytes (``shares``: a number).

    Attributes:
        available: what would still be accepted.
        used: what the shares take.
        promised: what is reserved for shares on their way in.
        shares: how many shares are stored.
        accepts: whether anything is accepted.
        quota: the most that shares may take, None for no bound.
        reserve: what the disk must keep free.
        free: what the disk had free when it was last asked.
        aside: what lies in the quarantine.
        aside_files: how many files lie there.
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
        self._promised = 0
        self._unwritten = 0
        self._free = 0
        self._aside = 0
        self._aside_files = 0

    def load(self, used: int, shares: int) -> None:
        """Begin with what is stored already."""
        with self._lock:
            self._used, self._shares = used, shares

    def _left(self) -> int:
        left = self._free - self._reserve - self._unwritten
        if self._quota is not None:
            left = min(left, self._quota - self._used - self._promised - self._aside)
        return max(0, left)

    def promise(self, size: int, free: int) -> bool:
        """Reserve ``size`` bytes if they fit, the disk having ``free`` bytes; tell if so."""
        with self._lock:
            self._free = free
            if size > self._left() or (size == 0 and free <= self._reserve):
                return False
            self._promised += size
            self._unwritten += size
            return True

    def wrote(self, size: int) -> None:
        """Note that promised bytes reached the file system."""
        with self._lock:
            self._unwritten -= size

    def release(self, size: int, on_disk: int) -> None:
        """Take back a promise of ``size`` bytes, ``on_disk`` of which had been written."""
        with self._lock:
            self._promised -= size
            self._unwritten -= size - on_disk

    def keep(self, size: int, on_disk: int) -> None:
        """Turn a promise into a stored share."""
        with self._lock:
            self._promised -= size
            self._unwritten -= size - on_disk
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
                available=self._left() if accepts else 0,
                used=self._used,
                promised=self._promised,
                shares=self._shares,
                accepts=accepts,
                quota=self._quota,
                reserve=self._reserve,
                free=self._free,
                aside=self._aside,
                aside_files=self._aside_files,
            )
