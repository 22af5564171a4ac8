"""What a node keeps on its disk, for others and of its own.

* `ampgrid.store.shares`: the store of shares; `ampgrid.store.port` is what others see of it.
* `ampgrid.store.directories`: the store of directories that are kept for others.
* `ampgrid.store.servedblobs`: the store of blobs that are kept for others.
* `ampgrid.store.localblobs`: the local store of a user's blobs.
* `ampgrid.store.peerdb`: announcements, the node's own counter, small values.
* `ampgrid.store.keptdb`: the files that the node has put and keeps alive.
* `ampgrid.store.rememberdb`: the last version seen of each directory.
* `ampgrid.store.backupdb`: what backups have uploaded.
* `ampgrid.store.filesystem`: the one place where shares, and blobs of others, touch the disk.
* `ampgrid.store.sql`: SQLite with group commit.

This room does I/O and knows neither network nor clock. The secrets that it meets are the keys of
its own files, and the caps that backups remember.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ampgrid.lazily import names_of

if TYPE_CHECKING:
    from ampgrid.store.filesystem import FileSystem, PosixFileSystem
    from ampgrid.store.keptdb import FilePut, KeptDatabase, KeptFile
    from ampgrid.store.leases import LEASE_SECONDS, LeaseTerms
    from ampgrid.store.peerdb import PeerDatabase
    from ampgrid.store.port import SMALL_SHARE_BYTES, Allocated, Put, Request, Store
    from ampgrid.store.shares import ShareStore
    from ampgrid.store.space import Room
else:
    __getattr__ = names_of(
        __name__,
        {
            "filesystem": ["FileSystem", "PosixFileSystem"],
            "keptdb": ["FilePut", "KeptDatabase", "KeptFile"],
            "leases": ["LEASE_SECONDS", "LeaseTerms"],
            "peerdb": ["PeerDatabase"],
            "port": ["SMALL_SHARE_BYTES", "Allocated", "Put", "Request", "Store"],
            "shares": ["ShareStore"],
            "space": ["Room"],
        },
    )

__all__ = [
    "LEASE_SECONDS",
    "SMALL_SHARE_BYTES",
    "Allocated",
    "FilePut",
    "FileSystem",
    "KeptDatabase",
    "KeptFile",
    "LeaseTerms",
    "PeerDatabase",
    "PosixFileSystem",
    "Put",
    "Request",
    "Room",
    "ShareStore",
    "Store",
]
