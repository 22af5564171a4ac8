"""Room that is held back on the disk, for what must go on when it is full.

A renewal of a lease, the deletion of what has expired, and the start of a store each write a
little into the database. A reserve keeps the store itself from filling the disk, but not others.
So a file lies there that holds nothing, the *ballast*: when the database finds the disk full, it
is removed, and what is vital is tried again. Once there is room enough, it is made anew.

Shares may take neither its room, whether it lies there or not, nor the last bit of the disk
beside it, in which the database grows.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from ampgrid.store.filesystem import FileSystem

#: Size of the ballast on a small disk, bytes.
BALLAST_BYTES = 4 * 1024 * 1024
#: Size of the ballast on a disk with room: the database may have as much in its log that still
#: has to go into its file.
LARGE_BALLAST_BYTES = 20 * 1024 * 1024
#: What the disk must have free for the large one, bytes.
_LARGE_DISK_BYTES = 1024 * 1024 * 1024
#: It takes at most this part of a quota, since the database is then small, too; but so much.
_PART_OF_QUOTA = 10
_LEAST_BYTES = 256 * 1024
#: What shares leave free even without a reserve, bytes.
HEADROOM_BYTES = 4 * 1024 * 1024


class Ballast:
    """The file that holds room back. Whatever fails here only means that less is held back.

    Args:
        files: the file system.
        path: of the file.
        reserve: what the disk must keep free beside it, bytes.
        small: its size on a small disk, bytes.
        quota: the most that is stored, bytes; None for no such bound.
    """

    def __init__(
        self,
        files: FileSystem,
        path: Path,
        reserve: int,
        small: int = BALLAST_BYTES,
        quota: int | None = None,
    ) -> None:
        most = LARGE_BALLAST_BYTES
        if quota is not None:
            most = max(_LEAST_BYTES, quota // _PART_OF_QUOTA)
        self._small = min(small, most)
        self._large = min(LARGE_BALLAST_BYTES, most)
        self._files = files
        self._path = path
        self._reserve = reserve
        self._there = False

    def settle(self, free: int) -> None:
        """At a start: let it go if the disk is all but full, make it if there is room."""
        with suppress(OSError):
            self._there = bool(self._files.size_of(self._path))
        if free < self._small:
            self.drop()
        else:
            self.make(free)

    def make(self, free: int) -> None:
        """Make it, unless it is there or the disk, with ``free`` bytes, has no room for it."""
        if self._there or free < self._reserve + self._small:
            return
        large = free >= self._reserve + _LARGE_DISK_BYTES
        # Not tried again if it fails: that would be at every allocation.
        self._there = True
        with suppress(OSError):
            self._files.unlink(self._path)
            descriptor = self._files.open_new(self._path)
            try:
                self._files.allocate(descriptor, self._large if large else self._small)
            finally:
                self._files.close(descriptor)

    def usable(self, free: int) -> int:
        """Return how many of the ``free`` bytes of the disk may be taken by shares."""
        held_back = HEADROOM_BYTES if self._there else HEADROOM_BYTES + self._small
        return max(0, free - held_back)

    def drop(self) -> bool:
        """Let it go; tell whether that may have made room."""
        if not self._there:
            return False
        self._there = False
        with suppress(OSError):
            self._files.unlink(self._path)
            # Some file systems only let go of room for good when they are synchronised.
            self._files.fsync_directory(self._path.parent)
        return True
