"""Locks by name: few of them, so that two names rarely meet in one."""

from __future__ import annotations

import threading
from collections.abc import Hashable

_COUNT = 64


class Stripes:
    """A fixed number of locks; every name has one of them."""

    def __init__(self) -> None:
        self._locks = [threading.Lock() for _ in range(_COUNT)]

    def of(self, name: Hashable) -> threading.Lock:
        """Return the lock of a name."""
        return self._locks[hash(name) % _COUNT]


class ShareLocks:
    """What keeps those apart that work at the files of shares.

    Attributes:
        shares: by (storage index, number): held while a file gets or loses its name and row.
        folders: by the name of a directory: held while it is made and gets its first file, or is
            removed because it is empty. Taken after that of a share.
    """

    def __init__(self) -> None:
        self.shares = Stripes()
        self.folders = Stripes()
